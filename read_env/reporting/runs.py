"""Run, comparison, transfer and training directories, read back into frozen values.

Layout::

    RUN/         config.json  start.json  steps.jsonl  summary.json (only when finished)  error.txt (only when failed)
    COMPARISON/  config.json  runs/*/
    TRANSFER/    config.json  runs/*/     one-hot runs whose steps carry "exam" at the asked budgets
    TRAINING/    config.json  episodes.jsonl  training.json (only when finished)

A run's identity (agent, task, seed) comes from its own files; the names of folders are never parsed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from read_env import records
from read_env.records import Episode, RecordError, RunStart, RunSummary, StepRecord, read_record, read_records
from read_env.tasks import essential


class _Configured:
    config: Mapping[str, Any]

    def section(self, name: str) -> dict[str, Any]:
        """A section of the configuration, empty where it has none."""
        return dict(self.config.get(name) or {})


@dataclass(frozen=True, eq=False)
class Run(_Configured):
    """One run directory."""

    path: Path
    config: Mapping[str, Any]  # content of config.json, empty where there is none
    start: RunStart | None = None  # None for a run that has not started
    steps: tuple[StepRecord, ...] = ()  # the finished steps
    summary: RunSummary | None = None  # None for a run that has not finished
    truncated: bool = False  # the last line of steps.jsonl was cut off while it was written
    error: str = ""  # last line of error.txt where the run was ended by an error

    @property
    def agent(self) -> str:
        """The agent's label: from the summary, before that the agent's name and options in the configuration."""
        if self.summary is not None:
            return self.summary.agent
        options = [f"{key}={value}" for key, value in self.section("agent_options").items()]
        return re.sub(r"[^\w.,=+-]+", "-", ",".join([str(self.config.get("agent", "agent")), *options])).strip("-_")

    @property
    def task(self) -> str:
        """The task's name; for a run that has not started, as the configuration has it."""
        return self.start.task if self.start is not None else str(self.config.get("task", "task"))

    @property
    def seed(self) -> int:
        """The seed of prompts and agent."""
        return self.summary.seed if self.summary is not None else int(self.config.get("seed", 0))

    @property
    def budget(self) -> int | None:
        """Completion tokens the run may spend, from the summary or the configuration; None if neither says."""
        total = self.summary.budget if self.summary is not None else self.section("budget").get("total_tokens")
        return int(total) if total is not None else None

    @property
    def spent(self) -> int:
        """Completion tokens spent so far."""
        return self.steps[-1].budget_spent if self.steps else 0

    @property
    def essential(self) -> np.ndarray:
        """(|C|,) booleans: the capabilities whose drops are spillover; a drop on the others is forgetting."""
        return essential(self.begun.requirement, int(self.section("reward").get("essential_k", 3)))

    @property
    def status(self) -> str:
        """``finished``, ``failed``, ``not started``, or ``unfinished`` with the steps and tokens so far."""
        if self.summary is not None:
            return "finished"
        if self.error:
            return f"failed after {len(self.steps)} steps: {self.error}"
        if self.start is None:
            return "not started"
        of, cut = f" of {self.budget:,}" if self.budget else "", ", last record cut off" if self.truncated else ""
        return f"unfinished: {len(self.steps)} steps, {self.spent:,}{of} completion tokens spent{cut}"

    @property
    def begun(self) -> RunStart:
        """The start record; raises :class:`RecordError` for a run that has none yet."""
        if self.start is None:
            raise RecordError(f"{self.path / 'start.json'}: missing: the run has not started")
        return self.start

    @property
    def ended(self) -> RunSummary:
        """The summary; raises :class:`RecordError` for a run that has none yet."""
        if self.summary is None:
            raise RecordError(f"{self.path / 'summary.json'}: missing: the run is {self.status}")
        return self.summary


@dataclass(frozen=True, eq=False)
class Training(_Configured):
    """A training directory."""

    path: Path
    config: Mapping[str, Any]
    episodes: tuple[Episode, ...]  # the finished episodes, in order
    finished: bool  # training.json, written at the end, is there
    truncated: bool  # the last line of episodes.jsonl was cut off while it was written

    @property
    def agent(self) -> str:
        """The agent's name."""
        return str(self.config.get("agent", "agent"))


