"""``reference-gap`` by numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from rule_steps import observation, play

from read_env.agents import make_agent
from read_env.errors import ReadEnvError

NAMES = ("a", "b")
HALVES = [0.5, 0.5]


def after_a_step(divergence: Any, tokens: Any = (9, 9), requirement: Any = HALVES, **options: Any) -> np.ndarray:
    agent = make_agent("reference-gap", capabilities=NAMES, options=options)
    reports = {"divergence_by_capability": [divergence], "tokens_by_capability": [tokens]}
    return agent.predict(play(agent, requirement, [[0.3, 0.3], [0.5, 0.4]], [[0.2, 0.8]], **reports))[0]


def test_multiplicative_weights() -> None:
    # .2·e^.5 = .329744, .8·e^.1 = .884137: .271645; (1 − 1e-4)·.271645 + 1e-4/2
    assert after_a_step([0.5, 0.1]) == pytest.approx([0.271668, 0.728332], abs=2e-6)
    # η = 2: .2·e = .543656, .8·e^.2 = .977122: .357485
    assert after_a_step([0.5, 0.1], eta=2.0, smoothing=0.0) == pytest.approx([0.357485, 0.642515], abs=2e-6)
    assert after_a_step([0.5, 0.1], smoothing=0.2) == pytest.approx(
        [0.8 * 0.271645 + 0.1, 0.8 * 0.728355 + 0.1], abs=2e-6
    )


def test_the_objective_weights_the_gap_and_the_start() -> None:
    # 2·(.75, .25)·(.5, .1) = (.75, .05)
    expected = np.array([0.2 * np.exp(0.75), 0.8 * np.exp(0.05)])
    found = after_a_step([0.5, 0.1], requirement=[0.75, 0.25], smoothing=0.0)
    assert found == pytest.approx(expected / expected.sum(), abs=1e-6)
    for objective, start in (("requirement", [0.75, 0.25]), ("mean", HALVES)):
        agent = make_agent("reference-gap", capabilities=NAMES, options={"objective": objective, "smoothing": 0.0})
        assert agent.predict(observation([0.9, 0.1], [0.75, 0.25]))[0] == pytest.approx(start)


def test_probes_move_the_first_allocation() -> None:
    agent = make_agent("reference-gap", capabilities=NAMES, options={"loss": "probe", "smoothing": 0.0})
    # 1/.8 and 1/.2
    assert agent.predict(observation([0.8, 0.2], HALVES))[0] == pytest.approx([0.2, 0.8])


def test_without_a_divergence_the_gap_is_that_of_the_probes() -> None:
    # −ln .5 + ln 1 = ln 2 and −ln .4 + ln .8 = ln 2 twice the weight of each, so that they stay
    for given in ([0.0, 0.0], [0.5, 0.1]):
        options = {"reference": "b=0.8", "smoothing": 0.0, "loss": "divergence" if not any(given) else "probe"}
        assert after_a_step(given, **options) == pytest.approx([0.2, 0.8])
    # b had no tokens: its gap is −ln .4, that of a is .5
    expected = np.array([0.2 * np.exp(0.5), 0.8 / 0.4])
    assert after_a_step([0.5, 0.0], (9, 0), smoothing=0.0) == pytest.approx(expected / expected.sum(), abs=1e-6)


def test_the_latest_divergence_of_a_capability_is_kept() -> None:
    agent = make_agent("reference-gap", capabilities=NAMES, options={"smoothing": 0.0})
    reports = {"divergence_by_capability": [[0.9, 0.3], [0.4, 0.0]], "tokens_by_capability": [[9, 9], [9, 0]]}
    last = play(agent, HALVES, [[0.5, 0.5]] * 3, [HALVES] * 2, **reports)
    assert agent.predict(last)[0][0] == pytest.approx(1 / (1 + np.exp(-0.1)), abs=1e-6)


def test_doremi_clips_and_sheared_llama_does_not() -> None:
    # a is ahead of a teacher at .25: −ln .5 + ln .25 = −ln 2
    options = {"loss": "probe", "reference": "a=0.25 b=0.4", "smoothing": 0.0}
    assert after_a_step([0, 0], **options) == pytest.approx([0.2, 0.8])
    assert after_a_step([0, 0], **options, clip=False) == pytest.approx([0.1 / 0.9, 0.8 / 0.9])


@pytest.mark.parametrize("name", ["reference-gap", "dro"])
@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ("c=0.5", "'c=0.5' names no capability; known: a, b"),
        ("a=2", "'a=2' should read capability=score, the score above 0 and at most 1"),
        ("a=0", "'a=0' should read"),
        ("a=high", "'a=high' should read"),
        ("a=nan", "'a=nan' should read"),
    ],
)
def test_a_wrong_reference_is_explained(name: str, reference: str, words: str) -> None:
    with pytest.raises(ReadEnvError, match=f"'{name}', option 'reference': {words}"):
        make_agent(name, capabilities=NAMES, options={"reference": reference})
