"""Parts that commands share: the table that they print, the report that they write, their exit codes."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from read_env.config import Config, make_config
from read_env.errors import ReadEnvError

Rows = list[tuple[str, Any]]


def plain(config: Config) -> Config:
    """Configuration without the classes of the command line."""
    return make_config(config.model_dump(), "configuration")


def table(rows: Sequence[tuple[str, Any]]) -> None:
    """Print names and values in two columns."""
    width = max((len(name) for name, _ in rows), default=0)
    for name, value in rows:
        print(f"{name:<{width}}  {value}".rstrip())


def write_report(directory: Path, typed: str, reference: str = "task-static") -> Rows:
    """Write the report of a directory, and its pictures for TensorBoard; returns the paths of its two pages.

    A ``typed`` command is first added to ``commands.txt``, which the report shows.
    """
    from read_env import files, reporting
    from read_env.running.directory import RecordDirectory
    from read_env.running.tensorboard import write_pictures

    identity = RecordDirectory(directory).identity
    if not identity.exists():
        raise ReadEnvError(f"{directory} holds no run, comparison, transfer matrix or training")
    if typed:
        path = directory / "commands.txt"
        known = files.read_text(path).splitlines() if path.exists() else []
        files.write_text(path, "".join(f"{line}\n" for line in dict.fromkeys([*known, typed])))
    kind = str(files.read_json(identity).get("kind", ""))
    reports: dict[str, Callable[[Path], Path]] = {
        "comparison": partial(reporting.comparison_report, reference=reference),
        "training": reporting.training_report, "transfer": reporting.transfer_report,
        "identification": reporting.identification_report,
    }  # fmt: skip
    report = reports.get(kind, reporting.run_report)(directory)
    if pictures := {f"report/{path.stem}": path for _, path in pictures_of(directory)}:
        write_pictures(directory / "tensorboard" / "pictures", pictures)
    return [("report", report), ("web page", report.with_suffix(".html"))]


def pictures_of(directory: Path) -> Rows:
    """Rows of the pictures of a report."""
    return [("picture", picture) for picture in sorted(directory.glob("*.png"))]


def curves(directory: Path) -> tuple[str, str]:
    """Row that names the command for the curves, in whose names of runs agent, task and seed come first."""
    runs = directory / "runs"
    return "curves", f"tensorboard --logdir {runs if runs.is_dir() else directory}"


def refused(rows: Sequence[tuple[str, Any]], ready: bool) -> int:
    """Print what a run would refuse, and return the exit code of a check."""
    problems = [text for name, text in rows if name == "refused"]
    for problem in problems:
        print(f"read-env: {problem}", file=sys.stderr)
    return 2 if problems else 0 if ready else 1


def failed(failures: Mapping[str, str]) -> int:
    """Print the errors of runs by name, and return the exit code."""
    for name, error in failures.items():
        print(f"read-env: {name} failed: {error}", file=sys.stderr)
    if failures:
        print("read-env: the same command makes the missing runs", file=sys.stderr)
    return 1 if failures else 0
