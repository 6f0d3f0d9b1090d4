"""``dump`` by numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from rule_steps import observation, play

from read_env.agents import make_agent

NAMES = ("a", "b")
HALVES = [0.5, 0.5]
#: Scores with E|A| = 2·√(s(1 − s)) = .8 and .6.
SCORES = [0.2, 0.9]


def first_share(difference: float) -> float:
    return 1 / (1 + np.exp(-difference))


def weights(tokens: Any = None, requirement: Any = HALVES, **options: Any) -> np.ndarray:
    agent = make_agent("dump", capabilities=NAMES, options=options)
    if tokens is None:
        return agent.predict(observation(SCORES, requirement))[0]
    last = play(agent, requirement, [SCORES] * 3, [HALVES] * 2, tokens_by_capability=tokens)
    return agent.predict(last)[0]


def test_without_samples_the_advantages_decide() -> None:
    assert weights()[0] == pytest.approx(first_share(0.2 / 0.1))
    assert weights(tau=0.5)[0] == pytest.approx(first_share(0.2 / 0.5))


def test_the_bonus() -> None:
    # n = (3, 15), N = 18: 2·ln 19 = 5.888878; √(5.888878/4) = 1.213350, √(5.888878/16) = .606675
    found = weights([[100, 350], [50, 400]], tau=0.5)
    assert found[0] == pytest.approx(first_share((0.2 + 0.606675) / 0.5), abs=1e-6)
    # n = (1.5, 7.5), N = 9: 2·ln 10 = 4.605170; √(4.605170/2.5) = 1.357226, √(4.605170/8.5) = .736057
    found = weights([[100, 350], [50, 400]], tau=0.5, sample_tokens=100)
    assert found[0] == pytest.approx(first_share((0.2 + 0.621169) / 0.5), abs=1e-5)


def test_the_requirement_is_the_prior() -> None:
    odds = 3 * np.exp(0.2 / 0.5)
    assert weights(requirement=[0.75, 0.25], tau=0.5)[0] == pytest.approx(odds / (1 + odds))
    assert weights(requirement=[0.75, 0.25], tau=0.5, objective="mean")[0] == pytest.approx(first_share(0.2 / 0.5))
    assert weights([[0, 900]] * 2, requirement=[0, 1]) == pytest.approx([0, 1])


def test_without_tokens_by_capability_the_allocation_shares_the_tokens() -> None:
    agent, other = (make_agent("dump", capabilities=NAMES) for _ in range(2))
    allocations = [[0.25, 0.75], [0.5, 0.5]]
    last = play(agent, HALVES, [SCORES] * 3, allocations, completion_tokens=[400, 400])
    play(other, HALVES, [SCORES] * 3, allocations, tokens_by_capability=[[100, 300], [200, 200]])
    assert agent.predict(last)[0] == pytest.approx(other.predict(last)[0])
