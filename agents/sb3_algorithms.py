"""Algorithms of Stable-Baselines3 and sb3-contrib as agents, with presets, and any other one by its name.

The presets are for environment steps that take seconds: short rollouts, learning from the first episodes on, and several
updates per step with a replay buffer. An algorithm without a preset has the defaults of its package.
"""

from __future__ import annotations

import importlib
import inspect
from typing import Any

import numpy as np
from pydantic import ConfigDict, Field

from read_env.agents.base import AgentSettings
from read_env.agents.observation import Observation, parse
from read_env.agents.sb3 import Sb3Agent, Sb3Settings
from read_env.errors import ReadEnvError, unknown

#: Package by the prefix of an agent's name.
PACKAGES = {"sb3": "stable_baselines3", "sb3-contrib": "sb3_contrib"}
#: Algorithms of discrete actions, and the one that plays whole populations of policies in place of steps.
_DISCRETE, _POPULATION = ("DQN", "QRDQN"), "ARS"


class A2CSettings(Sb3Settings):
    """Options of A2C: an update every ten steps."""

    learning_rate: float = Field(default=7e-4, gt=0)
    n_steps: int = Field(default=10, ge=2)
    gae_lambda: float = Field(default=1.0, ge=0, le=1)
    ent_coef: float = Field(default=0.0, ge=0)


class RolloutSettings(A2CSettings):
    """Options of PPO, MaskablePPO and RecurrentPPO: a rollout of about two episodes, used for ten epochs."""

    learning_rate: float = Field(default=3e-4, gt=0)
    n_steps: int = Field(default=40, ge=2)
    n_epochs: int = Field(default=10, ge=1)
    gae_lambda: float = Field(default=0.95, ge=0, le=1)


class ReplaySettings(Sb3Settings):
    """Options of SAC, TQC, CrossQ and TD3: learning starts after about two episodes, with four updates per step."""

    learning_rate: float = Field(default=1e-3, gt=0)
    learning_starts: int = Field(default=40, ge=0)
    buffer_size: int = Field(default=10_000, ge=1)
    batch_size: int = Field(default=64, ge=1)
    gradient_steps: int = Field(default=4, ge=1)


class SACSettings(ReplaySettings):
    """Options of SAC, TQC and CrossQ: a small initial entropy coefficient, since rewards are about .01 and SB3's initial 1 would dominate them."""

    ent_coef: float | str = "auto_0.01"


class DQNSettings(ReplaySettings):
    """Options of DQN: exploration falls over the first half of the steps."""

    exploration_fraction: float = Field(default=0.5, gt=0, le=1)
    exploration_final_eps: float = Field(default=0.05, ge=0, le=1)
    target_update_interval: int = Field(default=50, ge=1)


class PPO(Sb3Agent):
    """Stable-Baselines3's PPO over softmax logits.

    Example:
        >>> PPO(["math", "code"]).model.action_space
        Box(-1.0, 1.0, (2,), float32)
    """

    name = "sb3:PPO"
    algorithm = "PPO"
    settings_type = RolloutSettings

    def _arguments(self) -> dict[str, Any]:
        return {**super()._arguments(), "batch_size": self.settings.n_steps}


class A2C(Sb3Agent):
    """Stable-Baselines3's A2C over softmax logits.

    Example:
        >>> A2C(["math", "code"], options={"n_steps": 5}).model.n_steps
        5
    """

    name = "sb3:A2C"
    algorithm = "A2C"
    settings_type = A2CSettings


class MaskablePPO(PPO):
    """MaskablePPO of sb3-contrib over the whole candidate catalogue, with masks.

    Example:
        >>> MaskablePPO(["math", "code"]).model.action_space
        Discrete(13)
    """

    name = "sb3-contrib:MaskablePPO"
    module = "sb3_contrib"
    algorithm = "MaskablePPO"
    actions = "catalogue"


class RecurrentPPO(PPO):
    """RecurrentPPO of sb3-contrib over softmax logits: PPO with an LSTM, whose state ``predict`` returns.

    Example:
        >>> agent = RecurrentPPO(["math", "code"], options={"hidden": 16})
        >>> agent.model.policy.lstm_actor.hidden_size
        16
    """

    name = "sb3-contrib:RecurrentPPO"
    module = "sb3_contrib"
    algorithm = "RecurrentPPO"
    policy = "MlpLstmPolicy"

    def _arguments(self) -> dict[str, Any]:
        found = super()._arguments()
        found["policy_kwargs"]["lstm_hidden_size"] = self.settings.hidden
        return found

    def predict(
        self, observation: Observation, state: Any = None, episode_start: Any = None, deterministic: bool = False
    ) -> tuple[np.ndarray, Any]:
        """Allocations for one observation or a batch, and the next state of the LSTM.

        Args:
            observation: Dict observation; every value (n,), or (b, n) for a batch.
            state: what the last call returned; None at the start.
            episode_start: (b,) True where an episode begins. None: where no step was made yet.
            deterministic: take the mode of the policy in place of a sample.
        """
        views, batched = parse(observation, self.size)
        begins = np.array([view.first for view in views])
        if episode_start is not None:
            begins |= np.asarray(episode_start, bool).reshape(-1)
        shares, state = self._act(views, deterministic, state=state, episode_start=begins)
        actions = shares.astype(np.float32)
        return (actions if batched else actions[0]), state

    def _resize(self, steps: int, envs: int) -> None:
        import torch

        model, lstm = self.model, self.model.policy.lstm_actor
        model.rollout_buffer.hidden_state_shape = (steps, lstm.num_layers, envs, lstm.hidden_size)
        pairs = [tuple(torch.zeros(lstm.num_layers, envs, lstm.hidden_size) for _ in range(2)) for _ in range(2)]
        model._last_lstm_states = type(model._last_lstm_states)(*pairs)


