"""Data that users bring, for tasks and capabilities alike: files in several formats, and data sets of the ``datasets`` library.

A source is one text, so that it fits into an option, a card and a preset::

    totals.jsonl                                            JSON lines; also .json with one array
    totals.csv?prompt=Frage&answer=Antwort                  columns under other names; also .tsv
    totals.parquet                                          with the extra ``data``
    hf:openai/gsm8k?name=main&split=train&prompt=question   data set of the hub; with the extra ``data``
    hf:./gsm8k?split=train&prompt=question                  the same from a folder in the hub's layout

After the ``?``, ``prompt``, ``answer``, ``completion``, ``messages`` and ``difficulty`` name the column with that field;
``split``, ``name`` and ``revision`` are those of ``datasets.load_dataset``.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from read_env.capabilities.rows import json_rows, text_of
from read_env.config import HUB
from read_env.digests import content_digest
from read_env.errors import ReadEnvError, unknown

#: Fields whose column a source may name.
FIELDS = ("prompt", "answer", "completion", "messages", "difficulty")
_OPTIONS = ("split", "name", "revision")

#: Place for error messages, number from 1, fields.
Row = tuple[str, int, dict[str, Any]]


@dataclass(frozen=True)
class Source:
    """Source of rows.

    Attributes:
        path: file, folder or hub id.
        hub: True for a data set of the ``datasets`` library.
        columns: field -> column, for fields whose column has another name.
        options: ``split``, ``name`` and ``revision``, those that are given.
    """

    path: str
    hub: bool = False
    columns: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, str] = field(default_factory=dict)

    @property
    def tabular(self) -> bool:
        """True if every row has all columns, with a null, NaN or empty cell for a missing value."""
        return self.hub or Path(self.path).suffix.lower() in (".csv", ".tsv", ".parquet")

    @property
    def local(self) -> bool:
        """True for a file, or a folder that is there."""
        return not self.hub or os.path.isdir(self.path)

    def __str__(self) -> str:
        return f"{HUB if self.hub else ''}{self.path}"


def parse_source(text: str | Path) -> Source:
    """Parts of a source.

    Raises:
        ReadEnvError: an option that is unknown, empty or given twice.

    >>> parse_source("hf:openai/gsm8k?split=train&prompt=question").columns
    {'prompt': 'question'}
    """
    text = os.fspath(text)
    # A file may have a question mark in its name.
    path, _, query = (text, "", "") if os.path.exists(os.path.expanduser(text)) else text.partition("?")
    columns: dict[str, str] = {}
    options: dict[str, str] = {}
    for part in filter(None, query.split("&")):
        key, _, value = part.partition("=")
        known = (*FIELDS, *_OPTIONS) if path.startswith(HUB) else FIELDS
        if key not in known:
            raise unknown(f"option of the source {text!r}:", key, known)
        value = unquote(value.strip())
        into = columns if key in FIELDS else options
        if not value or key in into:
            raise ReadEnvError(f"source {text!r}: {part!r} should read {key}=VALUE, once")
        into[key] = value
    hub = path.startswith(HUB)
    path = path.removeprefix(HUB).strip()
    if not path:
        raise ReadEnvError(f"source {text!r}: right would be a file, or {HUB}NAME of a data set")
    return Source(os.path.expanduser(path) if not hub or path[0] in "~./" else path, hub, columns, options)


def read_rows(text: str | Path) -> Iterator[Row]:
    """Iterate over the rows of a source, with their fields under the names that :class:`Source` gives them.

    Raises:
        ReadEnvError: the source can't be read, is of an unknown format, lacks a column that it names, or needs the extra
            ``data``; a row is malformed (it is named).
    """
    source = parse_source(text)
    read = _READERS.get(Path(source.path).suffix.lower(), _json_lines) if not source.hub else _data_set
    for where, number, fields in read(source):
        for name, column in source.columns.items():
            if column not in fields:
                raise ReadEnvError(f"{where}: no column {column!r} for {name!r}; it has {', '.join(map(str, fields))}")
        others = {name: value for name, value in fields.items() if name not in source.columns.values()}
        # A column that the source names comes before one that has the field's name.
        named = others | {name: fields[column] for name, column in source.columns.items()}
        yield where, number, _present(named) if source.tabular else named


def source_digest(text: str | Path) -> str:
    """SHA-256 of the content of a file or of the rows of another source, its first 16 hexadecimal digits.

    Raises:
        ReadEnvError: see :func:`read_rows`.
    """
    source = parse_source(text)
    if Path(source.path).is_file() and not source.columns:
        return content_digest(Path(source.path))
    return _digest(os.fspath(text), source_version(text))


def is_there(text: str | Path) -> bool:
    """False for a file or folder that does not exist; True for a data set of the hub, which may be loaded."""
    source = parse_source(text)
    return os.path.exists(source.path) or (source.hub and source.path[0] not in "~./")


def source_version(text: str | Path) -> tuple[tuple[str, int, int], ...]:
    """Path, size and time of change of the files of a source; empty for one that is not on this machine."""
    source = parse_source(text)
    path = Path(source.path)
    if not source.local:
        return ()
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    try:
        return tuple((str(one.resolve()), one.stat().st_size, one.stat().st_mtime_ns) for one in files)
    except OSError:  # reported when it is read
        return ()


@lru_cache(maxsize=64)
def _digest(text: str, version: tuple[tuple[str, int, int], ...]) -> str:
    digest = hashlib.sha256()
    for _, _, fields in read_rows(text):
        digest.update(json.dumps(fields, sort_keys=True, default=str).encode("utf-8", "surrogatepass"))
    return digest.hexdigest()[:16]


def _json_lines(source: Source) -> Iterator[Row]:
    return json_rows(Path(source.path))


def _json_array(source: Source) -> Iterator[Row]:
    path = Path(source.path)
    text = text_of(path, "a JSON file")
    if not text.lstrip().startswith("["):
        yield from json_rows(path)
        return
    try:
        rows = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ReadEnvError(f"{path}: is no JSON ({error})") from None
    for number, row in enumerate(rows, 1):
        where = f"{path}, entry {number}"
        if not isinstance(row, dict):
            raise ReadEnvError(f'{where}: {row!r:.60} is no JSON object; write {{"prompt": ..., "answer": ...}}')
        yield where, number, row


def _csv(source: Source, delimiter: str = ",") -> Iterator[Row]:
    path = Path(source.path)
    # Cells may hold line breaks.
    reader = csv.DictReader(io.StringIO(text_of(path, "a CSV file"), newline=""), delimiter=delimiter, strict=True)
    csv.field_size_limit(2**31 - 1)
    try:
        if not reader.fieldnames:
            raise ReadEnvError(f"{path}: is empty; its first line must name the columns, such as prompt,answer")
        twice = [name for name in reader.fieldnames if reader.fieldnames.count(name) > 1]
        if twice:
            raise ReadEnvError(f"{path}: column {twice[0]!r} occurs twice")
        for number, row in enumerate(reader, 1):
            where = f"{path}, row {number}"
            if None in row or None in row.values():
                raise ReadEnvError(
                    f"{where}: has more or fewer cells than the {len(reader.fieldnames)} columns of the first line; put a "
                    "cell with a comma or a line break in double quotes"
                )
            yield where, number, {name: _cell(name, cell) for name, cell in row.items()}
    except csv.Error as error:
        raise ReadEnvError(f"{path}, line {reader.line_num}: is no CSV ({error})") from None


def _tsv(source: Source) -> Iterator[Row]:
    return _csv(source, "\t")


def _cell(column: str, cell: str) -> Any:
    """Cell, None for an empty one; of a column ``difficulty``, its number."""
    if not cell.strip():
        return None
    if column != "difficulty":
        return cell
    try:
        return float(cell)
    except ValueError:
        return cell


def _parquet(source: Source) -> Iterator[Row]:
    try:
        import pyarrow as arrow
        from pyarrow import parquet
    except ImportError:
        raise _needs_extra(source) from None
    path = Path(source.path)
    try:
        table = parquet.read_table(path)
    except (OSError, arrow.ArrowException) as error:
        raise ReadEnvError(f"{path}: can't be read as Parquet ({str(error).splitlines()[0]})") from None
    for number, row in enumerate(table.to_pylist(), 1):
        yield f"{path}, row {number}", number, row


def _data_set(source: Source) -> Iterator[Row]:
    try:
        import datasets
    except ImportError:
        raise _needs_extra(source) from None
    name, split = source.options.get("name"), source.options.get("split")
    if not is_there(str(source)):
        raise ReadEnvError(f"{source}: no such folder")
    try:
        found = datasets.load_dataset(source.path, name, split=split, revision=source.options.get("revision"))
    # Errors of the network, the hub, the folder's layout and the formats have no common class.
    except Exception as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ReadEnvError(f"{source}: can't be loaded by datasets: {first}") from None
    if isinstance(found, dict):
        splits = ", ".join(f"{source}?split={split}" for split in found)
        raise ReadEnvError(f"{source}: name one of its splits: {splits}")
    for number, row in enumerate(found, 1):
        yield f"{source}, row {number}", number, dict(row)


def _present(row: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of a row of a table with types, where a missing value is a null or NaN."""
    return {k: v for k, v in row.items() if v is not None and not (isinstance(v, float) and math.isnan(v))}


def _needs_extra(source: Source) -> ReadEnvError:
    return ReadEnvError(f"{source}: needs the extra 'data': pip install 'read-env[data]'")


_READERS: Mapping[str, Callable[[Source], Iterator[Row]]] = {
    ".json": _json_array, ".csv": _csv, ".tsv": _tsv, ".parquet": _parquet,
}  # fmt: skip
