"""Wrappers that Stable-Baselines3 learns on, and its random generators. Needs Gymnasium but not SB3."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, SupportsFloat

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from read_env.agents.interaction import StepCallback, Transition
from read_env.agents.observation import KEYS
from read_env.envs.spaces import spaces_of


class BlankEnv(gym.Env[Any, Any]):
    """Environment with spaces alone, from which SB3 builds a policy before training.

    Args:
        capabilities: |C| names.
        may_stop: actions have a stop entry.

    Example:
        >>> BlankEnv(["math", "code"]).action_space
        Box(0.0, 1.0, (2,), float32)
    """

    def __init__(self, capabilities: Sequence[str], may_stop: bool = False) -> None:
        self.suite = SimpleNamespace(names=tuple(capabilities))
        self.action_space, self.observation_space = spaces_of(len(capabilities), may_stop)


class VectorObservation(gym.ObservationWrapper[Any, Any, Any]):
    """Dict observation as one float32 vector (4|C| + 1,), with its parts in the order of ``KEYS``.

    Example:
        >>> VectorObservation(BlankEnv(["math", "code"])).observation_space.shape
        (9,)
    """

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        super().__init__(env)
        parts = [env.observation_space[key] for key in KEYS]  # type: ignore[index]
        low, high = (np.concatenate([getattr(part, end) for part in parts]) for end in ("low", "high"))
        self.observation_space = spaces.Box(low, high, dtype=np.float32)

    def observation(self, observation: Any) -> np.ndarray:
        return np.concatenate([observation[key] for key in KEYS]).astype(np.float32)


class StepCap(gym.Wrapper[Any, Any, Any, Any]):
    """Wrapper of the bare environment that counts steps, calls the callback, and stops at a cap.

    Args:
        env: environment with weights as actions and Dict observations.
        cap: largest number of environment steps.
        callback: callback of ``Agent.learn``.
    """

    def __init__(self, env: gym.Env[Any, Any], cap: int, callback: StepCallback) -> None:
        super().__init__(env)
        self.cap = cap
        self.callback = callback
        self.steps = 0
        self.stopped = False
        self._observation: Any = None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        # SB3 resets after an episode even if it is about to stop. A reset of the real environment takes time, and the
        # observation of this one would not be used.
        if self.steps and (self.stopped or self.steps >= self.cap):
            return self._observation, {}
        self._observation, info = self.env.reset(seed=seed, options=options)
        return self._observation, info

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        if self.stopped or self.steps >= self.cap:
            raise RuntimeError(f"Stable-Baselines3 asked for more than {self.cap} environment steps")
        following, reward, terminated, truncated, info = self.env.step(action)
        self.steps += 1
        weights, ends = np.asarray(action, dtype=np.float32), (bool(terminated), bool(truncated))
        step = Transition(self.steps, self._observation, weights, float(reward), following, *ends, info)
        self.stopped = self.callback(step) is False
        self._observation = following
        return following, reward, terminated, truncated, info


class PrivateGenerators:
    """Private states of the global generators of Python, numpy and torch for one agent.

    SB3 draws from the global generators. ``applied()`` sets them to the agent's own states and restores the global ones
    afterwards, so that neither an environment nor another agent changes the draws, and a saved agent continues them.

    Example:
        >>> with PrivateGenerators(seed=3).applied():
        ...     random.random() == random.Random(3).random()
        True
    """

    def __init__(self, seed: int) -> None:
        import torch

        before = _generators()
        random.seed(seed)
        np.random.seed(folded(seed))
        torch.manual_seed(folded(seed))
        self._states = _generators()
        self._in_use = False
        _set_generators(before)

    @contextmanager
    def applied(self) -> Iterator[None]:
        before = _generators()
        _set_generators(self._states)
        self._in_use = True
        try:
            yield
        finally:
            self._in_use = False
            self._states = _generators()
            _set_generators(before)

    def state_dict(self) -> dict[str, Any]:
        # Inside ``applied()``, SB3 is drawing from them at this moment.
        (version, internal, gauss), numpy_state, torch_state = _generators() if self._in_use else self._states
        return {
            "python": [version, list(internal), gauss],
            "numpy": [np.array(part) if isinstance(part, np.ndarray) else part for part in numpy_state],
            "torch": torch_state.numpy(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        import torch

        version, internal, gauss = state["python"]
        generator = torch.from_numpy(np.array(state["torch"], dtype=np.uint8))
        self._states = (version, tuple(internal), gauss), tuple(state["numpy"]), generator


def folded(seed: int) -> int:
    """Seed below 2**32, the limit of numpy's global generator; smaller seeds stay as they are.

    >>> folded(7), folded(2**32) < 2**32
    (7, True)
    """
    return seed if seed < 2**32 else int(np.random.SeedSequence(seed).generate_state(1)[0])


def _generators() -> tuple[Any, Any, Any]:
    """States of the global generators of Python, numpy and torch."""
    import torch

    return random.getstate(), np.random.get_state(legacy=True), torch.get_rng_state()


def _set_generators(states: tuple[Any, Any, Any]) -> None:
    import torch

    random.setstate(states[0])
    np.random.set_state(states[1])
    torch.set_rng_state(states[2])
