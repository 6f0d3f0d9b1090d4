"""Planning with a transfer model: return until the end of the budget if one allocation is kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from read_env.agents.observation import Array
from read_env.agents.transfer_model import Posterior, features, rates

UtilityForm = Literal["weighted_mean", "geometric_mean"]


@dataclass(frozen=True)
class PlanningState:
    """State of an episode from which the rest is planned.

    Attributes:
        requirement, profile: r_τ and s_t, (|C|,).
        form: form of the task's utility.
        steps: number of steps that are left.
        chunks: length of a step in units of the model's ``chunk_tokens``.
        spillover_beta: weight of losses on needed capabilities, as in the reward.
    """

    requirement: Array
    profile: Array
    form: UtilityForm
    steps: int
    chunks: float
    spillover_beta: float


def utility(form: UtilityForm, requirement: Array, profiles: Array) -> Array:
    """Utility U_τ of profiles (…, |C|): Σ r·s, or exp(Σ r·log s) with s floored at 1e-6.

    >>> float(utility("weighted_mean", np.array([0.5, 0.5]), np.array([0.25, 0.75])))
    0.5
    """
    if form == "weighted_mean":
        return profiles @ requirement
    return np.exp(np.log(np.maximum(profiles, 1e-6)) @ requirement)


def infer_form(requirement: Array, profile: Array, measured: float) -> UtilityForm:
    """Form of utility whose value is nearest to a measured utility.

    >>> infer_form(np.array([0.5, 0.5]), np.array([0.2, 0.8]), measured=0.4)
    'geometric_mean'
    """
    errors = {form: abs(float(utility(form, requirement, profile)) - measured) for form in FORMS}
    return min(FORMS, key=errors.__getitem__)


FORMS: tuple[UtilityForm, ...] = ("weighted_mean", "geometric_mean")


def planned_return(allocations: Array, situation: PlanningState, posterior: Posterior) -> tuple[Array, Array]:
    """Return until the end of the budget for each kept allocation: posterior mean and s.d., both (n,).

    The expected profile is followed step by step and clipped to [0, 1]. The mean is the gain in utility minus β times the
    losses on the way; the s.d. is that of the gain, linearised around this path. The model's coefficients are the same at
    every step, so their errors add up over the steps.

    >>> from read_env.agents.transfer_model import TransferModel, TransferPrior
    >>> state = PlanningState(np.array([1.0, 0.0]), np.array([0.2, 0.2]), "weighted_mean", 5, 1.0, 0.5)
    >>> planned_return(np.eye(2), state, TransferModel(2, TransferPrior()).posterior())[0].round(2).tolist()
    [0.27, -0.04]
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
