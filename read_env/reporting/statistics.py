"""Intervals, paired tests and corrections for few seeds.

Runs are paired by seed (two policies under one seed see the same prompts), so most questions are
about the mean of a few differences. The t interval is the one that reports lead with: with three
to ten seeds a bootstrap interval is too narrow. Degenerate samples (one value, no variation) get
an answer with a note that says what was done, never a silent NaN.

scipy is imported when a number is asked for: it costs a second that `import read_env` must not pay.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

#: The bias-corrected bootstrap estimates its acceleration from the sample left one out: two values say nothing.
_MIN_BOOTSTRAP = 3
_EXACT_WILCOXON = 60


@dataclass(frozen=True)
class Estimate:
    """A mean with its interval.

    Attributes:
        mean, low, high: in the unit of the values; low and high are NaN where no interval exists.
        sd: sample standard deviation (NaN for one value).
        n: number of values.
        method: ``t``, ``bca``, ``percentile``, ``seeds`` or ``none``.
        note: what was degenerate, empty otherwise.
    """

    mean: float
    low: float
    high: float
    sd: float
    n: int
    method: str
    note: str = ""

    @property
    def half_width(self) -> float:
        """Half the interval's length: what stands behind ± (exact for the symmetric t interval)."""
        return (self.high - self.low) / 2


@dataclass(frozen=True)
class PairedTest:
    """A paired comparison a − b.

    Attributes:
        difference: mean difference with its t interval.
        bootstrap: the same mean with a bootstrap interval (BCa where the sample allows it).
        p_t: two-sided p of the paired t test; for differences without variation, of the sign-flip test.
        p_wilcoxon: two-sided p of Wilcoxon's signed-rank test.
        wins, losses, ties: how often a was above, below, equal to b.
        note: what was degenerate.
    """

    difference: Estimate
    bootstrap: Estimate
    p_t: float
    p_wilcoxon: float
    wins: int
    losses: int
    ties: int
    note: str = ""


@dataclass(frozen=True)
class Correlation:
    """Spearman's rank correlation over n pairs; NaN with a note where one side does not vary."""

    rho: float
    p: float
    n: int
    note: str = ""


def mean_interval(
    values: Sequence[float] | np.ndarray,
    method: Literal["t", "bootstrap"] = "t",
    confidence: float = 0.95,
    resamples: int = 9999,
    seed: int = 0,
) -> Estimate:
    """Mean of independent values with an interval.

    Args:
        values: (n,), at least one, finite.
        method: ``t`` (mean ± t·s/√n), or ``bootstrap`` (BCa from n = 3 on; below that there is none).
        confidence: coverage that is aimed at, in (0, 1).
        resamples: bootstrap resamples.
        seed: of the bootstrap.

    Raises:
        ValueError: no values, or values that are not finite.
    """
    sample = _sample(values)
    n, mean = len(sample), float(sample.mean())
    if n == 1:
        return Estimate(mean, math.nan, math.nan, math.nan, 1, "none", "one value: no interval")
    sd = float(sample.std(ddof=1))
    if _constant(sample):
        return Estimate(mean, mean, mean, 0.0, n, "none", "no variation between values: the interval is a point")
    if method == "t":
        half = t_quantile(confidence, n - 1) * sd / math.sqrt(n)
        return Estimate(mean, mean - half, mean + half, sd, n, "t")
    if n < _MIN_BOOTSTRAP:
        return Estimate(mean, math.nan, math.nan, sd, n, "none", f"{n} values: too few for a bootstrap")
    low, high, used = _bootstrap(sample, confidence, resamples, seed)
    return Estimate(mean, low, high, sd, n, used)


def paired(a: Sequence[float] | np.ndarray, b: Sequence[float] | np.ndarray, confidence: float = 0.95) -> PairedTest:
    """Compare a with b, value by value.

    Args:
        a: (n,) values.
        b: (n,) values; the i-th belongs to the i-th of ``a`` (same task, same seed).
        confidence: of both intervals.

    Raises:
        ValueError: different lengths, none at all, or values that are not finite.
    """
    first, second = _sample(a), _sample(b)
    if first.shape != second.shape:
        raise ValueError(f"paired samples need equal lengths, got {len(first)} and {len(second)}")
    difference = first - second
    p, note = one_sample_p(difference)
    return PairedTest(
        difference=mean_interval(difference, "t", confidence),
        bootstrap=mean_interval(difference, "bootstrap", confidence),
        p_t=p,
        p_wilcoxon=wilcoxon_p(difference),
        wins=int((difference > 0).sum()),
        losses=int((difference < 0).sum()),
        ties=int((difference == 0).sum()),
        note=note,
    )


