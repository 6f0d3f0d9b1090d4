import math

import numpy as np
import pytest
from scipy import stats

from read_env.reporting.statistics import (
    holm,
    mean_interval,
    one_sample_p,
    paired,
    seed_bootstrap,
    spearman,
    wilcoxon_p,
)


def test_holm_by_hand():
    # Four tests: the smallest times 4, the next times 3, then 2 and 1, never falling.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_holm_at_its_edges():
    adjusted = holm(np.array([[0.5, 0.9], [0.4, 0.6]]))
    assert adjusted.shape == (2, 2) and (adjusted == 1.0).all()
    # A test that could not be made counts, and stays NaN.
    assert holm([0.01, math.nan]) == pytest.approx([0.02, math.nan], nan_ok=True)
    with pytest.raises(ValueError, match=r"\[0, 1\], got 1.5"):
        holm([0.1, 1.5])


def test_t_interval_by_hand():
    # mean 3, s = 1, n = 3: half width 4.3027 / sqrt(3)
    found = mean_interval([2.0, 3.0, 4.0])
    assert (found.mean, found.n) == (3.0, 3)
    assert found.half_width == pytest.approx(4.302653 / math.sqrt(3), rel=1e-6)
    assert (found.low + found.high) / 2 == pytest.approx(3.0)


def test_bootstrap_is_scipys_bca():
    values = np.random.default_rng(1).gamma(2.0, size=12)
    expected = stats.bootstrap((values,), np.mean, n_resamples=9999, method="BCa", rng=np.random.default_rng(0))
    found = mean_interval(values, "bootstrap")
    assert [found.low, found.high] == pytest.approx(list(expected.confidence_interval))


@pytest.mark.parametrize(
    ("values", "method", "interval"),
    [
        ([0.3], "t", math.nan),
        ([0.3], "bootstrap", math.nan),
        ([1.0, 2.0], "bootstrap", math.nan),
        ([0.1 + 0.2, 0.3, 0.3], "t", 0.3),  # equal up to rounding
        ([0.1 + 0.2, 0.3, 0.3], "bootstrap", 0.3),
    ],
)
def test_degenerate_samples_have_no_interval_or_a_point(values, method, interval):
    found = mean_interval(values, method)
    assert found.mean == pytest.approx(np.mean(values))
    assert [found.low, found.high] == pytest.approx([interval, interval], nan_ok=True)


@pytest.mark.parametrize("values", [[], [math.nan, 1.0], [[1.0, 2.0]]])
def test_bad_values_are_refused(values):
    with pytest.raises(ValueError):
        mean_interval(values)


def test_paired_against_scipy():
    rng = np.random.default_rng(0)
    a, b = rng.normal(0.3, 1, 10), rng.normal(0, 1, 10)
    found = paired(a, b)
    assert found.p_t == pytest.approx(stats.ttest_rel(a, b).pvalue)
    assert found.p_wilcoxon == pytest.approx(stats.wilcoxon(a, b).pvalue)
    expected = stats.ttest_rel(a, b).confidence_interval()
    assert [found.difference.low, found.difference.high] == pytest.approx(list(expected))
    assert found.wins + found.losses + found.ties == 10
    with pytest.raises(ValueError, match="equal lengths, got 2 and 3"):
        paired([1, 2], [1, 2, 3])


def test_wilcoxon_with_ties_is_the_permutation_test():
    values = np.array([1.0, 1.0, 2.0, -1.0, 3.0, 3.0, -2.0])
    assert wilcoxon_p(values) == pytest.approx(stats.wilcoxon(values, method=stats.PermutationMethod()).pvalue)
    # scipy takes a normal approximation here; all 2^16 signs of the ranks, enumerated.
    many = np.tile([1.0, 1.0, 2.0, 3.0], 4) * np.where(np.arange(16) % 5, 1, -1)
    every = stats.PermutationMethod(n_resamples=np.inf)
    assert wilcoxon_p(many) == pytest.approx(stats.wilcoxon(many, method=every).pvalue)
    assert wilcoxon_p(many) != pytest.approx(stats.wilcoxon(many).pvalue, rel=0.02)
    assert wilcoxon_p([0.0, 0.0]) == 1.0


def test_differences_without_variation_use_the_sign_flip_test():
    p, note = one_sample_p([-0.5] * 8)
    assert p == pytest.approx(2 / 2**8)
    assert "sign-flip" in note
    assert one_sample_p([0.0, 0.0, 0.0])[0] == 1.0
    assert math.isnan(one_sample_p([0.2])[0])


def test_spearman_against_scipy_and_degenerate():
    x, y = [1, 2, 3, 4, 5], [2, 1, 4, 3, 9]
    assert spearman(x, y) == pytest.approx((0.8, stats.spearmanr(x, y).pvalue, ""))
    assert "does not vary" in spearman(x, [1] * 5)[2]
    assert "too few" in spearman([1, 2], [1, 2])[2]


def test_interquartile_mean_drops_a_quarter_at_each_end():
    assert seed_bootstrap([[-100, 1, 2, 3], [4, 5, 6, 1000]], "iqm").mean == pytest.approx(3.5)


def test_the_bootstrap_keeps_the_tasks():
    # Within a task nothing varies, so resampling seeds changes nothing, however far the tasks lie apart.
    found = seed_bootstrap([[0.1] * 5, [0.9] * 5])
    assert (found.mean, found.low, found.high) == pytest.approx((0.5, 0.5, 0.5))
    assert found.n == 10


def test_the_bootstrap_takes_all_tasks_of_a_seed_together():
    sample = np.random.default_rng(2).normal(0, 1, 20)
    expected = stats.norm.ppf(0.975) * sample.std() / math.sqrt(20)
    # The same run for every task: six copies say no more than one.
    assert seed_bootstrap([sample]).half_width == pytest.approx(expected, rel=0.05)
    assert seed_bootstrap([sample] * 6).half_width == pytest.approx(expected, rel=0.05)
    assert seed_bootstrap([sample] * 6, "iqm").mean == pytest.approx(stats.trim_mean(np.tile(sample, 6), 0.25))


def test_one_seed_has_no_interval():
    assert math.isnan(seed_bootstrap([[0.2], [0.4]]).half_width)
    with pytest.raises(ValueError, match=r"shape \(tasks, seeds\)"):
        seed_bootstrap([])
