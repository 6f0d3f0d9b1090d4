"""Records as tidy pandas DataFrames: one row per run, per step, or per capability of a step.

``docs/records.md`` lists the columns with their units. Every frame begins with those of ``IDENTITY``. They come
from the run's own files (``config.json``, ``start.json``, ``summary.json``), so a folder that was renamed or moved
gives the same rows. What was not recorded is NA or NaN.

A source is the directory of a run, a comparison, a transfer matrix or a training, or a run or training already read.
A record that is missing or malformed raises RecordError with its file, line and field.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from read_env.reporting.runs import Run, Training, load_run, load_training

Source = str | Path | Run | Training

IDENTITY = "path agent task seed preset suite teacher student objective budget step_tokens".split()
_COUNTS = "steps spent residue prompt_tokens generated_tokens probe_tokens dev_tokens tokens_before_run".split()
ENDS = "utility_start utility exam_utility_start exam_utility spillover forgetting exam_forgetting".split()
_GAINS = "exam_utility_gain exam_match_gain utility_gain".split()
_STEP_COUNTS = "step spent completion_tokens prompt_tokens trained_tokens".split()
_STEP_NUMBERS = "utility dev_utility reward gain spillover cost forgetting loss spillover_sum forgetting_so_far".split()
_SCORES = "step spent capability requirement allocation tokens probe dev exam".split()
_NAMED = ("metrics", "agent", "seconds", "cache")


def load_runs(*sources: Source) -> pd.DataFrame:
    """One row per run, unfinished ones included; for a training, one row per finished episode."""
    rows = [row for entry in _load(sources) for row in _rows(entry)]
    columns = [*IDENTITY, "episode", "status", "finished", *_COUNTS, *ENDS, *_GAINS, "return", "derived_from"]
    frame = _typed(pd.DataFrame(rows, columns=columns), ["episode", *_COUNTS], [*ENDS, *_GAINS, "return"])
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


def _load(sources: Iterable[Source]) -> Iterator[Run | Training]:
    for source in sources:
        if isinstance(source, Run | Training):
            yield source
        elif (Path(source) / "runs").is_dir():
            yield from (load_run(folder) for folder in sorted((Path(source) / "runs").iterdir()) if folder.is_dir())
        else:
            yield load_training(source) if (Path(source) / "episodes.jsonl").exists() else load_run(source)


def _begun(sources: Iterable[Source]) -> Iterator[Run]:
    return (entry for entry in _load(sources) if isinstance(entry, Run) and entry.start is not None)


def _identity(entry: Run | Training) -> dict[str, Any]:
    models, budget = entry.section("models"), entry.section("budget")
    found = {
        "path": str(entry.path),
        "agent": entry.agent,
        **{name: entry.config.get(name) for name in ("preset", "suite")},
        **{name: models.get(name) for name in ("teacher", "student")},
        "objective": entry.section("distill").get("loss"),
        "budget": budget.get("total_tokens"),
        "step_tokens": budget.get("step_tokens"),
    }
    return found | ({"task": entry.task, "seed": entry.seed, "budget": entry.budget} if isinstance(entry, Run) else {})


def _rows(run: Run | Training) -> Iterator[dict[str, Any]]:
    if isinstance(run, Training):
        for episode in run.episodes:
            values = episode.model_dump()
            renamed = {"spent": values.pop("completion_tokens"), "return": values.pop("episode_return")}
            yield {**_identity(run), **values, **renamed, "status": "finished", "finished": True}
        return
    end = run.summary
    row = {
        **_identity(run),
        "status": run.status,
        "finished": end is not None,
        "steps": len(run.steps),
        "spent": run.spent,
        "prompt_tokens": sum(step.prompt_tokens for step in run.steps),
        "return": sum(step.reward for step in run.steps),
    }
    if end is not None:
        row |= end.model_dump(include={*_COUNTS, *ENDS, "derived_from"})
        if end.exam is not None and end.exam_start is not None:
            row["exam_match_gain"] = float(np.dot(run.begun.requirement, end.exam - end.exam_start))
    yield row


def _steps(run: Run) -> Iterator[dict[str, Any]]:
    identity, start, others = _identity(run), run.begun, ~run.essential
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
            "spillover_sum": spillover,
            "forgetting_so_far": float(drops.mean()) if drops.size else 0.0,
            **{f"{part}/{name}": value for part in _NAMED for name, value in getattr(step, part).items()},
        }


def _scores(run: Run) -> Iterator[dict[str, Any]]:
    identity, start, end, steps = _identity(run), run.begun, run.summary, run.steps
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
    }
    for number, spent in enumerate([0, *(step.budget_spent for step in steps)]):
        for index, name in enumerate(start.suite):
            own = {key: vs[number][index] for key, vs in vectors.items() if vs[number] is not None}
            yield {**identity, "step": number, "spent": spent, "capability": name, **own}
