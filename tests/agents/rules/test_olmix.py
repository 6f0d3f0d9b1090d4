"""``olmix`` by numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from rule_records import write_run
from rule_steps import observation

from read_env.agents import make_agent
from read_env.agents.rules.olmix import best_mixture, fit_law
from read_env.errors import ReadEnvError

NAMES = ("a", "b")
SLOPES = np.array([[-1.0, 0.0], [0.0, -0.5]])
NEEDS = np.array([0.6, 0.4])
#: Weight at which (.7, .3) is best: the derivative of the losses along (1, −1) is
#: −.6·e^−.7 + .4·.5·e^−.15 = −.125809, that of KL ln(.7/.6) − ln(.3/.4) = .441833.
PENALTY = 0.125809 / 0.441833


def test_best_mixture() -> None:
    assert best_mixture(SLOPES, NEEDS, PENALTY) == pytest.approx([0.7, 0.3], abs=1e-5)
    assert best_mixture(SLOPES, NEEDS, 1e6) == pytest.approx(NEEDS, abs=1e-5)
    # Without a divergence the corner is best: .6·e^−1 + .4 < .6 + .4·e^−.5
    assert best_mixture(SLOPES, NEEDS, 1e-6) == pytest.approx([1, 0], abs=1e-3)


def test_effects_between_capabilities() -> None:
    # At (.7, .3): −1.2·.6·e^−.64 + .4·.4·e^.18 = −.188095
    slopes = np.array([[-1.0, 0.2], [0.3, -0.1]])
    assert best_mixture(slopes, NEEDS, 0.188095 / 0.441833) == pytest.approx([0.7, 0.3], abs=1e-5)


def test_what_is_not_needed_gets_nothing() -> None:
    slopes = np.array([[-1.0, -5.0, 0.0], [0.0, 0.0, 0.0], [0.0, -5.0, -0.5]])
    # b would help both; among a and c it is the case above.
    assert best_mixture(slopes, np.array([0.6, 0.0, 0.4]), PENALTY) == pytest.approx([0.7, 0.0, 0.3], abs=1e-5)


def test_the_law_is_found_again() -> None:
    rng = np.random.default_rng(0)
    mixtures = rng.dirichlet(np.ones(3), 30)
    for constant, slopes in ((0.5, np.array([0.3, -1.0, -2.0])), (0.05, np.array([1.0, 0.2, -0.5]))):
        losses = constant + np.exp(mixtures @ slopes)
        found, lines = fit_law(mixtures, losses, delta=0.02)
        unseen = rng.dirichlet(np.ones(3), 20)
        assert np.exp(found) + np.exp(unseen @ lines) == pytest.approx(constant + np.exp(unseen @ slopes), abs=2e-3)


def test_an_outlier_does_not_bend_the_law() -> None:
    rng = np.random.default_rng(1)
    mixtures = rng.dirichlet(np.ones(2), 20)
    losses = 0.3 + np.exp(mixtures @ [-1.0, 0.0])
    losses[3] += 2.0
    found, lines = fit_law(mixtures, losses, delta=0.02)
    assert np.exp(found) + np.exp(lines) == pytest.approx([0.3 + np.exp(-1), 1.3], abs=0.03)


def test_from_records_to_an_allocation(tmp_path: Path) -> None:
    for index, share in enumerate(np.linspace(0.05, 0.95, 10)):
        mixture = np.array([share, 1 - share])
        losses = 0.2 + np.exp(SLOPES @ mixture)
        write_run(tmp_path / "runs" / str(index), NAMES, mixture, [0.2, 0.2], np.exp(-losses))
    options = {"runs": str(tmp_path), "penalty": PENALTY}
    agent = make_agent("olmix", capabilities=NAMES, options=options)
    assert agent.predict(observation([0.3, 0.3], NEEDS))[0] == pytest.approx([0.7, 0.3], abs=5e-3)
    assert agent.tokens_before_run == 1000
    even = make_agent("olmix", capabilities=NAMES, options={**options, "objective": "mean"})
    expected = best_mixture(SLOPES, np.array([0.5, 0.5]), PENALTY)
    assert even.predict(observation([0.3, 0.3], NEEDS))[0] == pytest.approx(expected, abs=5e-3)


@pytest.mark.parametrize("name", ["olmix", "regmix"])
def test_too_few_runs_are_explained(name: str, tmp_path: Path) -> None:
    for index in range(2):
        write_run(tmp_path / "runs" / str(index), NAMES, [0.5, 0.5], [0.2, 0.2], [0.3, 0.3])
    agent = make_agent(name, capabilities=NAMES, options={"runs": str(tmp_path)})
    with pytest.raises(
        ReadEnvError, match=f"'{name}', option 'runs' is .*: it has 2 finished runs, not more than the 2"
    ):
        agent.check_task(NEEDS)
    with pytest.raises(
        ReadEnvError, match=f"has no recorded runs; right would be '{name},runs=PATH', PATH the directory"
    ):
        make_agent(name, capabilities=NAMES).check_task(NEEDS)
