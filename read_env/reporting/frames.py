"""Records as tidy pandas DataFrames: one row per run, per step, or per capability of a step.

Every frame begins with the columns that identify a run. They come from the run's own files
(``config.json``, ``start.json``, ``summary.json``), so a folder that was renamed or moved gives the same rows:

==============  =================================================================================
``path``        the directory that was read, text
``agent``       label of the agent in reports, text
``task``        name of the task card, text
``seed``        seed of prompts and agent, integer
``preset``      name of the preset, text
``suite``       name of the suite of capabilities, text
``teacher``     source of the teacher, text
``student``     source of the initial student, text
``objective``   name of the objective (``distill.loss``), text
``budget``      completion tokens that the run may spend (B), integer
``step_tokens`` completion tokens of a step, nominal, integer
==============  =================================================================================

What was not recorded is NA or NaN. Each path may be the directory of a run, a comparison, a transfer
matrix or a training.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from read_env.records import RunSummary
from read_env.reporting.runs import Run, Training, load_run, load_training

IDENTITY = "path agent task seed preset suite teacher student objective budget step_tokens".split()
_COUNTS = "steps spent residue prompt_tokens generated_tokens probe_tokens dev_tokens tokens_before_run".split()
_ENDS = "utility_start utility exam_utility_start exam_utility spillover forgetting exam_forgetting".split()
_GAINS = "exam_utility_gain exam_match_gain utility_gain".split()
_STEP_COUNTS = "step spent completion_tokens prompt_tokens trained_tokens".split()
_STEP_NUMBERS = "utility dev_utility reward gain spillover cost forgetting loss spillover_sum forgetting_so_far".split()
_NAMED = ("metrics", "agent", "seconds", "cache")


def load_runs(*paths: str | Path) -> pd.DataFrame:
    """One row per run, unfinished ones included; for a training, one row per finished episode.

    Args:
        paths: directories of runs, comparisons, transfer matrices or trainings.

    Returns:
        The columns that identify a run (:mod:`read_env.reporting.frames`), and:

        =========================  =================================================================
        ``episode``                number of the training episode, from 1; NA for a run
        ``status``                 ``finished``, or the state of an unfinished run, text
        ``finished``               the run came to its end, boolean
        ``steps``                  finished steps, integer
        ``spent``                  completion tokens spent (counted in B), integer
        ``residue``                completion tokens left over, fewer than an example needs, integer
        ``prompt_tokens``          prompt tokens of the training examples, integer
        ``generated_tokens``       tokens that the student generated, integer
        ``probe_tokens``           tokens of the probes, integer
        ``dev_tokens``             tokens of the dev measurements, integer
        ``tokens_before_run``      completion tokens that the agent's training or search had spent, integer
        ``utility_start``          utility of the initial student on the probes, in [0, 1]
        ``utility``                utility at the end on the probes, in [0, 1]
        ``exam_utility_start``     utility of the initial student on the exam, in [0, 1]
        ``exam_utility``           utility at the end on the exam, in [0, 1]
        ``spillover``              weighted drops on the essential capabilities, summed over the steps
        ``forgetting``             mean drop on the other capabilities on the probes, start to end
        ``exam_forgetting``        the same on the exam
        ``exam_utility_gain``      ``exam_utility`` − ``exam_utility_start``
        ``exam_match_gain``        exact match on the exam, weighted by the requirement vector, end − start
        ``utility_gain``           ``utility`` − ``utility_start``
        ``return``                 sum of the rewards so far
        ``derived_from``           name of the run whose records were reused for this task, text
        =========================  =================================================================

        ``residue`` and the columns from ``generated_tokens`` to ``utility_gain`` are NA for a run that has not finished.

    Raises:
        RecordError: names file, line and field of what is missing or malformed.
    """
    loaded = list(_load(paths))
    rows = [row for entry in loaded for row in (_episodes(entry) if isinstance(entry, Training) else [_run_row(entry)])]
    return runs_frame(rows)


def load_steps(*paths: str | Path) -> pd.DataFrame:
    """One row per step of every run; step 0 is the initial student. A training keeps no steps and has no rows.

    Args:
        paths: directories of runs, comparisons or transfer matrices.

    Returns:
        The columns that identify a run (:mod:`read_env.reporting.frames`), and:

        =====================  =====================================================================
        ``step``               number of the step, from 1; 0 for the initial student
        ``spent``              completion tokens spent up to the end of the step, integer
        ``completion_tokens``  completion tokens of the step, integer
        ``prompt_tokens``      prompt tokens of the step, integer
        ``trained_tokens``     prompt and completion tokens of the step, integer
        ``utility``            utility on the probes at the end of the step, in [0, 1]
        ``dev_utility``        utility on the dev split where it was measured, in [0, 1]
        ``reward``             reward of the step
        ``gain``               change of utility in the step
        ``spillover``          weighted drops on the essential capabilities in the step
        ``cost``               cost of the step
        ``forgetting``         mean drop on the other capabilities in the step
        ``loss``               mean of the objective, nats per completion token
        ``spillover_sum``      ``spillover`` summed from the first step
        ``forgetting_so_far``  mean drop on the other capabilities since the start
        ``metrics/NAME``       what the objective reported
        ``agent/NAME``         what the agent reported
        ``seconds/STAGE``      seconds by stage
        ``cache/NAME``         counts of the teacher's cache
        =====================  =====================================================================

    Raises:
        RecordError: names file, line and field of what is missing or malformed.
    """
    return steps_frame(run for run in _load(paths) if isinstance(run, Run))


def load_scores(*paths: str | Path) -> pd.DataFrame:
    """One row per capability and step of every run; step 0 is the initial student. A training has no rows.

    Args:
        paths: directories of runs, comparisons or transfer matrices.

    Returns:
        The columns that identify a run (:mod:`read_env.reporting.frames`), and:

        ===============  ===========================================================================
        ``step``         number of the step, from 1; 0 for the initial student
        ``spent``        completion tokens spent up to the end of the step, integer
        ``capability``   name, categories in the order of the suite
        ``requirement``  weight in the task's requirement vector, in [0, 1]
        ``allocation``   share of the step's tokens, in [0, 1]; NaN at step 0
        ``tokens``       completion tokens of the step on the capability
        ``probe``        probe score, in [0, 1]
        ``dev``          score on the dev split where it was measured, in [0, 1]
        ``exam``         exact match on the exam where it was held, in [0, 1]; of a finished run also at its last step
        ===============  ===========================================================================

    Raises:
        RecordError: names file, line and field of what is missing or malformed.
    """
    return scores_frame(run for run in _load(paths) if isinstance(run, Run))


def runs_frame(runs: Iterable[Run | dict[str, Any]]) -> pd.DataFrame:
    """The frame of :func:`load_runs`, from runs or from their rows."""
    rows = [_run_row(run) if isinstance(run, Run) else run for run in runs]
    columns = [*IDENTITY, "episode", "status", "finished", *_COUNTS, *_ENDS, *_GAINS, "return", "derived_from"]
    frame = pd.DataFrame(rows, columns=columns)
    integers = dict.fromkeys(["seed", "budget", "step_tokens", "episode", *_COUNTS], "Int64")
    return frame.astype({**integers, "finished": bool, **dict.fromkeys([*_ENDS, *_GAINS, "return"], float)})


def steps_frame(runs: Iterable[Run]) -> pd.DataFrame:
    """The frame of :func:`load_steps`."""
    frame = pd.DataFrame([row for run in runs for row in _step_rows(run)])
    named = [name for name in frame if "/" in name]
    frame = frame.reindex(columns=[*IDENTITY, *_STEP_COUNTS, *_STEP_NUMBERS, *sorted(named, key=_section)])
    integers = dict.fromkeys(["seed", "budget", "step_tokens", *_STEP_COUNTS], "Int64")
    return frame.astype({**integers, **dict.fromkeys([*_STEP_NUMBERS, *named], float)})


def scores_frame(runs: Iterable[Run]) -> pd.DataFrame:
    """The frame of :func:`load_scores`."""
    parts = [_scores(run) for run in runs if run.start is not None]
    columns = [*IDENTITY, *"step spent capability requirement allocation tokens probe dev exam".split()]
    frame = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)
    names = list(dict.fromkeys(frame["capability"]))
    frame["capability"] = pd.Categorical(frame["capability"], categories=names)
    return frame.astype(dict.fromkeys(["seed", "budget", "step_tokens", "step", "spent"], "Int64"))[columns]


def _load(paths: Iterable[str | Path]) -> Iterator[Run | Training]:
    for path in map(Path, paths):
        if (path / "runs").is_dir():
            yield from (load_run(folder) for folder in sorted((path / "runs").iterdir()) if folder.is_dir())
        elif (path / "episodes.jsonl").exists():
            yield load_training(path)
        else:
            yield load_run(path)


def _identity(entry: Run | Training) -> dict[str, Any]:
    config = entry.config
    models, budget = dict(config.get("models") or {}), dict(config.get("budget") or {})
    return {
        "path": str(entry.path),
        "preset": config.get("preset"),
        "suite": config.get("suite"),
        "teacher": models.get("teacher"),
        "student": models.get("student"),
        "objective": dict(config.get("distill") or {}).get("loss"),
        "budget": budget.get("total_tokens"),
        "step_tokens": budget.get("step_tokens"),
    }


def _run_identity(run: Run) -> dict[str, Any]:
    return {**_identity(run), "agent": run.agent, "task": run.task, "seed": run.seed, "budget": run.budget}


def _run_row(run: Run) -> dict[str, Any]:
    row = {
        **_run_identity(run),
        "status": run.status,
        "finished": run.summary is not None,
        "steps": len(run.steps),
        "spent": run.steps[-1].budget_spent if run.steps else 0,
        "prompt_tokens": sum(step.prompt_tokens for step in run.steps),
        "return": sum(step.reward for step in run.steps),
    }
    end = run.summary
    if end is None:
        return row
    row |= {name: getattr(end, name) for name in [*_COUNTS, *_ENDS, "derived_from"]}
    return {**row, **_gains(run, end)}


def _gains(run: Run, end: RunSummary) -> dict[str, float]:
    gains = {"utility_gain": end.utility - end.utility_start}
    if end.exam_utility is not None and end.exam_utility_start is not None:
        gains["exam_utility_gain"] = end.exam_utility - end.exam_utility_start
    if end.exam is not None and end.exam_start is not None:
        gains["exam_match_gain"] = float(np.dot(run.begun.requirement, end.exam - end.exam_start))
    return gains


def _episodes(training: Training) -> Iterator[dict[str, Any]]:
    for episode in training.episodes:
        yield {
            **_identity(training),
            "agent": str(training.config.get("agent", "agent")),
            "task": episode.task,
            "seed": episode.seed,
            "episode": episode.episode,
            "status": "finished",
            "finished": True,
            "steps": episode.steps,
            "spent": episode.completion_tokens,
            "utility_start": episode.utility_start,
            "utility": episode.utility,
            "utility_gain": None
            if episode.utility is None or episode.utility_start is None
            else episode.utility - episode.utility_start,
            "return": episode.episode_return,
        }


def _step_rows(run: Run) -> Iterator[dict[str, Any]]:
    if run.start is None:
        return
    identity, start, others = _run_identity(run), run.start, ~run.essential
    spillover = 0.0
    first = {"step": 0, "spent": 0, "utility": start.utility, "dev_utility": start.dev_utility}
    yield {**identity, **first, "spillover_sum": 0.0, "forgetting_so_far": 0.0}
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


def _section(column: str) -> int:
    return _NAMED.index(column.partition("/")[0])


def _scores(run: Run) -> pd.DataFrame:
    start, end, steps, size = run.begun, run.summary, run.steps, len(run.begun.suite)
    exams = [start.exam if start.exam is not None or end is None else end.exam_start, *(step.exam for step in steps)]
    if end is not None and exams[-1] is None:
        exams[-1] = end.exam
    absent = np.full(size, np.nan)
    vectors: dict[str, list[Any]] = {
        "allocation": [None, *(step.allocation for step in steps)],
        "tokens": [None, *(step.tokens_by_capability for step in steps)],
        "probe": [start.profile, *(step.profile for step in steps)],
        "dev": [start.dev_profile, *(step.dev_profile for step in steps)],
        "exam": exams,
    }
    columns = {name: np.concatenate([absent if v is None else v for v in values]) for name, values in vectors.items()}
    count = len(steps) + 1
    return pd.DataFrame(
        {
            **_run_identity(run),
            "step": np.repeat(np.arange(count), size),
            "spent": np.repeat([0, *(step.budget_spent for step in steps)], size),
            "capability": list(start.suite) * count,
            "requirement": np.tile(start.requirement, count),
            **columns,
        }
    )
