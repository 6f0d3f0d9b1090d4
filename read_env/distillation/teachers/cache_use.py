"""What was asked of the teacher's cache, in counts.

They say how a run came about and nothing of what came out: a cold and a warm run have the same
student to the bit and other counts. So they are recorded beside the seconds, and compared as little.
"""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(frozen=True)
class CacheUse:
    """Counts since a cache was made, or (as a difference of two) in a step.

    Attributes:
        blocks_asked: fixed blocks of prompts; single prompts where the teacher answers one by one.
        blocks_served: of those, from memory or disk: no teacher was asked.
        tokens_asked, tokens_served: the same in completion tokens.
        disk_tokens, disk_bytes: of the blocks read from disk or written to it; file sizes, digests included.
        evictions: blocks that this process deleted from disk to keep the bound.
        read_seconds: spent on reading blocks from disk.
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
        """What happened since ``earlier``."""
        return CacheUse(*(getattr(self, one.name) - getattr(earlier, one.name) for one in fields(self)))

    def counts(self) -> dict[str, int]:
        """Everything but the seconds, which belong to the other seconds."""
        return {one.name: getattr(self, one.name) for one in fields(self) if one.name != "read_seconds"}
