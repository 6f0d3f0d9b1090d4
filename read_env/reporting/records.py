"""Run, comparison and transfer directories, read back into frozen values.

Every report is computed from these records and never from live objects, so that it can be made
again. A run that did not finish is loaded like any other and says so in :attr:`Run.status`;
a record that cannot be understood raises :class:`RecordError` with the file, the line and the field.

Layout (written by the command line)::

    RUN/         config.json  start.json  steps.jsonl  summary.json (only when finished)  error.txt (only when failed)
    COMPARISON/  config.json  runs/AGENT__TASK__seedN/
    TRANSFER/    config.json  runs/one-hot-CAPABILITY__seedN/   steps carry "exam" at the asked budgets
    TRAINING/    config.json  episodes.jsonl  training.json (only when finished)
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from read_env.reporting.fields import Fields, RecordError, read_json, read_lines
from read_env.reporting.schema import (
    Episode,
    Start,
    Step,
    Summary,
    read_episode,
    read_start,
    read_step,
    read_summary,
)

__all__ = [
    "Comparison",
    "Episode",
    "RecordError",
    "Run",
    "Start",
    "Step",
    "Summary",
    "Training",
    "Transfer",
    "load_comparison",
    "load_run",
    "load_training",
    "load_transfer",
]

_COMPARISON_RUN = re.compile(r"^(?P<agent>.+)__(?P<task>.+?)__seed(?P<seed>\d+)$")
_TRANSFER_RUN = re.compile(r"^one-hot-(?P<source>.+)__seed(?P<seed>\d+)$")


@dataclass(frozen=True, eq=False)
class Run:
    """One run directory.

    Attributes:
        path: the directory.
        agent: label of the agent: the first part of the directory's name in a comparison.
        truncated: the last line of ``steps.jsonl`` was cut off while it was written.
        error: last line of ``error.txt`` where the run was ended by an error, empty otherwise.
    """

    path: Path
    agent: str
    task: str
    seed: int
    config: Mapping[str, Any]
    start: Start | None
    steps: tuple[Step, ...]
    summary: Summary | None
    truncated: bool
    error: str = ""

    @property
    def finished(self) -> bool:
        return self.summary is not None

    @property
    def budget(self) -> int | None:
        """Completion tokens the run may spend, from the summary or the configuration; None if neither says."""
        if self.summary is not None:
            return self.summary.budget
        total = dict(self.config.get("budget") or {}).get("total_tokens")
        return int(total) if total is not None else None

    @property
    def essential(self) -> np.ndarray:
        """(|C|,) booleans: the capabilities whose drops are spillover; a drop on the others is forgetting."""
        from read_env.tasks import essential

        return essential(self.begun.requirement, int(dict(self.config.get("reward") or {}).get("essential_k", 3)))

    @property
    def status(self) -> str:
        """``finished``, ``failed``, ``not started``, or ``unfinished`` with how far it came."""
        if self.finished:
            return "finished"
        if self.error:
            return f"failed after {len(self.steps)} steps: {self.error}"
        if self.start is None:
            return "not started"
        spent = self.steps[-1].budget_spent if self.steps else 0
        budget = f" of {self.budget:,}" if self.budget is not None else ""
        cut = ", last record cut off" if self.truncated else ""
        return f"unfinished: {len(self.steps)} steps, {spent:,}{budget} completion tokens spent{cut}"

    @property
    def begun(self) -> Start:
        """The start record; raises :class:`RecordError` for a run that has none yet."""
        if self.start is None:
            raise RecordError(f"{self.path / 'start.json'}: missing: the run has not started")
        return self.start

    @property
    def ended(self) -> Summary:
        """The summary; raises :class:`RecordError` for a run that has none yet."""
        if self.summary is None:
            raise RecordError(f"{self.path / 'summary.json'}: missing: the run is {self.status}")
        return self.summary


@dataclass(frozen=True, eq=False)
class Comparison:
    """A comparison directory: its runs by (agent, task, seed), and the asked ones that have no directory."""

    path: Path
    config: Mapping[str, Any]
    runs: tuple[Run, ...]
    missing: tuple[str, ...] = ()

    @property
    def finished(self) -> tuple[Run, ...]:
        return tuple(run for run in self.runs if run.finished)

    @property
    def suite(self) -> tuple[str, ...]:
        return self.finished[0].begun.suite

    @property
    def agents(self) -> tuple[str, ...]:
        """Labels of the agents with a finished run, in the order of the configuration where it has one."""
        return _ordered([run.agent for run in self.finished], self.config.get("agents"))

    @property
    def tasks(self) -> tuple[str, ...]:
        return _ordered([run.task for run in self.finished], self.config.get("tasks"))

    @property
    def seeds(self) -> tuple[int, ...]:
        return tuple(sorted({run.seed for run in self.finished}))

    @property
    def unfinished(self) -> tuple[str, ...]:
        """One line for every run that is not in the numbers."""
        lines = [f"{run.path.name}: {run.status}" for run in self.runs if not run.finished]
        return tuple(sorted(lines + [f"{name}: not started" for name in self.missing]))

    def of(self, agent: str, task: str) -> tuple[Run, ...]:
        """Finished runs of one agent on one task, by seed."""
        return tuple(run for run in self.finished if run.agent == agent and run.task == task)


@dataclass(frozen=True, eq=False)
class Transfer:
    """A transfer directory: one-hot runs by source capability and seed."""

    path: Path
    config: Mapping[str, Any]
    runs: Mapping[tuple[str, int], Run]
    missing: tuple[str, ...] = ()

    @property
    def suite(self) -> tuple[str, ...]:
        return next(iter(self.finished.values())).begun.suite

    @property
    def finished(self) -> Mapping[tuple[str, int], Run]:
        return {key: run for key, run in self.runs.items() if run.finished}

    @property
    def sources(self) -> tuple[str, ...]:
        """The capabilities that runs were begun for, in the suite's order."""
        begun = {source for source, _ in self.runs}
        return tuple(name for name in self.suite if name in begun)

    @property
    def unfinished(self) -> tuple[str, ...]:
        lines = [f"{run.path.name}: {run.status}" for run in self.runs.values() if not run.finished]
        return tuple(sorted(lines + [f"{name}: not started" for name in self.missing]))


