"""``grid-searched``: search for the best fixed allocation, with whole episodes of each candidate."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np

from read_env.agents.base import Agent, AgentSettings
from read_env.agents.candidates import candidates
from read_env.agents.interaction import StepCallback, Transition
from read_env.agents.observation import Array, View, parse, to_simplex
from read_env.errors import ReadEnvError

# L1 distance below which two requirements are the same task: observations are float32.
_SAME_TASK = 1e-3


class GridSearchedSettings(AgentSettings):
    """Options: ``allocation`` is the result of an earlier search, |C| weights. None: ``learn`` searches."""

    allocation: tuple[float, ...] | None = None


class GridSearched(Agent):
    """Best fixed allocation in A(τ) on profiling episodes, the paper's baseline of this name.

    ``learn`` runs one whole episode per candidate, all under one seed and so on the same prompts, then starts over with the
    next seed. It makes exactly the steps that it is given; an unfinished episode doesn't count. Results are kept apart by
    requirement vector if the environment has several tasks. A comparison has to report the tokens of the search.

    Example:
        >>> obs = dict(requirement=[1, 0], profile=[0, 0], budget=[1], last_allocation=[0, 0], last_gain=[0, 0])
        >>> GridSearched(["math", "code"], options={"allocation": [3, 1]}).predict(obs)[0].tolist()
        [0.75, 0.25]
    """

    name = "grid-searched"
    settings_type = GridSearchedSettings

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        given = self.settings.allocation
        if given is not None and len(given) != self.size:
            raise ReadEnvError(
                f"agent {self.name!r}, option 'allocation' has {len(given)} weights; "
                f"right would be {self.size}: {', '.join(self.capabilities)}"
            )
        self._given = None if given is None else to_simplex(given)
        # One row a finished episode: requirement (|C|), allocation (|C|), round, total reward.
        self._results = np.empty((0, 2 * self.size + 2))
        self._round = 0
        self._first_seed: int | None = None  # of round 0
        self._next = 0  # index of the next candidate in this round

    def allocate(self, view: View, deterministic: bool) -> Array:
        return self._given if self._given is not None else self.best(view.requirement)[0]

    def check_task(self, requirement: Array) -> None:
        if self._given is None:
            self.best(requirement)

    def best(self, requirement: Array) -> tuple[Array, float]:
        """Best allocation found for a task, (|C|,), and its mean total reward.

        Raises:
            ReadEnvError: no episode with this requirement is finished.
        """
        known = np.abs(self._results[:, : self.size] - requirement).sum(axis=1) < _SAME_TASK
        if not known.any():
            raise ReadEnvError(
                f"agent {self.name!r} has no allocation for this task yet: call learn on profiling episodes, "
                f"or give the option 'allocation' ({self.size} weights)"
            )
        rows = self._results[known]
        # Means over different seeds can't be compared: once a round is whole, only whole rounds count.
        whole = rows[rows[:, -2] < self._round]
        rows = whole if len(whole) else rows
        tried, which = np.unique(rows[:, self.size : -2], axis=0, return_inverse=True)
        which = which.reshape(-1)
        means = np.bincount(which, rows[:, -1]) / np.bincount(which)
        winner = int(np.argmax(means))
        return to_simplex(tried[winner]), float(means[winner])

    def _learn(self, env: gym.Env[Any, Any], total_steps: int, callback: StepCallback, seed: int | None) -> None:
        # Round n runs its episodes under ``seed`` + n, the agent's own seed without one. A second call continues under the
        # first one's seed, with the episode that was unfinished.
        if self._first_seed is None:
            self._first_seed = self.seed if seed is None else seed
        played = 0
        while played < total_steps:
            observation, _ = env.reset(seed=self._first_seed + self._round)
            view = parse(observation, self.size)[0][0]
            tries = self._tries(view)
            action = np.append(tries[self._next], [0.0] if self.stop_entry else []).astype(np.float32)
            total, over = 0.0, False
            while not over and played < total_steps:
                following, reward, terminated, truncated, info = env.step(action)
                played, total, over = played + 1, total + float(reward), bool(terminated or truncated)
                if over:  # recorded before the callback, which may save the agent
                    row = np.concatenate([view.requirement, tries[self._next], [self._round, total]])
                    self._results = np.vstack([self._results, row])
                    self._round, self._next = divmod(self._round * len(tries) + self._next + 1, len(tries))
                ends = (bool(terminated), bool(truncated))
                if callback(Transition(played, observation, action, float(reward), following, *ends, info)) is False:
                    return
                observation = following

    def _tries(self, view: View) -> Array:
        """Allocations of a round, (n, |C|): task-static, which the others perturb, then A(τ), without duplicates."""
        rows = np.vstack([to_simplex(view.requirement), candidates(view)])
        _, first = np.unique(rows.round(9), axis=0, return_index=True)
        return rows[np.sort(first)]

    def state_dict(self) -> dict[str, Any]:
        own = {"results": self._results, "round": self._round, "next": self._next, "first_seed": self._first_seed}
        return {**super().state_dict(), **own}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self._results = np.array(state["results"], dtype=np.float64).reshape(-1, 2 * self.size + 2)
        self._round, self._next = int(state["round"]), int(state["next"])
        self._first_seed = None if state["first_seed"] is None else int(state["first_seed"])
