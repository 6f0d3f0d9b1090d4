"""Digests of files and folders. Digests of large files are remembered, so that each is read once."""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

from read_env.files import whole_file

#: Bytes below which a file is read again each time, which is faster than a look-up.
_LARGE = 2**20


def content_digest(path: Path, remembered: Path | None = None) -> str:
    """SHA-256 of the names and contents of the files under ``path``, its first 16 hexadecimal digits.

    Args:
        path: a file or a folder.
        remembered: JSON file with the digests of large files by path, size and time of change. None: this process alone
            remembers them.

    Example:
        >>> len(content_digest(Path(__file__)))
        16
    """
    found = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    return _digest(path, tuple((file, file.stat().st_size, file.stat().st_mtime_ns) for file in found), remembered)


# Cached, since a comparison calls it for each of its runs.
@lru_cache(maxsize=64)
def _digest(path: Path, found: tuple[tuple[Path, int, int], ...], remembered: Path | None) -> str:
    digest = hashlib.sha256()
    known = _read_remembered(remembered)
    fresh = {}
    for file, size, changed in found:
        name = file.relative_to(path).as_posix() if file != path else file.suffix
        digest.update(f"{name}\0{size}\0".encode())
        if size < _LARGE:
            digest.update(file.read_bytes())
            continue
        key = f"{file.resolve()}|{size}|{changed}"
        if key not in known:
            fresh[key] = known[key] = _file_digest(file)
        digest.update(known[key].encode())
    if fresh and remembered is not None:
        with suppress(OSError):  # a convenience only
            remembered.parent.mkdir(parents=True, exist_ok=True)
            with whole_file(remembered, shared=True) as kept:
                kept.write(json.dumps({**_read_remembered(remembered), **fresh}, indent=1).encode())
    return digest.hexdigest()[:16]


def _file_digest(file: Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as content:
        while part := content.read(2**24):
            digest.update(part)
    return digest.hexdigest()


def _read_remembered(remembered: Path | None) -> dict[str, str]:
    if remembered is None:
        return {}
    try:
        value = json.loads(remembered.read_text())
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}