@dataclass(frozen=True, eq=False)
class Training:
    """A training directory: the finished episodes in order.

    Attributes:
        finished: whether ``training.json``, written at the end, is there.
        truncated: the last line of ``episodes.jsonl`` was cut off while it was written.
    """

    path: Path
    config: Mapping[str, Any]
    episodes: tuple[Episode, ...]
    finished: bool
    truncated: bool


def load_run(directory: str | Path) -> Run:
    """Read one run directory; :class:`RecordError` names file, line and field of what is wrong."""
    path = Path(directory)
    if not path.is_dir():
        raise RecordError(f"{path}: no such run directory")
    config = read_json(path / "config.json") if (path / "config.json").exists() else {}
    name = _COMPARISON_RUN.match(path.name)
    agent = name["agent"] if name else str(config.get("agent", "agent"))
    task = name["task"] if name else str(config.get("task", "task"))
    seed = int(name["seed"]) if name else int(config.get("seed", 0))
    if not (path / "start.json").exists():
        if (path / "steps.jsonl").exists() and (path / "steps.jsonl").stat().st_size:
            raise RecordError(f"{path / 'start.json'}: missing, although steps.jsonl has records")
        if not config:
            raise RecordError(f"{path}: not a run directory: neither config.json nor start.json in it")
        return Run(path, agent, task, seed, config, None, (), None, False, _error(path))
    start = read_start(Fields(read_json(path / "start.json"), path / "start.json"))
    size = len(start.suite)
    lines, truncated = read_lines(path / "steps.jsonl") if (path / "steps.jsonl").exists() else ([], False)
    steps = tuple(read_step(fields, size, expected) for expected, fields in enumerate(lines, start=1))
    summary_path = path / "summary.json"
    summary = read_summary(Fields(read_json(summary_path), summary_path), size) if summary_path.exists() else None
    if summary is not None and truncated:
        raise RecordError(f"{path / 'steps.jsonl'}, line {len(lines) + 1}: cut off, although the run has a summary")
    if summary is not None and summary.steps != len(steps):
        raise RecordError(f"{summary_path}: steps is {summary.steps}, but steps.jsonl has {len(steps)} records")
    if not name:  # a directory of the user's choice: the records know the label
        agent, task = summary.agent if summary is not None else agent, start.task
    return Run(path, agent, task, seed, config, start, steps, summary, truncated, _error(path))


