"""Counts of the teacher cache's use.

They depend on earlier runs and not on the result: a cold and a warm run give the same student to the bit and
different counts. They are therefore recorded with the seconds and left out of comparisons.
"""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(frozen=True)
class CacheUse:
    """Counts since the cache was created, or (as a difference of two) during a step.

    Attributes:
        blocks_asked: blocks of prompts requested; single prompts if the teacher answers one by one.
        blocks_served: blocks among these found in memory or on disk.
        tokens_asked, tokens_served: the same in completion tokens.
        disk_tokens, disk_bytes: completion tokens and file sizes of the blocks read from disk or written to it.
        evictions: blocks that this process deleted from disk to keep the size limit.
        read_seconds: seconds spent reading blocks from disk.

    Example:
        >>> (CacheUse(blocks_asked=5, blocks_served=2) - CacheUse(blocks_asked=3)).counts()["blocks_asked"]
        2
    """

    blocks_asked: int = 0
    blocks_served: int = 0
    tokens_asked: int = 0
    tokens_served: int = 0
    disk_tokens: int = 0
    disk_bytes: int = 0
    evictions: int = 0
    read_seconds: float = 0.0

    def __sub__(self, earlier: CacheUse) -> CacheUse:
        """Counts since ``earlier``."""
        return CacheUse(*(getattr(self, one.name) - getattr(earlier, one.name) for one in fields(self)))

    def counts(self) -> dict[str, int]:
        """All counts, without ``read_seconds``."""
        return {one.name: getattr(self, one.name) for one in fields(self) if one.name != "read_seconds"}
