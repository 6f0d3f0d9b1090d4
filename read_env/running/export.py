"""Export of recorded runs: the transitions as a local Minari data set or as a Parquet file."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from read_env import files
from read_env.errors import ReadEnvError, unknown
from read_env.running.tool_requests import ExportRequest

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

FORMATS = ("minari", "parquet")


@dataclass(frozen=True)
class Exported:
    """A data set that was written.

    Attributes:
        path: folder of the Minari data set, or the Parquet file.
        episodes: number of runs in it.
        transitions: number of their transitions.
        skipped: one line for each run that has not finished.
        load: Python expression that loads it.
        environment: reason why Minari's ``recover_environment`` can't make the environment; empty if it can.
    """

    path: Path
    episodes: int
    transitions: int
    skipped: tuple[str, ...]
    load: str
    environment: str = ""


def export(request: ExportRequest) -> Exported:
    """Write the transitions of finished runs. An error leaves no data set behind, and replaces none.

    Raises:
        ReadEnvError: an unknown format, a missing extra, a data set or file of that name, a training, no finished run, or
            runs that don't fit into one data set.
    """
    if request.format not in FORMATS:
        raise unknown("format", request.format, FORMATS)
    if not request.directories:
        raise ReadEnvError("directories: name at least one directory of a run or a comparison")
    directories = [Path(os.path.expanduser(directory)) for directory in request.directories]
    first = directories[0] if directories[0].name not in ("", "..") else directories[0].resolve()
    if request.format == "parquet":
        out = Path(os.path.expanduser(request.out or first.with_name(f"{first.name}.parquet")))
        if given := [
            name for name in ("author", "author_email", "code_permalink", "description") if getattr(request, name)
        ]:
            raise ReadEnvError(
                f"{given[0]}: {getattr(request, given[0])!r} has no place in a Parquet file; right would be "
                "--format minari"
            )
        _needs_pyarrow()
        if out.exists():
            raise ReadEnvError(f"out: {out} exists, and no export replaces it; right would be another file (--out)")
    else:
        from read_env.running import minari_export

        name = request.out or f"read-env/{re.sub(r'[^A-Za-z0-9_-]+', '-', first.name).strip('-') or 'runs'}-v0"
        minari_export.check_name(name)

    from read_env.reporting.transitions import load_trajectories, transitions_frame

    trajectories, skipped = load_trajectories(*directories)
    counts = len(trajectories), sum(map(len, trajectories))
    if request.format == "parquet":
        write_parquet(transitions_frame(trajectories), out)
        return Exported(out, *counts, skipped, f"pandas.read_parquet({str(out)!r})")
    path, reason = minari_export.write(trajectories, name, request)
    return Exported(path, *counts, skipped, f"minari.load_dataset({name!r})", reason)


def write_parquet(frame: pd.DataFrame, path: Path) -> None:
    """Write the frame of :func:`read_env.reporting.transitions.load_transitions` as a Parquet file with list columns."""
    import pyarrow as pa
    import pyarrow.parquet as parquet

    table = pa.Table.from_pandas(frame, schema=_schema(frame), preserve_index=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    with files.whole_file(path) as file:
        parquet.write_table(table, file)


def _schema(frame: pd.DataFrame) -> pa.Schema:
    """Types of the columns; they don't depend on which values are missing."""
    import pyarrow as pa

    from read_env.reporting.transitions import VECTORS

    scalars = {"Int64": pa.int64(), "float64": pa.float64(), "bool": pa.bool_(), "boolean": pa.bool_()}

    def type_of(name: str) -> pa.DataType:
        if name in VECTORS:
            return pa.list_(pa.type_for_alias(VECTORS[name]))
        return scalars.get(str(frame[name].dtype), pa.string())

    return pa.schema([(name, type_of(name)) for name in frame])


def _needs_pyarrow() -> None:
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError as error:
        raise ReadEnvError(
            f"format: parquet needs the package pyarrow ({error}): pip install 'read-env[data]'"
        ) from None
