"""``dro`` by numbers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rule_steps import observation, play

from read_env.agents import make_agent
from read_env.agents.rules.dro import worst_case

CENTER = np.array([0.2, 0.3, 0.5])
EXCESS = np.array([2.0, 1.5, 0.5])


def test_worst_case() -> None:
    # λ = 1: p·(1, .5, 0) = (.2, .15, 0), so q/p = (2.857143, 1.428571, 0)
    # ρ = ½·(.2·1.857143² + .3·.428571² + .5) = .622449
    q = worst_case(CENTER, EXCESS, 0.6224490, least=0.0)
    assert q == pytest.approx([0.571429, 0.428571, 0.0], abs=1e-5)
    # q/p at least .2: (2.857143, 1.428571, .2)/1.1, so ρ = ½·(.2·1.597403² + .3·.298701² + .5·.818182²) = .435908
    q = worst_case(CENTER, EXCESS, 0.4359084, least=0.2)
    assert q == pytest.approx([0.519481, 0.389610, 0.090909], abs=1e-5)


def test_a_small_ball_moves_along_the_excess() -> None:
    # While no capability is cut off, q/p − 1 = √(2ρ)·(g − ḡ)/sd(g): ḡ = 1.1, variance .39
    moved = 1 + np.sqrt(2 * 0.01) * (EXCESS - 1.1) / np.sqrt(0.39)
    assert worst_case(CENTER, EXCESS, 0.01, 0.0) == pytest.approx(CENTER * moved, abs=1e-9)


def test_corners_and_equal_losses() -> None:
    assert worst_case(CENTER, np.ones(3), 0.05, 0.2) == pytest.approx(CENTER)
    # The corner at the first has ½·(.2·4² + .3 + .5) = 2.
    assert worst_case(CENTER, EXCESS, 2.5, 0.0) == pytest.approx([1, 0, 0])
    # With q/p at least .2 it is (1, .2·.3, .2·.5), normalised.
    assert worst_case(CENTER, EXCESS, 2.5, 0.2) == pytest.approx(np.array([1, 0.06, 0.1]) / 1.16)


@given(
    st.lists(st.floats(0.01, 1), min_size=2, max_size=8),
    st.lists(st.floats(-5, 5), min_size=8, max_size=8),
    st.floats(0.001, 1),
    st.floats(0, 0.9),
)
def test_the_mixture_lies_in_the_ball(weights: list[float], excess: list[float], rho: float, least: float) -> None:
    p = np.array(weights) / np.sum(weights)
    q = worst_case(p, np.array(excess[: len(p)]), rho, least)
    assert q.sum() == pytest.approx(1) and (q >= 0).all()
    assert 0.5 * (p @ (q / p - 1) ** 2) <= rho + 1e-9
    order = np.argsort(excess[: len(p)])
    assert (np.diff((q / p)[order]) >= -1e-6).all(), "a larger excess must not get less"


def test_the_center_is_the_requirement_or_uniform() -> None:
    for objective, center in (("requirement", CENTER), ("mean", np.full(3, 1 / 3))):
        options = {"objective": objective, "rho": 0.01, "loss": "probe", "reference": "a=0.5"}
        agent = make_agent("dro", capabilities=("a", "b", "c"), options=options)
        seen = agent.predict(observation([0.4, 0.6, 0.7], CENTER))[0]
        excess = np.log([0.5 / 0.4, 1 / 0.6, 1 / 0.7])
        mean = center @ excess
        moved = 1 + np.sqrt(0.02) * (excess - mean) / np.sqrt(center @ (excess - mean) ** 2)
        assert seen == pytest.approx(center * moved, abs=1e-6)


def test_a_reported_divergence_takes_the_place_of_the_probes() -> None:
    agent = make_agent("dro", capabilities=("a", "b"), options={"rho": 0.02})
    reports = {"divergence_by_capability": [[0.9, 0.1]], "tokens_by_capability": [[5, 5]]}
    last = play(agent, [0.5, 0.5], [[0.9, 0.1]] * 2, [[0.5, 0.5]], **reports)
    # ½·2·½·x² = .02: x = .2, towards a although its probe score is higher
    assert agent.predict(last)[0] == pytest.approx([0.6, 0.4])