def one_sample_p(values: Sequence[float] | np.ndarray) -> tuple[float, str]:
    """Two-sided p that the mean is zero (t test), and a note for degenerate samples.

    Values that are all equal have no standard deviation. All zero: p = 1. All equal to something
    else: the exact sign-flip test, p = 2^(1−n). One value: NaN.
    """
    from scipy.special import stdtr

    sample = _sample(values)
    n, mean = len(sample), float(sample.mean())
    if n == 1:
        return math.nan, "one value: no test"
    if _constant(sample):
        if abs(mean) <= _tiny(sample):
            return 1.0, "all differences are zero"
        return 2.0 ** (1 - n), "no variation between values: sign-flip test"
    # A transfer matrix asks for hundreds of these: scipy.stats.ttest_1samp is twenty times slower.
    t = mean / (float(sample.std(ddof=1)) / math.sqrt(n))
    return float(2 * stdtr(n - 1, -abs(t))), ""


def holm(p_values: Sequence[float] | np.ndarray) -> np.ndarray:
    """Holm's step-down adjustment of a family of p-values.

    Args:
        p_values: any shape; NaN marks a test that could not be made. It stays NaN, and counts as a
            member of the family (the conservative choice).

    Returns:
        Adjusted p-values of the same shape: the k-th smallest (from 0) is multiplied by m − k, made
        monotone, and capped at 1. Reject where the adjusted value is at most the level.

    Source: Holm (1979), A simple sequentially rejective multiple test procedure.
    """
    p = np.asarray(p_values, dtype=np.float64)
    flat = p.ravel()
    if ((flat < 0) | (flat > 1)).any():
        raise ValueError(f"p-values lie in [0, 1], got {flat[(flat < 0) | (flat > 1)][0]}")
    order = np.argsort(flat, kind="stable")  # NaN sorts last
    order = order[~np.isnan(flat[order])]
    adjusted = np.full_like(flat, math.nan)
    factors = flat.size - np.arange(order.size)
    adjusted[order] = np.minimum(np.maximum.accumulate(flat[order] * factors), 1.0)
    return adjusted.reshape(p.shape)


def spearman(x: Sequence[float] | np.ndarray, y: Sequence[float] | np.ndarray) -> Correlation:
    """Spearman's rank correlation of two samples of equal length."""
    from scipy import stats

    first, second = _sample(x), _sample(y)
    if first.shape != second.shape:
        raise ValueError(f"a correlation needs equal lengths, got {len(first)} and {len(second)}")
    n = len(first)
    if n < 3:
        return Correlation(math.nan, math.nan, n, f"{n} pairs: too few")
    if _constant(first) or _constant(second):
        return Correlation(math.nan, math.nan, n, "one side does not vary")
    result = stats.spearmanr(first, second)
    return Correlation(float(result.statistic), float(result.pvalue), n)


def interquartile_mean(values: Sequence[float] | np.ndarray) -> float:
    """Mean of the middle half (a quarter trimmed from each end), as rliable reports it."""
    from scipy import stats

    return float(stats.trim_mean(np.asarray(values, dtype=np.float64).ravel(), 0.25))


