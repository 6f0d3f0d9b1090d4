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

from read_env.reporting.runs import Run, Training, load_run, load_training

IDENTITY = "path agent task seed preset suite teacher student objective budget step_tokens".split()
_COUNTS = "steps spent residue prompt_tokens generated_tokens probe_tokens dev_tokens tokens_before_run".split()
ENDS = "utility_start utility exam_utility_start exam_utility spillover forgetting exam_forgetting".split()
_GAINS = "exam_utility_gain exam_match_gain utility_gain".split()
_STEP_COUNTS = "step spent completion_tokens prompt_tokens trained_tokens".split()
_STEP_NUMBERS = "utility dev_utility reward gain spillover cost forgetting loss spillover_sum forgetting_so_far".split()
_SCORES = "step spent capability requirement allocation tokens probe dev exam".split()
_NAMED = ("metrics", "agent", "seconds", "cache")


def load_runs(*paths: str | Path) -> pd.DataFrame:
    """One row per run, unfinished ones included; for a training, one row per finished episode.

    Returns:
        The columns that identify a run (:mod:`read_env.reporting.frames`), and:

        ===========================================  ===============================================================
        ``episode``                                  number of the training episode, from 1; NA for a run
        ``status``                                   ``finished``, or the state of an unfinished run, text
        ``finished``                                 the run came to its end, boolean
        ``steps``                                    finished steps, integer
        ``spent``                                    completion tokens spent (counted in B), integer
        ``residue``                                  completion tokens left over, fewer than an example needs, integer
        ``prompt_tokens``                            prompt tokens of the training examples, integer
        ``generated_tokens``                         tokens that the student generated, integer
        ``probe_tokens``, ``dev_tokens``             tokens of the probes and of the dev measurements, integer
        ``tokens_before_run``                        completion tokens of the agent's training or search, integer
        ``utility_start``, ``utility``               utility at start and end on the probes, in [0, 1]
        ``exam_utility_start``, ``exam_utility``     the same on the exam
        ``spillover``                                weighted drops on the essential capabilities, over all steps
        ``forgetting``, ``exam_forgetting``          mean drop on the others from start to end, on probes and exam
        ``utility_gain``, ``exam_utility_gain``      utility at the end − utility at the start
        ``exam_match_gain``                          exact match on the exam, weighted by the requirement vector, likewise
        ``return``                                   sum of the rewards so far
        ``derived_from``                             name of the run whose records were reused for this task, text
        ===========================================  ===============================================================

        The columns that the end of a run determines (``residue``, ``generated_tokens`` to ``exam_match_gain``) are NA before it.

    Raises:
        RecordError: names file, line and field of what is missing or malformed.
    """
    return runs_frame(_load(paths))


def load_steps(*paths: str | Path) -> pd.DataFrame:
    """One row per step of every run; step 0 is the initial student. A training keeps no steps and has no rows.

    Returns:
        The columns that identify a run (:mod:`read_env.reporting.frames`), and:

        ====================================  ======================================================
        ``step``                              number of the step, from 1; 0 for the initial student
        ``spent``                             completion tokens spent up to the end of the step, integer
        ``completion_tokens``                 completion tokens of the step, integer
        ``prompt_tokens``                     prompt tokens of the step, integer
        ``trained_tokens``                    prompt and completion tokens of the step, integer
        ``utility``, ``dev_utility``          utility at the end of the step on probes and dev split, in [0, 1]
        ``reward``, ``gain``, ``cost``        of the step; the gain is the change of utility
        ``spillover``, ``spillover_sum``      weighted drops on the essential capabilities: the step's, and so far
        ``forgetting``                        mean drop on the other capabilities in the step
        ``forgetting_so_far``                 mean drop on the other capabilities since the start
        ``loss``                              mean of the objective, nats per completion token
        ``metrics/NAME``, ``agent/NAME``      reports of the objective and of the agent
        ``seconds/STAGE``, ``cache/NAME``     seconds by stage, and counts of the teacher's cache
        ====================================  ======================================================

    Raises:
        RecordError: names file, line and field of what is missing or malformed.
    """
    return steps_frame(run for run in _load(paths) if isinstance(run, Run))


