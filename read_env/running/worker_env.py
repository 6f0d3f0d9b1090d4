"""Environment of a worker process, which counts its steps and sends more with each of them than the spaces hold.

``AsyncVectorEnv`` would print the traceback of an error in a worker, and ``SubprocVecEnv`` would end without one: here an
error is part of the info, for the parent to raise.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np

from read_env.errors import DivergedError, ReadEnvError
from read_env.running.pool import follow_parent, in_a_line
from read_env.running.training import TrainingStatistics

Wrap = Callable[[gym.Env], gym.Env]


@dataclass(frozen=True)
class Report:
    """Report of a step by a worker, besides observation, reward and end; ``info["report"]`` of a :class:`WorkerEnv`.

    Attributes:
        active: the next step will be one of an episode: no reset, and not beyond the worker's share of the steps.
        first: that step begins an episode.
        info: info of the step; None if none was made.
        scalars: metrics of the step.
        episode: record of the episode that ended with the step.
        error: error in place of a step.
    """

    active: bool = False
    first: bool = False
    info: dict[str, Any] | None = None
    scalars: Mapping[str, float] = field(default_factory=dict)
    episode: Mapping[str, Any] | None = None
    error: ReadEnvError | None = None


@dataclass(frozen=True)
class WorkerEnvFactory:
    """Makes the environment of a worker, in its process.

    Attributes:
        make: makes the bare environment.
        steps: steps that the worker makes in all.
        seed: seed of its first reset; later ones go on with the generator of its environment.
        state: ``WorkerEnv.snapshot()`` to resume from.
        wrap: wrapper of the algorithm.
        parent: process that must not be changed into a worker.
    """

    make: Callable[[], gym.Env]
    steps: int
    seed: int
    state: bytes = b""
    wrap: Wrap | None = None
    parent: int = field(default_factory=os.getpid)

    def __call__(self) -> gym.Env:
        if os.getpid() != self.parent:
            follow_parent()
        env = WorkerEnv(self)
        return env if self.wrap is None else self.wrap(env)


class WorkerEnv(gym.Wrapper):
    """Environment of a worker: counts its steps, and reports errors in place of raising them."""

    env: TrainingStatistics

    def __init__(self, factory: WorkerEnvFactory) -> None:
        self._episodes: list[dict[str, Any]] = []
        super().__init__(TrainingStatistics(factory.make(), self._episodes.append))  # type: ignore[arg-type]
        self._state, self._steps = factory.state, factory.steps
        self._seed: int | None = factory.seed
        self._ended = False
        spaces = self.observation_space.spaces.items()  # type: ignore[attr-defined]
        self._observation = {key: np.zeros(space.shape, space.dtype) for key, space in spaces}

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start an episode, unless all steps are made: vector environments reset after the last episode, too."""
        report = self._guarded(self._start)
        return self._observation, {"report": report}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Make a step, or start an episode if the last one has ended."""
        self._outcome = 0.0, False, False
        report = self._guarded(self._start if self._ended else partial(self._advance, action))
        return self._observation, *self._outcome, {"report": report}

    def snapshot(self) -> bytes:
        """State of the environment and its counts. Bytes, since tensors would be sent through shared memory."""
        import torch

        buffer = io.BytesIO()
        state = {"env": self.unwrapped.snapshot(), "statistics": self.env.state_dict(), "ended": self._ended}  # type: ignore[attr-defined]
        torch.save(state, buffer)
        return buffer.getvalue()

    def resume(self) -> tuple[Any, Report]:
        """Restore the snapshot of the factory, after a reset: observation and report."""
        report = self._guarded(self._restore)
        return self._observation, report

    def _guarded(self, work: Callable[[], Report]) -> Report:
        try:
            return work()
        except Exception as error:
            kind = DivergedError if isinstance(error, DivergedError) else ReadEnvError
            return Report(error=kind(in_a_line(error)))

    def _start(self) -> Report:
        if self.env.total_steps < self._steps:
            self._observation, _ = self.env.reset(seed=self._seed)
            self._seed, self._ended = None, False
        return self._report()

    def _advance(self, action: Any) -> Report:
        if self.env.total_steps >= self._steps:
            return self._report()
        self._observation, reward, terminated, truncated, info = self.env.step(action)
        self._outcome = float(reward), bool(terminated), bool(truncated)
        self._ended = terminated or truncated
        return self._report(info=info, scalars=self.env.scalars, episode=self._episodes.pop() if self._ended else None)

    def _restore(self) -> Report:
        import torch

        state = torch.load(io.BytesIO(self._state), weights_only=True)
        self._observation, _ = self.unwrapped.restore(state["env"])  # type: ignore[attr-defined]
        self.env.load_state_dict(state["statistics"], ())
        self._ended = state["ended"]
        return self._report()

    def _report(self, **parts: Any) -> Report:
        active = not self._ended and self.env.total_steps < self._steps
        return Report(active, first=self.env.episode_lengths == 0, **parts)