class SAC(Sb3Agent):
    """Stable-Baselines3's SAC over softmax logits.

    Example:
        >>> SAC(["math", "code"]).model.ent_coef
        'auto_0.01'
    """

    name = "sb3:SAC"
    algorithm = "SAC"
    settings_type = SACSettings


class TQC(SAC):
    """TQC of sb3-contrib over softmax logits.

    Example:
        >>> TQC(["math", "code"]).model.ent_coef
        'auto_0.01'
    """

    name = "sb3-contrib:TQC"
    module = "sb3_contrib"
    algorithm = "TQC"


class CrossQ(SAC):
    """CrossQ of sb3-contrib over softmax logits.

    Example:
        >>> CrossQ(["math", "code"]).model.ent_coef
        'auto_0.01'
    """

    name = "sb3-contrib:CrossQ"
    module = "sb3_contrib"
    algorithm = "CrossQ"


class TD3(Sb3Agent):
    """Stable-Baselines3's TD3 over softmax logits, with Gaussian exploration noise of s.d. 0.2.

    Example:
        >>> TD3(["math", "code"]).model.action_noise
        NormalActionNoise(mu=[0. 0.], sigma=[0.2 0.2])
    """

    name = "sb3:TD3"
    algorithm = "TD3"
    settings_type = ReplaySettings

    def _arguments(self) -> dict[str, Any]:
        from stable_baselines3.common.noise import NormalActionNoise

        size = self.size + self.may_stop
        noise = NormalActionNoise(mean=np.zeros(size), sigma=np.full(size, 0.2))
        return {**super()._arguments(), "action_noise": noise}


class DQN(Sb3Agent):
    """Stable-Baselines3's DQN over the candidates that need no mask.

    Example:
        >>> DQN(["math", "code"]).model.action_space
        Discrete(5)
    """

    name = "sb3:DQN"
    algorithm = "DQN"
    actions = "mask-free"
    settings_type = DQNSettings

    def _arguments(self) -> dict[str, Any]:
        return {**super()._arguments(), "train_freq": 1}


class OtherSettings(AgentSettings):
    """Options of an algorithm without a preset: ``scale`` of ``SoftmaxAllocation``, and arguments of its constructor."""

    model_config = ConfigDict(extra="allow", frozen=True, allow_inf_nan=False)

    scale: float = Field(default=3.0, gt=0)


class OtherAlgorithm(Sb3Agent):
    """Algorithm of either package by its name, with the package's own defaults.

    Raises:
        ReadEnvError: no such algorithm, or an option that its constructor doesn't have.

    Example:
        >>> OtherAlgorithm(["math", "code"], name="sb3:DDPG", options={"learning_starts": 7}).model.learning_starts
        7
    """

    name = "sb3:DDPG"
    settings_type = OtherSettings
    algorithm: str  # type: ignore[misc]

    def __init__(self, *args: Any, name: str | None = None, **kwargs: Any) -> None:
        prefix, _, algorithm = (name or type(self).name).partition(":")
        self.module, self.algorithm = PACKAGES[prefix], algorithm  # type: ignore[misc]
        if (known := algorithms(prefix)) and algorithm not in known:
            raise unknown("agent", f"{prefix}:{algorithm}", [f"{prefix}:{one}" for one in known])
        self.actions = "mask-free" if algorithm in _DISCRETE else "logits"  # type: ignore[misc]
        super().__init__(*args, name=name, **kwargs)

    def _made(self, factory: Any, *args: Any, **kwargs: Any) -> Any:
        own = set(inspect.signature(factory).parameters) - {"policy", "env", *kwargs}
        for option in self._arguments():
            if option not in own:
                raise ReadEnvError(f"agent {self.name!r}: {unknown('option', option, sorted(own | {'scale'}))}")
        return super()._made(factory, *args, **kwargs)

    def _arguments(self) -> dict[str, Any]:
        return self.settings.model_dump(exclude={"scale"})


def algorithms(prefix: str) -> list[str]:
    """Names of the algorithms of a package, by the prefix of its agents; empty if it is not installed.

    >>> "DDPG" in algorithms("sb3"), "TRPO" in algorithms("sb3-contrib")
    (True, True)
    """
    try:
        package = importlib.import_module(PACKAGES[prefix])
        base = importlib.import_module("stable_baselines3.common.base_class").BaseAlgorithm
    except ModuleNotFoundError:
        return []
    found = {name: value for name, value in vars(package).items() if isinstance(value, type)}
    return sorted(name for name, value in found.items() if issubclass(value, base) and name != _POPULATION)
