"""Designs of interventions, and the requirement that a regression finds in them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from read_env.errors import ReadEnvError
from read_env.tasks.interventions import interventions, seeds_of
from read_env.tasks.regression import _Problem, fit_requirement, within_blocks


@given(st.sampled_from(["axial", "balanced", "random"]), st.integers(2, 12), st.integers(1, 30), st.integers(0, 5))
@settings(deadline=None, max_examples=30)
def test_interventions_are_allocations_and_longer_lists_begin_alike(design, size, count, seed):
    count = max(count, size) if design == "axial" else count
    rows = interventions(design, size, count, seed)
    assert rows.shape == (count, size) and rows.min() >= 0
    np.testing.assert_allclose(rows.sum(axis=1), 1)
    assert np.array_equal(interventions(design, size, count + 4, seed)[:count], rows)
    if design != "axial":
        assert not rows.all(axis=1).any(), "each leaves something out"


def test_an_axial_design_raises_every_capability_equally_often():
    rows = interventions("axial", 5, 15, seed=2)
    assert set(np.unique(rows.round(9))) == {0.1, 0.6} and (rows.max(axis=1) == 0.6).all()
    for block in (rows[:5], rows[5:10], rows[10:]):
        assert sorted(block.argmax(axis=1)) == [0, 1, 2, 3, 4]
    assert not np.array_equal(rows[:5], rows[5:10]), "each block in an order of its own"


@pytest.mark.parametrize("size", [8, 9, 10])
def test_a_balanced_design_trains_every_capability_in_half_of_the_runs(size):
    on = interventions("balanced", size, 40) > 0
    assert (on.sum(axis=0) == 20).all()
    together = on.T.astype(int) @ on
    pairs = together[np.triu_indices(size, 1)]
    drawn = (interventions("random", size, 40) > 0).sum(axis=0)
    assert abs(pairs - 10).max() <= 4 and drawn.std() > 0


def test_an_axial_design_has_at_least_one_intervention_for_each_capability():
    with pytest.raises(ReadEnvError, match="interventions is 6; .* for each of the 10 capabilities .* would be 10 or"):
        interventions("axial", 10, 6)


def linear(weights, count=60, noise=0.0, seed=0):
    rng = np.random.default_rng(seed)
    changes = 0.1 * rng.normal(size=(count, len(weights)))
    return changes, changes @ np.array(weights) + noise * rng.normal(size=count)


def test_the_requirement_of_a_linear_utility_is_found():
    changes, gains = linear([0.3, 0.0, 0.15, 0.0, 0.0], noise=0.005)
    found = fit_requirement(changes, gains, top=2)
    np.testing.assert_allclose(found.mean, [2 / 3, 0, 1 / 3, 0, 0], atol=0.06)
    assert found.scale == pytest.approx(0.45, abs=0.05) and found.explained > 0.9
    assert set(found.top) == {0, 2} and found.sure > 0.95 and found.needed == 60
    assert (found.low <= found.mean + 1e-9).all() and (found.mean <= found.high + 1e-9).all()


@pytest.mark.parametrize("design", ["axial", "balanced", "random"])
def test_shares_are_explained_relative_to_an_even_allocation(design):
    # A constant, needs, and capabilities that cost the task something.
    effects = np.array([0.3, 0.1, 0.0, 0.0, 0.0, 0.0, -0.4, 0.0])
    shares = interventions(design, 8, 48, seed=1)
    noise = 0.002 * np.random.default_rng(0).normal(size=48)
    found = fit_requirement(shares, shares @ effects - 0.2 + noise, shares=True, top=2)
    needed = np.maximum(effects - effects.mean(), 0)
    np.testing.assert_allclose(found.mean, needed / needed.sum(), atol=0.08)
    assert found.top == (0, 1) and found.explained > 0.9 and found.mean[6] < 1e-3
    moved = fit_requirement(shares, shares @ effects + 5.0 + noise, shares=True, top=2)
    np.testing.assert_allclose(moved.mean, found.mean, atol=1e-6), "the constant doesn't count"


@pytest.mark.parametrize("design", ["axial", "balanced", "random"])
def test_differences_between_blocks_count_for_nothing(design):
    shares = interventions(design, 8, 32, seed=3)
    seeds = seeds_of(design, 8, 32, (0, 1, 2, 3))
    gains = shares @ np.array([0.3, 0.1, *[0.0] * 6])
    shifted = gains + np.array([10.0 * seed for seed in seeds])
    found = [
        fit_requirement(*within_blocks(shares, one, seeds), shares=True, samples=2).mean for one in (gains, shifted)
    ]
    np.testing.assert_allclose(*found, atol=1e-6)
    assert found[0][0] > 0.6 and found[0][1] > 0.1


def test_no_two_interventions_of_an_axial_design_are_the_same_run():
    rows, seeds = interventions("axial", 5, 20, seed=1), seeds_of("axial", 5, 20, (0, 1))
    assert len({(*row, seed) for row, seed in zip(rows.tolist(), seeds, strict=True)}) == 20
    assert sorted(set(seeds)) == [0, 1, 1000, 1001] and len(set(seeds[:5])) == 1, "a block has the same prompts"


def test_a_need_is_left_out_only_where_the_interventions_say_so():
    # Whatever the noise, a sparser requirement has to predict better by more than chance.
    shares = interventions("axial", 8, 24)
    for noise in (0.001, 0.03, 0.06):
        second = []
        for seed in range(6):
            gains = shares @ np.array([0.3, 0.15, *[0.0] * 6]) + noise * np.random.default_rng(seed).normal(size=24)
            second.append(fit_requirement(shares, gains, shares=True, samples=2).mean[1])
        assert np.median(second) > 0.1, noise


def test_intervals_cover_and_narrow_with_more_interventions():
    truth = np.array([0.5, 0.3, 0.2, 0.0])
    widths, covered = {}, 0
    for count in (20, 80):
        found = [fit_requirement(*linear(truth, count, 0.05, seed), samples=60) for seed in range(12)]
        widths[count] = np.mean([one.high - one.low for one in found])
        covered += sum(((one.low[:2] <= truth[:2]) & (truth[:2] <= one.high[:2])).sum() for one in found)
    assert widths[80] < 0.75 * widths[20]
    assert covered >= 0.7 * 48, "of 90 % intervals"


def test_noise_asks_for_more_interventions():
    clear = fit_requirement(*linear([0.5, 0.4, 0.3, 0.0, 0.0], 20, noise=0.002))
    noisy = fit_requirement(*linear([0.5, 0.4, 0.3, 0.0, 0.0], 20, noise=0.2))
    assert clear.sure > noisy.sure and (noisy.needed is None or noisy.needed > clear.needed)
    assert noisy.explained < clear.explained


def test_the_entropy_term_makes_requirements_sparser():
    changes, gains = linear([0.3, 0.25, 0.05, 0.05], noise=0.02)
    entropies = []
    for weight in (0.0, 0.1, 1.0):
        r = _Problem(entropy_weight=weight).solve(changes, gains).mean
        assert r.sum() == pytest.approx(1) and r.min() >= 0
        entropies.append(float(-(r * np.log(np.maximum(r, 1e-300))).sum()))
    assert entropies[0] > entropies[1] > entropies[2] - 1e-9


def test_a_prior_decides_where_the_data_do_not():
    changes, gains = linear([0.5, 0.5, 0.0], count=8, noise=0.3, seed=3)
    prior = np.array([0.0, 0.1, 0.9])
    near = [_Problem(prior, weight).solve(changes, gains).mean for weight in (0.0, 0.01, 1.0)]
    distance = [float(np.abs(one - prior).sum()) for one in near]
    assert distance[0] > distance[1] > distance[2] and distance[2] < 0.05


def test_cross_validation_takes_a_prior_that_helps_and_leaves_one_that_does_not():
    right, wrong = np.array([0.5, 0.5, *[0.0] * 8]), np.array([0.0, 0.0, *[0.125] * 8])
    changes, gains = linear(right, count=12, noise=0.5, seed=4)
    helped = fit_requirement(changes, gains, prior=right, samples=5)
    assert helped.prior_weight > 0 and np.abs(helped.mean - right).sum() < 0.2
    changes, gains = linear(right, count=60, noise=0.02)
    misled = fit_requirement(changes, gains, prior=wrong, samples=5)
    assert misled.prior_weight <= 0.01 and np.abs(misled.mean - right).sum() < 0.1


def test_the_gradient_is_that_of_the_objective():
    changes, gains = linear([0.3, 0.2, 0.1], noise=0.02)
    problem, weights = _Problem(np.array([0.2, 0.5, 0.3]), 0.4, 0.3), np.array([0.2, 0.25, 0.05])
    _, slope = problem._value(weights, changes, gains)
    step = 1e-6 * np.eye(3)
    numeric = [
        (problem._value(weights + s, changes, gains)[0] - problem._value(weights - s, changes, gains)[0]) / 2e-6
        for s in step
    ]
    np.testing.assert_allclose(slope, numeric, rtol=1e-4)


@pytest.mark.parametrize(
    ("changes", "gains", "message"),
    [
        (np.ones((5, 3)), np.arange(5.0), "5 interventions are too few"),
        (np.ones((8, 3)), np.ones(8), "changed alike in all 8 interventions"),
        (np.ones((8, 3)), np.ones(7), r"changes must be \(n, \|C\|\)"),
        (np.full((8, 3), np.nan), np.arange(8.0), "finite"),
    ],
)
def test_what_says_nothing_is_refused(changes, gains, message):
    with pytest.raises(ReadEnvError, match=message):
        fit_requirement(changes, gains)


def test_an_unknown_design_is_named():
    with pytest.raises(ReadEnvError, match="did you mean 'balanced'"):
        interventions("balance", 4, 8)
    with pytest.raises(ReadEnvError, match="two capabilities or more"):
        interventions("random", 1, 8)
