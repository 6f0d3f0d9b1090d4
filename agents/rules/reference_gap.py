"""``reference-gap``: multiplicative weights on the excess over a reference, as in DoReMi and Sheared LLaMA."""

from __future__ import annotations

import numpy as np
from pydantic import Field

from read_env.agents.observation import Array, View, to_simplex
from read_env.agents.rules.base import ReferenceRule, ReferenceSettings, softmax


class ReferenceGapSettings(ReferenceSettings):
    """Options: step size ``eta``, ``smoothing`` towards uniform, and ``clip`` of negative excesses at 0 (DoReMi)."""

    eta: float = Field(default=1.0, ge=0)
    smoothing: float = Field(default=1e-4, ge=0, le=1)
    clip: bool = True


class ReferenceGap(ReferenceRule):
    """Multiplicative weights on the excess over the teacher: more tokens where the student is further behind it.

    w_{t+1} = (1 − c)·softmax(log w_t + η g) + c/|C|, where g = ℓ − ℓ_ref is the excess, clipped at 0 with ``clip`` and
    weighted by ``objective``. w_t is the allocation of the step before; the first allocation is r, for the mean the
    uniform one.

    ℓ − ℓ_ref is ``divergence_by_capability``; where no step reported one, the excess of the probe surprisal
    (:class:`~read_env.agents.rules.base.ReferenceRule`). ``loss="probe"`` takes the latter throughout, and updates the
    first allocation with the probes of the start.

    Degenerate cases: the exponents add up over the steps, so a capability whose gap to the teacher never closes takes
    nearly all tokens within a dozen steps. Where r_c = 0 the weight is c/|C|. If the teacher's probe scores
    (``reference``) are not given, the probe surprisal compares with a perfect teacher.

    Source: DoReMi, arXiv 2305.10429 (clips), and Sheared LLaMA, arXiv 2310.06694 (``clip=False``). Defaults: η 1, c
    1e-4.

    Example:
        >>> obs = dict(requirement=[0.5, 0.5], profile=[0.8, 0.2], budget=[1], last_allocation=[0, 0], last_gain=[0, 0])
        >>> print(ReferenceGap(["math", "code"], options={"loss": "probe"}).predict(obs)[0].round(3))
        [0.2 0.8]
    """

    name = "reference-gap"
    settings_type = ReferenceGapSettings

    def shares(self, view: View) -> Array:
        s = self.settings
        if view.first and s.loss == "divergence":
            # A probe excess is several times a divergence, and the weights would carry it through the episode.
            return self.prior(view)
        excess = self.excess(view)
        gap = self.importance(view) * (np.maximum(excess, 0.0) if s.clip else excess)
        start = self.prior(view) if view.first else to_simplex(view.last_allocation)
        with np.errstate(divide="ignore"):  # no weight stays none
            weights = softmax(np.log(start) + s.eta * gap)
        shares: Array = (1.0 - s.smoothing) * weights + s.smoothing / self.size
        return shares
