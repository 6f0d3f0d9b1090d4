"""Requirement of a task from interventions: r̂ on the simplex, by regression (arXiv 2605.11290, step 1).

The change of the utility is explained by the changes of the scores, as published::

    minimise over r on the simplex and a ≥ 0:   mean (ΔU − a·r·Δs)² / var(ΔU)  +  λ·H(r) / log |C|  +  μ·KL(p ‖ r)

H is the entropy of r: the term discourages near-uniform requirements. λ and μ are chosen by cross-validation. The paper has a = 1,
which holds for utilities that are weighted means of the scores; a measured utility has a scale of its own. The last term, for a
prior requirement p, is ours.

Or by the shares w of the tokens, which sum to 1::

    ΔU = b + a·(r − q)·w,     r and q on the simplex, without a common capability

Effects of shares are known up to a constant, so they are taken relative to their mean over the capabilities, the effect of tokens
in equal parts: r has the effects above it, q those below, such as of tokens that make the student forget a format. Interventions
with the same prompts are compared with each other, so that b may differ between the blocks of a design. The effects come from a ridge regression, whose weight is chosen by cross-validation; then r from the minimisation above, with q kept.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import minimize, nnls

from read_env.errors import ReadEnvError

#: Weights of the entropy that cross-validation chooses from.
ENTROPY_WEIGHTS = (0.0, 0.01, 0.03, 0.1, 0.3)
#: Weights of a prior that cross-validation chooses from.
PRIOR_WEIGHTS = (0.0, 0.01, 0.1, 1.0)
#: Weights of the ridge, as parts of the mean variance of the shares, that cross-validation chooses from.
RIDGE_WEIGHTS = (0.01, 0.1, 1.0)
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
    changes: np.ndarray, gains: np.ndarray, *, shares: bool = False, prior: np.ndarray | None = None, top: int = 3,
    samples: int = 200, level: float = 0.9, seed: int = 0,
) -> Requirement:  # fmt: skip
    """Fit r̂, with intervals and the number of interventions that would be enough.

    Args:
        changes: (n, |C|) changes of the scores, Δs, or shares of the tokens, w; see :func:`within_blocks`.
        gains: (n,) changes of the utility, ΔU.
        shares: ``changes`` are shares of the tokens.
        prior: (|C|,) requirement on the simplex that r̂ is drawn towards. None: none.
        top: number of largest entries that ``sure`` and ``needed`` speak of.
        samples: bootstrap samples.
        level: of the intervals.
        seed: seed of folds and samples.

    Raises:
        ReadEnvError: too few interventions, another shape, values that are not finite, or gains that are all alike.

    >>> rng = np.random.default_rng(0)
    >>> changes = rng.normal(size=(40, 4))
    >>> fit_requirement(changes, changes @ [0.6, 0.3, 0.0, 0.0]).mean.round(2).tolist()
    [0.67, 0.33, 0.0, 0.0]
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
            f"the utility changed alike in all {len(gains)} interventions, so nothing can be inferred from it: a task "
            "that the student can't do at all, or does perfectly, needs longer interventions or the score per token "
            "(card: score = 'token-likelihood')"
        )
    rng = np.random.default_rng(seed)
    problem, explained = _cross_validated(prior, changes, gains, shares, rng)
    fit = problem.solve(changes, gains)
    draws = [problem.solve(changes[i], gains[i]).mean for i in rng.integers(len(gains), size=(samples, len(gains)))]
    tail = 50 * (1 - level)
    low, high = np.percentile(draws, [tail, 100 - tail], axis=0)
    chosen = _top(fit.mean, top)
    sure = float(np.mean([_top(one, top) == chosen for one in draws]))
    needed = len(gains) if sure >= level else _needed(problem, changes, gains, fit, chosen, level, rng)
    largest = tuple(np.argsort(-fit.mean, kind="stable")[: len(chosen)].tolist())
    return Requirement(
        fit.mean, low, high, level, fit.scale, problem.entropy_weight, problem.prior_weight, explained, largest, sure, needed
    )  # fmt: skip


