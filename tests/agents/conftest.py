"""A small world for agents: the real environment's spaces over a linear transfer matrix."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from read_env.envs.spaces import STOP, spaces_of

NAMES = ("general", "steer", "reason", "math", "code", "tool", "context", "lingual")


class ToyEnv(gym.Env):
    """Δs = w·Γ, scaled by 1 − s where it gains and by s where it loses, plus probe noise.

    ``steps`` decisions an episode, fewer where a stop entry ends it. By default the task needs math and code, which learn slowly
    by themselves; `tool`, which it doesn't need, teaches both.
    """

    def __init__(
        self,
        requirement: Any = (0, 0, 0, 0.5, 0.5, 0, 0, 0),
        transfer: np.ndarray | None = None,
        steps: int = 12,
        noise: float = 0.005,
        dev_every: int = 5,
        may_stop: bool = False,
    ) -> None:
        size = len(NAMES)
        self.suite = SimpleNamespace(names=NAMES)
        self.action_space, self.observation_space = spaces_of(size, may_stop)
        self.requirement = np.array(requirement, dtype=np.float64)
        self.transfer = helper_world() if transfer is None else transfer
        self.steps, self.noise, self.dev_every = steps, noise, dev_every
        self.resets = self.taken = 0
        self.actions: list[np.ndarray] = []
        self._start(np.zeros(size))

    def _start(self, profile: np.ndarray) -> None:
        self.profile = profile
        self.last_allocation, self.last_gain = np.zeros_like(profile), np.zeros_like(profile)
        self.step_index = 0

    @property
    def utility(self) -> float:
        return float(self.profile @ self.requirement)

    def _observation(self) -> dict[str, np.ndarray]:
        values = {
            "requirement": self.requirement,
            "profile": self.profile,
            "budget": [1 - self.step_index / self.steps],
            "last_allocation": self.last_allocation,
            "last_gain": self.last_gain,
        }
        return {key: np.asarray(value, dtype=np.float32) for key, value in values.items()}

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        super().reset(seed=seed)
        self.resets += 1
        self._start(self.np_random.uniform(0.15, 0.35, len(NAMES)))
        return self._observation(), {"utility": self.utility}

    def step(self, action: Any) -> tuple[dict[str, np.ndarray], float, bool, bool, dict[str, Any]]:
        entries = np.asarray(action, dtype=np.float64)
        weights, stop = entries[: len(NAMES)], entries[len(NAMES) :]
        assert entries.shape == self.action_space.shape and (entries >= 0).all() and np.isfinite(entries).all()
        assert weights.sum()
        assert self.step_index < self.steps, "a step after the end"
        self.taken += 1
        self.actions.append(entries)
        if (stop >= STOP).any():
            return (
                self._observation(),
                0.0,
                True,
                False,
                {"utility": self.utility, "completion_tokens": 0, "stopped": True},
            )
        self.step_index += 1
        weights = weights / weights.sum()
        before, utility = self.profile, self.utility
        change = weights @ self.transfer
        change = np.where(change > 0, change * (1 - before), change * before)
        self.profile = np.clip(before + change + self.np_random.normal(0, self.noise, len(before)), 0, 1)
        self.last_allocation, self.last_gain = weights, self.profile - before
        over = self.step_index == self.steps
        info: dict[str, Any] = {"utility": self.utility, "completion_tokens": 6000}
        if over or self.step_index % self.dev_every == 0:
            info["dev_utility"] = self.utility
        return self._observation(), self.utility - utility, over, False, info


def helper_world() -> np.ndarray:
    """Γ (source, destination): everything learns, math and code slowly; tool teaches both."""
    transfer = np.full((len(NAMES), len(NAMES)), -0.005)
    np.fill_diagonal(transfer, 0.08)
    math, code, tool = NAMES.index("math"), NAMES.index("code"), NAMES.index("tool")
    transfer[math, math] = transfer[code, code] = 0.03
    transfer[tool, [math, code]] = 0.12
    return transfer


@pytest.fixture
def toy() -> Callable[..., ToyEnv]:
    """Makes toy environments."""
    return ToyEnv


@pytest.fixture
def names() -> tuple[str, ...]:
    """The toy environment's capabilities."""
    return NAMES
