"""``regmix``: the best of many random mixtures by a regression on recorded runs."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import Any, Literal

import numpy as np
from pydantic import Field

from read_env.agents.observation import Array, View
from read_env.agents.rules.base import LiteratureSettings
from read_env.agents.rules.recorded import RecordedRule, RecordedRun
from read_env.errors import ReadEnvError


class RegmixSettings(LiteratureSettings):
    """Options: ``runs`` is the directory of a comparison with runs of several allocations.

    ``regressor`` is a ``quadratic`` surface with the penalty ``ridge``, or the boosted trees of ``lightgbm``. Of
    ``draws`` mixtures, the allocation is the mean of the ``best``.
    """

    runs: str = ""
    regressor: Literal["quadratic", "lightgbm"] = "quadratic"
    ridge: float = Field(default=1e-3, gt=0)
    draws: int = Field(default=100_000, ge=1)
    best: int = Field(default=128, ge=1)


class Regmix(RecordedRule):
    """RegMix: one allocation for the whole run, the mean of the best mixtures by a regression on recorded runs.

    A regression for each capability maps a run's mean allocation to its loss at the end, the probe surprisal. Of
    ``draws`` mixtures from Dirichlet(1, …, 1), drawn by the agent's seed, those with the smallest predicted Σ_j r_j ℓ_j
    are averaged, for the mean with equal weights. The surface is Σ_i b_i w_i + Σ_{i<j} b_ij w_i w_j by least squares,
    with a penalty on b_ij; LightGBM has 1000 trees at the rate .01, as published. The tokens of the recorded runs count
    as spent before the run.

    Degenerate cases: the allocation is constant, and of the budget and starting student of the recorded runs. Over 8
    capabilities, the best 128 draws have about 2/3 on one of them at most, so that a task with one need can't get it
    all. LightGBM splits no leaf of fewer than 40 runs (20 on each side): with fewer, all predictions are equal and w is
    about uniform.

    Source: arXiv 2407.01492 and its release. Defaults: 100,000 draws, the best 128.

    Raises:
        ReadEnvError: ``best`` is above ``draws``, or LightGBM is asked for and not installed.

    Example:
        >>> agent = Regmix(["math", "code"], options={"draws": 1000, "best": 10})
        >>> runs = {"mixtures": np.array([[1.0, 0.0], [0.0, 1.0]]), "losses": np.array([[0.5, 1.0], [1.0, 1.0]])}
        >>> agent.load_state_dict({**agent.state_dict(), "fitted": runs})
        >>> obs = dict(requirement=[1, 0], profile=[0, 0], budget=[1], last_allocation=[0, 0], last_gain=[0, 0])
        >>> bool(agent.predict(obs)[0][0] > 0.98)
        True
    """

    name = "regmix"
    settings_type = RegmixSettings
    wanted = "the directory of a comparison of this suite, with more runs than capabilities"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        s = self.settings
        if s.best > s.draws:
            raise ReadEnvError(
                f"agent {self.name!r}, option 'best' is {s.best}: right would be at most draws, {s.draws}"
            )
        if s.regressor == "lightgbm":
            _lightgbm()
        self._predicted: tuple[Array, Array] | None = None  # draws and their losses; computed again after loading

    def fit(self, runs: list[RecordedRun]) -> dict[str, Array]:
        if len(runs) <= self.size:
            raise ReadEnvError(f"it has {len(runs)} finished runs, not more than the {self.size} capabilities")
        mixtures = np.array([run.allocation for run in runs])
        return {"mixtures": mixtures, "losses": np.array([run.losses[1] for run in runs])}

    def shares(self, view: View) -> Array:
        draws, losses = self._draws()
        value = losses @ self.prior(view)
        best = np.argsort(value, kind="stable")[: self.settings.best]
        shares: Array = draws[best].mean(axis=0)
        return shares

    def _draws(self) -> tuple[Array, Array]:
        if self._predicted is None:
            fitted, s = self.fitted(), self.settings
            draws = np.random.default_rng(self.seed).dirichlet(np.ones(self.size), s.draws)
            if s.regressor == "quadratic":
                losses = surface(draws) @ fit_surface(fitted["mixtures"], fitted["losses"], s.ridge)
            else:
                losses = boosted(fitted["mixtures"], fitted["losses"], draws)
            self._predicted = draws, losses
        return self._predicted

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self._predicted = None


def surface(mixtures: Array) -> Array:
    """Terms of a quadratic in mixtures on the simplex, (n, k + k(k − 1)/2): the weights and their products.

    >>> surface(np.array([[0.5, 0.25, 0.25]]))
    array([[0.5   , 0.25  , 0.25  , 0.125 , 0.125 , 0.0625]])
    """
    pairs = [mixtures[:, i] * mixtures[:, j] for i, j in combinations(range(mixtures.shape[1]), 2)]
    return np.column_stack([mixtures, *pairs])


def fit_surface(mixtures: Array, losses: Array, ridge: float) -> Array:
    """Coefficients of :func:`surface` by least squares with the penalty ``ridge`` on products, (terms, |C|).

    Args:
        mixtures: (n, |C|) on the simplex.
        losses: (n, |C|), a column for each capability.
        ridge: weight of the squared coefficients of products.
    """
    terms, size = surface(mixtures), mixtures.shape[1]
    # Weights without penalty in a direction that no run shows are kept small by the tiny one.
    penalty = np.full(terms.shape[1], ridge)
    penalty[:size] = 1e-9
    return np.asarray(np.linalg.solve(terms.T @ terms + np.diag(penalty), terms.T @ losses), dtype=np.float64)


def boosted(mixtures: Array, losses: Array, draws: Array) -> Array:
    """Predictions for ``draws``, (draws, |C|), of one LightGBM regressor for each column of ``losses``."""
    regressor = _lightgbm().LGBMRegressor
    # With LightGBM's smallest leaf of 20, trees on fewer than 40 runs have no split, and predict one number.
    leaf = min(20, max(2, len(mixtures) // 10))
    # One thread and the deterministic mode: predictions don't depend on the machine's load.
    settings = dict(
        n_estimators=1000, learning_rate=0.01, min_child_samples=leaf, n_jobs=1, deterministic=True, verbose=-1
    )
    return np.column_stack([regressor(**settings).fit(mixtures, column).predict(draws) for column in losses.T])


def _lightgbm() -> Any:
    try:
        import lightgbm
    except ImportError:
        raise ReadEnvError(
            "agent 'regmix', option 'regressor' is 'lightgbm', which is not installed; right would be 'quadratic', or: "
            "pip install 'read-env[lightgbm]'"
        ) from None
    return lightgbm
