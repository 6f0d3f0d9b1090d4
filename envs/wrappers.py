"""Action wrappers for learning algorithms: logits for Gaussian policies, a fixed catalogue for discrete ones."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any, SupportsFloat

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from read_env.envs.catalogue import Catalogue
from read_env.errors import ReadEnvError


class SoftmaxAllocation(gym.ActionWrapper, gym.utils.RecordConstructorArgs):
    """Logits as actions: w = softmax(scale · a) for a in Box(−1, 1, (|C|,)).

    The zero action is the uniform allocation. All weights are positive: the largest ratio of two is exp(2·scale). With
    ``may_stop`` there is one more entry, which is no logit: from 0.5 on it ends the episode.

    Args:
        env: environment of this package.
        scale: factor on the logits; 3 allows ratios of weights up to 403.

    Raises:
        ReadEnvError: scale not positive; at a step, logits that aren't as many finite numbers as the space has.

    Example:
        >>> SoftmaxAllocation(gym.make("ReadEnv/Distillation-v0")).action(np.zeros(10)).tolist()
        [0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1]
    """

    def __init__(self, env: gym.Env, scale: float = 3.0) -> None:
        if not (np.isfinite(scale) and scale > 0):
            raise ReadEnvError(f"scale must be positive and finite, got {scale}")
        gym.utils.RecordConstructorArgs.__init__(self, scale=scale)
        gym.ActionWrapper.__init__(self, env)
        self.scale = float(scale)
        self._size = len(self.unwrapped.suite.names)  # type: ignore[attr-defined]
        self.action_space = spaces.Box(-1.0, 1.0, env.action_space.shape, np.float32)

    def action(self, action: np.ndarray) -> np.ndarray:
        """Allocation of these logits, (|C|,) float64 on the simplex, and the stop entry where there is one."""
        logits = np.asarray(action, dtype=np.float64)
        if logits.shape != self.action_space.shape or not np.isfinite(logits).all():
            raise ReadEnvError(f"logits must be {self.action_space.shape[0]} finite numbers, got {action}")  # type: ignore[index]
        logits, stop = logits[: self._size], logits[self._size :]
        weights = np.exp(self.scale * (logits - logits.max()))
        return np.concatenate([weights / weights.sum(), np.clip(stop, 0, 1)])


class CandidateAllocation(gym.Wrapper, gym.utils.RecordConstructorArgs):
    """Indices into the fixed :class:`~read_env.envs.catalogue.Catalogue` as actions.

    ``action_masks()`` is the mask of the applicable candidates, as MaskablePPO calls it. A masked action keeps the last
    allocation, as illegal actions in Gymnasium's Taxi do nothing. ``info["candidate"]`` is the name of the applied one. With
    ``may_stop`` the last action is ``stop``.

    Args:
        env: environment of this package.
        k: number of the largest needs that the sparse actions use. None: three, or all of fewer capabilities.
        grid: shares of the larger need in a pair.
        shifts: weights δ that a shift moves.
        mask_free: restrict the actions to candidates that are never masked, for DQN: the largest need, task-static,
            uniform, water-filling, keep and, with ``may_stop``, stop.

    Raises:
        ReadEnvError: arguments out of range; at a step, an action that is no index.

    Example:
        >>> CandidateAllocation(gym.make("ReadEnv/Distillation-v0"), mask_free=True).action_names
        ('need 1', 'task-static', 'uniform', 'water-filling', 'keep')
    """

    def __init__(
        self,
        env: gym.Env,
        k: int | None = None,
        grid: Sequence[float] = (0.25, 0.5, 0.75),
        shifts: Sequence[float] = (0.1, 0.25),
        mask_free: bool = False,
    ) -> None:
        names = env.unwrapped.suite.names  # type: ignore[attr-defined]
        k = min(3, len(names)) if k is None else k
        gym.utils.RecordConstructorArgs.__init__(self, k=k, grid=list(grid), shifts=list(shifts), mask_free=mask_free)
        gym.Wrapper.__init__(self, env)
        may_stop = env.action_space.shape[0] > len(names)  # type: ignore[index]
        self.catalogue = Catalogue(len(names), k, tuple(grid), tuple(shifts), labels=names, may_stop=may_stop)
        #: Catalogue index of every action.
        self.indices = self.catalogue.always_applicable if mask_free else tuple(range(len(self.catalogue)))
        self._keep = self.catalogue.names.index("keep")
        self.action_space = spaces.Discrete(len(self.indices))

    @property
    def action_names(self) -> tuple[str, ...]:
        """Names of the actions."""
        return tuple(self.catalogue.names[i] for i in self.indices)

    def action_masks(self) -> np.ndarray:
        """Mask of the actions that can be applied now, (n,) boolean."""
        return self.catalogue.mask(*self._situation())[list(self.indices)]

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        """Make a step with the allocation of the action."""
        try:
            chosen = operator.index(action)
        except TypeError:
            chosen = -1
        if not 0 <= chosen < len(self.indices):
            raise ReadEnvError(f"action must be an index between 0 and {len(self.indices) - 1}, got {action!r}")
        situation = self._situation()
        index = self.indices[chosen]
        if not self.catalogue.mask(*situation)[index]:
            index = self._keep
        observation, reward, terminated, truncated, info = self.env.step(self.catalogue.allocation(index, *situation))
        return observation, reward, terminated, truncated, {**info, "candidate": self.catalogue.names[index]}

    def _situation(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        # Read from the environment each time, so that restoring a snapshot needs nothing from the wrapper.
        env: Any = self.unwrapped
        return env.requirement, env.profile, env.last_allocation
