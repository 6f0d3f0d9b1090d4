"""Looking ahead with a transfer model: where would keeping to one allocation end?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from read_env.agents.observation import Array
from read_env.agents.transfer_model import Posterior, features, rates

UtilityForm = Literal["weighted_mean", "geometric_mean"]


@dataclass(frozen=True)
class Situation:
    """What is to be planned.

    Attributes:
        requirement, profile: r_τ and s_t, (|C|,).
        form: how the task sums up a profile.
        steps: decisions that the budget is still good for.
        chunks: length of each, in the model's chunks.
        spillover_beta: weight of losses on needed capabilities, as in the reward.
    """

    requirement: Array
    profile: Array
    form: UtilityForm
    steps: int
    chunks: float
    spillover_beta: float


def utility(form: UtilityForm, requirement: Array, profiles: Array) -> Array:
    """U_τ of profiles (…, |C|): Σ r·s, or exp(Σ r·log s) with s floored at 1e-6."""
    if form == "weighted_mean":
        return profiles @ requirement
    return np.exp(np.log(np.maximum(profiles, 1e-6)) @ requirement)


def recognise(requirement: Array, profile: Array, measured: float) -> UtilityForm:
    """The form of utility that explains a measured utility best."""
    errors = {form: abs(float(utility(form, requirement, profile)) - measured) for form in FORMS}
    return min(FORMS, key=errors.__getitem__)


FORMS: tuple[UtilityForm, ...] = ("weighted_mean", "geometric_mean")


def outlook(allocations: Array, situation: Situation, posterior: Posterior) -> tuple[Array, Array]:
    """Return until the budget's end if each allocation were kept: posterior mean and s.d., both (n,).

    The mean follows the expected profile step by step, kept in [0, 1]; it is the utility gained
    minus β times the losses on the way. The s.d. is that of the gain, linearised around this path.
    The model's coefficients are the same at every step, so their errors add up and don't average out.
    """
    s = situation
    gains, losses = rates(allocations, posterior.mean)
    profile = np.tile(s.profile, (len(allocations), 1))
    room, held, spilled = np.zeros_like(profile), np.zeros_like(profile), np.zeros(len(profile))
    for _ in range(s.steps):
        room += s.chunks * (1 - profile)
        held += s.chunks * profile
        following = np.clip(profile + s.chunks * ((1 - profile) * gains + profile * losses), 0.0, 1.0)
        spilled += np.maximum(profile - following, 0.0) @ s.requirement
        profile = following
    mean = utility(s.form, s.requirement, profile) - utility(s.form, s.requirement, s.profile)
    x = features(allocations, room, held)
    variance = np.einsum("ncf,cfg,ncg->nc", x, posterior.covariance, x, optimize=True)
    slope = np.tile(s.requirement, (len(profile), 1))
    if s.form == "geometric_mean":
        slope = slope / np.maximum(profile, 1e-2) * utility(s.form, s.requirement, profile)[:, None]
    return mean - s.spillover_beta * spilled, np.sqrt(np.maximum((slope**2 * variance).sum(axis=1), 0.0))