def within_blocks(shares: np.ndarray, gains: np.ndarray, blocks: Sequence[object]) -> tuple[np.ndarray, np.ndarray]:
    """Shares and gains less the means of their block: interventions that start from one student with the same prompts.

    Args:
        shares: (n, |C|) shares of the tokens.
        gains: (n,) changes of the utility.
        blocks: (n,) labels.
    """
    shares, gains = np.array(shares, np.float64), np.array(gains, np.float64)
    for label in set(blocks):
        at = np.array([one == label for one in blocks])
        shares[at] -= shares[at].mean(axis=0)
        gains[at] -= gains[at].mean()
    return shares, gains


def effects_of_shares(shares: np.ndarray, gains: np.ndarray, seed: int = 0) -> np.ndarray:
    """(|C|,) a·r: effects of the tokens of each capability above those of tokens in equal parts; 0 for those below.

    Args:
        shares: (n, |C|) shares of the tokens.
        gains: (n,) changes of the utility.
        seed: seed of the folds of the cross-validation.
    """
    problem, _ = _cross_validated(None, shares, gains, True, np.random.default_rng(seed))
    fit = problem.solve(shares, gains)
    return fit.scale * fit.mean


@dataclass(frozen=True)
class _Fit:
    """ΔU as it is explained: b + (a·r − lowered)·x.

    Attributes:
        mean: (|C|,) r on the simplex.
        scale: a.
        lowered: (|C|,) a·q; zeros for changes of scores.
        constant: b; 0 for changes of scores.
    """

    mean: np.ndarray
    scale: float
    lowered: np.ndarray
    constant: float

    def predict(self, changes: np.ndarray) -> np.ndarray:
        return np.asarray(self.constant + changes @ (self.scale * self.mean - self.lowered))


@dataclass(frozen=True)
class _Problem:
    """The minimisation.

    Attributes:
        prior: (|C|,) p; None: no such term.
        prior_weight: μ.
        entropy_weight: λ.
        ridge: weight of the ridge, for shares of tokens; None for changes of scores.
    """

    prior: np.ndarray | None = None
    prior_weight: float = 0.0
    entropy_weight: float = 0.0
    ridge: float | None = None

    def solve(self, changes: np.ndarray, gains: np.ndarray) -> _Fit:
        """The best r, with its scale."""
        if self.ridge is None:
            free, _ = nnls(changes, gains)
            weights = self._penalised(changes, gains, free)
            return _Fit(weights / weights.sum(), float(weights.sum()), np.zeros(len(weights)), 0.0)
        centre, level = changes.mean(axis=0), float(gains.mean())
        centred = changes - centre
        # Each row of the centred shares sums to 0, and so do the effects.
        second = centred.T @ centred
        added = self.ridge * max(float(np.trace(second)) / len(second), _TINY) * np.eye(len(second))
        effects = np.linalg.solve(second + added, centred.T @ (gains - level))
        raised, lowered = np.maximum(effects, 0.0), np.maximum(-effects, 0.0)
        weights = self._penalised(centred, gains - level + centred @ lowered, raised)
        total = float(weights.sum())
        constant = level - float(centre @ (weights - lowered))
        return _Fit(weights / total, total, lowered, constant)

    def _penalised(self, changes: np.ndarray, gains: np.ndarray, free: np.ndarray) -> np.ndarray:
        """(|C|,) a·r from the solution without penalties."""
        size = len(free)
        start = free if free.sum() > _TINY else np.full(size, 1.0 / size)
        prior = self._prior
        if self.entropy_weight == 0 and prior is None:
            return start
        # The penalties depend on r alone, so starts are the free solution and, for the prior, the prior at its best scale.
        starts = [start] if prior is None else [start, prior * max(float(start.sum()), _TINY)]
        found = [self._descend(changes, gains, one) for one in starts]
        return min(found, key=lambda one: self._value(one, changes, gains)[0])

    @property
    def _prior(self) -> np.ndarray | None:
        if self.prior is None or self.prior_weight <= 0:
            return None
        prior = np.maximum(np.asarray(self.prior, np.float64), 1e-4)
        return np.asarray(prior / prior.sum())

    def _descend(self, changes: np.ndarray, gains: np.ndarray, start: np.ndarray) -> np.ndarray:
        # In logarithms, so that weights stay positive; a part of the mean lets small ones grow.
        logs = np.log(start + 0.01 * start.mean())

        def value(z: np.ndarray) -> tuple[float, np.ndarray]:
            weights = np.exp(np.clip(z, -30, 10))
            loss, slope = self._value(weights, changes, gains)
            return loss, slope * weights

        result = minimize(value, logs, jac=True, method="L-BFGS-B", bounds=[(-25, 8)] * len(logs))
        return np.exp(result.x)

    def _value(self, weights: np.ndarray, changes: np.ndarray, gains: np.ndarray) -> tuple[float, np.ndarray]:
        """Objective, and its gradient by the weights a·r."""
        total, size, prior = float(weights.sum()), len(weights), self._prior
        r = weights / total
        errors = changes @ weights - gains
        scale = len(gains) * max(float(gains.var()), _TINY**2)
        loss = float(errors @ errors) / scale
        slope = 2 * changes.T @ errors / scale
        of_r = np.zeros(size)
        if self.entropy_weight:
            logs = np.log(np.maximum(r, 1e-300))
            loss += self.entropy_weight * float(-r @ logs) / np.log(size)
            of_r += self.entropy_weight * -(logs + 1) / np.log(size)
        if prior is not None:
            loss += self.prior_weight * float(prior @ np.log(prior / np.maximum(r, 1e-300)))
            of_r -= self.prior_weight * prior / np.maximum(r, 1e-300)
        return loss, slope + (of_r - of_r @ r) / total


