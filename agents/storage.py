"""File format of saved agents: a zip with ``agent.json`` and ``.npy`` arrays.

Nothing in it is pickled, so reading a foreign file runs no code. A state is any nesting of dicts with string keys, lists,
numbers, strings, booleans, None and numpy arrays; each array is a member of the zip.
"""

import io
import json
import os
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from read_env.errors import ReadEnvError
from read_env.files import whole_file

FORMAT = 1
HEADER = "agent.json"
_ARRAY = "__array__"
# A fixed time stamp makes equal agents equal files.
_TIME = (1980, 1, 1, 0, 0, 0)


def write(path: str | os.PathLike[str], document: dict[str, Any]) -> None:
    """Write ``document`` to ``path``, atomically.

    Raises:
        TypeError: the document holds something that is neither JSON nor an array of numbers.
    """
    arrays: list[np.ndarray] = []
    header = json.dumps({"format": FORMAT, **_lift(document, arrays, "")}, indent=1)
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(target, shared=True) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(zipfile.ZipInfo(HEADER, _TIME), header)
        for index, array in enumerate(arrays):
            buffer = io.BytesIO()
            np.lib.format.write_array(buffer, array, allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(_member(index), _TIME), buffer.getvalue())


def read(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a document that ``write`` wrote.

    Raises:
        ReadEnvError: the file is missing, damaged, of another kind or of a newer format.
    """
    source = Path(path)
    if not source.is_file():
        raise ReadEnvError(f"no saved agent at {source}: there is no such file")
    try:
        with zipfile.ZipFile(source) as archive:
            header = json.loads(archive.read(HEADER))
            found = header.get("format") if isinstance(header, dict) else header
            members = {name: archive.read(name) for name in archive.namelist()} if found == FORMAT else {}
            arrays = lambda index: np.lib.format.read_array(io.BytesIO(members[_member(index)]), allow_pickle=False)  # noqa: E731
            document: dict[str, Any] = _lower(header, arrays)
    # ValueError: JSON, or an array that would need pickle.
    except (zipfile.BadZipFile, zlib.error, KeyError, EOFError, OSError, TypeError, ValueError) as error:
        raise ReadEnvError(f"{source} is damaged or not a saved agent: {error}") from error
    if found != FORMAT:
        raise ReadEnvError(f"{source} has agent format {found!r}; this version reads format {FORMAT}")
    return document


def _member(index: int) -> str:
    return f"arrays/{index}.npy"


def _lift(value: Any, arrays: list[np.ndarray], where: str) -> Any:
    """JSON form of ``value``; arrays are appended to ``arrays`` and replaced by their index."""
    if isinstance(value, np.ndarray):
        if value.dtype.hasobject:
            raise TypeError(f"state{where} is an array of Python objects, which is not saved")
        arrays.append(value)
        return {_ARRAY: len(arrays) - 1}
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str) or key == _ARRAY:
                raise TypeError(f"state{where} has the key {key!r}; keys are strings other than {_ARRAY!r}")
        return {key: _lift(part, arrays, f"{where}.{key}") for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_lift(part, arrays, f"{where}[{index}]") for index, part in enumerate(value)]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"state{where} is a {type(value).__name__}, which is not saved; use numbers, text and numpy arrays")


def _lower(value: Any, load: Any) -> Any:
    if isinstance(value, dict):
        if set(value) == {_ARRAY}:
            return load(value[_ARRAY])
        return {key: _lower(part, load) for key, part in value.items()}
    if isinstance(value, list):
        return [_lower(part, load) for part in value]
    return value
