"""Copy of a directory of records on another machine, kept up to date in pieces: how a run's records come back from a cluster.

A copy can be resumed from at any moment: it never has a checkpoint whose steps it lacks, nor a summary without the rest.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from read_env import files

#: Bytes of a piece. Files are sent in pieces, so that a large checkpoint needs no memory of its size.
_PIECE_BYTES = 64 * 2**20

Stamp = tuple[int, int, int]

#: Files that are written after all others, in this order: a checkpoint counts the lines of the records.
_LAST = ("checkpoint/state.pt", "summary.json", "training.json")


@dataclass(frozen=True)
class Piece:
    """Part of a file.

    Attributes:
        name: path of the file, relative to its directory.
        offset: bytes before this part.
        data: the part.
        last: no other part comes after it.
        deleted: the file is gone.
    """

    name: str
    offset: int = 0
    data: bytes = b""
    last: bool = True
    deleted: bool = False


class Mirror:
    """Directory that is copied to another machine while it changes.

    Args:
        directory: the directory.
        copied: what it holds now is on the other machine.
    """

    def __init__(self, directory: Path, *, copied: bool = False) -> None:
        self._directory = directory
        self._copied = _stamps(directory) if copied else {}

    @property
    def due(self) -> bool:
        """True if there is another checkpoint than at the last copy."""
        path = self._directory / _LAST[0]
        return path.exists() and _stamp(path.stat()) != self._copied.get(_LAST[0])

    def changes(self) -> Iterator[Piece]:
        """Pieces of all files that changed since the last call, in the order in which they are to be written."""
        with ExitStack() as stack:
            held = {}
            # Opened before the others are looked at, so that the records have the lines that the checkpoint counts.
            for name in _LAST:
                with suppress(FileNotFoundError):
                    held[name] = stack.enter_context((self._directory / name).open("rb"))
            now = {name: stamp for name, stamp in _stamps(self._directory).items() if name not in _LAST}
            now |= {name: _stamp(os.fstat(file.fileno())) for name, file in held.items()}
            for name in [name for name in now if now[name] != self._copied.get(name)]:
                try:
                    file = held.get(name) or stack.enter_context((self._directory / name).open("rb"))
                except FileNotFoundError:  # deleted meanwhile
                    del now[name]
                    continue
                yield from _pieces(name, file)
        yield from (Piece(name, deleted=True) for name in self._copied if name not in now)
        self._copied = now


def _pieces(name: str, file: IO[bytes]) -> Iterator[Piece]:
    offset, data = 0, file.read(_PIECE_BYTES)
    while following := file.read(_PIECE_BYTES):
        yield Piece(name, offset, data, last=False)
        offset, data = offset + len(data), following
    yield Piece(name, offset, data)


def write_piece(directory: Path, piece: Piece) -> None:
    """Write a piece; a file takes its name with its last piece."""
    path = directory / piece.name
    if piece.deleted:
        files.remove(path)
        if path.parent != directory and path.parent.is_dir() and not any(path.parent.iterdir()):
            path.parent.rmdir()
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.tmp")
    with files.naming(path), temporary.open("ab" if piece.offset else "wb") as file:
        file.write(piece.data)
        if piece.last:
            file.flush()
            os.fsync(file.fileno())
    if piece.last:
        temporary.replace(path)


def _stamps(directory: Path) -> dict[str, Stamp]:
    """Relative path -> stamp of all files but locks and unfinished ones."""
    found = {}
    for path in sorted(directory.rglob("*")):
        name = path.relative_to(directory)
        if path.name != ".lock" and not any(part.endswith(".tmp") for part in name.parts) and path.is_file():
            found[name.as_posix()] = _stamp(path.stat())
    return found


def _stamp(state: os.stat_result) -> Stamp:
    """Inode, size and time of the last change."""
    return state.st_ino, state.st_size, state.st_mtime_ns
