"""``odm`` by numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from rule_steps import play

from read_env.agents import make_agent
from read_env.errors import ReadEnvError

NAMES = ("a", "b")
HALVES = [0.5, 0.5]


def after_two_steps(requirement: Any = HALVES, losses: Any = (1.0, 2.0), tokens: Any = (9, 9), **options: Any) -> Any:
    agent = make_agent("odm", capabilities=NAMES, options=options)
    reports = {"loss_by_capability": [losses] * 2, "tokens_by_capability": [tokens] * 2}
    last = play(agent, requirement, [[0.5, 0.2]] * 3, [HALVES] * 2, **reports)
    return agent.predict(last)[0]


def test_published_form() -> None:
    # ε_1 = min(1/2, √(ln 2/2)) = 1/2, ε_2 = √(ln 2/4) = .416277; R̂ = 2·(1, 2)/(10·½) = (.4, .8)
    # softmax(½·R̂)_1 = 1/(1 + e^.2) = .450166; w_1 = (1 − .832555)·.450166 + .416277
    assert after_two_steps() == pytest.approx([0.491655, 0.508345], abs=2e-6)


def test_moving_average() -> None:
    # R̂ = (1 − .9²)·(1, 2)/½ = (.38, .76); softmax_1 = 1/(1 + e^.38) = .406127; w_1 = .94·.406127 + .03
    assert after_two_steps(form="moving-average") == pytest.approx([0.411759, 0.588241], abs=2e-6)


def test_the_requirement_scales_the_losses() -> None:
    # 2·(.75, .25)·(1, 3) = (1.5, 1.5): equal rewards
    weighted = after_two_steps([0.75, 0.25], losses=(1.0, 3.0), form="moving-average")
    assert weighted == pytest.approx(HALVES)
    unweighted = after_two_steps([0.75, 0.25], losses=(1.0, 3.0), form="moving-average", objective="mean")
    assert unweighted[1] > 0.6


def test_a_capability_without_tokens_earns_no_reward() -> None:
    # R̂ = (.38, 0): the 0 that stands for a missing loss is not averaged in, and no surprisal is put in its place
    agent = make_agent("odm", capabilities=NAMES, options={"form": "moving-average"})
    tokens, losses = [[9, 9], [9, 0]], [[0.0, 2.0], [0.0, 0.0]]
    last = play(agent, HALVES, [HALVES] * 3, [HALVES] * 2, loss_by_capability=losses, tokens_by_capability=tokens)
    # R̂_2 = .1·2/½ after the first step, kept in the second, which reports nothing but zeros: surprisals ln 2 of both
    # R̂ = (.1·2·ln 2, .9·.4 + .1·2·ln 2) = (.138629, .498629)
    assert agent.predict(last)[0][1] == pytest.approx(0.94 / (1 + np.exp(-0.36)) + 0.03, abs=1e-6)
    some = after_two_steps(losses=(1.0, 0.0), tokens=(9, 0), form="moving-average")
    assert some[0] == pytest.approx(0.94 / (1 + np.exp(-0.38)) + 0.03, abs=1e-6)


def test_without_losses_the_reward_is_the_surprisal_before_the_step() -> None:
    agent = make_agent("odm", capabilities=NAMES, options={"form": "moving-average"})
    last = play(agent, HALVES, [[0.5, 0.25], [0.9, 0.9]], [HALVES])
    # R̂ = .1·(ln 2, ln 4)/½; the difference is .2·ln 2
    assert agent.predict(last)[0][1] == pytest.approx(0.94 / (1 + 2**-0.2) + 0.03, abs=1e-6)


@pytest.mark.parametrize(("size", "uniform"), [(8, 16), (10, 23)])
def test_as_published_it_is_uniform_up_to_k_ln_k_steps(size: int, uniform: int) -> None:
    agent = make_agent("odm", capabilities=[f"c{index}" for index in range(size)])
    profiles = np.tile(np.linspace(0.1, 0.9, size), (uniform + 2, 1))
    even = np.full(size, 1 / size)
    last = play(agent, even, profiles[:-1], [even] * uniform)
    assert agent.predict(last)[0] == pytest.approx(even, abs=1e-7)
    last = play(agent, even, profiles, [even] * (uniform + 1))
    assert agent.predict(last)[0][0] > 1 / size + 1e-6


def test_a_floor_that_does_not_fit_is_explained() -> None:
    with pytest.raises(ReadEnvError, match="'odm', option 'exploration' is 0.6: right would be at most 1/2"):
        make_agent("odm", capabilities=NAMES, options={"form": "moving-average", "exploration": 0.6})
