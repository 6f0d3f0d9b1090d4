"""Policies that users trained and saved with Stable-Baselines3 themselves, as agents: ``--agent my_ppo.zip``.

The algorithm, the spaces and the shape of the network are read from the texts in the zip, and the weights with
``torch.load(weights_only=True)``. The pickled parts are left alone, so a foreign file runs no code. The action space shows
the wrapper that the policy was trained on: ``Box(0, 1)`` none, ``Box(-1, 1)`` ``SoftmaxAllocation``, ``Discrete``
``CandidateAllocation``; the observation space shows a Dict, ``FlattenObservation`` or ``VectorObservation``.
"""

from __future__ import annotations

import ast
import importlib
import json
import re
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from pydantic import Field

from read_env.agents.base import Agent, AgentSettings
from read_env.agents.interaction import StepCallback
from read_env.agents.observation import KEYS, Array, View, to_simplex
from read_env.agents.sb3_bridge import BlankEnv, PrivateGenerators, VectorObservation
from read_env.envs.wrappers import CandidateAllocation, SoftmaxAllocation
from read_env.errors import ReadEnvError

#: Module of the policy class -> package and algorithm; PPO and A2C share one.
_ALGORITHMS = {
    "sb3_contrib.common.maskable.policies": ("sb3_contrib", "MaskablePPO"),
    "stable_baselines3.sac.policies": ("stable_baselines3", "SAC"),
    "stable_baselines3.td3.policies": ("stable_baselines3", "TD3"),
    "stable_baselines3.dqn.policies": ("stable_baselines3", "DQN"),
}


