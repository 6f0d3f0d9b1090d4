"""``olmix``: the minimum of a data mixing law that is fitted on recorded runs."""

from __future__ import annotations

import numpy as np
from pydantic import Field

from read_env.agents.observation import Array, View
from read_env.agents.rules.base import LiteratureSettings
from read_env.agents.rules.recorded import RecordedRule, RecordedRun
from read_env.errors import ReadEnvError

#: Shares of the smallest loss that a start of the fit takes as the constant of the law.
_STARTS = (0.02, 0.25, 0.5, 0.75, 0.98)
#: Range of c, the logarithm of the constant, and of the entries of t.
_BOUNDS = ((-12.0, 3.0), (-20.0, 20.0))


class OlmixSettings(LiteratureSettings):
    """Options: ``runs`` is the directory of a comparison with runs of several allocations.

    ``delta`` is the threshold of the Huber loss of the fit, ``penalty`` the weight λ of the divergence from the needs.
    """

    runs: str = ""
    delta: float = Field(default=0.02, gt=0)
    penalty: float = Field(default=0.05, gt=0)


class Olmix(RecordedRule):
    """Olmix: one allocation for the whole run, the minimum of Σ_j r_j exp(t_j·w) + λ KL(w ‖ r).

    The data mixing law ℓ_j(w) = e^{c_j} + exp(t_j·w) is fitted to the losses at the end of the recorded runs by a Huber
    loss and L-BFGS from several starts; w is a run's mean allocation, ℓ the probe surprisal. For the mean both r are
    uniform. The tokens of the recorded runs count as spent before the run.

    Degenerate cases: the allocation is constant. It is 0 wherever r is, so that a capability that only helps others
    gets nothing (``objective="mean"`` gives it tokens). The law is of the budget, the starting student and the tasks of
    the recorded runs, and has |C| + 1 parameters for each capability: with few runs, or runs of like allocations, it is
    whatever the starts make of it.

    Source: Olmix, arXiv 2602.12237, with the law of arXiv 2403.16952. Defaults: δ .02, λ .05.

    Example:
        >>> agent = Olmix(["math", "code"])
        >>> agent.load_state_dict({**agent.state_dict(), "fitted": {"slopes": np.array([[-2.0, 0.0], [0.0, -2.0]])}})
        >>> obs = dict(requirement=[0.5, 0.5], profile=[0, 0], budget=[1], last_allocation=[0, 0], last_gain=[0, 0])
        >>> print(agent.predict(obs)[0].round(3))
        [0.5 0.5]
    """

    name = "olmix"
    settings_type = OlmixSettings
    wanted = "the directory of a comparison of this suite, with more runs than capabilities"

    def fit(self, runs: list[RecordedRun]) -> dict[str, Array]:
        if len(runs) <= self.size:
            raise ReadEnvError(f"it has {len(runs)} finished runs, not more than the {self.size} capabilities")
        mixtures = np.array([run.allocation for run in runs])
        ends = np.array([run.losses[1] for run in runs])
        return {"slopes": np.array([fit_law(mixtures, losses, self.settings.delta)[1] for losses in ends.T])}

    def shares(self, view: View) -> Array:
        prior = self.prior(view)
        return best_mixture(self.fitted()["slopes"], prior, self.settings.penalty)


def fit_law(mixtures: Array, losses: Array, delta: float) -> tuple[float, Array]:
    """Constant c and slopes t of ℓ(w) = e^c + exp(t·w), by the smallest sum of Huber losses.

    Args:
        mixtures: allocations w, (n, |C|) on the simplex.
        losses: ℓ, (n,), in nats.
        delta: error from which the Huber loss is linear, in nats.

    Returns:
        c, and t of shape (|C|,).
    """
    from scipy.optimize import minimize

    def objective(parameters: Array) -> tuple[float, Array]:
        constant, slopes = np.exp(parameters[0]), np.exp(mixtures @ parameters[1:])
        error = constant + slopes - losses
        bent = np.clip(error, -delta, delta)
        value = float((bent * (error - 0.5 * bent)).sum())
        return value, np.concatenate([[constant * bent.sum()], (bent * slopes) @ mixtures])

    lowest = max(float(losses.min()), 1e-4)
    bounds = [_BOUNDS[0], *[_BOUNDS[1]] * mixtures.shape[1]]
    fits = []
    for share in _STARTS:
        rest = np.log(np.maximum(losses - share * lowest, 1e-4))
        slopes = np.linalg.lstsq(mixtures, rest, rcond=None)[0]
        start = np.clip([np.log(share * lowest), *slopes], *np.transpose(bounds))
        fits.append(minimize(objective, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 2000}))
    best = min(fits, key=lambda fit: float(fit.fun))
    return float(best.x[0]), np.asarray(best.x[1:], dtype=np.float64)


def best_mixture(slopes: Array, needs: Array, penalty: float) -> Array:
    """Minimum of Σ_j r_j exp(t_j·w) + λ KL(w ‖ r), (|C|,) on the simplex.

    Args:
        slopes: t, (|C|, |C|), a row for each loss.
        needs: r, (|C|,) on the simplex; w is 0 where r is.
        penalty: λ.
    """
    from scipy.optimize import minimize

    inside = needs > 0
    weights, laws = needs[inside], slopes[np.ix_(inside, inside)]

    # The objective is convex in w; w = softmax(log r + z) keeps it on the simplex and adds no local minimum.
    def objective(z: Array) -> tuple[float, Array]:
        relative = z - z.max()
        relative = relative - np.log(weights @ np.exp(relative))  # log(w/r)
        mixture = weights * np.exp(relative)
        falls = weights * np.exp(laws @ mixture)
        slope = falls @ laws + penalty * relative
        return float(falls.sum() + penalty * mixture @ relative), mixture * (slope - mixture @ slope)

    found = minimize(
        objective, np.zeros(len(weights)), jac=True, method="L-BFGS-B", options={"gtol": 1e-10, "ftol": 1e-15}
    )
    shares = np.zeros(len(needs))
    raised = weights * np.exp(found.x - found.x.max())
    shares[inside] = raised / raised.sum()
    return shares
