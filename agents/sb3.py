"""Policies of Stable-Baselines3 and sb3-contrib as agents.

The adapter wraps the environment in the action wrapper of the algorithm and a vector observation while SB3 learns, and
converts the policy's actions to weights when it predicts. The default options are for steps that take seconds: short
rollouts, learning from the first episodes on, and several updates per step with a replay buffer.

The SB3 object is ``agent.model``. A saved agent holds SB3's own zip, from which weights alone are read (``weights_only``),
never its pickled part.
"""

from __future__ import annotations

import importlib
import io
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, ClassVar, Literal

import gymnasium as gym
import numpy as np
from pydantic import Field

from read_env.agents.base import Agent, AgentSettings
from read_env.agents.interaction import StepCallback
from read_env.agents.observation import Array, View
from read_env.agents.sb3_bridge import BlankEnv, PrivateGenerators, StepCap, VectorObservation, folded
from read_env.envs.wrappers import CandidateAllocation, SoftmaxAllocation
from read_env.errors import ReadEnvError


class Sb3Settings(AgentSettings):
    """Options of all algorithms; ``scale`` is that of ``SoftmaxAllocation`` (continuous actions only)."""

    learning_rate: float = Field(default=3e-4, gt=0)
    gamma: float = Field(default=0.99, ge=0, le=1)
    hidden: int = Field(default=64, ge=1)
    scale: float = Field(default=3.0, gt=0)


class A2CSettings(Sb3Settings):
    """Options of A2C: an update every ten steps."""

    learning_rate: float = Field(default=7e-4, gt=0)
    n_steps: int = Field(default=10, ge=2)
    gae_lambda: float = Field(default=1.0, ge=0, le=1)
    ent_coef: float = Field(default=0.0, ge=0)


class RolloutSettings(A2CSettings):
    """Options of PPO and MaskablePPO: a rollout of about two episodes, used for ten epochs."""

    learning_rate: float = Field(default=3e-4, gt=0)
    n_steps: int = Field(default=40, ge=2)
    n_epochs: int = Field(default=10, ge=1)
    gae_lambda: float = Field(default=0.95, ge=0, le=1)


class ReplaySettings(Sb3Settings):
    """Options of SAC and TD3: learning starts after about two episodes, with four updates per step."""

    learning_rate: float = Field(default=1e-3, gt=0)
    learning_starts: int = Field(default=40, ge=0)
    buffer_size: int = Field(default=10_000, ge=1)
    batch_size: int = Field(default=64, ge=1)
    gradient_steps: int = Field(default=4, ge=1)


class SACSettings(ReplaySettings):
    """Options of SAC: a small initial entropy coefficient, since rewards are about .01 and SB3's initial 1 would dominate them."""

    ent_coef: float | str = "auto_0.01"


class DQNSettings(ReplaySettings):
    """Options of DQN: exploration falls over the first half of the steps."""

    exploration_fraction: float = Field(default=0.5, gt=0, le=1)
    exploration_final_eps: float = Field(default=0.05, ge=0, le=1)
    target_update_interval: int = Field(default=50, ge=1)


