"""``read-bandit-published``: the contextual bandit of ReAD (arXiv 2605.11290) with its published settings.

At each step an ensemble predicts mean μ and spread σ of the reward of every candidate in A(τ), and the agent takes
argmax μ + κσ. Sources of the settings:

- from the authors' release: J = 5 two-layer MLPs with 64 hidden units, Adam 1e-3, 200 updates
  per refit, 5 random warm-up steps, sparse candidates of support 2 on the grid {.25, .5, .75} over
  the top 3 needs (at most 50);
- from the paper: bootstrap resamples, κ = 1 with the sample standard deviation, perturbations of
  the previous allocation among the candidates, κ × 0.7 when the dev utility stagnates;
- chosen here, as the sources leave them open: sizes of the perturbations (.1 and .25), the depth of ρ_t (the last
  step's allocation and gain), new initial weights at each refit, the remaining budget as a share (raw tokens in the
  release). The 10 % profiling split is not used, since it would hold out two of 20 observations.

``read-bandit`` (``read_env.agents.transfer_bandit``) is this project's own model.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from pydantic import Field

from read_env.agents.bandit import Bandit, BanditSettings
from read_env.agents.ensemble import EnsembleConfig, FittedEnsemble, fit
from read_env.agents.observation import Array, View


class PublishedSettings(BanditSettings):
    """Options with the published values as defaults; ``greedy`` has κ = 0."""

    members: int = Field(default=5, ge=2)
    hidden: int = Field(default=64, ge=1)
    learning_rate: float = Field(default=1e-3, gt=0)
    updates: int = Field(default=200, ge=1)
    warmup: int = Field(default=5, ge=1)
    memory: int = Field(default=200, ge=2, description="most recent observations that a refit uses")


class PublishedBandit(Bandit):
    """Published contextual bandit: ensemble of small networks; UCB on the predicted reward of A(τ).

    In a run it learns from the steps of that run alone, as published. ``learn`` over several episodes keeps their last
    ``memory`` observations, which also end the warm-up. The model is a function of the observations and the seed, so the
    history is the whole state.

    Example:
        >>> from read_env.agents import make_agent
        >>> [make_agent(name, capabilities=["math"]).settings.kappa for name in ("read-bandit-published", "greedy")]
        [1.0, 0.0]
    """

    name = "read-bandit-published"
    settings_type = PublishedSettings

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        s = self.settings
        self.ensemble = EnsembleConfig(s.members, s.hidden, s.learning_rate, s.updates)
        self._inputs = np.empty((0, 5 * self.size + 1))  # context and allocation
        self._rewards = np.empty(0)
        self._observed = 0
        self._model: FittedEnsemble | None = None

    def score(self, view: View, rows: Array) -> tuple[Array, Array]:
        """Mean μ and spread σ of the next reward for each candidate, both (n,).

        The ensemble is refitted first if a step was observed since the last fit.
        """
        if self._model is None:
            rng = np.random.default_rng([self.seed, self._observed])
            self._model = fit(self._inputs, self._rewards, self.ensemble, rng)
        context = np.tile(view.vector(), (len(rows), 1))
        return self._model.predict(np.hstack([context, rows]))

    def allocate(self, view: View, deterministic: bool) -> Array:
        rows = self.candidates(view)
        if self._observed < self.settings.warmup:
            return rows[self.rng.integers(len(rows))]
        mean, uncertainty = self.score(view, rows)
        choice = int(np.argmax(mean + self.kappa(view) * uncertainty))
        self._last = float(mean[choice]), float(uncertainty[choice])
        return rows[choice]

    def update(self, view: View, allocation: Array, reward: float, after: View, info: Mapping[str, Any]) -> None:
        row = np.concatenate([view.vector(), allocation])
        self._inputs = np.vstack([self._inputs, row])[-self.settings.memory :]
        self._rewards = np.append(self._rewards, reward)[-self.settings.memory :]
        self._observed += 1
        self._model = None

    def state_dict(self) -> dict[str, Any]:
        own = {"inputs": self._inputs, "rewards": self._rewards, "observed": self._observed}
        return {**super().state_dict(), **own}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self._inputs = np.array(state["inputs"], dtype=np.float64)
        self._rewards = np.array(state["rewards"], dtype=np.float64)
        self._observed = int(state["observed"])
        self._model = None
