"""The agent of a run: how it is named on the command line, and how it is driven and checkpointed."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from read_env import files
from read_env.errors import ReadEnvError
from read_env.running.tensors import from_tensors, to_tensors

if TYPE_CHECKING:
    from read_env.agents import Agent
    from read_env.agents.observation import Observation
    from read_env.capabilities.base import Suite

#: Beside a saved agent: what its training cost, and on what.
TRAINING_RECORD = "training.json"


@dataclass(frozen=True)
class AgentSpec:
    """An agent as asked for: ``NAME``, ``NAME,option=value,…`` or the path of a saved agent.

    Attributes:
        name: a known agent, ``module:Class``, or the path as it was given.
        options: of the agent.
        path: the saved agent's file or folder; None for an agent that starts from nothing.
        label: what reports and directories call it.
        tokens_before_run: completion tokens that its training had spent.
    """

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    path: Path | None = None
    label: str = ""
    tokens_before_run: int = 0

    @classmethod
    def parse(cls, text: str, options: Mapping[str, Any] | None = None) -> AgentSpec:
        """The agent that ``text`` asks for, with further ``options``.

        Raises:
            ReadEnvError: an unknown name (the known ones are listed), a path without an agent, an
                option without a value.
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
        label = _slug(",".join([name, *(f"{key}={value}" for key, value in given.items())]))
        if name in agent_names() or ":" in name:
            return cls(name, given, label=label)
        path = _saved_agent(Path(name).expanduser())
        if path is None:
            known = unknown("agent", name, agent_names())
            raise ReadEnvError(f"{known}; or module:Class, or the path of a saved agent")
        record = _training_record(path)
        label = record.get("label") or (path.parent.name if path.stem == "agent" else path.stem)
        label = _slug(",".join([label, *(f"{key}={value}" for key, value in given.items())]))
        return cls(name, given, path, label, int(record.get("tokens_before_run", 0)))


def scalar(text: Any) -> Any:
    """``true``, ``0.5`` and ``3`` as what they mean; any other text as it stands."""
    if not isinstance(text, str):
        return text
    try:
        value = json.loads(text.strip().lower() if text.strip().lower() in ("true", "false") else text)
    except ValueError:
        return text
    return value if isinstance(value, bool | int | float) else text


class AgentDriver:
    """One agent inside one run.

    Its state goes into the checkpoint. Somebody's class that learns but has no ``state_dict`` is
    brought back by showing it again what it saw, which works if it is deterministic under its seed.
    """

    def __init__(self, agent: Agent, label: str) -> None:
        self.agent = agent
        self._label = label
        self._policy_state: Any = None
        inner = getattr(agent, "inner", agent)  # of a custom agent
        self._has_state = hasattr(inner, "state_dict") and hasattr(inner, "load_state_dict")
        self._seen: list[tuple[Any, ...]] = []

    def predict(self, observation: Observation, *, first: bool, deterministic: bool = True) -> np.ndarray:
        """The action for ``observation``; ``first`` starts an episode."""
        if first:
            self._policy_state = None
        action, self._policy_state = self.agent.predict(
            observation, state=self._policy_state, episode_start=np.array([first]), deterministic=deterministic
        )
        return np.asarray(action)

    def observe(self, *transition: Any) -> None:
        """Shows the agent what came of its action."""
        self.agent.observe(*transition)
        if not self._has_state:
            self._seen.append(transition)

    def scalars(self) -> dict[str, float]:
        """What the agent offers for TensorBoard."""
        return dict(self.agent.scalars())

    def snapshot(self) -> dict[str, Any]:
        """The agent's state, for the checkpoint."""
        if not self._has_state:
            return {"seen": to_tensors(self._seen, f"what agent {self._label!r} saw")}
        state = {"agent": self.agent.state_dict(), "policy": self._policy_state}
        return to_tensors(state, f"the state of agent {self._label!r}")

    def restore(self, saved: Mapping[str, Any]) -> None:
        """Goes back to a snapshot.

        Raises:
            ReadEnvError: if an agent without a state of its own decides otherwise than before.
        """
        value = from_tensors(dict(saved))
        if self._has_state:
            self.agent.load_state_dict(value["agent"])
            self._policy_state = value["policy"]
            return
        for index, (observation, action, *rest) in enumerate(value["seen"]):
            if not np.array_equal(self.predict(observation, first=index == 0), action):
                raise ReadEnvError(
                    f"agent {self._label!r} has no state_dict/load_state_dict and, shown the same again, decides "
                    f"otherwise in step {index + 1}: its run can't be resumed; give it the two, or use --overwrite"
                )
            self.observe(observation, action, *rest)


def build_agent(spec: AgentSpec, suite: Suite, seed: int) -> Agent:
    """The agent itself.

    Raises:
        ReadEnvError: an unknown or wrong option, or a saved agent that is damaged or of another suite.
    """
    from read_env.agents import make_agent

    return make_agent(spec.path or spec.name, capabilities=suite.names, options=spec.options, seed=seed)


def _saved_agent(path: Path) -> Path | None:
    """A saved agent's file; ``path`` may also be the directory of the training that made it."""
    if path.is_file():
        return path
    inside = sorted(path.glob("agent.*")) if path.is_dir() else []
    return inside[0] if inside else None


def _training_record(agent: Path) -> dict[str, Any]:
    record = agent.with_name(TRAINING_RECORD)
    return files.read_json(record) if record.exists() else {}


def _slug(label: str) -> str:
    """A label that can be a folder's name and keeps clear of the ``__`` between its parts."""
    return re.sub(r"_{2,}", "_", re.sub(r"[^\w.,=+-]+", "-", label)).strip("-_")
