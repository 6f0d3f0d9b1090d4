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


class Sb3Agent(Agent):
    """Base class of the SB3 algorithms.

    Raises:
        ReadEnvError: Stable-Baselines3 (or sb3-contrib) is not installed.
    """

    module: ClassVar[str] = "stable_baselines3"
    algorithm: ClassVar[str]
    actions: ClassVar[Literal["logits", "catalogue", "mask-free"]] = "logits"
    policy: ClassVar[str] = "MlpPolicy"

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
        with self.randomness.applied():
            self.model: Any = self._made(
                factory, self.policy, VectorObservation(self._wrapped), seed=folded(self.seed),
                device="cpu",  # two layers: a GPU would only add latency
            )  # fmt: skip
        #: Steps of a rollout in each environment; None for algorithms with a replay buffer.
        self._rollout = self.model.n_steps if hasattr(self.model, "rollout_buffer") else None
        #: Updates for each environment step; -1: as many as steps.
        self._updates = getattr(self.model, "gradient_steps", -1)
        self._curves = _attach_logger(self.model)

    def _made(self, factory: Any, *args: Any, **kwargs: Any) -> Any:
        """Model of SB3 with the options."""
        return factory(*args, **kwargs, **self._arguments())

    def _arguments(self) -> dict[str, Any]:
        """Constructor arguments from the options."""
        found = self.settings.model_dump(exclude={"hidden", "scale"})
        return {**found, "policy_kwargs": {"net_arch": [self.settings.hidden] * 2}}

    def allocate_all(self, views: list[View], deterministic: bool) -> Array:
        """Actions for a batch, which goes through the policy at once."""
        return self._act(views, deterministic)[0]

    def _act(self, views: list[View], deterministic: bool, **recurrent: Any) -> tuple[Array, Any]:
        """Actions for a batch and the next state of a recurrent policy, which gets its state as further arguments."""
        vectors = np.stack([view.vector() for view in views]).astype(np.float32)
        situations = [(view.requirement, view.profile, view.last_allocation) for view in views]
        more = dict(recurrent)
        if self.actions == "catalogue":
            more["action_masks"] = np.stack([self._wrapped.catalogue.mask(*parts) for parts in situations])
        with self.randomness.applied():
            actions, state = self.model.predict(vectors, deterministic=deterministic, **more)
        if self.actions == "logits":
            return np.stack([self._wrapped.action(action) for action in actions]), state
        indices = [self._wrapped.indices[int(action)] for action in actions]
        catalogue = self._wrapped.catalogue
        return np.stack([catalogue.allocation(i, *parts) for i, parts in zip(indices, situations, strict=True)]), state

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
        if self._rollout is None:
            return [steps]
        rollouts = -(-steps // self._rollout)
        short, longer = divmod(steps, rollouts)
        return [short + (index < longer) for index in range(rollouts)]

    def _prepare(self, steps: int, envs: int) -> None:
        """Prepare a ``learn`` call of ``steps`` steps in each of ``envs`` environments."""
        model = self.model
        if self._rollout is None:
            if self._updates > 0:
                model.gradient_steps = envs * self._updates  # as many updates per environment step
            if envs > 1:
                model.replay_buffer.add = partial(_add_each, model.replay_buffer)
            return
        # The next rollout is ``steps`` long.
        if (model.n_steps, model.rollout_buffer.n_envs) != (steps, envs):
            model.n_steps = model.rollout_buffer.buffer_size = steps
            model.rollout_buffer.n_envs = envs
            self._resize(steps, envs)
            model.rollout_buffer.reset()
        if hasattr(model, "batch_size"):
            # Two minibatches, none of a single step: its advantage has no s.d. to divide by.
            steps *= envs
            model.batch_size = steps if steps < 8 else -(-steps // 2)
            model.normalize_advantage = steps > 1

    def _resize(self, steps: int, envs: int) -> None:
        """Change what else has the size of a rollout."""

    def scalars(self) -> dict[str, float]:
        """Latest ``train/`` and ``rollout/`` values under SB3's own tags, those of an update since SB3's last dump included."""
        self.model.logger.dump(self.model.num_timesteps)
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
