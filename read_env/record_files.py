"""Reading of records: JSON files and JSON-lines files, validated, with errors that name file, line and field."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from read_env.errors import ReadEnvError
from read_env.records import ExternalRecord, Record, StepRecord

Model = TypeVar("Model", bound=Record)


class RecordError(ReadEnvError):
    """A record on disk is missing or malformed."""


def read_object(path: Path) -> dict[str, Any]:
    """The one JSON object in a file.

    Raises:
        RecordError: the file is missing, not valid JSON, or holds another kind of value.
    """
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


def read_record(path: Path, model: type[Model], size: int | None = None) -> Model:
    """The record in a file of one JSON object.

    Args:
        path: the file.
        model: what it holds.
        size: |C|, which all vectors must have; None for that of the record's own suite.

    Raises:
        RecordError: names the file, the field, its value and what is expected.
    """
    return _validate(read_object(path), model, str(path), size)


def read_records(path: Path, model: type[Model], size: int | None = None) -> tuple[tuple[Model, ...], bool]:
    """The records of a JSON-lines file, and whether its last line was cut off.

    A process that is killed while it writes leaves a last line without its newline. Such a line is
    left out and reported. Any other malformed line is an error, as for :func:`read_record`.
    """
    *lines, tail = path.read_text(encoding="utf-8", errors="replace").split("\n")
    return tuple(_parse(path, lines, model, size)), bool(tail.strip())


def _parse(path: Path, lines: list[str], model: type[Model], size: int | None) -> Iterator[Model]:
    for number, line in enumerate(lines, start=1):
        where = f"{path}, line {number}"
        try:
            value = json.loads(line)
        except json.JSONDecodeError as error:
            raise RecordError(f"{where}: not valid JSON ({error.msg})") from None
        if not isinstance(value, dict):
            raise RecordError(f"{where}: expected a JSON object, found {type(value).__name__}")
        if model is StepRecord and value.get("step", number) != number:
            raise RecordError(
                f"{where}: step is {value['step']!r}, expected {number} (steps count from 1 without gaps)"
            )
        yield _validate(value, model, where, size)


def read_external(directory: Path) -> ExternalRecord:
    """The evaluations in a run's ``external.json``; none where there is no such file.

    Raises:
        RecordError: names the field of what is malformed.

    Example:
        >>> read_external(Path("no-such-run")).evaluations
        ()
    """
    path = directory / "external.json"
    return read_record(path, ExternalRecord) if path.exists() else ExternalRecord()


_EXPECTED = {
    "int": "a whole number, zero or more",
    "greater_than_equal": "a whole number, zero or more",
    "float": "a finite number",
    "finite": "a finite number",
    "string": "a string",
    "tuple": "a list of strings",
    "too_short": "a list of strings",
    "dict": "an object",
    "model": "an object",
}


def _validate(value: Mapping[str, Any], model: type[Model], where: str, size: int | None) -> Model:
    """A validated record; the first problem becomes a RecordError in plain words."""
    try:
        return model.model_validate(value, context={"size": size})
    except ValidationError as error:
        problem = error.errors()[0]
        kind, name = problem["type"], ".".join(map(str, problem["loc"]))
        if kind == "missing":
            raise RecordError(f"{where}: field '{name}' is missing") from None
        expected = next(
            (text for start, text in _EXPECTED.items() if kind.startswith(start)),
            problem["msg"].removeprefix("Value error, "),
        )
        raise RecordError(f"{where}: {name} is {problem['input']!r}, expected {expected}") from None
