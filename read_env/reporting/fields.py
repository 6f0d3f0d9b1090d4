"""Reading JSON records with errors that say which file, which line, which field, and what would be right."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from read_env.errors import ReadEnvError


class RecordError(ReadEnvError):
    """A record on disk is missing or malformed."""


class Fields:
    """The fields of one JSON object, checked as they are taken out.

    Args:
        values: the object; keys that nobody asks for are left alone.
        path: the file it came from.
        line: 1-based line in that file, or None for a file that is one object.

    Every method raises :class:`RecordError` when the field is missing or of the wrong kind.
    """

    def __init__(self, values: Mapping[str, Any], path: Path, line: int | None = None) -> None:
        self.values = values
        self.where = f"{path}" if line is None else f"{path}, line {line}"

    def wrong(self, name: str, value: object, right: str) -> RecordError:
        """The error for a field whose value is not what it should be."""
        return RecordError(f"{self.where}: {name} is {value!r}, expected {right}")

    def _get(self, name: str) -> Any:
        if name not in self.values:
            raise RecordError(f"{self.where}: field '{name}' is missing")
        return self.values[name]

    def text(self, name: str) -> str:
        value = self._get(name)
        if not isinstance(value, str):
            raise self.wrong(name, value, "a string")
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        value = self._get(name)
        if not isinstance(value, list) or not value or not all(isinstance(entry, str) for entry in value):
            raise self.wrong(name, value, "a list of strings")
        return tuple(value)

    def number(self, name: str) -> float:
        value = self._get(name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise self.wrong(name, value, "a finite number")
        return float(value)

    def integer(self, name: str) -> int:
        value = self._get(name)
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise self.wrong(name, value, "a whole number, zero or more")
        return value

    def optional_number(self, name: str) -> float | None:
        return None if self.values.get(name) is None else self.number(name)

    def vector(self, name: str, size: int) -> np.ndarray:
        """A vector of ``size`` finite numbers, one a capability."""
        value = self._get(name)
        try:
            array = np.asarray(value, dtype=np.float64)
        except (TypeError, ValueError):
            raise self.wrong(name, value, f"a list of {size} numbers") from None
        if array.shape != (size,) or not np.isfinite(array).all():
            raise self.wrong(name, value, f"a list of {size} finite numbers, one a capability")
        return array

    def optional_vector(self, name: str, size: int) -> np.ndarray | None:
        return None if self.values.get(name) is None else self.vector(name, size)

    def numbers(self, name: str) -> Mapping[str, float]:
        """A mapping from names to numbers; a missing one is empty."""
        value = self.values.get(name) or {}
        if not isinstance(value, dict) or not all(isinstance(entry, int | float) for entry in value.values()):
            raise self.wrong(name, value, "an object whose values are numbers")
        return {str(key): float(entry) for key, entry in value.items()}


def read_json(path: Path) -> dict[str, Any]:
    """The one JSON object in a file."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RecordError(f"{path}: missing") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        line = f", line {error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
        raise RecordError(f"{path}{line}: not valid JSON ({error})") from None
    if not isinstance(value, dict):
        raise RecordError(f"{path}: expected one JSON object, found {type(value).__name__}")
    return value


def read_lines(path: Path) -> tuple[list[Fields], bool]:
    """The objects of a JSON-lines file, and whether the last line was cut off.

    A process that is killed while it writes leaves a last line without its newline. Such a line
    is not a record: it is left out and reported. Any other line that does not parse is an error.
    """
    text = path.read_text(encoding="utf-8", errors="replace")
    *lines, tail = text.split("\n")
    records = []
    for number, line in enumerate(lines, start=1):
        try:
            value = json.loads(line)
        except json.JSONDecodeError as error:
            raise RecordError(f"{path}, line {number}: not valid JSON ({error.msg})") from None
        if not isinstance(value, dict):
            raise RecordError(f"{path}, line {number}: expected a JSON object, found {type(value).__name__}")
        records.append(Fields(value, path, number))
    return records, bool(tail.strip())
