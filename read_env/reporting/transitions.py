"""Transitions of recorded runs, as the environment gave them: arrays per episode, or a DataFrame with a row for each.

Observation, reward and info are those of :class:`read_env.envs.distillation.DistillationEnv` to the bit, and are rebuilt
from ``start.json``, ``steps.jsonl`` and ``summary.json``. The record of a step has the allocation, not the weights that
the agent gave: an action here is the allocation, scaled to sum to 1, to which the environment maps those weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from read_env.distillation.starts import EVEN
from read_env.record_files import RecordError
from read_env.reporting.runs import IDENTITY, Run, Source, Training, identity_of, load_sources, unfinished

_OBSERVED = ("requirement", "profile", "budget", "last_allocation", "last_gain", "utility")
_TEXTS = ("task", "student", "utility_form")
_COUNTS = ("step", "budget_left", "budget_spent", "completion_tokens", "prompt_tokens", "trained_tokens", "updates")
_NUMBERS = ("utility", "gain", "spillover", "cost", "forgetting", "loss", "dev_utility")
_SHARES = ("profile", "profile_gain", "allocation", "loss_by_capability", "divergence_by_capability", "dev_profile")
_INFO = (
    "task student step utility utility_form profile budget_left budget_spent stopped gain spillover cost forgetting "
    "profile_gain allocation tokens_by_capability completion_tokens prompt_tokens trained_tokens updates loss loss_by_capability "
    "divergence_by_capability dev_profile dev_utility"
).split()
_PARTS = ("gain", "spillover", "cost", "forgetting", "loss")
_STEP_COUNTS = ("completion_tokens", "prompt_tokens", "trained_tokens")

#: Columns of :func:`load_transitions` whose cells are lists, with the type of their entries.
VECTORS: Mapping[str, str] = {
    "capabilities": "string",
    "action": "float32",
    **{f"{when}/{name}": "float32" for name in _OBSERVED for when in ("observation", "next_observation")},
    "info/tokens_by_capability": "int64",
    **{f"info/{name}": "float64" for name in _SHARES},
}


@dataclass(frozen=True, eq=False)
class Trajectory:
    """Transitions of one finished run, T in number.

    Attributes:
        run: the run.
        may_stop: actions have a stop entry.
        observations: parts of the observations, each (T + 1, n) float32; the first row is that of the reset.
        actions: (T, |C|) float32 allocations, with a last column for the stop entry if ``may_stop``.
        rewards: (T,) float64.
        terminations: (T,) bool, true in the last row alone. No episode is truncated.
        infos: values of ``info``, T + 1 rows each. What a step adds is 0 in the row of the reset, and ``dev_profile``
            and ``dev_utility`` are NaN where they were not measured. A key that a run's records lack is absent.
    """

    run: Run
    may_stop: bool
    observations: Mapping[str, np.ndarray]
    actions: np.ndarray
    rewards: np.ndarray
    terminations: np.ndarray
    infos: Mapping[str, np.ndarray]

    def __len__(self) -> int:
        return len(self.rewards)


def trajectory_of(run: Run) -> Trajectory:
    """Transitions of a finished run.

    Raises:
        RecordError: the run has not finished, or has no transition.
    """
    start, end, steps = run.begun, run.ended, run.steps
    may_stop, stopped = end.left_tokens is not None, bool(end.left_tokens)
    size, count = len(start.suite), len(steps) + stopped
    if not count:
        raise RecordError(f"{run.path / 'summary.json'}: steps is 0, expected at least one step or a stop")

    def states(first: Any, later: list[Any]) -> np.ndarray:
        """Value at the reset and after each step; a stop repeats the last one."""
        values = [first, *later]
        return np.array([*values, *values[-1:] * stopped])

    def of_steps(values: list[Any], zero: Any) -> np.ndarray:
        """Value of each step, and zero for the reset and for a stop, which train no student."""
        return np.array([zero, *values, *[zero] * stopped])

    zeros = np.zeros(size)
    profiles = states(np.asarray(start.profile, np.float64), [step.profile for step in steps])
    gains = [after - before for before, after in zip(profiles, profiles[1 : len(steps) + 1], strict=False)]
    spent = states(0, [step.budget_spent for step in steps])
    utilities = states(start.utility, [step.utility for step in steps])
    allocations = [step.allocation for step in steps]

    observations = {
        "requirement": np.tile(start.requirement, (count + 1, 1)),
        "profile": profiles,
        "budget": ((end.budget - spent) / end.budget)[:, None],
        "last_allocation": states(zeros, allocations),
        "last_gain": states(zeros, gains),
    }
    if run.section("eval").get("observe_utility"):
        observations["utility"] = utilities[:, None]

    student = start.student or str(run.section("models").get("start", EVEN))
    task = start.task if student == EVEN else start.task.removesuffix(f"@{student}")
    infos: dict[str, np.ndarray] = {
        "task": np.full(count + 1, task),
        "student": np.full(count + 1, student),
        "step": states(0, [step.step for step in steps]),
        "utility": utilities,
        "utility_form": np.full(count + 1, start.utility_form),
        "profile": profiles,
        "budget_left": end.budget - spent,
        "budget_spent": spent,
        "profile_gain": of_steps(gains, zeros),
        "allocation": of_steps(allocations, zeros),
        "tokens_by_capability": of_steps([s.tokens_by_capability for s in steps], zeros.astype(int)).astype(np.int64),
        **{name: of_steps([getattr(step, name) for step in steps], 0) for name in _STEP_COUNTS},
        **{name: of_steps([getattr(step, name) for step in steps], 0.0) for name in _PARTS},
    }
    if all(step.updates is not None for step in steps):
        infos["updates"] = of_steps([step.updates for step in steps], 0)
    for name in ("loss_by_capability", "divergence_by_capability"):
        values = [getattr(step, name) for step in steps]
        if all(value is not None for value in values):
            infos[name] = of_steps([np.nan_to_num(value) for value in values], zeros)
    measured = [(None, None), *((s.dev_profile, s.dev_utility) for s in steps)]
    measured += [(end.dev_profile, end.dev_utility)] * stopped
    infos["dev_profile"] = np.array([np.full(size, np.nan) if profile is None else profile for profile, _ in measured])
    infos["dev_utility"] = np.array([np.nan if utility is None else utility for _, utility in measured])

    actions = np.array([*allocations, *[zeros] * stopped])
    if may_stop:
        ends = np.zeros(count, bool)
        ends[-1] = stopped
        infos["stopped"] = np.array([False, *ends])
        actions = np.column_stack([actions, ends])
    return Trajectory(
        run=run,
        may_stop=may_stop,
        observations={name: values.astype(np.float32) for name, values in observations.items()},
        actions=actions.astype(np.float32),
        rewards=np.array([*(step.reward for step in steps), *[0.0] * stopped]),
        terminations=np.arange(count) == count - 1,
        infos={name: infos[name] for name in _INFO if name in infos},
    )


def load_trajectories(*sources: Source) -> tuple[tuple[Trajectory, ...], tuple[str, ...]]:
    """Transitions of the finished runs in the sources, and one line for each run that has not finished.

    Raises:
        RecordError: a training, a run that is there twice, no finished run, or a malformed record.
    """
    runs: list[Run] = []
    for entry in load_sources(sources):
        if isinstance(entry, Training):
            raise RecordError(
                f"{entry.path}: a training keeps episodes without their steps; right would be the directory of a run or "
                "a comparison"
            )
        if any(entry.path.resolve() == other.path.resolve() for other in runs):
            raise RecordError(f"{entry.path}: named twice; right would be each run once")
        runs.append(entry)
    finished = [run for run in runs if run.summary is not None]
    if not finished:
        states = "; ".join(unfinished(runs, ())) or "none found"
        raise RecordError(f"{', '.join(map(_shown, sources)) or 'sources'}: no run has finished ({states})")
    return tuple(map(trajectory_of, finished)), unfinished(runs, ())


def load_transitions(*sources: Source) -> pd.DataFrame:
    """One row per transition of every finished run (columns: ``docs/records.md``).

    Raises:
        RecordError: a training, a run that is there twice, no finished run, or a malformed record.
    """
    return transitions_frame(load_trajectories(*sources)[0])


def transitions_frame(trajectories: tuple[Trajectory, ...]) -> pd.DataFrame:
    """One row per transition."""
    rows = [row for trajectory in trajectories for row in _rows(trajectory)]
    observed = [f"observation/{name}" for name in _OBSERVED]
    end = [f"next_observation/{name}" for name in _OBSERVED]
    made = ["action", "reward", "terminated", "truncated"]
    frame = pd.DataFrame(
        rows,
        columns=[*IDENTITY, "capabilities", "transition", *observed, *made, *end, *(f"info/{name}" for name in _INFO)],
    )
    whole = dict.fromkeys(
        ["seed", "budget", "step_tokens", "transition", *(f"info/{name}" for name in _COUNTS)], "Int64"
    )
    numbers = dict.fromkeys(["reward", *(f"info/{name}" for name in _NUMBERS)], float)
    truths = {"terminated": bool, "truncated": bool, "info/stopped": "boolean"}
    return frame.astype({**whole, **numbers, **truths, **dict.fromkeys(VECTORS, object)})


def _rows(trajectory: Trajectory) -> Iterator[dict[str, Any]]:
    run, seen = trajectory.run, trajectory.observations
    identity = {**identity_of(run), "capabilities": list(run.begun.suite)}
    for i in range(len(trajectory)):
        # Values that were not measured are missing in a frame; in the arrays they are NaN.
        info = {name: value for name, values in trajectory.infos.items() if not _empty(value := values[i + 1])}
        yield {
            **identity,
            "transition": i + 1,
            **{f"observation/{name}": values[i] for name, values in seen.items()},
            "action": trajectory.actions[i],
            "reward": trajectory.rewards[i],
            "terminated": trajectory.terminations[i],
            "truncated": False,
            **{f"next_observation/{name}": values[i + 1] for name, values in seen.items()},
            **{f"info/{name}": str(value) if name in _TEXTS else value for name, value in info.items()},
        }


def _empty(value: Any) -> bool:
    return isinstance(value, np.floating | np.ndarray) and bool(np.isnan(value).all())


def _shown(source: Source) -> str:
    return str(source.path if isinstance(source, Run | Training) else source)
