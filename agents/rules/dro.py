"""``dro``: the worst case in a χ²-ball around the task's needs, as in DRPruning."""

from __future__ import annotations

import numpy as np
from pydantic import Field

from read_env.agents.observation import Array, View
from read_env.agents.rules.base import ReferenceRule, ReferenceSettings

# Halvings of the interval of λ, beyond the precision of float64.
_HALVINGS = 100


class DroSettings(ReferenceSettings):
    """Options: ``rho`` is the radius of the ball, ``least`` the smallest ratio q_c/p_c."""

    rho: float = Field(default=0.05, gt=0)
    least: float = Field(default=0.2, ge=0, le=1)


class Dro(ReferenceRule):
    """Distributionally robust allocation: the worst mixture in a χ²-ball around p = r, for the mean around uniform.

    q ∝ p·max(g − λ, 0) with g = ℓ − ℓ_ref, then q_c/p_c at least ``least``, and normalised again; λ is found by
    bisection so that ½ Σ p_c(q_c/p_c − 1)² = ρ. The release also raises q to the smallest p_c, which is left out here.

    ℓ − ℓ_ref is ``divergence_by_capability``; where no step reported one, the excess of the probe surprisal
    (:class:`~read_env.agents.rules.base.ReferenceRule`). ``loss="probe"`` takes the latter throughout.

    Degenerate cases: with equal g the rule is w = p. It never leaves the support of p. Where even a corner lies in the
    ball (a need that is most of p is near its corner), q is that corner, up to ``least``. Only differences of g matter,
    not their size: noise alone moves q to the border of the ball.

    Source: DRPruning, arXiv 2411.14055, and its release. Defaults: ρ .05, least .2.

    Example:
        >>> obs = dict(requirement=[0.5, 0.5], profile=[0.8, 0.2], budget=[1], last_allocation=[0, 0], last_gain=[0, 0])
        >>> print(Dro(["math", "code"], options={"rho": 0.02}).predict(obs)[0].round(3))
        [0.4 0.6]
    """

    name = "dro"
    settings_type = DroSettings

    def shares(self, view: View) -> Array:
        center, excess = self.prior(view), self.excess(view)
        inside = center > 0
        shares = np.zeros(self.size)
        shares[inside] = worst_case(center[inside], excess[inside], self.settings.rho, self.settings.least)
        return shares


def worst_case(center: Array, excess: Array, rho: float, least: float) -> Array:
    """Mixture q of :class:`Dro`, (n,) on the simplex.

    Args:
        center: p, (n,) on the simplex, positive.
        excess: g, (n,), in nats.
        rho: radius ρ of the ball, ½ Σ p(q/p − 1)².
        least: smallest ratio q/p.
    """
    # Only differences matter; λ is counted downwards from the largest excess.
    below = excess.max() - excess
    if below.max() < 1e-9:
        return center

    def mixture(distance: float) -> Array:
        slack = np.maximum(distance - below, 0.0) if distance > 0 else (below == 0).astype(np.float64)
        ratio: Array = np.maximum(slack / (center @ slack), least)
        return center * ratio / (center @ ratio)

    def radius(shares: Array) -> float:
        return float(0.5 * (center @ (shares / center - 1.0) ** 2))

    near, far = 0.0, float(below.max())
    if radius(mixture(near)) <= rho:
        return mixture(near)
    while radius(mixture(far)) > rho:
        near, far = far, 2 * far
    for _ in range(_HALVINGS):
        middle = 0.5 * (near + far)
        near, far = (middle, far) if radius(mixture(middle)) > rho else (near, middle)
    return mixture(far)
