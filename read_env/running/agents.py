"""Agent of a run: its name on the command line, its construction and its state in checkpoints."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from read_env import files
from read_env.config import HUB
from read_env.envs.spaces import parse_action
from read_env.errors import ReadEnvError
from read_env.running.tensors import from_tensors, to_tensors

if TYPE_CHECKING:
    import gymnasium as gym

    from read_env.agents import Agent
    from read_env.agents.observation import Observation
    from read_env.capabilities.base import Suite
    from read_env.config import Config

#: File beside a saved agent with the tasks and tokens of its training.
TRAINING_RECORD = "training.json"


@dataclass(frozen=True)
class AgentSpec:
    """Agent as given on the command line: ``NAME``, ``NAME,option=value,…``, the path of a saved agent, or ``hf:`` and its repository.

    Attributes:
        name: a known agent, ``module:Class``, or the path as it was given.
        options: options of the agent.
        path: file of the saved agent; None for a new agent.
        label: name of the agent in reports and directories.
        tokens_before_run: completion tokens that its training spent.
    """

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    path: Path | None = None
    label: str = ""
    tokens_before_run: int = 0

    @classmethod
    def parse(cls, text: str, options: Mapping[str, Any] | None = None, label: str = "") -> AgentSpec:
        """Parse the text of a command line.

        Args:
            text: ``NAME``, ``NAME,option=value,…``, a path, or ``hf:ORGANISATION/NAME`` on the hub.
            options: further options.
            label: name in reports. Empty: the name with its options.

        Raises:
            ReadEnvError: an unknown name, a path without an agent, or an option without a value.

        >>> AgentSpec.parse("one-hot,capability=math").options
        {'capability': 'math'}
        """
        from read_env.agents import agent_names
        from read_env.errors import unknown

        name, *pairs = text.split(",")
        given: dict[str, Any] = {}
        for pair in pairs:
            key, equals, value = pair.partition("=")
            if not key.strip() or not equals:
                raise ReadEnvError(f"agent {text!r}: {pair!r} should read option=value")
            given[key.strip().replace("-", "_")] = scalar(value)
        given |= {key.replace("-", "_"): scalar(value) for key, value in (options or {}).items()}
        suffix = "".join(f",{key}={value}" for key, value in given.items() if key != "trust_remote_code")
        if name in agent_names() or (":" in name and not name.startswith(HUB)):
            return cls(name, given, label=label or _slug(name + suffix))
        if name.startswith(HUB):
            from read_env.running.hub import pull_agent

            path: Path | None = pull_agent(name.removeprefix(HUB))
        else:
            path = _saved_agent(Path(os.path.expanduser(name)))
        if path is None:
            known = unknown("agent", name, agent_names())
            raise ReadEnvError(f"{known}; or module:Class, or the path of a saved agent")
        record = _training_record(path)
        saved = record.get("label") or (path.parent.name if path.stem == "agent" else path.stem)
        return cls(name, given, path, label or _slug(saved + suffix), int(record.get("tokens_before_run", 0)))

    def configure(self, config: Config) -> Config:
        """Copy of ``config`` with this agent and its options."""
        return config.model_copy(update={"agent": self.name, "agent_options": dict(self.options)})


def scalar(text: Any) -> Any:
    """Boolean or number that a text stands for; any other text unchanged.

    >>> scalar("true"), scalar("0.5"), scalar("math")
    (True, 0.5, 'math')
    """
    if not isinstance(text, str):
        return text
    try:
        value = json.loads(text.strip().lower() if text.strip().lower() in ("true", "false") else text)
    except ValueError:
        return text
    return value if isinstance(value, bool | int | float) else text


class AgentDriver:
    """One agent inside one run or training: an agent that keeps its policy state, with a state for checkpoints.

    A custom class that learns but has no ``state_dict`` is restored by showing it again the transitions that it saw. That
    works if it is deterministic under its seed.

    Args:
        agent: the agent.
        label: its name in error messages.
    """

    def __init__(self, agent: Agent, label: str) -> None:
        self.agent = agent
        self._label = label
        self._policy_state: Any = None
        inner = getattr(agent, "inner", agent)  # of a custom agent
        #: False: restored by showing the agent again what it saw.
        self.has_state = hasattr(inner, "state_dict") and hasattr(inner, "load_state_dict")
        self._seen: list[tuple[Any, ...]] = []

    def attach(self, env: gym.Env[Any, Any]) -> None:
        """Give the agent the environment that it acts in."""
        self.agent.attach(env)

    def predict(
        self, observation: Observation, state: Any = None, episode_start: Any = None, deterministic: bool = True
    ) -> tuple[np.ndarray, Any]:
        """Action for an observation. The driver's own policy state is used in place of ``state``."""
        if episode_start is not None and episode_start[0]:
            self._policy_state = None
        action, self._policy_state = self.agent.predict(
            observation, state=self._policy_state, episode_start=episode_start, deterministic=deterministic
        )
        try:
            parse_action(action, len(observation["requirement"]), self.agent.stop_entry)
        except ReadEnvError as error:
            raise ReadEnvError(f"agent {self._label!r}: {error}") from None
        return np.asarray(action), self._policy_state

    def observe(self, *transition: Any) -> None:
        """Show the agent a finished step."""
        self.agent.observe(*transition)
        if not self.has_state:
            self._seen.append(transition)

    def scalars(self) -> dict[str, float]:
        """Metrics of the agent for TensorBoard."""
        return dict(self.agent.scalars())

    def state_dict(self) -> dict[str, Any]:
        """State of the agent, as tensors and plain values."""
        if not self.has_state:
            return {"seen": to_tensors(self._seen, f"what agent {self._label!r} saw")}
        state = {"agent": self.agent.state_dict(), "policy": self._policy_state}
        return to_tensors(state, f"the state of agent {self._label!r}")

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Restore a state.

        Raises:
            ReadEnvError: an agent without a state of its own acts otherwise than before.
        """
        value = from_tensors(dict(saved))
        if self.has_state:
            self.agent.load_state_dict(value["agent"])
            self._policy_state = value["policy"]
            return
        for index, (observation, action, *rest) in enumerate(value["seen"]):
            repeated, _ = self.predict(observation, episode_start=np.array([index == 0]))
            if not np.array_equal(repeated, action):
                raise ReadEnvError(
                    f"agent {self._label!r} has no state_dict/load_state_dict and, shown the same again, decides "
                    f"otherwise in step {index + 1}: its run can't be resumed; give it the two, or use --overwrite"
                )
            self.observe(observation, action, *rest)


def build_agent(spec: AgentSpec, suite: Suite, seed: int, may_stop: bool = False) -> Agent:
    """Make the agent; with ``may_stop`` its actions have a stop entry.

    Raises:
        ReadEnvError: an unknown or wrong option, or a saved agent that is damaged or of another suite.

    >>> from read_env.capabilities import get_suite
    >>> build_agent(AgentSpec.parse("one-hot,capability=math"), get_suite("micro"), seed=0).options
    {'floor': 0.0, 'stop_at': 1.0, 'capability': 'math'}
    """
    from read_env.agents import make_agent

    where = spec.path or spec.name
    return make_agent(where, capabilities=suite.names, options=spec.options, seed=seed, may_stop=may_stop)


def _saved_agent(path: Path) -> Path | None:
    """File of a saved agent; ``path`` may also be the directory of its training."""
    if path.is_file():
        return path
    inside = sorted(path.glob("agent.*")) if path.is_dir() else []
    return inside[0] if inside else None


def _training_record(agent: Path) -> dict[str, Any]:
    record = agent.with_name(TRAINING_RECORD)
    return files.read_json(record) if record.exists() else {}


def _slug(label: str) -> str:
    """Label as a folder name without ``__``, which separates agent, task and seed."""
    return re.sub(r"_{2,}", "_", re.sub(r"[^\w.,=+-]+", "-", label)).strip("-_")
