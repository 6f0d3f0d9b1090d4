"""What an agent is, and the loop in which it learns.

An agent decides how the next tokens are spent: ``predict`` maps an observation
to an allocation. It may also ``observe`` what came of it. ``learn`` loops the
two for an exact number of environment steps. Built-in agents derive from
``Agent``, which brings batches, settings, seeding and the file format; a custom
agent needs only ``predict`` (see ``read_env.agents.custom``).
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from read_env.agents import storage
from read_env.agents.observation import Array, Observation, View, parse
from read_env.agents.options import validate
from read_env.errors import ReadEnvError

if TYPE_CHECKING:
    from typing_extensions import Self


class AgentSettings(BaseModel):
    """The options of an agent that has none; the base of every other agent's settings."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


@dataclass(frozen=True)
class Transition:
    """One environment step of ``learn``, as its callback gets it.

    Attributes:
        step: 1 for the first environment step of this ``learn`` call.
        observation, next_observation: as the environment gave them.
        action: the allocation, float32 (|C|,).
        reward, terminated, truncated, info: as the environment gave them.
    """

    step: int
    observation: Observation
    action: np.ndarray
    reward: float
    next_observation: Observation
    terminated: bool
    truncated: bool
    info: Mapping[str, Any]


#: Called after every step of ``learn``; returning False ends it there.
Callback = Callable[[Transition], bool | None]


