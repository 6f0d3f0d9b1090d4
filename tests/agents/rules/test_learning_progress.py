"""``learning-progress`` by numbers."""

from __future__ import annotations

from typing import Any

import pytest
from rule_steps import play

from read_env.agents import make_agent

NEEDS = [0.25, 0.75, 0.0]


def after_two_steps(**options: Any) -> Any:
    agent = make_agent("learning-progress", capabilities=("a", "b", "c"), options=options)
    # Δs = (.1, −.2, 0), then (.1, 0, 0): with α = .1, Q = (.01, −.02, 0), then (.019, −.018, 0)
    last = play(agent, NEEDS, [[0.3, 0.5, 0.5], [0.4, 0.3, 0.5], [0.5, 0.3, 0.5]], [[1, 0, 0], [0, 1, 0]])
    return agent.predict(last)[0]


def test_epsilon_greedy() -> None:
    # m·r = (.5, 1.5, 0): x = (.0095, .027) of |Q|, (.0095, −.027) of Q; c is not needed
    assert after_two_steps() == pytest.approx([0.05, 0.95, 0.0])
    assert after_two_steps(absolute=False) == pytest.approx([0.95, 0.05, 0.0])
    # The mean takes |Q| itself, of all three.
    assert after_two_steps(objective="mean") == pytest.approx([0.9 + 0.1 / 3, 0.1 / 3, 0.1 / 3])
    assert after_two_steps(epsilon=0.4) == pytest.approx([0.2, 0.8, 0.0])


def test_boltzmann() -> None:
    # x/.01 = (.95, 2.7): 1/(1 + e^1.75) = .148047
    assert after_two_steps(policy="boltzmann") == pytest.approx([0.148047, 0.851953, 0.0], abs=2e-6)
    # x/.1 = (.19, .18, 0) for the mean: e^x = (1.209250, 1.197217, 1)
    assert after_two_steps(policy="boltzmann", temperature=0.1, objective="mean") == pytest.approx(
        [0.355005, 0.351472, 0.293574], abs=2e-4
    )


def test_the_rate() -> None:
    # α = 1: Q is the last Δs = (.1, 0, 0)
    assert after_two_steps(alpha=1.0) == pytest.approx([0.95, 0.05, 0.0])


def test_equal_progress_is_shared() -> None:
    agent = make_agent("learning-progress", capabilities=("a", "b", "c"))
    last = play(agent, NEEDS, [[0.3, 0.3, 0.3]], [])
    assert agent.predict(last)[0] == pytest.approx([0.5, 0.5, 0.0])