def load_run(directory: str | Path) -> Run:
    """Read one run directory.

    Raises:
        RecordError: names file, line and field of what is missing or malformed.
    """
    path = Path(directory)
    if not path.is_dir():
        raise RecordError(f"{path}: no such run directory")
    config = read_config(path)
    lines, end, error = path / "steps.jsonl", path / "summary.json", path / "error.txt"
    text = error.read_text(encoding="utf-8", errors="replace").strip() if error.exists() else ""
    cause = (text.splitlines() or ["no message"])[-1] if error.exists() else ""
    if not (path / "start.json").exists():
        if lines.exists() and lines.stat().st_size:
            raise RecordError(f"{path / 'start.json'}: missing, although steps.jsonl has records")
        if not config:
            raise RecordError(f"{path}: not a run directory: neither config.json nor start.json in it")
        return Run(path, config, error=cause)
    start = read_record(path / "start.json", RunStart)
    size = len(start.suite)
    steps, truncated = read_records(lines, StepRecord, size) if lines.exists() else ((), False)
    summary = read_record(end, RunSummary, size) if end.exists() else None
    if summary is not None and truncated:
        raise RecordError(f"{lines}, line {len(steps) + 1}: cut off, although the run has a summary")
    if summary is not None and summary.steps != len(steps):
        raise RecordError(f"{end}: steps is {summary.steps}, but steps.jsonl has {len(steps)} records")
    return Run(path, config, start, steps, summary, truncated, cause)


def load_training(directory: str | Path) -> Training:
    """Read a training directory: ``episodes.jsonl``, one finished episode per line.

    Raises:
        RecordError: no training, or names file, line and field of what is malformed.
    """
    path = Path(directory)
    lines = path / "episodes.jsonl"
    if not lines.exists():
        raise RecordError(f"{lines}: missing: no training was recorded here")
    episodes, truncated = read_records(lines, Episode)
    return Training(path, read_config(path), episodes, (path / "training.json").exists(), truncated)


def load_many(directory: str | Path) -> tuple[Run, ...]:
    """All runs of a comparison or transfer directory, ordered by path.

    Raises:
        RecordError: no run has finished, the runs differ in suite, or a record is malformed.
    """
    folder = Path(directory) / "runs"
    if not folder.is_dir():
        raise RecordError(f"{folder}: no such folder: expected one directory per run in it")
    runs = tuple(load_run(path) for path in sorted(folder.iterdir()) if path.is_dir())
    begun = [run for run in runs if run.start is not None]
    for run in begun:
        if run.begun.suite != begun[0].begun.suite:
            raise RecordError(f"{run.path / 'start.json'}: suite differs from that of {begun[0].path.name}")
    finished = [run for run in runs if run.summary is not None]
    if not finished:
        raise RecordError(f"{directory}: no run has finished yet ({len(runs)} begun)")
    known: dict[tuple[str, str, int], Path] = {}
    for run in finished:
        first = known.setdefault((run.agent, run.task, run.seed), run.path)
        if first != run.path:
            raise RecordError(f"{run.path}: the same agent, task and seed as {first.name}: remove one of the two")
    return runs


def unfinished(runs: Sequence[Run], absent: Iterable[str]) -> tuple[str, ...]:
    """One line for each run that is not in the numbers: the unfinished ones, and those of ``absent`` without a folder."""

    def plain(name: str) -> str:
        return re.sub(r"[^A-Za-z0-9]+", "-", name)

    # The label of an unfinished run may not be on record (a saved agent), but its folder is where it was begun.
    folders = {plain(run.path.name) for run in runs}
    lines = [f"{run.path.name}: {run.status}" for run in runs if run.summary is None]
    return tuple(sorted([*lines, *(f"{name}: not started" for name in absent if plain(name) not in folders)]))


def read_config(path: Path) -> dict[str, Any]:
    """The content of a directory's ``config.json``, empty where there is none."""
    return records.read_object(path / "config.json") if (path / "config.json").exists() else {}
