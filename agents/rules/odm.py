"""``odm``: online data mixing, a bandit on the training losses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from read_env.agents.observation import Array, View
from read_env.agents.rules.base import LiteratureRule, LiteratureSettings, reported, softmax, surprisal
from read_env.errors import ReadEnvError

# Divisor of the losses in the authors' release, so that rewards are below 1.
_SCALE = 10.0


class OdmSettings(LiteratureSettings):
    """Options: ``form`` is ``published`` or ``moving-average``; ``alpha`` and ``exploration`` are of the latter.

    ``alpha`` is the weight of the past in the average, ``exploration`` the share that every capability gets.
    """

    form: Literal["published", "moving-average"] = "published"
    alpha: float = Field(default=0.9, ge=0, lt=1)
    exploration: float = Field(default=0.03, ge=0)


class Odm(LiteratureRule):
    """Online data mixing: EXP3 with the training losses as rewards.

    After t steps w = (1 − K ε_t)·softmax(ε_{t−1} R̂) + ε_t, with ε_t = min(1/K, √(ln K/(K t))), ε_0 = 1/K and K = |C|.
    A step with allocation w adds ℓ_c/(10 w_c) to R̂_c for each capability that it trained. ℓ_c is
    ``loss_by_capability`` of the step; without it the probe surprisal before the step.

    As published, w is exactly uniform as long as t ≤ K ln K: for K = 8 until t = 16, for K = 10 until t = 23, which is
    all of a run of twenty steps. ``form="moving-average"`` has R̂_c ← α R̂_c + (1 − α) ℓ_c/w_c and a constant ε for
    exploration: w = (1 − K ε)·softmax(R̂) + ε. Both give every capability at least ε, needed or not; ℓ is
    weighted by ``objective``.

    Source: arXiv 2312.02406, Algorithm 1, and the authors' release (the divisor 10). Defaults: α .9, ε .03.

    Raises:
        ReadEnvError: |C| times ``exploration`` is above 1.

    Example:
        >>> obs = dict(requirement=[1, 0], profile=[0, 0], budget=[1], last_allocation=[0, 0], last_gain=[0, 0])
        >>> Odm(["math", "code"]).predict(obs)[0].tolist()
        [0.5, 0.5]
    """

    name = "odm"
    settings_type = OdmSettings
    episode_state: ClassVar[tuple[str, ...]] = ("_rewards", "_steps")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        s = self.settings
        if s.form == "moving-average" and self.size * s.exploration > 1 + 1e-9:
            raise ReadEnvError(
                f"agent {self.name!r}, option 'exploration' is {s.exploration}: "
                f"right would be at most 1/{self.size}, as all {self.size} capabilities get it"
            )

    def start_episode(self) -> None:
        self._rewards = np.zeros(self.size)
        self._steps = 0

    def shares(self, view: View) -> Array:
        if view.first:
            return np.full(self.size, 1.0 / self.size)
        if self.settings.form == "moving-average":
            floor, logits = min(self.settings.exploration, 1.0 / self.size), self._rewards
        else:
            floor, logits = self._epsilon(self._steps), self._epsilon(self._steps - 1) * self._rewards
        shares: Array = (1.0 - self.size * floor) * softmax(logits) + floor
        return shares

    def _epsilon(self, step: int) -> float:
        uniform = 1.0 / self.size
        return min(uniform, float(np.sqrt(np.log(self.size) / (self.size * step)))) if step > 0 else uniform

    def update(self, view: View, allocation: Array, after: View, info: Mapping[str, Any]) -> None:
        losses = reported(info, "loss_by_capability", self.size)
        if np.isnan(losses).all():
            losses = surprisal(view.profile)
        trained = ~np.isnan(losses) & (allocation > 0)
        found = np.where(trained, self.importance(view) * losses, 0.0) / np.where(trained, allocation, 1.0)
        if self.settings.form == "moving-average":
            alpha = self.settings.alpha
            self._rewards = np.where(trained, alpha * self._rewards + (1 - alpha) * found, self._rewards)
        else:
            self._rewards = self._rewards + found / _SCALE
        self._steps += 1
