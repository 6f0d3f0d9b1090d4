"""Directories of runs, comparisons, transfer matrices and trainings, read back as values and as tidy DataFrames.

Layout::

    RUN/         config.json  start.json  steps.jsonl  summary.json (only when finished)  error.txt (only when failed)
    COMPARISON/  config.json  runs/*/
    TRANSFER/    config.json  runs/*/     one-hot runs whose steps carry "exam" at the asked budgets
    TRAINING/    config.json  episodes.jsonl  training.json (only when finished)

A run's identity (agent, task, seed) comes from its own files; the names of folders are never parsed, so a folder that
was renamed or moved gives the same rows. ``docs/records.md`` lists the columns of the frames with their units. Every
frame begins with those of ``IDENTITY``; what was not recorded is NA or NaN. A source is one of these directories, or
a run or training already read. A record that is missing or malformed raises RecordError with its file, line and field.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from read_env.record_files import RecordError, read_object, read_record, read_records
from read_env.records import ConfigRecord, Episode, RunStart, RunSummary, StepRecord
from read_env.tasks import essential

IDENTITY = "path agent task seed preset suite teacher student objective budget step_tokens".split()
_COUNTS = "steps spent residue prompt_tokens generated_tokens probe_tokens dev_tokens tokens_before_run".split()
ENDS = "utility_start utility exam_utility_start exam_utility spillover forgetting exam_forgetting".split()
_LEFT = "left_tokens left_utility left_exam_utility".split()
_GAINS = "exam_utility_gain exam_match_gain utility_gain".split()
_STEP_COUNTS = "step spent completion_tokens prompt_tokens trained_tokens skipped".split()
_STEP_NUMBERS = "utility dev_utility reward gain spillover cost forgetting loss spillover_sum forgetting_so_far".split()
_SCORES = (
    "step spent capability requirement allocation tokens completions cut loss divergence probe dev exam teacher_probe "
    "teacher_exam"
).split()
_NAMED = ("metrics", "agent", "seconds", "cache")


@dataclass(frozen=True, eq=False)
class Run:
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

    def section(self, name: str) -> dict[str, Any]:
        """A section of the configuration, empty where it has none."""
        return dict(self.config.get(name) or {})

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
class Training:
    """A training directory."""

    path: Path
    config: Mapping[str, Any]
    agent: str
    episodes: tuple[Episode, ...]  # the finished episodes, in order
    finished: bool  # training.json, written at the end, is there
    truncated: bool  # the last line of episodes.jsonl was cut off while it was written


Source = str | Path | Run | Training


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
    runs = tuple(run for run in load_sources([directory]) if isinstance(run, Run))
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
    """One line for each run that is not in the numbers: the unfinished ones, and those of ``absent`` without a folder.

    Example:
        >>> unfinished([], ["uniform__math__seed0"])
        ('uniform__math__seed0: not started',)
    """

    def plain(name: str) -> str:
        return re.sub(r"[^A-Za-z0-9]+", "-", name)

    # The label of an unfinished run may not be on record (a saved agent), but its folder is where it was begun.
    folders = {plain(run.path.name) for run in runs}
    lines = [f"{run.path.name}: {run.status}" for run in runs if run.summary is None]
    return tuple(sorted([*lines, *(f"{name}: not started" for name in absent if plain(name) not in folders)]))


def read_config(path: Path) -> dict[str, Any]:
    """The content of a directory's ``config.json``, empty where there is none.

    Example:
        >>> read_config(Path("no-such-folder"))
        {}
    """
    if not (path / "config.json").exists():
        return {}
    read_record(path / "config.json", ConfigRecord)
    return read_object(path / "config.json")


def load_runs(*sources: Source) -> pd.DataFrame:
    """One row per run, unfinished ones included; for a training, one row per finished episode."""
    rows = [row for entry in load_sources(sources) for row in _rows(entry)]
    columns = [*IDENTITY, "episode", "status", "finished", *_COUNTS, *ENDS, *_GAINS, *_LEFT, "return", "derived_from"]
    integers, numbers = ["episode", *_COUNTS, "left_tokens"], [*ENDS, *_GAINS, *_LEFT[1:], "return"]
    frame = _typed(pd.DataFrame(rows, columns=columns), integers, numbers)
    for name in ("utility", "exam_utility"):
        frame[f"{name}_gain"] = frame[name] - frame[f"{name}_start"]
    return frame.astype({"finished": bool})


def load_steps(*sources: Source) -> pd.DataFrame:
    """One row per step of every run; step 0 is the initial student. A training keeps no steps and has no rows."""
    frame = pd.DataFrame([row for run in _begun(sources) for row in _steps(run)])
    named = sorted((name for name in frame if "/" in name), key=lambda name: _NAMED.index(name.partition("/")[0]))
    frame = frame.reindex(columns=[*IDENTITY, *_STEP_COUNTS, *_STEP_NUMBERS, *named])
    return _typed(frame, _STEP_COUNTS, [*_STEP_NUMBERS, *named])


def load_scores(*sources: Source) -> pd.DataFrame:
    """One row per capability and step of every run; step 0 is the initial student. A training has no rows."""
    rows = [row for run in _begun(sources) for row in _scores(run)]
    frame = pd.DataFrame(rows, columns=[*IDENTITY, *_SCORES])
    frame["capability"] = pd.Categorical(frame["capability"], categories=frame["capability"].unique())
    return _typed(frame, ["step", "spent"], _SCORES[3:])


def _typed(frame: pd.DataFrame, integers: list[str], numbers: list[str]) -> pd.DataFrame:
    whole = dict.fromkeys(["seed", "budget", "step_tokens", *integers], "Int64")
    return frame.astype({**whole, **dict.fromkeys(numbers, float)})


def load_sources(sources: Iterable[Source]) -> Iterator[Run | Training]:
    """Runs and trainings of the sources: of a directory with a folder ``runs``, the runs in it, ordered by path."""
    for source in sources:
        if isinstance(source, Run | Training):
            yield source
        elif (Path(source) / "runs").is_dir():
            yield from (load_run(folder) for folder in sorted((Path(source) / "runs").iterdir()) if folder.is_dir())
        else:
            yield load_training(source) if (Path(source) / "episodes.jsonl").exists() else load_run(source)


def _begun(sources: Iterable[Source]) -> Iterator[Run]:
    return (entry for entry in load_sources(sources) if isinstance(entry, Run) and entry.start is not None)


def identity_of(entry: Run | Training) -> dict[str, Any]:
    """Values of the columns of ``IDENTITY``."""
    models, budget, distill = (entry.config.get(name) or {} for name in ("models", "budget", "distill"))
    found = {
        "path": str(entry.path),
        "agent": entry.agent,
        **{name: entry.config.get(name) for name in ("preset", "suite")},
        **{name: models.get(name) for name in ("teacher", "student")},
        "objective": distill.get("loss"),
        "budget": budget.get("total_tokens"),
        "step_tokens": budget.get("step_tokens"),
    }
    return found | ({"task": entry.task, "seed": entry.seed, "budget": entry.budget} if isinstance(entry, Run) else {})


def _rows(run: Run | Training) -> Iterator[dict[str, Any]]:
    if isinstance(run, Training):
        for episode in run.episodes:
            values = episode.model_dump()
            renamed = {"spent": values.pop("completion_tokens"), "return": values.pop("episode_return")}
            yield {**identity_of(run), **values, **renamed, "status": "finished", "finished": True}
        return
    end = run.summary
    row = {
        **identity_of(run),
        "status": run.status,
        "finished": end is not None,
        "steps": len(run.steps),
        "spent": run.spent,
        "prompt_tokens": sum(step.prompt_tokens for step in run.steps),
        "return": sum(step.reward for step in run.steps),
    }
    if end is not None:
        row |= end.model_dump(include={*_COUNTS, *ENDS, *_LEFT, "derived_from"})
        if end.exam is not None and end.exam_start is not None:
            row["exam_match_gain"] = float(np.dot(run.begun.requirement, end.exam - end.exam_start))
    yield row


def _steps(run: Run) -> Iterator[dict[str, Any]]:
    identity, start, others = identity_of(run), run.begun, ~run.essential
    first = {"step": 0, "spent": 0, "utility": start.utility, "dev_utility": start.dev_utility}
    yield {**identity, **first, "spillover_sum": 0.0, "forgetting_so_far": 0.0}
    spillover = 0.0
    for step in run.steps:
        spillover += step.spillover
        drops = np.maximum(start.profile - step.profile, 0.0)[others]
        yield {
            **identity,
            **{name: getattr(step, name, None) for name in (*_STEP_COUNTS, *_STEP_NUMBERS)},
            "spent": step.budget_spent,
            "skipped": len(step.skipped or ()),
            "spillover_sum": spillover,
            "forgetting_so_far": float(drops.mean()) if drops.size else 0.0,
            **{f"{part}/{name}": value for part in _NAMED for name, value in getattr(step, part).items()},
        }


def _scores(run: Run) -> Iterator[dict[str, Any]]:
    identity, start, end, steps = identity_of(run), run.begun, run.summary, run.steps
    exams = [start.exam, *(step.exam for step in steps)]
    if end is not None:  # its exams stand in for those that the start and the last step lack
        exams[0] = end.exam_start if exams[0] is None else exams[0]
        exams[-1] = end.exam if exams[-1] is None else exams[-1]
    vectors: dict[str, list[Any]] = {
        "requirement": [start.requirement] * len(exams),
        "allocation": [None, *(step.allocation for step in steps)],
        "tokens": [None, *(step.tokens_by_capability for step in steps)],
        "probe": [start.profile, *(step.profile for step in steps)],
        "dev": [start.dev_profile, *(step.dev_profile for step in steps)],
        "exam": exams,
        "completions": [None, *(step.examples_by_capability for step in steps)],
        "cut": [None, *(step.cut_by_capability for step in steps)],
        "loss": [None, *(step.loss_by_capability for step in steps)],
        "divergence": [None, *(step.divergence_by_capability for step in steps)],
        "teacher_probe": [start.teacher_profile] * len(exams),
        "teacher_exam": [start.teacher_exam] * len(exams),
    }
    for number, spent in enumerate([0, *(step.budget_spent for step in steps)]):
        for index, name in enumerate(start.suite):
            own = {key: vs[number][index] for key, vs in vectors.items() if vs[number] is not None}
            yield {**identity, "step": number, "spent": spent, "capability": name, **own}
