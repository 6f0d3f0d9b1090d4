"""``learning-progress``: the teacher–student curriculum, a bandit on the changes of the scores."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from read_env.agents.observation import Array, View
from read_env.agents.rules.base import LiteratureRule, LiteratureSettings, softmax


class LearningProgressSettings(LiteratureSettings):
    """Options: ``alpha`` is the rate of Q, ``epsilon`` of the greedy policy, ``temperature`` of the Boltzmann policy.

    ``absolute`` takes |Q|, which returns to what is being forgotten.
    """

    policy: Literal["epsilon-greedy", "boltzmann"] = "epsilon-greedy"
    alpha: float = Field(default=0.1, gt=0, le=1)
    epsilon: float = Field(default=0.1, ge=0, le=1)
    temperature: float = Field(default=0.01, gt=0)
    absolute: bool = True


class LearningProgress(LiteratureRule):
    """Teacher–student curriculum: tokens where the score changes fastest.

    After each step Q_c ← Q_c + α(Δs_c − Q_c), from Q = 0. With x = m·r ⊙ |Q| (for the mean: |Q|), the ε-greedy policy
    allocates 1 − ε to the capability with the largest x and ε evenly, the Boltzmann policy w ∝ exp(x/temperature).
    Capabilities with equal largest x share, where the release draws one. The scores are those of the probes: no loss is
    needed. With ``objective="requirement"`` only the capabilities with r_c > 0 take part.

    Degenerate cases: with Q = 0 the first allocation is uniform over those that take part. Every capability is probed
    in every step whether it was trained or not, so a change that comes from another one's tokens counts as progress,
    and Δs of a few dozen probes is mostly noise, which α = .1 averages over half a run.

    Source: arXiv 1707.00183 (online algorithm, on |Q|) and its release (α, ε). Defaults: α .1, ε .1; the temperature is
    ours.

    Example:
        >>> obs = dict(requirement=[0.5, 0.5], profile=[0, 0], budget=[1], last_allocation=[0, 0], last_gain=[0, 0])
        >>> LearningProgress(["math", "code"]).predict(obs)[0].tolist()
        [0.5, 0.5]
    """

    name = "learning-progress"
    settings_type = LearningProgressSettings
    episode_state: ClassVar[tuple[str, ...]] = ("_progress",)

    def start_episode(self) -> None:
        self._progress = np.zeros(self.size)

    def shares(self, view: View) -> Array:
        progress = np.zeros(self.size) if view.first else self._progress
        importance = self.importance(view)
        takes_part = importance > 0
        values = importance * (np.abs(progress) if self.settings.absolute else progress)
        values = np.where(takes_part, values, -np.inf)
        if self.settings.policy == "boltzmann":
            return softmax(values / self.settings.temperature)
        best = values == values.max()
        epsilon = self.settings.epsilon
        shares: Array = (1 - epsilon) * best / best.sum() + epsilon * takes_part / takes_part.sum()
        return shares

    def update(self, view: View, allocation: Array, after: View, info: Mapping[str, Any]) -> None:
        self._progress = self._progress + self.settings.alpha * (after.profile - view.profile - self._progress)
