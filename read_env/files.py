"""Atomic writes of files and folders, and JSON lines whose last line may be cut by a kill.

A file written here has its old content or its new content whenever the process is killed, never a mixture.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from read_env.errors import ReadEnvError


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Add the path to an ``OSError`` without a file name, and turn safetensors' error of a full disk into an ``OSError``."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno is not None:
            error.filename = str(path)
        raise
    except Exception as error:
        found = re.search(r"\(os error (\d+)\)", str(error))
        if found is None or "safetensors" not in type(error).__module__ + type(error).__name__.lower():
            raise
        raise OSError(int(found[1]), os.strerror(int(found[1])), str(path)) from error


@contextmanager
def whole_file(path: Path, shared: bool = False) -> Iterator[IO[bytes]]:
    """Temporary file that replaces ``path`` at the end of the block; an error leaves ``path`` unchanged.

    Args:
        path: the file.
        shared: other processes may write the same file. Each then uses a temporary file of its own, and the last one to
            finish wins. False: one fixed temporary name, so that killed processes leave at most one file behind.
    """
    temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex}.tmp" if shared else f"{path.name}.tmp")
    try:
        with naming(path), temporary.open("wb") as file:
            yield file
            file.flush()
            # Without this, a power cut can leave a file with the new name and no content.
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    _sync_folder(path.parent)


def write_atomic(path: Path, content: bytes) -> None:
    """Replace the content of a file atomically."""
    with whole_file(path) as file:
        file.write(content)


def write_text(path: Path, text: str) -> None:
    """Replace the content of a file by text in UTF-8, in which names that are not UTF-8 keep their bytes."""
    write_atomic(path, text.encode("utf-8", "surrogateescape"))


def read_text(path: Path) -> str:
    """Read a file of :func:`write_text`."""
    return path.read_text("utf-8", "surrogateescape")


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write one JSON object atomically. Floats keep every bit (shortest form that reads back the same)."""
    write_atomic(path, _json(value, indent=2))


def read_json(path: Path) -> dict[str, Any]:
    """Read one JSON object.

    Raises:
        ReadEnvError: the file is missing or holds something else.

    Example:
        >>> read_json(Path(__file__).parent / "assets" / "micro" / "student" / "config.json")["num_hidden_layers"]
        4
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ReadEnvError(f"{path} does not exist") from None
    except (ValueError, UnicodeDecodeError) as error:
        raise ReadEnvError(
            f"{path} is damaged ({error}); move the directory away, or start over with --overwrite"
        ) from None
    if not isinstance(value, dict):
        raise ReadEnvError(f"{path} holds a {type(value).__name__} where an object belongs")
    return value


def append_line(path: Path, record: Mapping[str, Any]) -> None:
    """Append one JSON line and wait until it is on disk."""
    with naming(path), path.open("ab") as file:
        file.write(_json(record))
        file.flush()
        os.fsync(file.fileno())


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Read the complete lines of a JSON-lines file; a cut last line is left out.

    Raises:
        ReadEnvError: a line before the last one is damaged.

    Example:
        >>> read_lines(Path("no-such-file.jsonl"))
        []
    """
    if not path.exists():
        return []
    # Text after the last newline is a line that a kill cut short.
    *lines, _ = path.read_bytes().split(b"\n")
    records = []
    for number, line in enumerate(lines, start=1):
        try:
            records.append(json.loads(line))
        except ValueError as error:
            raise ReadEnvError(
                f"{path} is damaged in line {number} ({error}); move the directory away, or start over with --overwrite"
            ) from None
    return records


def keep_lines(path: Path, count: int) -> list[dict[str, Any]]:
    """Truncate a JSON-lines file to its first ``count`` records and return them.

    Raises:
        ReadEnvError: it holds fewer; nothing is changed then.
    """
    records = read_lines(path)
    if len(records) < count:
        raise ReadEnvError(
            f"{path} holds {len(records)} steps but the checkpoint was made after step {count}; "
            "restore the file, or start over with --overwrite"
        )
    content = b"".join(line + b"\n" for line in path.read_bytes().split(b"\n")[:count]) if count else b""
    if path.exists() and path.read_bytes() != content:
        write_atomic(path, content)
    return records[:count]


def save_tensors(path: Path, value: Mapping[str, Any]) -> None:
    """Write nested tensors, numbers, text, lists and dicts with ``torch.save``, atomically."""
    import torch

    with whole_file(path) as file:
        kept = _KeepsError(file)
        try:
            torch.save(dict(value), kept)
        except RuntimeError:  # of torch, in place of the error of the file
            raise kept.error or OSError(errno.EIO, "the file was not written completely", str(path)) from None


class _KeepsError:
    """File that keeps the error of a write."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.error: OSError | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def write(self, data: Any) -> int:
        try:
            return self._file.write(data)
        except OSError as error:
            self.error = error
            raise


def load_tensors(path: Path, remedy: str) -> dict[str, Any]:
    """Read a file of :func:`save_tensors`. No code in it is run.

    Args:
        path: the file.
        remedy: end of the error message, with what the user can do.

    Raises:
        ReadEnvError: the file is missing or damaged.
    """
    import torch

    if not path.exists():
        raise ReadEnvError(f"checkpoint {path} is missing; {remedy}")
    try:
        value = torch.load(path, map_location="cpu", weights_only=True)
    # torch, zipfile and pickle raise many kinds of errors for a damaged archive.
    except Exception as error:
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise ReadEnvError(f"checkpoint {path} cannot be read ({reason}); {remedy}") from error
    if not isinstance(value, dict):
        raise ReadEnvError(f"checkpoint {path} holds a {type(value).__name__} where a dict belongs; {remedy}")
    return value


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Temporary folder that replaces ``path`` at the end of the block; an error leaves ``path`` unchanged."""
    temporary = path.with_name(f"{path.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    with naming(path):
        yield temporary
    remove(path)
    temporary.replace(path)
    _sync_folder(path.parent)


def remove(path: Path) -> None:
    """Delete a file or a folder, if it exists."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    # The file itself is synced. Windows cannot open a folder; CIFS, FUSE and VirtualBox shares refuse to sync one.
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _json(value: Mapping[str, Any], indent: int | None = None) -> bytes:
    """JSON text with a newline in UTF-8; names of files that are not UTF-8 are escaped."""
    try:
        return (json.dumps(value, indent=indent, ensure_ascii=False) + "\n").encode()
    except UnicodeEncodeError:
        return (json.dumps(value, indent=indent) + "\n").encode()
