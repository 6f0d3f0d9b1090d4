"""Intervals, paired tests and corrections for few seeds.

Runs are paired by seed (two policies under one seed see the same prompts). Reports lead with the t
interval: with three to ten seeds a bootstrap interval is too narrow. All intervals are 95 %.

Two methods are computed here although libraries have one of the same name:

- Wilcoxon's test with ties: exact up to 60 pairs, which a comparison has; scipy is exact up to 13.
- The bootstrap over seeds: rliable resamples within each task, as if the runs of one seed on several
  tasks were independent; here they share their prompts.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

Values = Sequence[float] | np.ndarray


@dataclass(frozen=True)
class Estimate:
    """A mean with its 95 % interval, in the unit of the values; NaN where there is no interval.

    >>> Estimate(mean=0.5, low=0.25, high=0.75, n=4).half_width
    0.25
    """

    mean: float
    low: float
    high: float
    n: int  # values

    @property
    def half_width(self) -> float:
        """Half the interval's length: the number behind ± (exact for the symmetric t interval)."""
        return (self.high - self.low) / 2


@dataclass(frozen=True)
class PairedTest:
    """A paired comparison a − b over seeds; p-values are two-sided."""

    difference: Estimate  # mean with its t interval
    bootstrap: Estimate  # the same mean with a bootstrap interval
    p_t: float  # paired t test; of the sign-flip test for differences without variation
    p_wilcoxon: float  # over all pairs, as are the counts
    wins: int  # pairs with a above b; losses below, ties equal
    losses: int
    ties: int
    note: str  # the degenerate case, else empty
    p_holm: float = math.nan  # p_t, adjusted within its family


def mean_interval(values: Values, method: Literal["t", "bootstrap"] = "t") -> Estimate:
    """Mean of independent values with a 95 % interval: none for one value, a point for equal values.

    Args:
        values: (n,), at least one, finite.
        method: ``t`` (mean ± t·s/√n), or ``bootstrap`` (BCa from n = 3 on; below that there is none).

    Raises:
        ValueError: no values, or values that are not finite.

    >>> found = mean_interval([2.0, 3.0, 4.0])
    >>> found.mean, round(found.half_width, 3)
    (3.0, 2.484)
    """
    from scipy.stats import bootstrap, t

    sample = _sample(values)
    n, mean, low, high = len(sample), float(sample.mean()), math.nan, math.nan
    if n > 1 and _constant(sample):
        low = high = mean
    elif n > 1 and method == "t":
        half = float(t.ppf(0.975, n - 1)) * float(sample.std(ddof=1)) / math.sqrt(n)
        low, high = mean - half, mean + half
    elif n > 2:  # the acceleration of BCa is estimated from the sample left one out, and can be 0/0
        for used in ("BCa", "percentile"):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # scipy warns where BCa degenerates
                found = bootstrap((sample,), np.mean, method=used, rng=np.random.default_rng(0))
            low, high = map(float, found.confidence_interval)
            if math.isfinite(low) and math.isfinite(high):
                break
    return Estimate(mean, low, high, n)


def paired(a: Values | Sequence[Values], b: Values | Sequence[Values]) -> PairedTest:
    """Compare a with b, (seeds,) or (seeds, tasks) values each, paired by place.

    Runs of one seed share their prompts: the mean over the tasks of a seed is the unit of the t test and both intervals.

    Raises:
        ValueError: different lengths, none at all, or values that are not finite.

    >>> test = paired([3, 4, 5], [1, 2, 6])
    >>> test.difference.mean, test.wins, test.losses
    (1.0, 2, 1)
    """
    first, second = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if first.shape != second.shape:
        raise ValueError(f"paired samples need equal lengths, got {len(first)} and {len(second)}")
    pairs = _sample((first - second).ravel())
    unit = first.reshape(len(first), -1).mean(axis=1) - second.reshape(len(second), -1).mean(axis=1)
    p, note = one_sample_p(unit)
    wins, losses, ties = (int(found.sum()) for found in (pairs > 0, pairs < 0, pairs == 0))
    t, bootstrap = mean_interval(unit), mean_interval(unit, "bootstrap")
    return PairedTest(t, bootstrap, p, wilcoxon_p(pairs), wins, losses, ties, note)


def one_sample_p(values: Values) -> tuple[float, str]:
    """Two-sided p that the mean is zero (t test), and a note for degenerate samples.

    All zero: p = 1. All equal to something else: the exact sign-flip test, p = 2^(1−n). One value: NaN.

    >>> one_sample_p([0.5, 0.5, 0.5])
    (0.25, 'no variation between values: sign-flip test')
    """
    from scipy.special import stdtr

    sample = _sample(values)
    n, mean = len(sample), float(sample.mean())
    if n == 1:
        return math.nan, "one value: no test"
    if _constant(sample):
        if abs(mean) <= 1e-12:
            return 1.0, "all differences are zero"
        return 2.0 ** (1 - n), "no variation between values: sign-flip test"
    # A transfer matrix asks for hundreds of these: scipy.stats.ttest_1samp is twenty times slower.
    t = mean / (float(sample.std(ddof=1)) / math.sqrt(n))
    return float(2 * stdtr(n - 1, -abs(t))), ""


