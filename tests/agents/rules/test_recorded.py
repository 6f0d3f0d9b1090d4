"""Recorded runs, ``skill-it`` and ``frozen-mean`` by numbers."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rule_records import write_run
from rule_steps import observation, play

from read_env.agents import load_agent, make_agent
from read_env.agents.rules.recorded import read_runs
from read_env.errors import ReadEnvError

NAMES = ("a", "b")
HALVES = [0.5, 0.5]
START = [0.25, 0.5]


@pytest.fixture
def matrix(tmp_path: Path) -> Path:
    """Transfer matrix: a halves the surprisal of a and doubles that of b, b halves that of b on average."""
    runs = tmp_path / "matrix" / "runs"
    write_run(runs / "a", NAMES, [[1, 0], [1, 0]], START, [0.5, 0.25])
    write_run(runs / "b0", NAMES, [0, 1], START, [0.25, 1.0])
    write_run(runs / "b1", NAMES, [0, 1], START, [0.25, 0.5], seed=1)
    write_run(runs / "b2", NAMES, [0, 1], START, [0.9, 0.9], seed=2, finished=False)
    write_run(runs / "mixed", NAMES, HALVES, START, [0.9, 0.9])
    write_run(runs / "copy", NAMES, [0, 1], START, [0.9, 0.9], derived=True)
    return tmp_path / "matrix"


def after_two_steps(matrix: Path, requirement: Any = HALVES, **options: Any) -> np.ndarray:
    agent = make_agent("skill-it", capabilities=NAMES, options={"transfer": str(matrix), **options})
    return agent.predict(play(agent, requirement, [[0.25, 0.25], [0.5, 0.25], [0.5, 0.5]], [HALVES] * 2))[0]


def share(exponent: float) -> list[float]:
    """Weights (1, e^x), normalised."""
    return [1 / (1 + np.exp(exponent)), 1 / (1 + np.exp(-exponent))]


def test_skill_it(matrix: Path) -> None:
    # A = ((½, −1), (0, ½)); the losses in units of ln 2 are (2, 2), (1, 2), (1, 1)
    ln2 = np.log(2)
    # Window 3, means (4/3, 5/3): A·L = (2/3, 5/6) clipped, so the exponents differ by η/6
    assert after_two_steps(matrix) == pytest.approx(share(0.5 * ln2 / 6))
    # (2/3 − 5/3, 5/6) kept: 11/6
    assert after_two_steps(matrix, negative="keep") == pytest.approx(share(0.5 * ln2 * 11 / 6))
    # The mean of the objective sums over the window: (4, 5), so (2, 2.5)
    assert after_two_steps(matrix, objective="mean", eta=0.2) == pytest.approx(share(0.2 * ln2 * 0.5))
    # Window 2: (1, 3/2), so (½, ¾); window 1: (1, 1), so equal
    assert after_two_steps(matrix, window=2) == pytest.approx(share(0.5 * ln2 / 4))
    assert after_two_steps(matrix, window=1) == pytest.approx(HALVES)
    # m·r = (1.5, .5): (1.5·⅔, .5·⅚)
    assert after_two_steps(matrix, [0.75, 0.25]) == pytest.approx(share(0.5 * ln2 * (0.5 * 5 / 6 - 1)))


def test_skill_it_starts_from_equal_weights_with_the_losses_of_the_start(matrix: Path) -> None:
    agent = make_agent("skill-it", capabilities=NAMES, options={"transfer": str(matrix)})
    found = agent.predict(observation([0.5, 0.25], HALVES))[0]
    assert found == pytest.approx(share(0.5 * np.log(2) * 0.5))  # (1, 2)/2


def test_a_capability_without_loss_has_no_edges(tmp_path: Path) -> None:
    for index in range(2):
        write_run(tmp_path / "runs" / str(index), NAMES, np.eye(2)[index], [1.0, 0.5], [0.5, 0.5])
    agent = make_agent("skill-it", capabilities=NAMES, options={"transfer": str(tmp_path)})
    assert agent.predict(observation([0.1, 0.1], HALVES))[0] == pytest.approx(HALVES)


def test_a_matrix_with_a_hole_is_explained(matrix: Path) -> None:
    shutil.rmtree(matrix / "runs" / "a")
    agent = make_agent("skill-it", capabilities=NAMES, options={"transfer": str(matrix)})
    words = (
        "'skill-it', option 'transfer' is '.*': it has no finished run with all tokens on a; right would be .*transfer"
    )
    with pytest.raises(ReadEnvError, match=words):
        agent.check_task(np.array(HALVES))


def test_frozen_mean_weights_steps_by_their_tokens(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", NAMES, [[1, 0], [0.5, 0.5], [0, 1]], START, START, tokens=[300, 200, 500])
    agent = make_agent("frozen-mean", capabilities=NAMES, options={"run": str(run)})
    assert agent.predict(observation(START, HALVES))[0] == pytest.approx([0.4, 0.6])
    assert agent.predict(observation([0.9, 0.1], [1, 0], HALVES))[0] == pytest.approx([0.4, 0.6])
    assert agent.tokens_before_run == 1000


def test_frozen_mean_replays_one_run(matrix: Path) -> None:
    agent = make_agent("frozen-mean", capabilities=NAMES, options={"run": str(matrix)})
    with pytest.raises(
        ReadEnvError, match="'run' is '.*matrix': it has 4 finished runs; right would be .* one finished run"
    ):
        agent.check_task(np.array(HALVES))


def test_tokens_of_the_recorded_runs_count_once(matrix: Path) -> None:
    agent = make_agent("skill-it", capabilities=NAMES, options={"transfer": str(matrix)})
    agent.check_task(np.array(HALVES))
    assert agent.tokens_before_run == 500  # two steps of a, b0, b1, mixed
    assert len(read_runs(matrix, NAMES)) == 4


def test_a_saved_agent_needs_the_runs_no_more(matrix: Path, tmp_path: Path) -> None:
    agent = make_agent("skill-it", capabilities=NAMES, options={"transfer": str(matrix)})
    expected = agent.predict(observation(START, HALVES))[0]
    agent.save(tmp_path / "agent")
    shutil.rmtree(matrix)
    loaded = load_agent(tmp_path / "agent")
    assert (loaded.predict(observation(START, HALVES))[0] == expected).all() and loaded.tokens_before_run == 500
    # Edges are clipped where they are used, so that the option of a saved agent can be changed.
    kept = load_agent(tmp_path / "agent", {"negative": "keep"})
    assert kept.predict(observation(START, HALVES))[0][0] < expected[0]


@pytest.mark.parametrize(("name", "option"), [("skill-it", "transfer"), ("frozen-mean", "run")])
def test_wrong_records_are_explained(name: str, option: str, matrix: Path, tmp_path: Path) -> None:
    def message(path: Any, capabilities: Any = NAMES) -> str:
        agent = make_agent(name, capabilities=capabilities, options={option: str(path)} if path else {})
        with pytest.raises(ReadEnvError) as caught:
            agent.check_task(np.array(HALVES))
        assert f"agent '{name}'" in str(caught.value) and "right would be" in str(caught.value)
        return str(caught.value)

    assert f"has no recorded runs; right would be '{name},{option}=PATH'" in message("")
    assert "no such run directory" in message(tmp_path / "gone")
    assert "has no finished run" in message(write_run(tmp_path / "run", NAMES, HALVES, START, START, finished=False))
    assert "has the capabilities a, b; here they are a, c" in message(matrix, ("a", "c"))
    (matrix / "runs" / "a" / "start.json").write_text("{")
    assert "start.json" in message(matrix)
