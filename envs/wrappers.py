"""Action spaces for learning algorithms: logits for Gaussian policies, a fixed catalogue for discrete ones."""

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
    """Actions are logits: w = softmax(scale · a) for a in Box(−1, 1, (|C|,)).

    Every action is an allocation, the zero action is the uniform one, and no capability ever gets
    nothing: the largest ratio of two weights is exp(2·scale).

    Args:
        env: a read-env environment.
        scale: how far from uniform an action can go; 3 allows ratios up to 403.

    Raises:
        ReadEnvError: scale not positive; at a step, logits that aren't |C| finite numbers.
    """

    def __init__(self, env: gym.Env, scale: float = 3.0) -> None:
        if not (np.isfinite(scale) and scale > 0):
            raise ReadEnvError(f"scale must be positive and finite, got {scale}")
        gym.utils.RecordConstructorArgs.__init__(self, scale=scale)
        gym.ActionWrapper.__init__(self, env)
        self.scale = float(scale)
        self.action_space = spaces.Box(-1.0, 1.0, (len(self.unwrapped.suite),), np.float32)  # type: ignore[attr-defined]

    def action(self, action: np.ndarray) -> np.ndarray:
        """The allocation of these logits: (|C|,) float64 on the simplex."""
        logits = np.asarray(action, dtype=np.float64)
        if logits.shape != self.action_space.shape or not np.isfinite(logits).all():
            raise ReadEnvError(f"logits must be {self.action_space.shape[0]} finite numbers, got {action}")  # type: ignore[index]
        weights = np.exp(self.scale * (logits - logits.max()))
        return weights / weights.sum()


class CandidateAllocation(gym.Wrapper, gym.utils.RecordConstructorArgs):
    """Actions are indices into the fixed :class:`~read_env.envs.catalogue.Catalogue`.

    ``action_masks()`` says which can be applied now, in the form that MaskablePPO asks for. An
    algorithm that knows no masks may still choose another one: it then keeps the allocation, as an
    illegal action in Gymnasium's Taxi is a no-op. ``info["candidate"]`` names what was applied.

    Args:
        env: a read-env environment.
        k: how many of the largest needs the sparse actions use.
        grid: shares of the better ranked need in a pair.
        shifts: weights δ that a shift moves.
        mask_free: only the candidates that can always be applied, for DQN: the largest need,
            task-static, uniform, water-filling, keep.

    Raises:
        ReadEnvError: settings out of range; at a step, an action that is no index.
    """

    def __init__(
        self,
        env: gym.Env,
        k: int = 3,
        grid: Sequence[float] = (0.25, 0.5, 0.75),
        shifts: Sequence[float] = (0.1, 0.25),
        mask_free: bool = False,
    ) -> None:
        gym.utils.RecordConstructorArgs.__init__(self, k=k, grid=list(grid), shifts=list(shifts), mask_free=mask_free)
        gym.Wrapper.__init__(self, env)
        names = self.unwrapped.suite.names  # type: ignore[attr-defined]
        self.catalogue = Catalogue(len(names), k, tuple(grid), tuple(shifts), labels=names)
        #: Catalogue index of every action.
        self.indices = self.catalogue.always_applicable if mask_free else tuple(range(len(self.catalogue)))
        self._keep = self.catalogue.names.index("keep")
        self.action_space = spaces.Discrete(len(self.indices))

    @property
    def action_names(self) -> tuple[str, ...]:
        """What each action does."""
        return tuple(self.catalogue.names[i] for i in self.indices)

    def action_masks(self) -> np.ndarray:
        """(n,) boolean: which actions can be applied in the environment's present state."""
        return self.catalogue.mask(*self._situation())[list(self.indices)]

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        """One step with the allocation that the action comes to."""
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
        # Asked of the environment each time: a restored snapshot is then the wrapper's state, too.
        env: Any = self.unwrapped
        return env.requirement, env.profile, env.last_allocation
