"""``paced`` by numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from rule_steps import observation

from read_env.agents import make_agent

NAMES = ("a", "b", "c")


def weights(profile: Any, requirement: Any = (0.5, 0.5, 0.0), **options: Any) -> np.ndarray:
    agent = make_agent("paced", capabilities=NAMES, options=options)
    return agent.predict(observation(profile, requirement))[0]


def test_shares() -> None:
    # ½·.5·.5 = .125 and ½·.1·.9 = .045
    assert weights([0.5, 0.1, 0.3]) == pytest.approx([0.125 / 0.17, 0.045 / 0.17, 0])
    # .25, .09 and .3·.7 = .21
    assert weights([0.5, 0.1, 0.3], objective="mean") == pytest.approx([0.25 / 0.55, 0.09 / 0.55, 0.21 / 0.55])
    # ½·.5²·√.5 and ½·.1²·√.9
    squares = np.array([0.25 * 0.5**0.5, 0.01 * 0.9**0.5, 0])
    assert weights([0.5, 0.1, 0.3], alpha=2, beta=0.5) == pytest.approx(squares / squares.sum())


def test_it_is_water_filling_without_the_score() -> None:
    seen = observation([0.5, 0.1, 0.3], (0.2, 0.7, 0.1))
    filled = make_agent("water-filling", capabilities=NAMES).predict(seen)[0]
    assert make_agent("paced", capabilities=NAMES, options={"alpha": 0}).predict(seen)[0] == pytest.approx(filled)


def test_where_nothing_is_in_reach_it_is_the_requirement() -> None:
    assert weights([0.0, 1.0, 0.5], (0.2, 0.8, 0.0)) == pytest.approx([0.2, 0.8, 0.0])
    assert weights([0.0, 1.0, 0.0], objective="mean") == pytest.approx([1 / 3] * 3)