def load_scores(*paths: str | Path) -> pd.DataFrame:
    """One row per capability and step of every run; step 0 is the initial student. A training has no rows.

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


def runs_frame(entries: Iterable[Run | Training]) -> pd.DataFrame:
    """The frame of :func:`load_runs`."""
    rows = [row for entry in entries for row in (_episodes(entry) if isinstance(entry, Training) else [_run(entry)])]
    columns = [*IDENTITY, "episode", "status", "finished", *_COUNTS, *ENDS, *_GAINS, "return", "derived_from"]
    frame = _typed(pd.DataFrame(rows, columns=columns), ["episode", *_COUNTS], [*ENDS, *_GAINS, "return"])
    for name in ("utility", "exam_utility"):
        frame[f"{name}_gain"] = frame[name] - frame[f"{name}_start"]
    return frame.astype({"finished": bool})


def steps_frame(runs: Iterable[Run]) -> pd.DataFrame:
    """The frame of :func:`load_steps`."""
    frame = pd.DataFrame([row for run in runs if run.start is not None for row in _steps(run)])
    named = sorted((name for name in frame if "/" in name), key=lambda name: _NAMED.index(name.partition("/")[0]))
    frame = frame.reindex(columns=[*IDENTITY, *_STEP_COUNTS, *_STEP_NUMBERS, *named])
    return _typed(frame, _STEP_COUNTS, [*_STEP_NUMBERS, *named])


def scores_frame(runs: Iterable[Run]) -> pd.DataFrame:
    """The frame of :func:`load_scores`."""
    parts = [_scores(run) for run in runs if run.start is not None]
    frame = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=[*IDENTITY, *_SCORES])
    frame["capability"] = pd.Categorical(frame["capability"], categories=frame["capability"].unique())
    return _typed(frame[[*IDENTITY, *_SCORES]], ["step", "spent"], [])


def _typed(frame: pd.DataFrame, integers: list[str], numbers: list[str]) -> pd.DataFrame:
    whole = dict.fromkeys(["seed", "budget", "step_tokens", *integers], "Int64")
    return frame.astype({**whole, **dict.fromkeys(numbers, float)})


def _load(paths: Iterable[str | Path]) -> Iterator[Run | Training]:
    for path in map(Path, paths):
        if (path / "runs").is_dir():
            yield from (load_run(folder) for folder in sorted((path / "runs").iterdir()) if folder.is_dir())
        else:
            yield load_training(path) if (path / "episodes.jsonl").exists() else load_run(path)


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


def _run(run: Run) -> dict[str, Any]:
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
    if end is None:
        return row
    if end.exam is not None and end.exam_start is not None:
        row["exam_match_gain"] = float(np.dot(run.begun.requirement, end.exam - end.exam_start))
    return row | end.model_dump(include={*_COUNTS, *ENDS, "derived_from"})


def _episodes(training: Training) -> Iterator[dict[str, Any]]:
    for episode in training.episodes:
        values = episode.model_dump()
        renamed = {"spent": values.pop("completion_tokens"), "return": values.pop("episode_return")}
        yield {**_identity(training), **values, **renamed, "status": "finished", "finished": True}


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


def _scores(run: Run) -> pd.DataFrame:
    start, end, steps, size = run.begun, run.summary, run.steps, len(run.begun.suite)
    exams = [start.exam if start.exam is not None or end is None else end.exam_start, *(step.exam for step in steps)]
    if end is not None and exams[-1] is None:
        exams[-1] = end.exam
    vectors: dict[str, list[Any]] = {
        "requirement": [start.requirement] * (len(steps) + 1),
        "allocation": [None, *(step.allocation for step in steps)],
        "tokens": [None, *(step.tokens_by_capability for step in steps)],
        "probe": [start.profile, *(step.profile for step in steps)],
        "dev": [start.dev_profile, *(step.dev_profile for step in steps)],
        "exam": exams,
    }
    absent = np.full(size, np.nan)
    columns = {name: np.concatenate([absent if v is None else v for v in values]) for name, values in vectors.items()}
    return pd.DataFrame(
        {
            **_identity(run),
            "step": np.repeat(np.arange(len(exams)), size),
            "spent": np.repeat([0, *(step.budget_spent for step in steps)], size),
            "capability": list(start.suite) * len(exams),
            **columns,
        }
    )
