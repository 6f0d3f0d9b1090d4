"""Fit of a surrogate to recorded runs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from read_env.errors import ReadEnvError
from read_env.surrogate.model import Surrogate
from read_env.surrogate.record import Episodes, Record

if TYPE_CHECKING:
    from read_env.reporting.transitions import Trajectory
    from read_env.running.tool_requests import SurrogateRequest

#: Settings that the runs of one surrogate share, by section.
_SHARED: Mapping[str, tuple[str, ...]] = {
    "budget": ("total_tokens", "step_tokens"),
    "distill": ("lr_scheduler_type", "warmup_ratio", "learning_rate", "epochs", "loss"),
    "models": ("teacher", "student"),
}


@dataclass(frozen=True)
class FittedSurrogate:
    """A surrogate that was written.

    Attributes:
        path: the file.
        surrogate: its content.
        skipped: one line for each run that has not finished.
    """

    path: Path
    surrogate: Surrogate
    skipped: tuple[str, ...]


def fit_surrogate(request: SurrogateRequest) -> FittedSurrogate:
    """Fit a surrogate to the finished runs of the request's directories, and write it.

    Raises:
        ReadEnvError: too few runs, runs of another suite, pair of models or budget, or an output that is no ``.json`` file.
    """
    from read_env.reporting.transitions import load_trajectories

    if not request.directories:
        raise ReadEnvError("directories: name at least one directory of a run or a comparison")
    out = Path(os.path.expanduser(request.out))
    if out.suffix != ".json":
        raise ReadEnvError(f"out: {str(out)!r}; right would be a .json file")
    directories = [Path(os.path.expanduser(directory)) for directory in request.directories]
    trajectories, skipped = load_trajectories(*directories)
    record = record_of(trajectories)

    from read_env.surrogate.fit import fit

    surrogate = fit(record, request.worlds, iterations=request.iterations, seed=request.seed)
    out.parent.mkdir(parents=True, exist_ok=True)
    surrogate.save(out)
    return FittedSurrogate(out, surrogate, skipped)


def record_of(trajectories: tuple[Trajectory, ...]) -> Record:
    """Record of finished runs.

    Raises:
        ReadEnvError: their suites or shared settings differ, or they have no losses by capability.
    """
    first = trajectories[0].run
    capabilities, shared = first.begun.suite, _settings(trajectories[0])
    episodes = []
    for trajectory in trajectories:
        run = trajectory.run
        if run.begun.suite != capabilities:
            raise ReadEnvError(
                f"{run.path}: its capabilities are {', '.join(run.begun.suite)}, those of {first.path} "
                f"{', '.join(capabilities)}; right would be runs of one suite"
            )
        for name, value in _settings(trajectory).items():
            if value != shared[name]:
                raise ReadEnvError(
                    f"{run.path}: {name} is {value!r}, that of {first.path} {shared[name]!r}; right would be runs that share it"
                )
        steps = [
            {
                "tokens": step.tokens_by_capability,
                "profile": step.profile,
                "loss": np.zeros(len(capabilities)) if step.loss_by_capability is None else step.loss_by_capability,
            }
            for step in run.steps
        ]
        if steps:
            student = str(trajectory.infos["student"][0])
            losses = [{**step, "loss": np.nan_to_num(step["loss"])} for step in steps]
            episodes.append({"student": student, "policy": run.agent, "start": run.begun.profile, "steps": losses})
    teacher = first.begun.teacher_profile
    return Record(
        capabilities=tuple(capabilities),
        total_tokens=int(shared["budget.total_tokens"]),
        step_tokens=int(shared["budget.step_tokens"]),
        lr_scheduler_type=str(shared["distill.lr_scheduler_type"]),
        warmup_ratio=float(shared["distill.warmup_ratio"]),
        teacher=np.ones(len(capabilities)) if teacher is None else np.asarray(teacher),
        episodes=Episodes.of(episodes),
    )


def _settings(trajectory: Trajectory) -> dict[str, Any]:
    run = trajectory.run
    found = {
        f"{section}.{name}": run.section(section).get(name) for section, names in _SHARED.items() for name in names
    }
    if missing := [name for name, value in found.items() if value is None]:
        raise ReadEnvError(f"{run.path / 'config.json'}: {missing[0]} is missing; right would be a run of this version")
    return {**found, "models.teachers": run.section("models").get("teachers") or {}}