def holm(p_values: Values) -> np.ndarray:
    """P-values of any shape, Holm-adjusted as one family; NaN, a test that could not be made, stays NaN and counts.

    Raises:
        ValueError: a value outside [0, 1].

    >>> holm([0.01, 0.04, 0.03, 0.005]).round(3).tolist()
    [0.03, 0.06, 0.06, 0.02]
    """
    from statsmodels.stats.multitest import multipletests

    p = np.asarray(p_values, dtype=np.float64)
    if (outside := (p < 0) | (p > 1)).any():
        raise ValueError(f"p-values lie in [0, 1], got {p[outside][0]}")
    if not p.size:
        return p
    adjusted = multipletests(np.nan_to_num(p, nan=1.0).ravel(), method="holm")[1].reshape(p.shape)
    return np.where(np.isnan(p), math.nan, adjusted)


def spearman(x: Values, y: Values) -> tuple[float, float, str]:
    """Spearman's ρ of two samples of equal length, its p, and a note; NaN where there is none.

    >>> round(spearman([1, 2, 3, 4], [1, 2, 4, 3])[0], 3)
    0.8
    """
    from scipy import stats

    first, second = _sample(x), _sample(y)
    if len(first) < 3:
        return math.nan, math.nan, f"{len(first)} pairs: too few"
    if _constant(first) or _constant(second):
        return math.nan, math.nan, "one side does not vary"
    rho, p = stats.spearmanr(first, second)
    return float(rho), float(p), ""


def seed_bootstrap(values: Values | Sequence[Values], statistic: Literal["mean", "iqm"] = "mean") -> Estimate:
    """Aggregate over tasks × seeds: seeds are resampled, each with all its tasks; the tasks are fixed.

    Args:
        values: (tasks, seeds); column k is the same seed in every task. One seed has no interval.
        statistic: ``mean`` or ``iqm`` (interquartile mean: a quarter of all values trimmed from each end).

    Raises:
        ValueError: no values, values that are not finite, or not of two dimensions.

    Source: Agarwal et al. (2021), Deep RL at the edge of the statistical precipice (rliable), with the change above.

    >>> seed_bootstrap([[0.0, 1.0, 2.0, 20.0]], statistic="iqm").mean
    1.5
    """
    from scipy.stats import trim_mean

    table = np.asarray(values, dtype=np.float64)
    if table.ndim != 2 or table.size == 0 or not np.isfinite(table).all():
        raise ValueError(f"values must be finite, of shape (tasks, seeds), both at least one, got shape {table.shape}")

    def aggregate(sample: np.ndarray) -> float:
        return float(sample.mean() if statistic == "mean" else trim_mean(sample.ravel(), 0.25))

    seeds, low, high = table.shape[1], math.nan, math.nan
    if seeds > 1:
        rng = np.random.default_rng(0)
        replicates = [aggregate(table[:, rng.integers(seeds, size=seeds)]) for _ in range(5000)]
        low, high = map(float, np.quantile(replicates, [0.025, 0.975]))
    return Estimate(aggregate(table), low, high, table.size)


def wilcoxon_p(differences: Values) -> float:
    """Two-sided p of Wilcoxon's signed-rank test, exact up to 60 differences, ties included; beyond, scipy's.

    Zeros are dropped (no difference at all: p = 1), equal sizes share their mean rank, and the distribution of
    the sum of positive ranks is counted over all signs.

    >>> wilcoxon_p([1, 2, 3])
    0.25
    """
    from scipy import stats

    sample = _sample(differences)
    sample = sample[np.abs(sample) > 1e-12]
    if not sample.size:
        return 1.0
    if sample.size > 60:
        return float(stats.wilcoxon(sample, method="approx").pvalue)
    # Rounded, so that equal scores whose differences differ by 1e-17 tie; doubled, so that ranks are whole.
    ranks = np.rint(2 * stats.rankdata(np.round(np.abs(sample), 12))).astype(int)
    ways = np.ones(1)
    for rank in ranks:
        ways = (np.pad(ways, (0, rank)) + np.pad(ways, (rank, 0))) / 2
    observed = int(ranks[sample > 0].sum())
    return float(min(1.0, 2 * min(ways[: observed + 1].sum(), ways[observed:].sum())))


def _constant(sample: np.ndarray) -> bool:
    """Equal up to rounding: differences of equal scores are often 1e-17 apart."""
    return float(np.ptp(sample)) <= 1e-12 * max(1.0, float(np.abs(sample).max()))


def _sample(values: Values) -> np.ndarray:
    sample = np.asarray(values, dtype=np.float64)
    if sample.ndim != 1 or sample.size == 0:
        raise ValueError(f"expected a non-empty list of values, got shape {sample.shape}")
    if not np.isfinite(sample).all():
        raise ValueError(f"values must be finite, got {sample[~np.isfinite(sample)][0]}")
    return sample
