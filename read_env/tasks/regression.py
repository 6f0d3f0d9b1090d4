"""Requirement of a task from interventions: r̂ on the simplex, by regression (arXiv 2605.11290, step 1).

The change of the utility is explained by the changes of the scores::

    minimise over r on the simplex and a ≥ 0:   mean (ΔU − a·r·Δs)² / var(ΔU)  +  λ·H(r) / log |C|  +  μ·KL(p ‖ r)

H is the entropy of r: the term discourages near-uniform requirements. λ and μ are chosen by cross-validation. The paper has a = 1,
which holds for utilities that are weighted means of the scores; a measured utility has a scale of its own. The last term, for a
prior requirement p, is ours.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize, nnls

from read_env.errors import ReadEnvError

#: Weights of the entropy that cross-validation chooses from.
ENTROPY_WEIGHTS = (0.0, 0.01, 0.03, 0.1, 0.3)
#: Weights of a prior that cross-validation chooses from.
PRIOR_WEIGHTS = (0.0, 0.01, 0.1, 1.0)
#: Folds of the cross-validation.
_FOLDS = 5
#: Fewest interventions for a regression.
FEWEST = 6
_TINY = 1e-9


@dataclass(frozen=True)
class Requirement:
    """Requirement that a regression found.

    Attributes:
        mean: (|C|,) r̂ on the simplex.
        low, high: (|C|,) ends of the bootstrap intervals.
        level: their level, such as .9.
        scale: a, change of the utility per change of r·s.
        entropy_weight: λ.
        prior_weight: μ; 0 without a prior.
        explained: share of the variance of ΔU that held-out folds explain; at most 1, negative for worse than the mean.
        top: indices of the largest entries, as many as were asked for.
        sure: share of the bootstrap samples with the same ``top``.
        needed: about how many interventions would make ``top`` sure at ``level``; None if not even 16 times as many.
    """

    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray
    level: float
    scale: float
    entropy_weight: float
    prior_weight: float
    explained: float
    top: tuple[int, ...]
    sure: float
    needed: int | None


def fit_requirement(
    changes: np.ndarray, gains: np.ndarray, *, prior: np.ndarray | None = None, top: int = 3,
    samples: int = 200, level: float = 0.9, seed: int = 0,
) -> Requirement:  # fmt: skip
    """Fit r̂, with intervals and the number of interventions that would be enough.

    Args:
        changes: (n, |C|) changes of the scores, Δs.
        gains: (n,) changes of the utility, ΔU.
        prior: (|C|,) requirement on the simplex that r̂ is drawn towards. None: none.
        top: number of largest entries that ``sure`` and ``needed`` speak of.
        samples: bootstrap samples.
        level: of the intervals.
        seed: seed of folds and samples.

    Raises:
        ReadEnvError: too few interventions, another shape, values that are not finite, or gains that are all alike.

    >>> rng = np.random.default_rng(0)
    >>> changes = rng.normal(size=(40, 4))
    >>> fit_requirement(changes, changes @ [0.5, 0.3, 0.0, 0.0]).mean.round(2).tolist()
    [0.63, 0.38, 0.0, 0.0]
    """
    changes, gains = np.asarray(changes, np.float64), np.asarray(gains, np.float64)
    if changes.ndim != 2 or gains.shape != (len(changes),):
        raise ReadEnvError(f"changes must be (n, |C|) and gains (n,), got {changes.shape} and {gains.shape}")
    if len(gains) < FEWEST:
        raise ReadEnvError(
            f"{len(gains)} interventions are too few to infer a requirement; right would be {FEWEST} or more"
        )
    if not (np.isfinite(changes).all() and np.isfinite(gains).all()):
        raise ReadEnvError("the changes of scores and utility must be finite numbers")
    if gains.std() < _TINY:
        raise ReadEnvError(
            f"the utility changed by {gains[0]:+.4g} in all {len(gains)} interventions, so nothing can be inferred from it: a task "
            "that the student can't do at all, or does perfectly, needs longer interventions or the score per token "
            "(card: score = 'token-likelihood')"
        )
    rng = np.random.default_rng(seed)
    problem, weight, explained = _cross_validated(prior, changes, gains, rng)
    mean, scale = problem.solve(changes, gains, weight)
    draws = [
        problem.solve(changes[i], gains[i], weight)[0] for i in rng.integers(len(gains), size=(samples, len(gains)))
    ]
    tail = 50 * (1 - level)
    low, high = np.percentile(draws, [tail, 100 - tail], axis=0)
    chosen = _top(mean, top)
    sure = float(np.mean([_top(one, top) == chosen for one in draws]))
    residuals = gains - scale * (changes @ mean)
    needed = _needed(problem, changes, residuals, scale * mean, weight, chosen, level, rng, sure, len(gains))
    return Requirement(
        mean, low, high, level, scale, weight, problem.weight, explained, tuple(np.argsort(-mean, kind="stable")[: len(chosen)].tolist()), sure, needed
    )  # fmt: skip


class _Problem:
    """The minimisation, for one prior."""

    def __init__(self, prior: np.ndarray | None, weight: float) -> None:
        self.prior = None if prior is None or weight <= 0 else np.maximum(np.asarray(prior, np.float64), 1e-4)
        if self.prior is not None:
            self.prior = self.prior / self.prior.sum()
        self.weight = weight

    def solve(self, changes: np.ndarray, gains: np.ndarray, entropy_weight: float) -> tuple[np.ndarray, float]:
        """(|C|,) r on the simplex, and a."""
        size = changes.shape[1]
        free, _ = nnls(changes, gains)
        start = free if free.sum() > _TINY else np.full(size, 1.0 / size)
        if entropy_weight == 0 and self.prior is None:
            return start / start.sum(), float(free.sum())
        # The penalties depend on r alone, so starts are the free solution and, for the prior, the prior at its best scale.
        starts = [start] if self.prior is None else [start, self.prior * max(start.sum(), _TINY)]
        found = [self._descend(changes, gains, entropy_weight, one) for one in starts]
        weights = min(found, key=lambda one: self._value(one, changes, gains, entropy_weight)[0])
        total = float(weights.sum())
        return weights / total, total

    def _descend(self, changes: np.ndarray, gains: np.ndarray, entropy_weight: float, start: np.ndarray) -> np.ndarray:
        # In logarithms, so that weights stay positive; a part of the mean lets small ones grow.
        logs = np.log(start + 0.01 * start.mean())

        def value(z: np.ndarray) -> tuple[float, np.ndarray]:
            weights = np.exp(np.clip(z, -30, 10))
            loss, slope = self._value(weights, changes, gains, entropy_weight)
            return loss, slope * weights

        result = minimize(value, logs, jac=True, method="L-BFGS-B", bounds=[(-25, 8)] * len(logs))
        return np.exp(result.x)

    def _value(
        self, weights: np.ndarray, changes: np.ndarray, gains: np.ndarray, entropy_weight: float
    ) -> tuple[float, np.ndarray]:
        """Objective, and its gradient by the weights a·r."""
        total, size = float(weights.sum()), len(weights)
        r = weights / total
        errors = changes @ weights - gains
        scale = len(gains) * max(float(gains.var()), _TINY**2)
        loss = float(errors @ errors) / scale
        slope = 2 * changes.T @ errors / scale
        of_r = np.zeros(size)
        if entropy_weight:
            logs = np.log(np.maximum(r, 1e-300))
            loss += entropy_weight * float(-r @ logs) / np.log(size)
            of_r += entropy_weight * -(logs + 1) / np.log(size)
        if self.prior is not None:
            loss += self.weight * float(self.prior @ np.log(self.prior / np.maximum(r, 1e-300)))
            of_r -= self.weight * self.prior / np.maximum(r, 1e-300)
        return loss, slope + (of_r - of_r @ r) / total


def _cross_validated(
    prior: np.ndarray | None, changes: np.ndarray, gains: np.ndarray, rng: np.random.Generator
) -> tuple[_Problem, float, float]:
    """Weights of prior and entropy with the least error on held-out folds, and the share of the variance explained there."""
    fold = rng.permutation(len(gains)) % min(_FOLDS, len(gains))
    found = []
    for prior_weight in (0.0,) if prior is None else PRIOR_WEIGHTS:
        problem = _Problem(prior, prior_weight)
        for weight in ENTROPY_WEIGHTS:
            predicted = np.empty(len(gains))
            for held in np.unique(fold):
                r, scale = problem.solve(changes[fold != held], gains[fold != held], weight)
                predicted[fold == held] = scale * (changes[fold == held] @ r)
            found.append((float(np.mean((predicted - gains) ** 2)), problem, weight))
    error, problem, weight = min(found, key=lambda one: one[0])
    return problem, weight, 1 - error / float(gains.var())


def _top(r: np.ndarray, count: int) -> frozenset[int]:
    """Indices of the largest entries; fewer where the others are zero."""
    order = np.argsort(-r, kind="stable")[:count]
    return frozenset(int(i) for i in order if r[i] > 1e-3)


def _needed(
    problem: _Problem, changes: np.ndarray, residuals: np.ndarray, weights: np.ndarray, entropy_weight: float,
    top: frozenset[int], level: float, rng: np.random.Generator, sure: float, count: int,
) -> int | None:  # fmt: skip
    """Number of interventions from which the largest entries are found again in ``level`` of the simulated cases."""
    if sure >= level:
        return count
    for factor in (1.5, 2, 3, 4, 6, 8, 12, 16):
        size, again = int(factor * count), 0
        for _ in range(40):
            rows = changes[rng.integers(count, size=size)]
            gains = rows @ weights + residuals[rng.integers(count, size=size)]
            again += _top(problem.solve(rows, gains, entropy_weight)[0], len(top)) == top
        if again >= level * 40:
            return size
    return None