def load_comparison(directory: str | Path) -> Comparison:
    """Read a comparison directory. All runs must share one suite and one budget.

    Where ``config.json`` lists ``agents``, ``tasks`` and ``seeds``, the combinations without a
    directory are reported as not started.
    """
    path, config, folders = _runs_folder(directory)
    runs = []
    for folder in folders:
        if not _COMPARISON_RUN.match(folder.name):
            raise RecordError(f"{folder}: expected a name like AGENT__TASK__seedN")
        runs.append(load_run(folder))
    agents, tasks, seeds = (list(config.get(key) or []) for key in ("agents", "tasks", "seeds"))
    asked = [f"{agent}__{task}__seed{seed}" for agent in agents for task in tasks for seed in seeds]
    # Labels with characters that do not belong in a folder's name may have been written differently.
    present = {_plain(run.path.name) for run in runs}
    missing = tuple(name for name in asked if _plain(name) not in present)
    _same_suite(runs)
    budgets = {run.ended.budget for run in runs if run.finished}
    if len(budgets) > 1:
        raise RecordError(f"{path}: runs with different budgets ({sorted(budgets)}) cannot be compared")
    if not any(run.finished for run in runs):
        raise RecordError(f"{path}: no run has finished yet ({len(runs)} begun)")
    return Comparison(path, config, tuple(runs), missing)


def load_transfer(directory: str | Path) -> Transfer:
    """Read a transfer directory: ``runs/one-hot-CAPABILITY__seedN``."""
    path, config, folders = _runs_folder(directory)
    runs: dict[tuple[str, int], Run] = {}
    for folder in folders:
        name = _TRANSFER_RUN.match(folder.name)
        if not name:
            raise RecordError(f"{folder}: expected a name like one-hot-CAPABILITY__seedN")
        runs[name["source"], int(name["seed"])] = load_run(folder)
    _same_suite(list(runs.values()))
    finished = [run for run in runs.values() if run.finished]
    if not finished:
        raise RecordError(f"{path}: no run has finished yet ({len(runs)} begun)")
    suite = finished[0].begun.suite
    for (source, _), run in runs.items():
        if source not in suite:
            raise RecordError(f"{run.path}: '{source}' is not a capability of the suite ({', '.join(suite)})")
    seeds = sorted({*(config.get("seeds") or []), *(seed for _, seed in runs)})
    begun = {source for source, _ in runs}
    missing = tuple(
        f"one-hot-{name}__seed{seed}" for name in suite for seed in seeds if (name, seed) not in runs and name in begun
    )
    return Transfer(path, config, dict(sorted(runs.items())), missing)


def load_training(directory: str | Path) -> Training:
    """Read a training directory: ``episodes.jsonl``, one finished episode a line."""
    path = Path(directory)
    if not (path / "episodes.jsonl").exists():
        raise RecordError(f"{path / 'episodes.jsonl'}: missing: no training was recorded here")
    config = read_json(path / "config.json") if (path / "config.json").exists() else {}
    lines, truncated = read_lines(path / "episodes.jsonl")
    episodes = tuple(read_episode(fields) for fields in lines)
    return Training(path, config, episodes, (path / "training.json").exists(), truncated)


def _error(path: Path) -> str:
    if not (path / "error.txt").exists():
        return ""
    lines = (path / "error.txt").read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1] if lines else "no message"


def _runs_folder(directory: str | Path) -> tuple[Path, Mapping[str, Any], list[Path]]:
    path = Path(directory)
    if not (path / "runs").is_dir():
        raise RecordError(f"{path / 'runs'}: no such folder: expected one run directory a run in it")
    config = read_json(path / "config.json") if (path / "config.json").exists() else {}
    folders = sorted(folder for folder in (path / "runs").iterdir() if folder.is_dir())
    if not folders:
        raise RecordError(f"{path / 'runs'}: empty: no run has begun")
    return path, config, folders


def _same_suite(runs: list[Run]) -> None:
    begun = [run for run in runs if run.start is not None]
    for run in begun:
        if run.begun.suite != begun[0].begun.suite:
            raise RecordError(f"{run.path / 'start.json'}: suite differs from that of {begun[0].path.name}")


def _ordered(found: list[str], wanted: Any) -> tuple[str, ...]:
    """Distinct names, the wanted ones first and in their order, the rest by name."""
    first = [str(name) for name in (wanted or []) if name in found]
    return tuple(dict.fromkeys([*first, *sorted(found)]))


def _plain(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "-", name)