def _cross_validated(
    prior: np.ndarray | None, changes: np.ndarray, gains: np.ndarray, shares: bool, rng: np.random.Generator
) -> tuple[_Problem, float]:
    """Problem with the weights that cross-validation chooses, and the share of the variance that is explained on held-out folds.

    The ridge by the least error; of prior and entropy the smallest weight within one standard error of the least, so that a prior
    counts, and a need is left out, only where the interventions say so.
    """
    fold = rng.permutation(len(gains)) % min(_FOLDS, len(gains))

    def errors(problem: _Problem) -> np.ndarray:
        predicted = np.empty(len(gains))
        for held in np.unique(fold):
            rest = fold != held
            predicted[~rest] = problem.solve(changes[rest], gains[rest]).predict(changes[~rest])
        return np.asarray((predicted - gains) ** 2)

    def error(problem: _Problem) -> float:
        return float(errors(problem).mean())

    ridge = min((_Problem(ridge=weight) for weight in RIDGE_WEIGHTS), key=error).ridge if shares else None
    chosen = _Problem(ridge=ridge)
    if prior is not None:
        chosen = _smallest([_Problem(prior, weight, ridge=ridge) for weight in PRIOR_WEIGHTS], errors)
    chosen = _smallest([replace(chosen, entropy_weight=weight) for weight in ENTROPY_WEIGHTS], errors)
    return chosen, 1 - error(chosen) / float(gains.var())


def _smallest(problems: Sequence[_Problem], errors: Callable[[_Problem], np.ndarray]) -> _Problem:
    """First problem whose mean error is within one standard error of the least."""
    found = np.array([errors(problem) for problem in problems])
    worse = found - found[int(np.argmin(found.mean(axis=1)))]
    within = worse.mean(axis=1) <= worse.std(axis=1) / np.sqrt(found.shape[1]) + 1e-12
    return problems[int(np.flatnonzero(within)[0])]


def _top(r: np.ndarray, count: int) -> frozenset[int]:
    """Indices of the largest entries; fewer where the others are zero."""
    order = np.argsort(-r, kind="stable")[:count]
    return frozenset(int(i) for i in order if r[i] > 1e-3)


def _needed(
    problem: _Problem, changes: np.ndarray, gains: np.ndarray, fit: _Fit, top: frozenset[int], level: float,
    rng: np.random.Generator,
) -> int | None:  # fmt: skip
    """Number of interventions from which the largest entries are found again in ``level`` of the simulated cases."""
    count, residuals = len(gains), gains - fit.predict(changes)
    for factor in (1.5, 2, 3, 4, 6, 8, 12, 16):
        size, again = int(factor * count), 0
        for _ in range(40):
            rows = changes[rng.integers(count, size=size)]
            drawn = fit.predict(rows) + residuals[rng.integers(count, size=size)]
            again += _top(problem.solve(rows, drawn).mean, len(top)) == top
        if again >= level * 40:
            return size
    return None