def is_sb3_zip(path: Path) -> bool:
    """True for a zip of SB3's ``save``."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return {"data", "policy.pth"} <= set(archive.namelist())


class Sb3ZipSettings(AgentSettings):
    """Options: ``scale`` is that of the ``SoftmaxAllocation`` that the policy was trained on (logits only)."""

    scale: float = Field(default=3.0, gt=0)


class Sb3Zip(Agent):
    """Policy of a zip of SB3. It predicts, and is trained further with SB3 alone.

    Args:
        path: the zip.
        capabilities: |C| names in the suite's order.
        options: see :class:`Sb3ZipSettings`.
        seed: seed of sampled actions.
        may_stop: actions have a stop entry; a policy that was trained without one never stops.

    Raises:
        ReadEnvError: an algorithm, a space or a network that is not known here, or SB3 is not installed.
    """

    settings_type = Sb3ZipSettings

    def __init__(
        self, path: Path, capabilities: Sequence[str], options: Mapping[str, Any], seed: int = 0, may_stop: bool = False
    ) -> None:
        super().__init__(capabilities, seed, options, name=path.name, may_stop=may_stop)
        self._path = path
        with zipfile.ZipFile(path) as archive:
            data = json.loads(archive.read("data"))
        self._env = self._actions(data.get("action_space", {}))
        self._observed = self._observations(data.get("observation_space", {}))
        self.randomness = PrivateGenerators(seed)
        self.model = self._load(data)

    def _wrong(self, problem: str) -> ReadEnvError:
        return ReadEnvError(f"agent {str(self._path)!r}, a policy of Stable-Baselines3: {problem}")

    def _actions(self, space: Mapping[str, Any]) -> gym.Env[Any, Any]:
        """Environment with the spaces of the suite and the wrapper that fits the action space."""
        blanks: list[Any] = [BlankEnv(self.capabilities, stop) for stop in (False, True)[: 1 + self.may_stop]]
        shape, low = space.get("_shape"), str(space.get("low", ""))
        if "n" in space:
            wrapped = [CandidateAllocation(blank, mask_free=free) for blank in blanks for free in (False, True)]
            fitting = [env for env in wrapped if str(env.action_space.n) == str(space["n"])]  # type: ignore[attr-defined]
            if fitting:
                return fitting[0]
            sizes = " or ".join(str(env.action_space.n) for env in wrapped)  # type: ignore[attr-defined]
            raise self._wrong(f"it has {space['n']} actions; right would be {sizes}, those of CandidateAllocation")
        for blank in blanks:
            if str(shape) in (str(list(blank.action_space.shape)), str(blank.action_space.shape)):
                return SoftmaxAllocation(blank, scale=self.settings.scale) if "-1" in low else blank
        right = " or ".join(str(blank.action_space.shape) for blank in blanks)
        raise self._wrong(f"its actions have shape {shape}; right would be {right}, one entry per capability")

    def _observations(self, space: Mapping[str, Any]) -> str:
        """Form of the observations: ``dict``, or ``flat`` or ``vector`` for the two orders of one vector."""
        if "spaces" in space:
            return "dict"
        low = np.array(re.findall(r"-?\d+", str(space.get("low", "")).replace(".", " ")), dtype=int)
        for form in ("flat", "vector"):
            if np.array_equal(low, self._vector_env(form).observation_space.low.astype(int)):  # type: ignore[attr-defined]
                return form
        raise self._wrong(
            f"its observations have shape {space.get('_shape')}; right would be the Dict of the environment with "
            f"{self.size} capabilities, or a vector of it by FlattenObservation or VectorObservation"
        )

    def _vector_env(self, form: str) -> gym.Env[Any, Any]:
        return gym.wrappers.FlattenObservation(self._env) if form == "flat" else VectorObservation(self._env)

    def _load(self, data: Mapping[str, Any]) -> Any:
        from stable_baselines3.common.save_util import load_from_zip_file

        module = data.get("policy_class", {}).get("__module__", "")
        on_policy = ("stable_baselines3", "PPO" if "n_epochs" in data else "A2C")
        package, algorithm = (
            on_policy if module == "stable_baselines3.common.policies" else _ALGORITHMS.get(module, ("", ""))
        )
        if not algorithm:
            known = ", ".join(["PPO", "A2C", *(name for _, name in _ALGORITHMS.values())])
            raise self._wrong(
                f"its policy class is of {module or 'an unknown module'}; known are the policies of {known}"
            )
        try:
            factory = getattr(importlib.import_module(package), algorithm)
        except ImportError as error:
            raise self._wrong(f"{package.replace('_', '-')} is not installed: pip install {package}") from error
        env = self._env if self._observed == "dict" else self._vector_env(self._observed)
        kwargs = {
            key: _network_option(value)
            for key, value in data.get("policy_kwargs", {}).items()
            if key[0] != ":" and "optimizer" not in key
        }
        policy = "MultiInputPolicy" if self._observed == "dict" else "MlpPolicy"
        more = {"buffer_size": 1} if "buffer_size" in data else {}
        with self.randomness.applied():
            try:
                model = factory(policy, env, policy_kwargs=kwargs, device="cpu", **more)
                # load_data=False leaves the pickled part alone; the rest is torch.load(weights_only=True).
                _, parameters, _ = load_from_zip_file(str(self._path), load_data=False, device="cpu")
                model.policy.load_state_dict(parameters["policy"])
            except (AssertionError, KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
                reason = " ".join(str(error).split())[:200]
                raise self._wrong(
                    f"its network can't be built from the readable part of the zip ({algorithm}, policy_kwargs {kwargs}): "
                    f"{reason}; right would be module:Class, a class of yours that loads it"
                ) from error
        return model

    def allocate_all(self, views: list[View], deterministic: bool) -> Array:
        parts = {key: np.array([np.atleast_1d(getattr(view, key)) for view in views], np.float32) for key in KEYS}
        order = KEYS if self._observed == "vector" else sorted(KEYS)
        observation: Any = parts if self._observed == "dict" else np.concatenate([parts[key] for key in order], axis=1)
        env: Any = self._env
        situations = [(view.requirement, view.profile, view.last_allocation) for view in views]
        more = {}
        if isinstance(env, CandidateAllocation):
            masks = np.stack([env.catalogue.mask(*situation)[list(env.indices)] for situation in situations])
            more = {"action_masks": masks} if type(self.model).__name__ == "MaskablePPO" else {}
        with self.randomness.applied():
            actions, _ = self.model.predict(observation, deterministic=deterministic, **more)
        if isinstance(env, SoftmaxAllocation):
            return np.stack([env.action(action) for action in actions])
        if isinstance(env, CandidateAllocation):
            keep = env.catalogue.names.index("keep")  # as the wrapper does for a masked action
            chosen = [env.indices[int(a)] if mask[int(a)] else keep for a, mask in zip(actions, masks, strict=True)]
            return np.stack([env.catalogue.allocation(i, *s) for i, s in zip(chosen, situations, strict=True)])
        return np.stack([np.append(to_simplex(action[: self.size]), action[self.size :]) for action in actions])

    def _learn(self, env: gym.Env[Any, Any], total_steps: int, callback: StepCallback, seed: int | None) -> None:
        self.check_saving()

    def check_saving(self) -> None:
        raise self._wrong("it can't be trained further or saved here; right would be SB3's own learn and save")

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "randomness": self.randomness.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self.randomness.load_state_dict(state["randomness"])


def _network_option(text: Any) -> Any:
    """Value of an entry of ``policy_kwargs``, which the zip shows as text: a literal or a class of ``torch.nn``."""
    if not isinstance(text, str):
        return text
    found = re.fullmatch(r"<class 'torch\.nn\.modules\.[\w.]*?(\w+)'>", text)
    if found:
        import torch

        return getattr(torch.nn, found[1])
    try:
        return ast.literal_eval(text)
    except (SyntaxError, ValueError):
        return text
