"""Digests of files and folders. Digests of large files are remembered, so that each is read once."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import suppress
from fnmatch import fnmatch
from functools import lru_cache
from pathlib import Path

from read_env.files import whole_file

#: Bytes below which a file is read again each time, which is faster than a look-up.
_LARGE = 2**20

#: Names of the files that transformers reads a model from: weights, configuration, tokenizer and chat template.
_MODEL = (
    "*.safetensors", "*.bin", "*.gguf", "*.index.json", "*config*.json", "*token*.json", "*vocab*.json", "*template*.json",
    "*vocab*.txt", "*merges*.txt", "*.model", "*.tiktoken", "*.jinja",
)  # fmt: skip
#: Files of these names that a Trainer adds.
_NOT_MODEL = ("training_args.bin", "optimizer.bin", "scheduler.bin")


def model_files(folder: Path, code: bool = False) -> Iterator[Path]:
    """Files of the model in a folder, at any depth.

    Hidden folders, such as the hub's ``.cache``, a Trainer's checkpoints, and folders with a ``config.json`` of their own,
    which hold another model or the records of a run, don't belong to it.

    Args:
        folder: the model's folder.
        code: include Python files, which ``trust_remote_code`` runs.
    """
    for where, folders, names in os.walk(folder):
        inside = Path(where)
        folders[:] = [f for f in folders if f[0] not in "._" and not _is_another(inside / f)]
        for name in names:
            of_model = any(fnmatch(name, pattern) for pattern in _MODEL) and name not in _NOT_MODEL and name[0] != "."
            if of_model or (code and name.endswith(".py")):
                yield inside / name


def _is_another(folder: Path) -> bool:
    return fnmatch(folder.name, "checkpoint-*") or any(
        (folder / f"{kind}config.json").exists() for kind in ("", "adapter_")
    )


def content_digest(path: Path, remembered: Path | None = None, *, code: bool = False) -> str:
    """SHA-256 of the content of a file, or of the names and contents of a model's files, its first 16 hexadecimal digits.

    Args:
        path: a file, or the folder of a model.
        remembered: JSON file with the digests of large files by path, size and time of change. None: this process alone
            remembers them.
        code: the Python files of the model count, since they are run.

    Example:
        >>> len(content_digest(Path(__file__)))
        16
    """
    found = sorted(p for p in model_files(path, code) if p.is_file()) if path.is_dir() else [path]
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
        value = json.loads(remembered.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}
