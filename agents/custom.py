"""Adapter for custom agents: any class with ``predict`` gets the rest of the protocol.

The class needs nothing from this package::

    class Mine:
        def predict(self, observation, state=None, episode_start=None, deterministic=False):
            return observation["requirement"], state

Its constructor may take the keyword arguments ``capabilities``, ``seed`` and ``env`` (an environment with spaces and
``suite.names`` alone, for networks that are built from spaces), and options of its own. If ``predict`` has a parameter
``info``, it gets the info of the last step, ``{}`` before the first one. The methods ``attach``, which gets the environment
before the first step, ``observe``, ``learn``, ``scalars``, and ``state_dict`` with ``load_state_dict`` are used if it has them.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt

from read_env.agents.base import Agent
from read_env.agents.interaction import StepCallback
from read_env.agents.observation import Observation
from read_env.agents.options import check_names
from read_env.errors import ReadEnvError


def adapt(
    factory: Any, name: str, capabilities: Sequence[str], options: Mapping[str, Any], seed: int, may_stop: bool = False
) -> Agent:
    """Make an ``Agent`` from a custom class, wrapped unless the class derives from ``Agent``.

    Raises:
        ReadEnvError: not callable, no ``predict``, or options that the constructor doesn't take.

    Example:
        >>> from types import SimpleNamespace
        >>> mine = lambda: SimpleNamespace(predict=lambda observation, **_: (observation["requirement"], None))
        >>> adapt(mine, "mine", ["math", "code"], {}, seed=0).predict({"requirement": [1, 0]})[0].tolist()
        [1.0, 0.0]
    """
    if inspect.isclass(factory) and issubclass(factory, Agent):
        agent = factory(capabilities, seed=seed, options=options, name=name)
        agent.may_stop = may_stop
        return agent
    if not callable(factory):
        raise ReadEnvError(f"agent {name!r} is a {type(factory).__name__}; right would be a class with predict")
    inner = factory(**_arguments(factory, name, capabilities, options, seed, may_stop))
    if not callable(getattr(inner, "predict", None)):
        raise ReadEnvError(
            f"agent {name!r}: {type(inner).__name__} has no method predict(observation, state=None, "
            "episode_start=None, deterministic=False) -> (action, state)"
        )
    return CustomAgent(inner, name, capabilities, options, seed, may_stop)


def _arguments(
    factory: Any, name: str, capabilities: Sequence[str], options: Mapping[str, Any], seed: int, may_stop: bool
) -> dict[str, Any]:
    """Keyword arguments for the constructor: those of capabilities, seed and options that it takes."""
    parameters = inspect.signature(factory).parameters
    anything = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    accepted = [key for key, parameter in parameters.items() if parameter.kind in kinds]
    offered: dict[str, Any] = {"capabilities": tuple(capabilities), "seed": seed}
    if "env" in accepted and "env" not in options:
        from read_env.agents.sb3_bridge import BlankEnv

        offered["env"] = BlankEnv(capabilities, may_stop)
    check_names(name, options, [key for key in (*accepted, *(options if anything else ())) if key not in offered])
    return {**{key: value for key, value in offered.items() if anything or key in accepted}, **options}


class CustomAgent(Agent):
    """Custom object with ``predict``, wrapped as an :class:`~read_env.agents.base.Agent`.

    Its actions are passed on unchecked; the environment raises for wrong ones. Where actions have a stop entry, weights alone
    get one of 0.
    """

    episode_state = ("_info",)

    def __init__(
        self, inner: Any, name: str, capabilities: Sequence[str], options: Mapping[str, Any], seed: int,
        may_stop: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(capabilities, seed, name=name, may_stop=may_stop)
        self.inner = inner
        self._options = dict(options)
        self._wants_info = "info" in inspect.signature(inner.predict).parameters
        self._info: dict[str, Any] = {}

    @property
    def options(self) -> dict[str, Any]:
        return dict(self._options)

    def attach(self, env: gym.Env[Any, Any]) -> None:
        if hasattr(self.inner, "attach"):
            self.inner.attach(env)

    def predict(
        self, observation: Observation, state: Any = None, episode_start: Any = None, deterministic: bool = False
    ) -> tuple[np.ndarray, Any]:
        more = {"info": self._info} if self._wants_info else {}
        answer = self.inner.predict(
            observation, state=state, episode_start=episode_start, deterministic=deterministic, **more
        )
        if not isinstance(answer, tuple) or len(answer) != 2:
            raise ReadEnvError(f"agent {self.name!r}: predict must return (action, state), not {type(answer).__name__}")
        action = np.asarray(answer[0], dtype=np.float32)
        if self.stop_entry and action.ndim and action.shape[-1] == self.size:
            action = np.concatenate([action, np.zeros_like(action[..., :1])], axis=-1)
        return action, answer[1]

    def observe(
        self, observation: Observation, action: npt.ArrayLike, reward: float, next_observation: Observation,
        terminated: bool, truncated: bool, info: Mapping[str, Any],
    ) -> None:  # fmt: skip
        if self._wants_info:
            self._info = {} if terminated or truncated else dict(info)
        if hasattr(self.inner, "observe"):
            self.inner.observe(observation, action, reward, next_observation, terminated, truncated, info)

    def _learn(self, env: gym.Env[Any, Any], total_steps: int, callback: StepCallback, seed: int | None) -> None:
        if not hasattr(self.inner, "learn"):
            return super()._learn(env, total_steps, callback, seed)
        parameters = inspect.signature(self.inner.learn).parameters.values()
        takes_seed = any(p.name == "seed" or p.kind is p.VAR_KEYWORD for p in parameters)
        if seed is not None and not takes_seed:
            env.reset(seed=seed)  # its own resets then go on with this generator
        self.inner.learn(env, total_steps, callback, **({"seed": seed} if takes_seed else {}))

    def check_saving(self) -> None:
        learns = [method for method in ("observe", "learn") if hasattr(self.inner, method)]
        if learns and not (hasattr(self.inner, "state_dict") and hasattr(self.inner, "load_state_dict")):
            raise ReadEnvError(
                f"agent {self.name!r} learns (it has {learns[0]}) but has no state_dict and load_state_dict: what it "
                "learns could not be saved; give it the two"
            )

    def scalars(self) -> dict[str, float]:
        return dict(self.inner.scalars()) if hasattr(self.inner, "scalars") else {}

    def state_dict(self) -> dict[str, Any]:
        state = super().state_dict()
        if hasattr(self.inner, "state_dict"):
            state["inner"] = self.inner.state_dict()
        return {**state, "info": self._info} if self._wants_info else state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self._info = dict(state.get("info", {}))
        if "inner" in state:
            self.inner.load_state_dict(state["inner"])