class Sb3Agent(Agent):
    """Base class of the SB3 algorithms.

    Raises:
        ReadEnvError: Stable-Baselines3 (or sb3-contrib) is not installed.
    """

    module: ClassVar[str] = "stable_baselines3"
    algorithm: ClassVar[str]
    actions: ClassVar[Literal["logits", "catalogue", "mask-free"]] = "logits"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        try:
            factory = getattr(importlib.import_module(self.module), self.algorithm)
        except ModuleNotFoundError as error:
            raise ReadEnvError(
                f"agent {self.name!r} needs {self.module.replace('_', '-')}, which is not installed "
                f"({error}): pip install stable-baselines3 sb3-contrib"
            ) from error
        self._blank = BlankEnv(self.capabilities, self.may_stop)
        #: Wraps an environment for the algorithm.
        self.wrap = partial(_as_learned, actions=self.actions, scale=self.settings.scale)
        self._wrapped: Any = self.wrap(self._blank).env
        self.randomness = PrivateGenerators(self.seed)
        s = self.settings
        with self.randomness.applied():
            self.model: Any = factory(
                "MlpPolicy",
                VectorObservation(self._wrapped),
                learning_rate=s.learning_rate,
                gamma=s.gamma,
                policy_kwargs={"net_arch": [s.hidden, s.hidden]},
                seed=folded(self.seed),
                device="cpu",  # two layers: a GPU would only add latency
                **self._arguments(),
            )
        self._curves = _attach_logger(self.model)

    def _arguments(self) -> dict[str, Any]:
        """Constructor arguments of this algorithm alone."""
        own = self.settings.model_dump()
        return {key: value for key, value in own.items() if key not in Sb3Settings.model_fields}

    def allocate_all(self, views: list[View], deterministic: bool) -> Array:
        """Actions for a batch, which goes through the policy at once."""
        vectors = np.stack([view.vector() for view in views]).astype(np.float32)
        situations = [(view.requirement, view.profile, view.last_allocation) for view in views]
        more = {}
        if self.actions == "catalogue":
            more["action_masks"] = np.stack([self._wrapped.catalogue.mask(*parts) for parts in situations])
        with self.randomness.applied():
            actions, _ = self.model.predict(vectors, deterministic=deterministic, **more)
        if self.actions == "logits":
            return np.stack([self._wrapped.action(action) for action in actions])
        indices = [self._wrapped.indices[int(action)] for action in actions]
        catalogue = self._wrapped.catalogue
        return np.stack([catalogue.allocation(i, *parts) for i, parts in zip(indices, situations, strict=True)])

    def _learn(self, env: gym.Env[Any, Any], total_steps: int, callback: StepCallback, seed: int | None) -> None:
        if env.action_space.shape != self._blank.action_space.shape:
            raise ReadEnvError(
                f"agent {self.name!r} has actions of shape {self._blank.action_space.shape}, the environment of "
                f"{env.action_space.shape}; right would be a new agent with the same budget.may_stop"
            )
        # The callback gets allocations, not the wrapped actions.
        capped = StepCap(env, total_steps, callback)
        self._learn_in(self.wrap(capped), 1, total_steps, lambda: not capped.stopped, seed)

    def learn_vectorized(self, envs: Any, total_steps: int) -> None:
        """Learn in an SB3 vector environment.

        Args:
            envs: vector environment, each of whose environments is wrapped by ``wrap``.
            total_steps: steps over all environments, a multiple of their number.
        """
        self._learn_in(envs, envs.num_envs, total_steps, lambda: True)

    def _learn_in(
        self, env: Any, envs: int, total_steps: int, goes_on: Callable[[], bool], seed: int | None = None
    ) -> None:
        """Learn in ``env``, which holds ``envs`` environments."""
        # SB3 rounds up to whole rollouts. Here the steps are split evenly into rollouts of at most ``n_steps``, so that all
        # of them are learned from.
        noise = getattr(self.model, "action_noise", None)
        with self.randomness.applied():
            self.model.n_envs = envs
            self.model.set_env(env)
            if seed is not None:
                self.model.env.seed(seed)
            for part in self._parts(total_steps // envs):
                if goes_on():
                    self._prepare(part, envs)
                    self.model.learn(
                        part * envs, callback=lambda *_: goes_on(), log_interval=1, reset_num_timesteps=False
                    )
            self.model.n_envs = 1
            if noise is not None:
                self.model.action_noise = noise  # SB3 replaces it by one for this number of environments
            self.model.set_env(VectorObservation(self._wrapped))  # lets go of the environment

    def _parts(self, steps: int) -> list[int]:
        """Steps of one environment in each of SB3's ``learn`` calls."""
        return [steps]

    def _prepare(self, steps: int, envs: int) -> None:
        """Prepare a ``learn`` call of ``steps`` steps in each of ``envs`` environments."""
        model = self.model
        if hasattr(model, "replay_buffer"):
            model.gradient_steps = envs * self.settings.gradient_steps  # as many updates per environment step
            if envs > 1:
                model.replay_buffer.add = partial(_add_each, model.replay_buffer)

    def scalars(self) -> dict[str, float]:
        """Latest ``train/`` and ``rollout/`` values under SB3's own tags."""
        return dict(self._curves)

    def state_dict(self) -> dict[str, Any]:
        """Weights, optimizers, replay buffer, counters and generators.

        The state is exact between ``learn`` calls; an unfinished rollout inside one is not kept.
        """
        buffer = io.BytesIO()
        self.model.save(buffer)
        state: dict[str, Any] = {
            **super().state_dict(),
            "sb3_zip": np.frombuffer(buffer.getvalue(), dtype=np.uint8).copy(),
            "randomness": self.randomness.state_dict(),
            "actions_rng": self.model.action_space.np_random.bit_generator.state,
            "counters": {key: getattr(self.model, key) for key in _COUNTERS if hasattr(self.model, key)},
            "curves": dict(self._curves),
        }
        replay = getattr(self.model, "replay_buffer", None)
        if replay is not None:
            kept = {key: getattr(replay, key)[: replay.size()].copy() for key in _replay_arrays(replay)}
            state["replay"] = {**kept, "pos": replay.pos, "full": replay.full}
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        from stable_baselines3.common.save_util import load_from_zip_file

        super().load_state_dict(state)
        source = io.BytesIO(np.asarray(state["sb3_zip"], dtype=np.uint8).tobytes())
        try:
            # load_data=False leaves the pickled part alone; the rest is torch.load(weights_only=True).
            _, parameters, variables = load_from_zip_file(source, load_data=False, device="cpu")
            self.model.set_parameters(parameters, exact_match=True, device="cpu")
        except (ValueError, RuntimeError, AttributeError) as error:
            raise ReadEnvError(f"this is no state of agent {self.name!r} with these options: {error}") from error
        for name, value in (variables or {}).items():
            getattr(self.model, name).data.copy_(value.data)  # SAC's entropy coefficient
        for key, value in state["counters"].items():
            setattr(self.model, key, value)
        self.model.action_space.np_random.bit_generator.state = state["actions_rng"]
        self.randomness.load_state_dict(state["randomness"])
        self._curves.clear()
        self._curves.update(state["curves"])
        if "replay" in state:
            _fill(self.model.replay_buffer, state["replay"])


class _Rollouts(Sb3Agent):
    """Base class of the on-policy algorithms, which learn from whole rollouts."""

    def _parts(self, steps: int) -> list[int]:
        rollouts = -(-steps // self.settings.n_steps)
        short, longer = divmod(steps, rollouts)
        return [short + (index < longer) for index in range(rollouts)]

    def _prepare(self, steps: int, envs: int) -> None:
        """Make the next rollout ``steps`` long."""
        model, buffer = self.model, self.model.rollout_buffer
        if (model.n_steps, buffer.n_envs) != (steps, envs):
            model.n_steps = buffer.buffer_size = steps
            buffer.n_envs = envs
            buffer.reset()
        if hasattr(model, "batch_size"):
            # Two minibatches, none of a single step: its advantage has no s.d. to divide by.
            steps *= envs
            model.batch_size = steps if steps < 8 else -(-steps // 2)
            model.normalize_advantage = steps > 1


class PPO(_Rollouts):
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


class A2C(_Rollouts):
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


class SAC(Sb3Agent):
    """Stable-Baselines3's SAC over softmax logits.

    Example:
        >>> SAC(["math", "code"]).model.ent_coef
        'auto_0.01'
    """

    name = "sb3:SAC"
    algorithm = "SAC"
    settings_type = SACSettings


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


# Attributes of SB3 models that change later steps and are no parameters.
_COUNTERS = (
    "num_timesteps", "_n_updates", "_n_calls", "_episode_num", "exploration_rate", "_current_progress_remaining",
)  # fmt: skip


def _as_learned(env: gym.Env[Any, Any], actions: str, scale: float) -> VectorObservation:
    """Environment with the actions of an algorithm and vector observations."""
    if actions == "logits":
        return VectorObservation(SoftmaxAllocation(env, scale=scale))
    return VectorObservation(CandidateAllocation(env, mask_free=actions == "mask-free"))


def _add_each(replay: Any, *steps: Any) -> None:
    """Add the steps of several environments one by one to a replay buffer made for one: saved agents have that form."""
    for index in range(len(steps[-1])):
        type(replay).add(replay, *(part[index : index + 1] for part in steps))


def _replay_arrays(replay: Any) -> list[str]:
    """Names of a replay buffer's arrays; one is missing with ``optimize_memory_usage``."""
    names = ("observations", "next_observations", "actions", "rewards", "dones", "timeouts")
    return [name for name in names if isinstance(getattr(replay, name, None), np.ndarray)]


def _fill(replay: Any, kept: Mapping[str, Any]) -> None:
    """Put saved steps into a replay buffer; one of another size gets the newest that fit, oldest first."""
    arrays = {key: kept[key] for key in _replay_arrays(replay)}
    pos, full, saved = int(kept["pos"]), bool(kept["full"]), len(arrays["rewards"])
    if saved > replay.buffer_size or (full and saved != replay.buffer_size):
        order = np.roll(np.arange(saved), -pos if full else 0)[-replay.buffer_size :]
        arrays = {key: value[order] for key, value in arrays.items()}
        pos, full = len(order) % replay.buffer_size, len(order) == replay.buffer_size
    replay.pos, replay.full = pos, full
    for key, value in arrays.items():
        getattr(replay, key)[: len(value)] = value


def _attach_logger(model: Any) -> dict[str, float]:
    """Set a logger that keeps the latest values in a dict, and return that dict."""
    from stable_baselines3.common.logger import Logger

    latest: dict[str, float] = {}

    class Latest(Logger):
        def dump(self, step: int = 0) -> None:
            numbers = {key: v for key, v in self.name_to_value.items() if isinstance(v, (int, float, np.number))}
            # Times must not enter an agent's state; the command line writes its own time/ curves.
            latest.update({key: float(value) for key, value in numbers.items() if not key.startswith("time/")})
            super().dump(step)

    model.set_logger(Latest(None, []))
    return latest