def seed_bootstrap(
    values: Sequence[Sequence[float]] | np.ndarray,
    statistic: Literal["mean", "iqm"] = "mean",
    confidence: float = 0.95,
    resamples: int = 5000,
    seed: int = 0,
) -> Estimate:
    """Aggregate over tasks × seeds: seeds are resampled, each with all its tasks; the tasks are fixed.

    Runs of one seed share their prompts across tasks, so resampling within each task, as rliable
    does for independent runs, would make the interval too narrow.

    Args:
        values: (tasks, seeds); column k is the same seed in every task.
        statistic: ``mean`` or ``iqm`` (interquartile mean over all values).
        confidence: of the percentile interval.
        resamples: number of bootstrap resamples.
        seed: of the resampling.

    Returns:
        ``mean`` holds the statistic; ``sd`` is its bootstrap standard error; ``n`` the number of values.

    Source: Agarwal et al. (2021), Deep RL at the edge of the statistical precipice (rliable), changed as said.
    """
    table = np.asarray(values, dtype=np.float64)
    if table.ndim != 2 or table.size == 0 or not np.isfinite(table).all():
        raise ValueError(f"values must be finite, of shape (tasks, seeds), both at least one, got shape {table.shape}")

    def aggregate(sample: np.ndarray) -> float:
        return float(sample.mean()) if statistic == "mean" else interquartile_mean(sample)

    seeds = table.shape[1]
    if seeds == 1:
        return Estimate(aggregate(table), math.nan, math.nan, math.nan, table.size, "none", "one seed: no interval")
    rng = np.random.default_rng(seed)
    replicates = np.array([aggregate(table[:, rng.integers(seeds, size=seeds)]) for _ in range(resamples)])
    low, high = np.quantile(replicates, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Estimate(aggregate(table), float(low), float(high), float(replicates.std(ddof=1)), table.size, "seeds")


def _bootstrap(sample: np.ndarray, confidence: float, resamples: int, seed: int) -> tuple[float, float, str]:
    """BCa, or the percentile interval where BCa is undefined (its acceleration can be 0/0)."""
    from scipy import stats

    for method in ("BCa", "percentile"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # scipy warns where BCa degenerates; the fallback answers that
            interval = stats.bootstrap(
                (sample,),
                np.mean,
                confidence_level=confidence,
                n_resamples=resamples,
                method=method,
                rng=np.random.default_rng(seed),
            ).confidence_interval
        if np.isfinite([interval.low, interval.high]).all():
            return float(interval.low), float(interval.high), method.lower()
    raise AssertionError("a percentile interval of a finite sample is finite")


def wilcoxon_p(differences: Sequence[float] | np.ndarray) -> float:
    """Two-sided p of Wilcoxon's signed-rank test, exact up to 60 differences, ties included.

    Zeros are dropped (no difference at all: p = 1), equal sizes share their mean rank. Under the null
    every sign is a fair coin, so the distribution of the sum of positive ranks is counted outright.
    Beyond 60 the normal approximation is scipy's.
    """
    from scipy import stats

    sample = _sample(differences)
    sample = sample[np.abs(sample) > 1e-12]
    if not sample.size:
        return 1.0
    if sample.size > _EXACT_WILCOXON:
        return float(stats.wilcoxon(sample, method="approx").pvalue)
    # Rounded, so that equal scores whose differences differ by 1e-17 tie; doubled, so that ranks are whole.
    ranks = np.rint(2 * stats.rankdata(np.round(np.abs(sample), 12))).astype(int)
    ways = np.ones(1)
    for rank in ranks:
        longer = np.zeros(len(ways) + rank)
        longer[: len(ways)] += ways / 2
        longer[rank:] += ways / 2
        ways = longer
    observed = int(ranks[sample > 0].sum())
    return float(min(1.0, 2 * min(ways[: observed + 1].sum(), ways[observed:].sum())))


def t_quantile(confidence: float, degrees: int) -> float:
    """The two-sided quantile of Student's t: the factor of a standard error in an interval."""
    from scipy import stats

    return float(stats.t.ppf((1 + confidence) / 2, degrees))


def _tiny(sample: np.ndarray) -> float:
    return 1e-12 * max(1.0, float(np.abs(sample).max()))


def _constant(sample: np.ndarray) -> bool:
    """Equal up to rounding: differences of equal scores are often 1e-17 apart."""
    return float(np.ptp(sample)) <= _tiny(sample)


def _sample(values: Sequence[float] | np.ndarray) -> np.ndarray:
    sample = np.asarray(values, dtype=np.float64)
    if sample.ndim != 1 or sample.size == 0:
        raise ValueError(f"expected a non-empty list of values, got shape {sample.shape}")
    if not np.isfinite(sample).all():
        raise ValueError(f"values must be finite, got {sample[~np.isfinite(sample)][0]}")
    return sample