class Agent(ABC):
    """An allocation agent over a fixed, ordered set of capabilities.

    Args:
        capabilities: names in the suite's order; |C| of them.
        seed: of everything random in the agent. The environment's randomness is its own.
        options: checked by the class's ``settings_type``.
        name: what the agent is called in tables; by default the class's own name.

    Raises:
        ReadEnvError: no capabilities, a negative seed, or an option that is unknown or out of range.
    """

    name: str = ""
    settings_type: ClassVar[type[AgentSettings]] = AgentSettings

    def __init__(
        self,
        capabilities: Sequence[str],
        seed: int = 0,
        options: Mapping[str, Any] | None = None,
        name: str | None = None,
    ) -> None:
        if isinstance(capabilities, str) or not capabilities or len(set(capabilities)) < len(capabilities):
            raise ReadEnvError(f"capabilities must be distinct names, at least one, not {capabilities!r}")
        if seed < 0:
            raise ReadEnvError(f"an agent's seed must not be negative: {seed}")
        self.capabilities = tuple(capabilities)
        self.seed = seed
        self.name = name or type(self).name
        self.settings: Any = validate(self.name, self.settings_type, options or {})
        self.rng = np.random.default_rng(seed)

    @property
    def size(self) -> int:
        """|C|."""
        return len(self.capabilities)

    @property
    def options(self) -> dict[str, Any]:
        """The settings as plain JSON values: what ``make_agent`` takes."""
        return self.settings.model_dump(mode="json")

    @abstractmethod
    def allocate(self, view: View, deterministic: bool) -> Array:
        """The allocation for one observation, (|C|,) on the simplex."""

    def predict(
        self,
        observation: Observation,
        state: Any = None,
        episode_start: Any = None,
        deterministic: bool = False,
    ) -> tuple[np.ndarray, Any]:
        """Allocations for one observation or a batch, with the signature of SB3's policies.

        Args:
            observation: the environment's Dict; every value (n,), or (b, n) for a batch.
            state: passed through. Where an agent needs to know what came before, it is in
                the observation (``last_allocation``) or was observed.
            episode_start: not needed, for the same reason.
            deterministic: the mode of a stochastic policy in place of a sample. Agents whose
                randomness is the method itself (random-candidate, a bandit's warm-up) draw anyway.

        Returns:
            float32 weights on the simplex, (|C|,) or (b, |C|); and ``state``.
        """
        views, batched = parse(observation, self.size)
        actions = np.stack([self.allocate(view, deterministic) for view in views]).astype(np.float32)
        return (actions if batched else actions[0]), state

    def observe(  # noqa: B027  (not abstract: most controls have nothing to learn)
        self,
        observation: Observation,
        action: npt.ArrayLike,
        reward: float,
        next_observation: Observation,
        terminated: bool,
        truncated: bool,
        info: Mapping[str, Any],
    ) -> None:
        """Learn from one finished step; does nothing unless an agent overrides it."""

    def learn(
        self, env: gym.Env[Any, Any], total_steps: int, callback: Callback | None = None, seed: int | None = None
    ) -> Self:
        """Interact with ``env`` for exactly ``total_steps`` steps, observing each.

        Args:
            env: gives Dict observations and takes weights: no action wrapper around it.
            total_steps: environment steps. The last episode may stay unfinished.
            callback: called after each step; ends learning by returning False.
            seed: of the first reset. None goes on with the environment's own generator.
        """
        interact(self, env, total_steps, callback, seed)
        return self

    def scalars(self) -> dict[str, float]:
        """Numbers worth a curve. A plain name is shown under ``bandit/``; one with a slash is the whole tag."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """Everything that changes while the agent works: JSON values and numpy arrays."""
        return {"rng": self.rng.bit_generator.state}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over a ``state_dict``: from here on both agents act alike, to the bit.

        Raises:
            ReadEnvError: the state is not one of this kind of agent.
        """
        try:
            self.rng.bit_generator.state = state["rng"]
        except (KeyError, TypeError, ValueError) as error:
            raise ReadEnvError(f"this is no state of agent {self.name!r}: {type(error).__name__} {error}") from error

    def check_saving(self) -> None:  # noqa: B027  (most agents can always be saved)
        """Whether a saved agent would be this agent.

        Raises:
            ReadEnvError: something that it learned would be lost.
        """

    def check_task(self, requirement: Array) -> None:  # noqa: B027
        """Whether the agent can act on a task, given its requirement, (|C|,): asked before a run is begun.

        Raises:
            ReadEnvError: it can't, and what would have to be done first.
        """

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the agent to one file (``read_env.agents.storage``); ``load_agent`` reads it.

        Raises:
            ReadEnvError: something that it learned would be lost.
        """
        self.check_saving()
        storage.write(
            path,
            {
                "agent": self.name,
                "capabilities": list(self.capabilities),
                "options": self.options,
                "seed": self.seed,
                "state": self.state_dict(),
            },
        )

    @classmethod
    def load(cls, path: str | os.PathLike[str], options: Mapping[str, Any] | None = None) -> Self:
        """``load_agent``, which also checks that the file holds this kind of agent.

        Raises:
            ReadEnvError: a missing or damaged file, or an agent of another class.
        """
        from read_env.agents.registry import load_agent  # which imports this module

        agent = load_agent(path, options)
        if not isinstance(agent, cls):
            raise ReadEnvError(f"{path} holds agent {agent.name!r}, a {type(agent).__name__}, not a {cls.__name__}")
        return agent


def interact(
    agent: Any, env: gym.Env[Any, Any], total_steps: int, callback: Callback | None = None, seed: int | None = None
) -> int:
    """Loop ``predict`` and ``observe`` for exactly ``total_steps`` environment steps.

    ``agent`` is anything with ``predict``; ``observe`` is called where it exists.
    No reset follows the last step: a reset of the real environment costs time.

    Returns:
        The steps made: ``total_steps``, or fewer when the callback ended it.

    Raises:
        ReadEnvError: a negative number of steps.
    """
    if total_steps < 0:
        raise ReadEnvError(f"total_steps must not be negative: {total_steps}")
    observe = getattr(agent, "observe", None)
    observation: Any = None
    state: Any = None
    start = True
    for step in range(1, total_steps + 1):
        if start:
            observation, _ = env.reset(seed=seed if step == 1 else None)
            state = None
        action, state = agent.predict(observation, state=state, episode_start=np.array([start]), deterministic=False)
        following, reward, terminated, truncated, info = env.step(action)
        if observe is not None:
            observe(observation, action, float(reward), following, terminated, truncated, info)
        if callback is not None:
            transition = Transition(
                step, observation, action, float(reward), following, bool(terminated), bool(truncated), info
            )
            if callback(transition) is False:
                return step
        observation = following
        start = bool(terminated or truncated)
    return total_steps
