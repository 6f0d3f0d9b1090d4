"""Store of teacher answers on disk: one file per block, shared by any number of processes.

A file begins with a digest of its key and content, and is discarded if that doesn't match. Files are written under
a temporary name and renamed, so a killed writer leaves only a temporary file, and two writers of one block write
the same bytes. No lock is needed. What that promises on a network file system, where it is not tested: docs/cluster.md.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import re
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from read_env.distillation.text.completion import Answer
from read_env.losses.targets import TeacherTargets

_DIGEST_BYTES = 16
_SUFFIX = ".block"
#: Folders (two hexadecimal digits) and file names of a store; other files are never touched.
_FOLDERS = "[0-9a-f][0-9a-f]"
_OWN = re.compile(r"[0-9a-f]{32}(\.block|\.[0-9a-f]{32}\.tmp)")
#: Age in seconds above which a temporary file is deleted: its writer was killed.
_ABANDONED_SECONDS = 3600.0
#: Minimum interval between updates of a block's time of last use, seconds.
_TOUCH_SECONDS = 600.0
#: Share of the size limit that an eviction frees.
_HEADROOM = 0.1
#: Concurrent writers that together stay within that share above the limit.
_WRITERS = 8


@dataclass(frozen=True)
class StoreStats:
    """Statistics of a store in this process.

    Attributes:
        hits, misses: blocks found, and not found.
        damaged: misses whose file had a wrong digest; the file is deleted.
        tokens: completion tokens read or written.
        bytes: bytes read or written.
        evicted: blocks deleted to keep the size limit.
        read_seconds: seconds spent reading the hits.
    """

    hits: int = 0
    misses: int = 0
    damaged: int = 0
    tokens: int = 0
    bytes: int = 0
    evicted: int = 0
    read_seconds: float = 0.0


class BlockStore:
    """Blocks of answers by key.

    Args:
        directory: folder, created at the first write; several processes and machines may share it.
        max_bytes: size limit; above it the least recently used blocks are deleted. The size is measured at the first
            write and after every 80th of the limit, which then includes the blocks of other processes.

    Example:
        >>> store = BlockStore(Path("no-such-folder"), max_bytes=10**9)
        >>> store.read(b"key") is None, store.stats.misses
        (True, 1)
    """

    def __init__(self, directory: Path, max_bytes: int) -> None:
        self.directory = directory
        self.max_bytes = max_bytes
        self.stats = StoreStats()
        self._size = math.inf  # bytes in the directory, as far as this process knows
        self._unmeasured = 0  # bytes written since it was measured

    def read(self, key: bytes) -> tuple[Answer, ...] | None:
        """Block of that key; None if there is none or it is damaged."""
        path, started = self._path(key), time.perf_counter()
        try:
            content = path.read_bytes()
        except OSError:
            self._count(misses=1)
            return None
        block = _decode(key, content)
        if block is None:
            with contextlib.suppress(OSError):
                path.unlink()
            self._count(misses=1, damaged=1)
            return None
        with contextlib.suppress(OSError):  # evicted meanwhile, or a read-only store
            if time.time() - path.stat().st_mtime > _TOUCH_SECONDS:
                os.utime(path)
        self._count(hits=1, tokens=sum(map(len, block)), bytes=len(content), read_seconds=time.perf_counter() - started)
        return block

    def write(self, key: bytes, block: Sequence[Answer]) -> None:
        """Write a block.

        Raises:
            OSError: the disk is full or the directory can't be written.
        """
        path, content = self._path(key), _encode(key, block)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f"{path.stem}.{uuid.uuid4().hex}.tmp")
        try:
            temporary.write_bytes(content)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        self._count(tokens=sum(map(len, block)), bytes=len(content))
        self._size += len(content)
        self._unmeasured += len(content)
        if self._size > self.max_bytes or self._unmeasured > self.max_bytes * _HEADROOM / _WRITERS:
            self._keep_bound()

    def _path(self, key: bytes) -> Path:
        name = key.hex()
        return self.directory / name[:2] / f"{name}{_SUFFIX}"

    def _count(self, **more: float) -> None:
        now = self.stats
        values = {name: getattr(now, name) + more.get(name, 0) for name in now.__dataclass_fields__}
        self.stats = StoreStats(**values)

    def _files(self) -> list[tuple[float, int, Path]]:
        """(time of last use, bytes, path) of all blocks; deletes old temporary files."""
        found = []
        for path in self.directory.glob(f"{_FOLDERS}/*"):
            if not _OWN.fullmatch(path.name):
                continue
            with contextlib.suppress(OSError):  # deleted meanwhile
                state = path.stat()
                if path.suffix == _SUFFIX:
                    found.append((state.st_mtime, state.st_size, path))
                elif time.time() - state.st_mtime > _ABANDONED_SECONDS:
                    path.unlink()
        return found

    def _keep_bound(self) -> None:
        """Measure the directory and evict blocks above the limit."""
        files = sorted(self._files())
        size = sum(bytes_ for _, bytes_, _ in files)
        if size > self.max_bytes:
            # The newest block stays in any case: it was just requested.
            for _, bytes_, path in files[:-1]:
                if size <= self.max_bytes * (1 - _HEADROOM):
                    break
                with contextlib.suppress(OSError):  # deleted by another process
                    path.unlink()
                    self._count(evicted=1)
                size -= bytes_
        self._size, self._unmeasured = size, 0


def _encode(key: bytes, block: Sequence[Answer]) -> bytes:
    """Digest and tensors of a block, as bytes."""
    targets = TeacherTargets.concatenate([answer.targets for answer in block])
    token_ids = [token for answer in block for token in answer.token_ids]
    tensors = {
        "lengths": _narrow(torch.tensor([len(answer) for answer in block])),
        "token_ids": _narrow(torch.tensor(token_ids, dtype=torch.int64)),
        "top_ids": _narrow(targets.top_ids),
        "top_log_probs": targets.top_log_probs.contiguous(),
        "log_tail": targets.log_tail.contiguous(),
    }
    if any(answer.skipped for answer in block):
        reasons = json.dumps([answer.skipped for answer in block]).encode()
        tensors["skipped"] = torch.tensor(list(reasons), dtype=torch.uint8)
    content = save(tensors)
    return _digest(key, content) + content


def _narrow(ids: torch.Tensor) -> torch.Tensor:
    """Non-negative integers in the smallest of two dtypes."""
    largest = int(ids.max()) if ids.numel() else 0
    return ids.to(torch.int16 if largest < 2**15 else torch.int32).contiguous()


def _decode(key: bytes, content: bytes) -> tuple[Answer, ...] | None:
    digest, content = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
    if digest != _digest(key, content):
        return None
    try:
        tensors = load(content)
    except SafetensorError:
        return None
    lengths = tensors["lengths"].tolist()
    names = ("token_ids", "top_ids", "top_log_probs", "log_tail")
    tensors |= {name: tensors[name].long() for name in ("token_ids", "top_ids")}
    reasons = json.loads(bytes(tensors["skipped"].tolist())) if "skipped" in tensors else [""] * len(lengths)
    parts = zip(reasons, *(tensors[name].split(lengths) for name in names), strict=True)
    return tuple(Answer(tuple(part[0].tolist()), TeacherTargets(*part), reason) for reason, *part in parts)


def _digest(key: bytes, content: bytes) -> bytes:
    return hashlib.blake2b(key + content, digest_size=_DIGEST_BYTES).digest()
