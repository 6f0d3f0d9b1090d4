"""``aioli`` by numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from rule_steps import observation, play

from read_env.agents import Agent, make_agent
from read_env.errors import ReadEnvError

NAMES = ("a", "b")
HALVES = [0.5, 0.5]
#: Falls of a and b (rows) by tokens on a and b (columns).
HELPFUL = np.array([[0.4, 0.0], [0.1, 0.3]])
HARMFUL = np.array([[0.4, -0.1], [0.0, 0.3]])
SWEEP = [[0.75, 0.25], [0.25, 0.75]]


def aioli(**options: Any) -> Agent:
    return make_agent("aioli", capabilities=NAMES, options=options)


def profiles(laws: Any, allocations: Any) -> np.ndarray:
    """Scores whose surprisals begin at 3 nats and fall by A w in each step."""
    falls = [np.asarray(law) @ allocation for law, allocation in zip(laws, allocations, strict=True)]
    return np.exp(-3 + np.cumsum([np.zeros(2), *falls], axis=0))


def after(agent: Agent, laws: Any, allocations: Any, requirement: Any = HALVES) -> np.ndarray:
    return agent.predict(play(agent, requirement, profiles(laws, allocations), allocations))[0]


def first_share(difference: float) -> float:
    return 1 / (1 + np.exp(-difference))


def test_a_sweep_then_its_result() -> None:
    agent = aioli()
    assert agent.predict(observation([0.5, 0.5], HALVES))[0] == pytest.approx(SWEEP[0])
    assert after(agent, [HELPFUL], SWEEP[:1]) == pytest.approx(SWEEP[1])
    # Column sums of A/.8: (.5, .3)/.8
    assert after(agent, [HELPFUL] * 2, SWEEP)[0] == pytest.approx(first_share(0.2 * 0.25), abs=1e-6)
    assert after(aioli(eta=1.0), [HELPFUL] * 2, SWEEP)[0] == pytest.approx(first_share(0.25), abs=1e-6)


def test_a_negative_entry_is_subtracted() -> None:
    # A + .1 = ((.5, 0), (.1, .4)), the sum 1: columns (.6, .4)
    assert after(aioli(), [HARMFUL] * 2, SWEEP)[0] == pytest.approx(first_share(0.2 * 0.2), abs=1e-6)


def test_the_requirement_weights_the_losses() -> None:
    # ν = (1.5, .5): (1.5·.5 + .5·.1, .5·.4) = (.8, .2)
    needs = [0.75, 0.25]
    assert after(aioli(), [HARMFUL] * 2, SWEEP, needs)[0] == pytest.approx(first_share(0.2 * 0.6), abs=1e-6)
    mean = after(aioli(objective="mean"), [HARMFUL] * 2, SWEEP, needs)[0]
    assert mean == pytest.approx(first_share(0.2 * 0.2), abs=1e-6)


def test_sweeps_are_repeated_and_averaged() -> None:
    allocations = [*SWEEP, HALVES, *SWEEP]
    agent = aioli(hold=1, gamma=0.25)
    assert after(agent, [HELPFUL] * 3, allocations[:3]) == pytest.approx(SWEEP[0])
    # Differences of the column sums .25 and .2: .75·.2 + .25·.25
    found = after(agent, [HELPFUL] * 3 + [HARMFUL] * 2, allocations)[0]
    assert found == pytest.approx(first_share(0.2 * 0.2125), abs=1e-6)


def test_the_law_is_solved_for_the_allocations_that_were_made() -> None:
    # With a floor, the mixtures of the sweep are .1 + .8·p.
    floored = [[0.7, 0.3], [0.3, 0.7]]
    found = after(aioli(floor=0.1), [HELPFUL] * 2, floored)[0]
    assert found == pytest.approx(0.1 + 0.8 * first_share(0.2 * 0.25), abs=1e-6)


def test_regression_on_all_steps() -> None:
    options = {"estimate": "regression", "ridge": 1e-9}
    allocations = [[0.6, 0.4], [0.2, 0.8], [0.9, 0.1]]
    found = after(aioli(**options, explore=0.0), [HELPFUL] * 3, allocations)[0]
    assert found == pytest.approx(first_share(0.2 * 0.25), abs=1e-5)
    # The fourth step explores b.
    mixed = after(aioli(**options), [HELPFUL] * 3, allocations)[0]
    assert mixed == pytest.approx(0.75 * first_share(0.2 * 0.25), abs=1e-5)


def test_the_ridge() -> None:
    # One step of (1, 0): A = G wᵀ/(1 + ridge) has the columns G/(1 + ridge) and 0; normalised, 1 and 0
    options = {"estimate": "regression", "explore": 0.0, "eta": 1.0}
    assert after(aioli(**options), [HELPFUL], [[1.0, 0.0]])[0] == pytest.approx(first_share(1.0), abs=1e-6)
    # (.5, .5), then (1, 0): M = ((1.25, .25), (.25, .25)) + ½·I
    sums = np.array([[1.75, 0.25], [0.25, 0.75]])
    falls = np.outer(HELPFUL @ HALVES, HALVES) + np.outer(HELPFUL @ [1, 0], [1, 0])
    law = falls @ np.linalg.inv(sums)
    columns = law.sum(axis=0) / law.sum()
    assert (law > 0).all()
    found = after(aioli(**options, ridge=0.5), [HELPFUL] * 2, [HALVES, [1.0, 0.0]])[0]
    assert found == pytest.approx(first_share(columns[0] - columns[1]), abs=1e-6)


def test_no_weight_is_more_than_e_to_the_eta_times_another() -> None:
    agent = aioli(objective="mean")
    found = after(agent, [[[2.0, 0.0], [0.0, 0.0]]] * 2, SWEEP)
    assert found[0] / found[1] == pytest.approx(np.exp(0.2), abs=1e-6)


def test_a_sweep_of_equal_mixtures_is_refused() -> None:
    with pytest.raises(ReadEnvError, match="'aioli', option 'one_hot' is 0.5: right would be above 1/2"):
        aioli(one_hot=0.5)
