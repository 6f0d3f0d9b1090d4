"""Runs on the made-up distillation of ``fake_distillation``: milliseconds in place of minutes."""

from __future__ import annotations

import io
import multiprocessing
import os
import signal
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from fake_distillation import FakeDistillationEnv
from rich.console import Console

from read_env.config import Config
from read_env.errors import ReadEnvError
from read_env.running.agents import AgentSpec
from read_env.running.requests import RunRequest, TrainingRequest
from read_env.running.runner import run
from read_env.running.training import train

SMALL = {
    "budget": {"total_tokens": 600, "step_tokens": 100},
    "eval": {"probes": 2, "dev": 2, "exam": 2, "dev_every": 2},
    "task": "bookkeeper",
}

#: Makes requests: the fixture ``request_for``.
Make = Callable[..., RunRequest]

#: Tasks of trainings.
TASKS = ("math", "travel-desk", "tutor")

#: A checkpoint after every step, however short the step.
EVERY_STEP = 1e9


def fake_env(config: Config, **kwargs: Any) -> FakeDistillationEnv:
    """The counterpart of ``make_env`` without models."""
    return FakeDistillationEnv(preset=config.preset, overrides=config.model_dump(exclude={"preset"}), **kwargs)


def contents(folder: Path) -> dict[str, bytes]:
    """Relative path -> content of all files below ``folder``, without locks, and without curves: they hold the time."""
    found = {str(p.relative_to(folder)): p for p in sorted(folder.rglob("*")) if p.is_file()}
    return {
        name: path.read_bytes()
        for name, path in found.items()
        if not name.startswith("tensorboard") and path.name != ".lock"
    }


def play(request: RunRequest, stop_after: int | None = None, **kwargs: Any) -> Any:
    """Runs a request, with a checkpoint after every step; it fails with "enough" after ``stop_after`` steps, if given."""
    env = stopping_env(request.config, stop_after)
    with nullcontext() if stop_after is None else pytest.raises(RuntimeError, match="enough"):
        return run(request, env=env, **{"checkpoint_share": EVERY_STEP, **kwargs})


def training_request(
    config: Config, agent: str, folder: Path, steps: int = 20, envs: int = 1, **changes: Any
) -> TrainingRequest:
    changed = AgentSpec.parse(agent).configure(config).model_copy(update=changes)
    return TrainingRequest(changed, TASKS, steps, folder, envs=envs)


def play_training(
    request: TrainingRequest, stop_after: int | None = None, env_factory: Callable[..., Any] | None = None
) -> Any:
    """The same for a training; ``stop_after`` counts the steps of each environment."""
    factory = env_factory or partial(stopping_env, steps=stop_after)
    with nullcontext() if stop_after is None else pytest.raises((RuntimeError, ReadEnvError), match="enough"):
        return train(request, Console(file=io.StringIO()), env_factory=factory, checkpoint_share=EVERY_STEP)


def watched_env(
    config: Config, before: Callable[..., None], method: str = "step", **kwargs: Any
) -> FakeDistillationEnv:
    """The environment, with a function that is called with the arguments of a method before it."""
    env = fake_env(config, **kwargs)
    original = getattr(env, method)
    setattr(env, method, lambda *args, **given: (before(*args, **given), original(*args, **given))[1])
    return env


def stopping_env(config: Config, steps: int | None, **kwargs: Any) -> FakeDistillationEnv:
    """The environment, whose step after ``steps`` of them raises RuntimeError("enough"); never, if None."""
    calls: list[Any] = []

    def count(action: Any) -> None:
        if len(calls) == steps:
            raise RuntimeError("enough")
        calls.append(action)

    return watched_env(config, count, **kwargs)


def curves(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Tag -> (step, value), as TensorBoard draws the curves of a run."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / "tensorboard"), size_guidance={"scalars": 0})
    events.Reload()
    return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def killed(work: Callable[[], None]) -> int:
    """Runs ``work`` in a fork of this process, which takes milliseconds; its exit code."""
    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    process.join(60)
    assert process.exitcode is not None
    return process.exitcode


def kill_on_call(owner: Any, name: str, count: int, before: Callable[..., None] | None = None) -> None:
    """Lets the ``count``-th call of a function end the process with SIGKILL."""
    original = getattr(owner, name)
    calls = 0

    def wrapper(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == count:
            if before is not None:
                before(*args, **kwargs)
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*args, **kwargs)

    setattr(owner, name, wrapper)
