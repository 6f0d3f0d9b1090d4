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
    """One run directory. What is not in the summary or the start record yet is as the configuration has it."""

    path: Path
    config: Mapping[str, Any]  # content of config.json, empty where there is none
    agent: str  # label: the agent's name and options, before there is a summary
    task: str
    seed: int  # of prompts and agent
    budget: int | None  # completion tokens the run may spend; None if nothing says
    start: RunStart | None  # None for a run that has not started
    steps: tuple[StepRecord, ...]  # the finished steps
    summary: RunSummary | None  # None for a run that has not finished
    truncated: bool  # the last line of steps.jsonl was cut off while it was written
    error: str  # last line of error.txt where the run was ended by an error

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
    agent: str
    episodes: tuple[Episode, ...]  # the finished episodes, in order
    finished: bool  # training.json, written at the end, is there
    truncated: bool  # the last line of episodes.jsonl was cut off while it was written


def load_run(directory: str | Path) -> Run:
    """Read one run directory.

    Raises:
        RecordError: names file, line and field of what is missing or malformed.
    """
    path = Path(directory)
    if not path.is_dir():
        raise RecordError(f"{path}: no such run directory")
    config, lines, error = read_config(path), path / "steps.jsonl", path / "error.txt"
    start = read_record(path / "start.json", RunStart) if (path / "start.json").exists() else None
    if start is None and lines.exists() and lines.stat().st_size:
        raise RecordError(f"{path / 'start.json'}: missing, although steps.jsonl has records")
    if start is None and not config:
        raise RecordError(f"{path}: not a run directory: neither config.json nor start.json in it")
    size = len(start.suite) if start else None
    steps, truncated = read_records(lines, StepRecord, size) if start and lines.exists() else ((), False)
    end = path / "summary.json"
    summary = read_record(end, RunSummary, size) if start and end.exists() else None
    if summary is not None and truncated:
        raise RecordError(f"{lines}, line {len(steps) + 1}: cut off, although the run has a summary")
    if summary is not None and summary.steps != len(steps):
        raise RecordError(f"{end}: steps is {summary.steps}, but steps.jsonl has {len(steps)} records")
    text = error.read_text(encoding="utf-8", errors="replace").strip() if error.exists() else ""
    cause = (text.splitlines() or ["no message"])[-1] if error.exists() else ""
    options = [f"{key}={value}" for key, value in (config.get("agent_options") or {}).items()]
    label = re.sub(r"[^\w.,=+-]+", "-", ",".join([str(config.get("agent", "agent")), *options])).strip("-_")
    agent, seed = (summary.agent, summary.seed) if summary else (label, int(config.get("seed", 0)))
    task = start.task if start else str(config.get("task", "task"))
    budget = summary.budget if summary else (config.get("budget") or {}).get("total_tokens")
    return Run(path, config, agent, task, seed, budget, start, steps, summary, truncated, cause)


def load_training(directory: str | Path) -> Training:
    """Read a training directory: ``episodes.jsonl``, one finished episode per line.

    Raises:
        RecordError: no training, or names file, line and field of what is malformed.
    """
    path, lines = Path(directory), Path(directory) / "episodes.jsonl"
    if not lines.exists():
        raise RecordError(f"{lines}: missing: no training was recorded here")
    episodes, truncated = read_records(lines, Episode)
    config, finished = read_config(path), (path / "training.json").exists()
    return Training(path, config, str(config.get("agent", "agent")), episodes, finished, truncated)


def load_many(directory: str | Path) -> tuple[Run, ...]:
    """All runs of a comparison or transfer directory, ordered by path.

    Raises:
        RecordError: no run has finished, the runs differ in suite, or a record is malformed.
    """
    folder = Path(directory) / "runs"
    if not folder.is_dir():
        raise RecordError(f"{folder}: no such folder: expected one directory per run in it")
    runs = tuple(load_run(path) for path in sorted(folder.iterdir()) if path.is_dir())
    suites = {run.path.name: run.start.suite for run in runs if run.start is not None}
    for name, suite in suites.items():
        if suite != next(iter(suites.values())):
            raise RecordError(f"{folder / name / 'start.json'}: suite differs from that of {next(iter(suites))}")
    finished = [run for run in runs if run.summary is not None]
    if not finished:
        raise RecordError(f"{directory}: no run has finished yet ({len(runs)} begun)")
    known: dict[tuple[str, str, int], str] = {}
    for run in finished:
        if (first := known.setdefault((run.agent, run.task, run.seed), run.path.name)) != run.path.name:
            raise RecordError(f"{run.path}: the same agent, task and seed as {first}: remove one of the two")
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
