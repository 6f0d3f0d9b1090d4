"""What a file or a folder of files contains, as a short text: a large file is read once and remembered."""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

from read_env.files import whole_file

#: Smaller files are read again: that takes less time than looking them up.
_LARGE = 2**20


def content_digest(path: Path, memory: Path | None = None) -> str:
    """16 hexadecimal digits of the names and contents of the files under ``path``.

    Args:
        path: a file or a folder.
        memory: a JSON file with the digests of large files by path, size and time of change, so that a
            70 B model isn't read at every start; None remembers for this process only.
    """
    found = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    return _digest(path, tuple((file, file.stat().st_size, file.stat().st_mtime_ns) for file in found), memory)


# A comparison asks for each of its runs.
@lru_cache(maxsize=64)
def _digest(path: Path, found: tuple[tuple[Path, int, int], ...], memory: Path | None) -> str:
    digest = hashlib.sha256()
    known = _read(memory)
    fresh = {}
    for file, size, changed in found:
        name = file.relative_to(path).as_posix() if file != path else file.suffix
        digest.update(f"{name}\0{size}\0".encode())
        if size < _LARGE:
            digest.update(file.read_bytes())
            continue
        key = f"{file.resolve()}|{size}|{changed}"
        if key not in known:
            fresh[key] = known[key] = _read_through(file)
        digest.update(known[key].encode())
    if fresh and memory is not None:
        with suppress(OSError):  # a convenience only
            memory.parent.mkdir(parents=True, exist_ok=True)
            with whole_file(memory, shared=True) as kept:
                kept.write(json.dumps({**_read(memory), **fresh}, indent=1).encode())
    return digest.hexdigest()[:16]


def _read_through(file: Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as content:
        while part := content.read(2**24):
            digest.update(part)
    return digest.hexdigest()


def _read(memory: Path | None) -> dict[str, str]:
    if memory is None:
        return {}
    try:
        value = json.loads(memory.read_text())
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}
