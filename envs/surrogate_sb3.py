"""Vector of surrogate environments for Stable-Baselines3."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode
from stable_baselines3.common.vec_env.base_vec_env import VecEnv, VecEnvStepReturn

from read_env.envs.surrogate_vector import SurrogateVectorEnv

#: Parts of an observation, in the order in which a vector joins them.
KEYS = ("requirement", "profile", "budget", "last_allocation", "last_gain")


class SurrogateVecEnv(VecEnv):
    """SB3's ``VecEnv`` over :class:`read_env.envs.surrogate_vector.SurrogateVectorEnv`.

    Observations are vectors (4|C| + 1,), actions logits of a softmax, as the algorithms of this package take them.

    Args:
        num_envs: number of environments.
        scale: factor on the logits, as in ``SoftmaxAllocation``.
        arguments: arguments of the vector environment.
    """

    def __init__(self, num_envs: int, scale: float = 3.0, **arguments: Any) -> None:
        self.envs = SurrogateVectorEnv(num_envs, autoreset_mode=AutoresetMode.SAME_STEP, **arguments)
        self.scale = float(scale)
        parts = [self.envs.single_observation_space[key] for key in KEYS]  # type: ignore[index]
        low, high = (np.concatenate([getattr(part, end) for part in parts]) for end in ("low", "high"))
        actions = spaces.Box(-1.0, 1.0, self.envs.single_action_space.shape, np.float32)
        super().__init__(num_envs, spaces.Box(low, high, dtype=np.float32), actions)
        self._seed: int | None = None
        self._actions = np.zeros((num_envs, *actions.shape), np.float32)

    def reset(self) -> np.ndarray:
        """Begin an episode in every environment."""
        observations, _ = self.envs.reset(seed=self._seed)
        self._seed = None
        self.reset_infos = [{} for _ in range(self.num_envs)]
        return _joined(observations)

    def seed(self, seed: int | None = None) -> Sequence[int | None]:
        """Set the seed of the next reset."""
        self._seed = seed
        return [seed] * self.num_envs

    def step_async(self, actions: np.ndarray) -> None:
        """Keep the actions for :meth:`step_wait`."""
        self._actions = actions

    def step_wait(self) -> VecEnvStepReturn:
        """Step in every environment."""
        observations, rewards, ended, _, infos = self.envs.step(self._weights())
        found: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        for index in np.flatnonzero(ended):
            found[index]["terminal_observation"] = np.concatenate([infos["final_obs"][index][key] for key in KEYS])
            if "episode" in infos:
                of = infos["episode"]
                found[index]["episode"] = {"r": float(of["r"][index]), "l": int(of["l"][index]), "t": 0.0}
                found[index]["task"] = infos["task"][index]
                found[index]["utility"] = float(infos["final_utility"][index])
        return _joined(observations), rewards.astype(np.float32), ended, found

    def close(self) -> None:
        """Nothing to release."""

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """Attribute of the vector environment, once for each environment."""
        if attr_name == "render_mode":
            return [None] * len(self._indices(indices))
        return [getattr(self.envs, attr_name)] * len(self._indices(indices))

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Refused: the environments share their attributes."""
        raise AttributeError(f"the environments of a SurrogateVecEnv share {attr_name}")

    def env_method(self, method_name: str, *arguments: Any, indices: Any = None, **keywords: Any) -> list[Any]:
        """Refused: there is no single environment."""
        raise AttributeError(f"a SurrogateVecEnv has no single environments with {method_name}")

    def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:
        """False for every environment."""
        return [False] * len(self._indices(indices))

    def _indices(self, indices: Any) -> Sequence[int]:
        return range(self.num_envs) if indices is None else np.atleast_1d(indices).tolist()

    def _weights(self) -> np.ndarray:
        """Weights of logits, and the stop entries."""
        size = self.envs.surrogate.size
        logits = self.scale * self._actions[:, :size]
        weights = np.exp(logits - logits.max(1, keepdims=True))
        if self._actions.shape[1] == size:
            return weights
        return np.concatenate([weights, self._actions[:, size:].clip(0, 1)], axis=1)


def _joined(observations: dict[str, np.ndarray]) -> np.ndarray:
    return np.concatenate([observations[key] for key in KEYS], axis=1)
