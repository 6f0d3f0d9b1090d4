"""``lookahead``: a control that tries allocations in the environment before it decides."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import gymnasium as gym
import numpy as np
from pydantic import Field, model_validator

from read_env.agents.base import Agent, AgentSettings
from read_env.agents.observation import Array, View, to_simplex
from read_env.errors import ReadEnvError

# Share of the budget that a step may miss a decision by: completions are whole.
_ROUNDING = 0.01


class LookaheadSettings(AgentSettings):
    """Options.

    - ``decide_at``: shares of the budget after whose spending an allocation is chosen, ascending from 0; it is kept until the
      next decision.
    - ``mixed``: weight of the other capability in the allocations that mix it with the requirement.
    """

    decide_at: tuple[Annotated[float, Field(ge=0, lt=1)], ...] = (0.0, 0.2)
    mixed: float = Field(default=0.5, gt=0, le=1)

    @model_validator(mode="after")
    def _ascending(self) -> LookaheadSettings:
        if self.decide_at[:1] != (0.0,) or any(
            b <= a for a, b in zip(self.decide_at, self.decide_at[1:], strict=False)
        ):
            raise ValueError(f"decide_at is {self.decide_at}; right would be ascending shares that begin with 0")
        return self


class Lookahead(Agent):
    """Control that tries allocations for real, at each decision, and takes the best one.

    It tries w = r and r mixed with each single capability. A trial plays the allocation until the next decision, then w = r to
    the end of the budget, and the environment is restored. The allocation after which the utility is highest is kept. It shows
    what knowledge of the future is worth; it is no policy, because a user who spends a budget can't take the tokens back. They
    count in ``tokens_before_run``.

    It needs the environment that it acts in: runs, comparisons, benchmarks and ``learn`` attach it, a vector environment can't.

    Example:
        >>> view = View(np.array([0.6, 0.4]), np.zeros(2), 1.0, np.zeros(2), np.zeros(2))
        >>> Lookahead(["math", "code"]).tried(view).tolist()
        [[0.6, 0.4], [0.8, 0.2], [0.3, 0.7]]
    """

    name = "lookahead"
    settings_type = LookaheadSettings
    episode_state = ("_chosen", "_decisions")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._env: Any = None
        self._chosen = np.zeros(self.size)
        self._decisions = 0  # in this episode
        self._tokens = 0

    @property
    def tokens_before_run(self) -> int:
        """Completion tokens of all trials so far."""
        return self._tokens

    def attach(self, env: gym.Env[Any, Any]) -> None:
        """Give the environment in which allocations are tried.

        Args:
            env: environment whose unwrapped one has ``snapshot`` and ``restore``.

        Raises:
            ReadEnvError: an environment without the two.
        """
        inner = env.unwrapped
        if not (hasattr(inner, "snapshot") and hasattr(inner, "restore")):
            raise ReadEnvError(
                f"agent {self.name!r} tries allocations in the environment; {type(inner).__name__} has no snapshot and restore"
            )
        self._env = inner

    def allocate(self, view: View, deterministic: bool) -> Array:
        if self._env is None:
            raise ReadEnvError(
                f"agent {self.name!r} tries allocations in the environment: call attach(env) first; "
                "runs, comparisons and learn do, a vector environment can't"
            )
        if view.first:
            self._decisions = 0
        due = self.settings.decide_at[self._decisions :]
        if due and 1 - view.budget >= due[0] - _ROUNDING:
            self._decisions += 1
            self._chosen = self._best(view)
        return self._chosen

    def tried(self, view: View) -> Array:
        """Allocations that a decision tries, (n, |C|); overridden where others are known to be worth a trial."""
        part, requirement = self.settings.mixed, to_simplex(view.requirement)
        return np.vstack([requirement, (1 - part) * requirement + part * np.eye(self.size)])

    def _best(self, view: View) -> Array:
        """Allocation of the decision that is due, (|C|,)."""
        until = (*self.settings.decide_at, 1.0)[self._decisions]
        state = self._env.snapshot()
        rows, outcomes = self.tried(view), []
        for row in rows:
            try:
                outcomes.append(self._outcome(row, view.requirement, view.budget, until))
            finally:
                self._env.restore(state)
        return rows[int(np.argmax(outcomes))]

    def _outcome(self, allocation: Array, requirement: Array, left: float, until: float) -> float:
        """Utility at the end of the budget after this allocation until a share of it is spent, and then w = r."""
        ended = False
        while not ended:
            weights = allocation if 1 - left < until - _ROUNDING else requirement
            action = np.append(weights, [0.0] if self.stop_entry else []).astype(np.float32)
            observation, _, ended, _, info = self._env.step(action)
            self._tokens += int(info["completion_tokens"])
            left = float(observation["budget"][0])
        return float(info["utility"])

    def state_dict(self) -> dict[str, Any]:
        own = {"chosen": self._chosen, "decisions": self._decisions, "tokens": self._tokens}
        return {**super().state_dict(), **own}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self._chosen = np.array(state["chosen"], dtype=np.float64)
        self._decisions, self._tokens = int(state["decisions"]), int(state["tokens"])
