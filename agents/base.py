"""Base class of the allocation agents.

An agent allocates the tokens of the next step: ``predict`` maps an observation to an allocation, ``observe`` learns from
a finished step, and ``learn`` loops the two for a number of environment steps. Built-in agents derive from :class:`Agent`,
which adds batches, checked options, seeding and the file format. A custom agent needs ``predict`` only
(:mod:`read_env.agents.custom`).
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, ClassVar

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from read_env.agents import storage
from read_env.agents.interaction import StepCallback, interact
from read_env.agents.observation import Array, Observation, View, parse
from read_env.agents.options import validate
from read_env.errors import ReadEnvError

if TYPE_CHECKING:
    from typing_extensions import Self


class AgentSettings(BaseModel):
    """Options of an agent, checked by pydantic. Base class of all settings; by itself: no options."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Agent:
    """Allocation agent over a fixed, ordered set of capabilities.

    Args:
        capabilities: |C| names in the suite's order.
        seed: seed of the agent's own generator; the environment has another.
        options: options, checked by the class's ``settings_type``.
        name: name in tables. None: the name of the class.
        may_stop: actions have a stop entry, for environments with ``budget.may_stop``.

    Raises:
        ReadEnvError: no capabilities, a negative seed, or an option that is unknown or out of range.
    """

    name: str = ""
    settings_type: ClassVar[type[AgentSettings]] = AgentSettings
    #: True while the agent is trained; it may then explore more than in a run.
    training = False
    #: Attributes that belong to the current episode. A training in several environments keeps them apart.
    episode_state: ClassVar[tuple[str, ...]] = ()
    #: A policy without a stop entry acts in an environment with ``budget.may_stop``: it never stops.
    never_stops = False

    def __init__(
        self,
        capabilities: Sequence[str],
        seed: int = 0,
        options: Mapping[str, Any] | None = None,
        name: str | None = None,
        may_stop: bool = False,
    ) -> None:
        named = not isinstance(capabilities, str) and all(isinstance(name, str) for name in capabilities)
        if not named or not capabilities or len(set(capabilities)) < len(capabilities):
            raise ReadEnvError(f"capabilities must be distinct names, at least one, not {capabilities!r}")
        if seed < 0:
            raise ReadEnvError(f"an agent's seed must not be negative: {seed}")
        self.capabilities = tuple(capabilities)
        self.seed = seed
        self.may_stop = may_stop
        self.name = name or type(self).name
        self.settings: Any = validate(self.name, self.settings_type, options or {})
        self.rng = np.random.default_rng(seed)

    @classmethod
    def files(cls, options: Mapping[str, Any]) -> dict[str, Path]:
        """Files that decide what an agent with these options does: name -> path. None unless overridden.

        Their content is compared when a run is resumed. A name ``agent_options.OPTION`` stands for the file of an option, whose
        path is then not compared.
        """
        return {}

    @property
    def size(self) -> int:
        """Number of capabilities, |C|."""
        return len(self.capabilities)

    @property
    def stop_entry(self) -> bool:
        """True if actions end with a stop entry."""
        return self.may_stop or self.never_stops

    @property
    def options(self) -> dict[str, Any]:
        """Settings as JSON values, as ``make_agent`` takes them."""
        return self.settings.model_dump(mode="json")

    @property
    def tokens_before_run(self) -> int:
        """Completion tokens that the agent spent outside the run, such as those of runs it was fitted on. 0 unless overridden."""
        return 0

    def attach(self, env: gym.Env[Any, Any]) -> None:
        """Take the environment that the agent is about to act in. Does nothing unless overridden."""

    def allocate(self, view: View, deterministic: bool) -> Array:
        """Allocation for one observation, (|C|,) on the simplex."""
        raise NotImplementedError(f"{type(self).__name__} has neither allocate nor allocate_all")

    def stops(self, view: View) -> bool:
        """True to end the episode with what is unspent. False unless overridden; asked only with ``may_stop``."""
        return False

    def allocate_all(self, views: list[View], deterministic: bool) -> Array:
        """Allocations for a batch, (b, |C|), or (b, |C| + 1) with stop entries in place of :meth:`stops`."""
        return np.stack([self.allocate(view, deterministic) for view in views])

    def predict(
        self, observation: Observation, state: Any = None, episode_start: Any = None, deterministic: bool = False
    ) -> tuple[np.ndarray, Any]:
        """Allocations for one observation or a batch, with the signature of SB3's policies.

        Args:
            observation: Dict observation; every value (n,), or (b, n) for a batch.
            state: returned unchanged. Built-in agents read the past from the observation (``last_allocation``) or from
                what they observed.
            episode_start: not used, for the same reason.
            deterministic: take the mode of a stochastic policy in place of a sample. Agents whose method is random
                (random-candidate, a bandit's warm-up) sample anyway.

        Returns:
            float32 weights on the simplex, (|C|,) or (b, |C|), each with a stop entry if the environment has one, and
            ``state``.
        """
        views, batched = parse(observation, self.size)
        actions = self.allocate_all(views, deterministic).astype(np.float32)
        if self.stop_entry and actions.shape[1] == self.size:
            stops = [self.may_stop and self.stops(view) for view in views]
            actions = np.column_stack([actions, stops]).astype(np.float32)
        return (actions if batched else actions[0]), state

    def observe(
        self, observation: Observation, action: npt.ArrayLike, reward: float, next_observation: Observation,
        terminated: bool, truncated: bool, info: Mapping[str, Any],
    ) -> None:  # fmt: skip
        """Learn from one finished step. Does nothing unless overridden."""

    def learn(
        self, env: gym.Env[Any, Any], total_steps: int, callback: StepCallback | None = None, seed: int | None = None
    ) -> Self:
        """Interact with ``env`` for exactly ``total_steps`` steps, observing each.

        Args:
            env: environment with Dict observations whose actions are allocations (no action wrapper).
            total_steps: environment steps; the last episode may stay unfinished.
            callback: called after every step; returning False ends learning.
            seed: seed of the first reset. None: the environment's own generator.

        Raises:
            ReadEnvError: a negative number of steps.
        """
        if total_steps < 0:
            raise ReadEnvError(f"total_steps must not be negative: {total_steps}")
        if total_steps:
            self._learn(env, total_steps, callback or (lambda transition: None), seed)
        return self

    def _learn(self, env: gym.Env[Any, Any], total_steps: int, callback: StepCallback, seed: int | None) -> None:
        """Loop of :meth:`learn` for at least one step; agents that learn otherwise override it."""
        self.training = True
        try:
            interact(self, env, total_steps, callback, seed)
        finally:
            self.training = False

    def scalars(self) -> dict[str, float]:
        """Metrics for TensorBoard. A name with a slash is the whole tag; others appear under ``bandit/``."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """State that changes while the agent works, as JSON values and numpy arrays."""
        return {"rng": self.rng.bit_generator.state}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load a ``state_dict``; from then on both agents act alike, to the bit.

        Raises:
            ReadEnvError: state of another kind of agent.
        """
        try:
            self.rng.bit_generator.state = state["rng"]
        except (KeyError, TypeError, ValueError) as error:
            raise ReadEnvError(f"this is no state of agent {self.name!r}: {type(error).__name__} {error}") from error

    def check_saving(self) -> None:
        """Check that the agent can be saved.

        Raises:
            ReadEnvError: something that it learned would be lost.
        """

    def check_task(self, requirement: Array) -> None:
        """Check that the agent can act on a task; called before a run starts.

        Args:
            requirement: requirement of the task, (|C|,).

        Raises:
            ReadEnvError: it can't; the message says what to do first.
        """

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the agent to one file (:mod:`read_env.agents.storage`), which ``load_agent`` reads.

        Raises:
            ReadEnvError: something that it learned would be lost.
        """
        self.check_saving()
        made_from = {"agent": self.name, "capabilities": list(self.capabilities), "options": self.options}
        stop = {"may_stop": True} if self.may_stop else {}
        storage.write(path, {**made_from, "seed": self.seed, **stop, "state": self.state_dict()})

    def push_to_hub(self, repo_id: str, *, private: bool = True) -> str:
        """Upload the agent with a card to the Hugging Face hub, as one commit, and return the address.

        ``from_pretrained`` loads it again. ``read-env train --push-to-hub`` also uploads the record of the training.

        Args:
            repo_id: ``NAME`` or ``ORGANISATION/NAME``; made if it is not there.
            private: a repository that is made is private.

        Raises:
            ReadEnvError: something that it learned would be lost, or the hub refuses it or can't be reached.
        """
        from read_env.reporting.cards import policy_card
        from read_env.running.hub import AGENT_FILE, check_hub, push

        check_hub(repo_id)
        with TemporaryDirectory() as folder:
            self.save(Path(folder) / AGENT_FILE)
            policy_card(self, folder)
            return push(Path(folder), repo_id, private=private)

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | os.PathLike[str],
        *,
        revision: str | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> Self:
        """Load an agent from the hub, from the directory of a training or from a file.

        Called on a subclass, it loads agents of that class alone.

        Args:
            name_or_path: repository ``NAME`` or ``ORGANISATION/NAME``, or a path.
            revision: branch, tag or commit of the repository. None: its main branch.
            options: as in :func:`~read_env.agents.registry.load_agent`.

        Raises:
            ReadEnvError: no such repository or agent, a damaged file, an agent of another class, or an untrusted
                ``module:Class``.
        """
        from read_env.agents.registry import load_agent
        from read_env.running.hub import AGENT_FILE, pull_agent

        path = Path(name_or_path)
        if path.is_dir():
            path = path / AGENT_FILE
        elif not path.is_file():
            path = pull_agent(os.fspath(name_or_path), revision)
        agent = load_agent(path, options)
        if not isinstance(agent, cls):
            raise ReadEnvError(
                f"{name_or_path} holds the agent {agent.name!r}, a {type(agent).__name__}, not a {cls.__name__}"
            )
        return agent
