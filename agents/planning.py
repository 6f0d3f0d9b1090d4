"""Planning with a transfer model: return until the end of the budget if one allocation is kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from read_env.agents.observation import Array
from read_env.agents.transfer_model import Posterior, features, rates

UtilityForm = Literal["weighted_mean", "geometric_mean", "product"]


@dataclass(frozen=True)
class PlanningState:
    """State of an episode from which the rest is planned.

    Attributes:
        requirement, profile: r_τ and s_t, (|C|,).
        form: form of the task's utility.
        steps: number of steps that are left.
        chunks: length of a step in units of the model's ``chunk_tokens``.
        spillover_beta: weight of losses on needed capabilities, as in the reward.
        scale: factor of the utility, 1 unless its form is ``product``: the teacher's share of it is not observed.
    """

    requirement: Array
    profile: Array
    form: UtilityForm
    steps: int
    chunks: float
    spillover_beta: float
    scale: float = 1.0


def utility(form: UtilityForm, requirement: Array, profiles: Array, scale: float = 1.0) -> Array:
    """Utility U_τ of profiles (…, |C|): Σ r·s, exp(Σ r·log s), or ``scale`` times Π s over the needs, at most 1; s of
    the latter two is floored at 1e-6.

    >>> float(utility("weighted_mean", np.array([0.5, 0.5]), np.array([0.25, 0.75])))
    0.5
    """
    if form == "weighted_mean":
        return profiles @ requirement
    return np.minimum(1.0, scale * np.exp(np.log(np.maximum(profiles, 1e-6)) @ _exponents(form, requirement)))


def _exponents(form: UtilityForm, requirement: Array) -> Array:
    return requirement if form == "geometric_mean" else (requirement > 0).astype(np.float64)


def form_of(requirement: Array, profile: Array, info: Mapping[str, Any]) -> tuple[UtilityForm, float]:
    """Form of the task's utility and its scale, from the info of a step.

    A ``measured`` utility is no function of the profile; it is taken for the geometric mean of the needs, as in
    ``ReadEnv/Surrogate-v0``. An environment whose info lacks ``utility_form`` is one of the means or, if no mean has this value, a
    ``product``.

    Args:
        requirement: r_τ, (|C|,).
        profile: scores after the step, (|C|,).
        info: with ``utility`` and, in the environments of this package, ``utility_form``.

    >>> form_of(np.array([0.5, 0.5]), np.array([0.2, 0.8]), {"utility": 0.4})
    ('geometric_mean', 1.0)
    >>> form_of(np.array([0.5, 0.5]), np.array([0.2, 0.8]), {"utility": 0.32, "utility_form": "product"})
    ('product', 2.0)
    >>> form_of(np.array([0.5, 0.5]), np.array([0.2, 0.8]), {"utility": 0.32, "utility_form": "measured"})
    ('geometric_mean', 1.0)
    """
    measured, named = float(info["utility"]), info.get("utility_form")
    if named == "measured":
        return "geometric_mean", 1.0
    for form in MEANS:
        if form == named or (named is None and abs(float(utility(form, requirement, profile)) - measured) < _SAME):
            return form, 1.0
    product = float(utility("product", requirement, profile))
    return "product", round(measured / product, 6) if measured > 0 else 1.0


MEANS: tuple[UtilityForm, ...] = ("weighted_mean", "geometric_mean")
# Difference below which two utilities are the same: the profile is float32.
_SAME = 1e-5


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
    end, now = (utility(s.form, s.requirement, profiles, s.scale) for profiles in (profile, s.profile))
    x = features(allocations, room, held)
    variance = np.einsum("ncf,cfg,ncg->nc", x, posterior.covariance, x, optimize=True)
    slope = np.tile(s.requirement, (len(profile), 1))
    if s.form != "weighted_mean":
        slope = _exponents(s.form, s.requirement) / np.maximum(profile, 1e-2) * end[:, None]
    return end - now - s.spillover_beta * spilled, np.sqrt(np.maximum((slope**2 * variance).sum(axis=1), 0.0))
