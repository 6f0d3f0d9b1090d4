"""Invariants of the ledger, the quotas and the curriculum."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from read_env.distillation.budget import TokenBudget
from read_env.distillation.examples.allocation import Quotas, normalise_allocation
from read_env.distillation.examples.curriculum import tertile_of, tertile_shares
from read_env.errors import ReadEnvError

weights = st.lists(st.floats(0, 1e6), min_size=1, max_size=12).filter(lambda w: sum(w) > 1e-9)


@given(weights)
def test_a_normalised_allocation_lies_on_the_simplex(values):
    shares = normalise_allocation(values, len(values))
    assert shares.sum() == pytest.approx(1.0) and (shares >= 0).all()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([0.5, -0.1, 0.6], "must not be negative, got .*-0.1"),
        ([0.5, math.nan, 0.5], "must be finite, got .*nan"),
        ([0.5, math.inf, 0.5], "must be finite, got .*inf"),
        ([0.5, 0.5], r"must have shape \(3,\), one weight per capability, got shape \(2,\)"),
        ("equal", "must be 3 numbers, got 'equal'"),
    ],
)
def test_a_bad_allocation_is_refused_with_its_weights(values, message):
    with pytest.raises(ReadEnvError, match=message):
        normalise_allocation(values, 3)


@given(st.integers(0, 10**6), st.lists(st.integers(0, 10**5), max_size=30))
def test_the_ledger_is_exact_and_never_overspent(total, chunks):
    budget, spent = TokenBudget(total), 0
    for chunk in chunks:
        if chunk > budget.left:
            with pytest.raises(ValueError, match="are left"):
                budget.spend(chunk, 1)
        else:
            budget, spent = budget.spend(chunk, 1), spent + chunk
        assert budget.spent == spent and budget.left == total - spent >= 0


@given(st.lists(weights, min_size=1, max_size=6), st.integers(0, 2**32), st.integers(200, 3000))
def test_quotas_never_stray_from_the_shares_by_more_than_a_completion(rows, seed, step_tokens):
    size = min(len(r) for r in rows)
    shares = [np.array(r[:size]) for r in rows if sum(r[:size]) > 1e-9]
    rng = np.random.default_rng(seed)
    quotas, given_, wanted = Quotas(size), np.zeros(size), np.zeros(size)
    for row in shares:
        row = row / row.sum()
        quotas.grant(row, step_tokens)
        wanted += row * step_tokens
        eligible = row > 0
        lengths = rng.integers(5, 40, size)
        while (choice := quotas.choose(eligible, lengths, fill=False)) is not None:
            quotas.take(choice, int(lengths[choice]))
            given_[choice] += lengths[choice]
            lengths[choice] = rng.integers(5, 40)
        assert (np.abs(given_ - wanted)[eligible] <= 20 + 1e-6).all()


@pytest.mark.parametrize("curriculum", ["easy-to-hard", "uniform"])
@pytest.mark.parametrize("progress", [0.0, 0.3, 1.0])
def test_any_stretch_of_examples_has_the_wanted_difficulties(curriculum, progress):
    shares = tertile_shares(progress, curriculum)
    assert shares.sum() == pytest.approx(1.0)
    for start in (0, 37, 1000):
        chosen = np.bincount([tertile_of(n, shares) for n in range(start, start + 200)], minlength=3) / 200
        assert np.abs(chosen - shares).max() < 0.03


def test_the_curriculum_moves_from_easy_to_hard():
    easy = [tertile_shares(p, "easy-to-hard")[0] for p in (0.0, 0.5, 1.0)]
    hard = [tertile_shares(p, "easy-to-hard")[2] for p in (0.0, 0.5, 1.0)]
    assert easy == sorted(easy, reverse=True) and hard == sorted(hard) and easy[0] > hard[0]


def test_large_weights_do_not_overflow():
    assert normalise_allocation([1e308] * 8, 8).tolist() == [0.125] * 8


def test_quotas_look_past_a_capability_whose_next_example_is_too_long():
    quotas = Quotas(2)
    quotas.owed = np.array([10.0, 9.0])
    assert quotas.choose(np.array([True, True]), [40, 4], fill=False) == 1
    assert quotas.choose(np.array([True, False]), [40, 4], fill=False) is None
    assert quotas.choose(np.array([True, True]), [40, 4], fill=True) == 0
