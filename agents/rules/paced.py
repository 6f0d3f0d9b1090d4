"""``paced``: tokens where the student is neither unable nor able, by the success rate."""

from __future__ import annotations

import numpy as np
from pydantic import Field

from read_env.agents.observation import Array, View
from read_env.agents.rules.base import LiteratureRule, LiteratureSettings
from read_env.envs.catalogue import ROUNDING


class PacedSettings(LiteratureSettings):
    """Options: exponents of the score, ``alpha``, and of what is missing, ``beta``."""

    alpha: float = Field(default=1.0, ge=0)
    beta: float = Field(default=1.0, ge=0)


class Paced(LiteratureRule):
    """Allocation at the frontier of the student's ability, w ∝ r·s^α·(1 − s)^β, without r for the mean.

    The published rule weights single problems by the student's success rate on them; here the probe score s of a
    capability stands for it, and no loss is needed. α = 0 and β = 1 is water-filling.

    Degenerate cases: a capability with a score of 0 gets nothing as long as α > 0 and so can't leave 0 except by
    spillover; where every weight is 0 the rule is w = r, for the mean uniform.

    Source: arXiv 2603.11178. Defaults: α = β = 1.

    Example:
        >>> obs = dict(requirement=[0.5, 0.5], profile=[0.5, 0.1], budget=[1], last_allocation=[0, 0], last_gain=[0, 0])
        >>> print(Paced(["math", "code"]).predict(obs)[0].round(3))
        [0.735 0.265]
    """

    name = "paced"
    settings_type = PacedSettings

    def shares(self, view: View) -> Array:
        score = np.clip(view.profile, 0.0, 1.0)
        weights = self.prior(view) * score**self.settings.alpha * (1.0 - score) ** self.settings.beta
        return weights / weights.sum() if weights.sum() > ROUNDING else self.prior(view)
