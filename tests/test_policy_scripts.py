"""Computations of the scripts of surrogate, policies and leaderboard, on data whose answers are known."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from read_env.capabilities import get_suite
from read_env.distillation.starts import JUDGING_STARTS
from read_env.files import write_json
from read_env.running.benchmark import load_protocol
from read_env.surrogate.model import rates_of
from read_env.surrogate.record import Episodes, Record
from read_env.surrogate.wide import draw_worlds
from read_env.surrogate.world import expected

SUITE = get_suite("micro")
SIZE = len(SUITE)
Script = Callable[[str], ModuleType]


def cells(table: str, name: str) -> list[str]:
    """Cells of the first row that begins with a name."""
    line = next(line for line in table.splitlines() if re.match(rf"\| {re.escape(name)} +\|", line))
    return [cell.strip() for cell in line.strip("|").split("|")]


# --- record_transitions.py -----------------------------------------------------------------------


def test_recorded_episodes_are_many_and_share_nothing_with_the_judging_pairs(script: Script) -> None:
    module = script("record_transitions")
    jobs = module.jobs()
    assert len(jobs) == len(set(jobs.values())) >= 600
    judged = {(pair.task, pair.student) for pair in load_protocol("micro-v1").pairs}
    assert not set(module.STUDENTS) & {
        *JUDGING_STARTS,
        *(student for _, student in judged - {("", "even")} if student != "even"),
    }
    assert not set(module.TASKS) & {task for task, _ in judged}


@pytest.mark.parametrize(
    ("policy", "changes"), [("sparse", (0, 0)), ("dirichlet", (0, 0)), ("one-switch", (1, 1)), ("changing", (6, 9))]
)
def test_drawn_schedules_change_as_often_as_their_name_says(
    script: Script, policy: str, changes: tuple[int, int]
) -> None:
    for seed in range(20):
        played = script("record_transitions").schedule(policy, 10, SIZE, np.random.default_rng(seed))
        np.testing.assert_allclose(played.sum(1), 1)
        assert played.min() >= 0
        moved = int((np.abs(np.diff(played, axis=0)).max(1) > 0).sum())
        assert changes[0] <= moved <= changes[1]


# --- fit_surrogate.py ----------------------------------------------------------------------------


def known_record(tasks: tuple[str, ...]) -> Record:
    """Episodes in one drawn world: sparse allocations, and w = r on every task."""
    from read_env.tasks import load_task

    rng = np.random.default_rng(0)
    worlds, starts = draw_worlds(rng, 1, SIZE)
    rates, episodes = rates_of("linear", 0.0, np.arange(1, 7) / 6), []
    for number in range(90):
        task = tasks[number // 3 % len(tasks)]
        ruled = number % 3 == 0
        shares = load_task(task, SUITE).requirement_vector(SUITE) if ruled else rng.dirichlet(np.full(SIZE, 0.2))
        start = now = (starts[0] * rng.uniform(0.7, 1.0)).astype(np.float64)
        steps = []
        for rate in rates:
            now = expected(worlds[0], now, shares * 4.0, rate)
            seen = (now + 0.002 * rng.standard_normal(SIZE)).clip(0, 1)
            steps.append({"tokens": shares * 4000, "profile": seen, "loss": np.ones(SIZE)})
        policy = f"task-static {task}" if ruled else "sparse"
        episodes.append({"student": f"s{number % 8}", "policy": policy, "start": start, "steps": steps})
    return Record(SUITE.names, 24_000, 4_000, "linear", 0.0, np.ones(SIZE), Episodes.of(episodes))


def test_a_surrogate_predicts_episodes_that_it_did_not_see_and_the_page_says_how_well(
    script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = script("fit_surrogate")
    for name, value in {"WORLDS": 2, "ITERATIONS": 300, "DRAWS": 8, "FOLDS": 2}.items():
        monkeypatch.setattr(module, name, value)
    record = known_record(module.TASKS)
    text = module.page(record, SimpleNamespace(made_from={"seconds": 1}, persistence=0.5))
    for label in ("policy sparse", "policy task-static", "a quarter of the students, 2 times"):
        _, count, error, constant, ratio, inside = cells(text, label)
        assert float(ratio) == pytest.approx(float(error) / float(constant), abs=0.15)
        assert int(count) in (30, 60, 90) and 0 <= float(inside) <= 1
    assert float(cells(text, "a quarter of the students, 2 times")[4]) < 0.5


# --- ranks.py ------------------------------------------------------------------------------------


def result(protocol: Any, agent: str, gain: float) -> dict[str, Any]:
    one = {"exam_utility_start": 0.1, "exam_utility": 0.1 + gain, "forgetting": 0.0, "spent": 1, "tokens_before_run": 0, "profile_start": [0.2] * SIZE}  # fmt: skip
    names = [f"{pair.label.replace(':', '-')}__{seed}" for pair in protocol.pairs for seed in protocol.seeds]
    return {"digest": protocol.digest, "agent": agent, "name": agent, "options": {}, "runs": dict.fromkeys(names, one)}


@pytest.mark.parametrize(("order", "tau"), [((1, 2, 3, 4), 1.0), ((4, 3, 2, 1), -1.0)])
def test_ranks_agree_where_the_same_agents_are_ahead(
    script: Script, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, order: tuple[int, ...], tau: float
) -> None:
    module, protocol = script("ranks"), load_protocol("micro-dev")
    for number in range(3):
        write_json(tmp_path / f"{number}.json", result(protocol, f"agent{number}", 0.1 * number))
    assert module.section(tmp_path) == "", "three agents have too few ranks"
    write_json(tmp_path / "3.json", result(protocol, "agent3", 0.3))
    monkeypatch.setattr(
        module, "simulated", lambda name, options, starts, tasks, episodes: [float(order[int(name[-1])])] * len(tasks)
    )
    text = module.section(tmp_path)
    assert {float(cell) for cell in cells(text, "Kendall τ")[1:]} == {tau} and f"**{tau:.2f}** on average" in text


def test_agents_are_played_in_the_surrogate_from_the_profile_of_the_pair(script: Script) -> None:
    starts = {"low": np.full(SIZE, 0.2), "high": np.full(SIZE, 0.8)}
    found = script("ranks").simulated("task-static", {}, starts, ["bookkeeper", "bookkeeper"], 2)
    assert found[0] > 0.05 > found[1]


# --- leaderboard.py ------------------------------------------------------------------------------


def entry(module: ModuleType, agent: str, ahead: float, noise: float = 0.0) -> Any:
    protocol = load_protocol("micro-v1")
    base = 0.2 + 0.01 * np.arange(len(protocol.seeds)) + 0.05 * np.arange(len(protocol.pairs))[:, None]
    gains = base + ahead + noise * np.random.default_rng(1).standard_normal(base.shape)
    pairs = [
        {"pair": pair.label, "exam_utility_start": [0.1] * len(row), "exam_utility": (0.1 + row).tolist(), "forgetting": [0.02]}
        for pair, row in zip(protocol.pairs, gains, strict=True)
    ]  # fmt: skip
    return module.Entry.of({"agent": agent, "name": agent, "tokens_before_run": 7000, "pairs": pairs})


def test_the_leaderboard_ranks_by_gain_and_compares_with_the_reference(script: Script) -> None:
    module, protocol = script("leaderboard"), load_protocol("micro-v1")
    entries = [
        entry(module, "task-static", 0.0), entry(module, "uniform", -0.1, 0.02), entry(module, "my:Agent", 0.05, 0.02),
        entry(module, "odm", 0.0, 0.1),
    ]  # fmt: skip
    text = module.page(protocol, "micro-v1", entries)
    assert text.index("| my:Agent") < text.index("| task-static") < text.index("| uniform")
    mine = cells(text, "my:Agent")
    assert mine[1] == "others" and abs(float(mine[2]) - 0.52) < 0.01 and mine[8] == "7,000"
    low, high = map(float, re.findall(r"[+-]\d\.\d+", mine[4])[1:])
    assert 0 < low < 0.05 < high < 0.1 and float(mine[5].strip("< ")) < 0.01 and float(mine[6]) > 0.9
    assert float(cells(text, "odm")[5]) > 0.05 and cells(text, "odm")[1] == "rules of the literature"
    assert cells(text, "task-static")[4:7] == ["", "", ""]
    profile = text.partition("## Performance profile")[2]
    assert float(cells(profile, "uniform")[1]) > 0.9 > float(cells(profile, "uniform")[3])


def test_a_leaderboard_without_its_reference_is_refused(script: Script) -> None:
    module = script("leaderboard")
    with pytest.raises(SystemExit, match="no result of task-static"):
        module.page(load_protocol("micro-v1"), "micro-v1", [entry(module, "uniform", 0.0)])


# --- token_savings.py ----------------------------------------------------------------------------


def test_larger_budgets_are_spent_in_as_many_steps(script: Script, tmp_path: Path) -> None:
    protocol = load_protocol("micro-dev")
    module = script("token_savings")
    once, twice = (module.requests_of(protocol, factor, tmp_path) for factor in (1.0, 2.0))
    for name, run in twice.items():
        assert run.config.budget.total_tokens == 2 * once[name].config.budget.total_tokens
        assert run.config.budget.steps == once[name].config.budget.steps
        assert run.directory != once[name].directory and run.config.task == once[name].config.task


def test_the_factor_of_a_known_curve(script: Script) -> None:
    module, rng = script("token_savings"), np.random.default_rng(0)
    factors = [1.0, 1.25, 1.5, 2.0]
    truth = 0.1 + 0.2 * np.log(factors)
    seeds = 0.01 * rng.standard_normal((1, 1, 10))  # of the prompts, which all runs of a seed share
    curve = truth[:, None, None] + seeds + 0.002 * rng.standard_normal((4, 6, 10))
    agent = 0.1 + 0.2 * np.log(1.4) + seeds[0] + 0.002 * rng.standard_normal((6, 10))
    found = module.savings(factors, curve, agent)
    assert found.low < 1.4 < found.high and found.half_width < 0.03 and abs(found.mean - 1.4) < 0.02
    beyond = module.savings(factors, curve, agent + 1)
    assert np.isinf(beyond.mean) and module.shown_factor(beyond.mean, factors) == "more than 2"
    below = module.savings(factors, curve, agent - 1)
    assert module.shown_factor(below.mean, factors) == "less than 1"
    text = module.page("micro-dev", "mine", factors, curve, agent, "")
    assert cells(text, "1.25")[1].startswith("+0.14")
