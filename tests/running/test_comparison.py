"""Comparisons: each run by itself, shared where the task makes no difference, one best student a task."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from fake_runs import Make, contents, fake_env, watched_env
from fake_runs import play as made_alone
from rich.console import Console

from read_env import files
from read_env.capabilities import get_suite
from read_env.config import Config
from read_env.errors import ReadEnvError
from read_env.reporting import comparison_report, load_runs
from read_env.running import comparison as comparison_module
from read_env.running.agents import AgentSpec
from read_env.running.batch_requests import ComparisonRequest, IdentifyRequest, TransferRequest
from read_env.running.comparison import compare, run_many
from read_env.running.identify import identify
from read_env.running.requests import RunRequest
from read_env.running.reuse import derive, shared_key
from read_env.running.transfer import transfer
from read_env.tasks import load_task

QUIET = Console(file=io.StringIO())


@pytest.fixture
def comparison(small: Config, tmp_path: Path) -> Callable[..., ComparisonRequest]:
    def make(agents: list[str], tasks: tuple[str, ...] = ("math", "travel-desk"), **changes: Any) -> ComparisonRequest:
        settings: dict[str, Any] = {"seeds": (0, 1), "processes": 1, "out": tmp_path / "comparison", **changes}
        return ComparisonRequest(small, tuple(agents), tasks, **settings)

    return make


def play(request: ComparisonRequest) -> Any:
    return compare(request, QUIET, fake_env)


def test_every_agent_runs_on_every_task_and_seed_in_its_own_directory(comparison: Any) -> None:
    result = play(comparison(["task-static", "uniform"]))
    assert result.failures == {}
    names = {path.name for path in (result.directory / "runs").iterdir()}
    runs = product(("task-static", "uniform"), ("math", "travel-desk"), (0, 1))
    assert names == {f"{agent}__{task}__seed{seed}" for agent, task, seed in runs}
    for name in names:
        summary = files.read_json(result.directory / "runs" / name / "summary.json")
        assert name == f"{summary['agent']}__{summary['task']}__seed{summary['seed']}"


def test_one_student_a_task_is_kept_the_best_by_dev_utility(comparison: Any) -> None:
    result = play(comparison(["task-static", "uniform"]))
    kept = {path.parent for path in result.directory.glob("runs/*/student")}
    assert kept == {path.parent for path in result.best_students.values()} and len(kept) == 2
    for task, student in result.best_students.items():
        last = {
            path.parent: files.read_lines(path)[-1]["dev_utility"]
            for path in result.directory.glob(f"runs/*__{task}__*/steps.jsonl")
        }
        assert last[student.parent] == max(last.values())


def test_runs_that_stop_are_compared_with_those_that_do_not(comparison: Any, small: Config) -> None:
    budget = small.budget.model_copy(update={"may_stop": True})
    agents = ["task-static", "uniform", "task-static,stop_at=0.3", "read-bandit,cost_lambda=9"]
    request = comparison(agents, ("tutor",), seeds=(0,))
    result = play(replace(request, config=small.model_copy(update={"budget": budget})))
    assert result.failures == {}
    runs = load_runs(result.directory).set_index("agent")
    assert runs.loc[agents, "left_tokens"].tolist() == [0, 0, 400, 600]
    assert runs.loc[agents, "steps"].tolist() == [6, 6, 2, 0]
    ends = {}
    for path in result.directory.glob("runs/*"):
        summary, steps = files.read_json(path / "summary.json"), files.read_lines(path / "steps.jsonl")
        ends[path] = summary["dev_utility"] if summary["left_tokens"] else steps[-1]["dev_utility"]
    assert result.best_students["tutor"].parent == max(ends, key=ends.__getitem__)
    assert "read-bandit,cost_lambda=9" in comparison_report(result.directory).read_text()


def test_the_best_student_is_that_of_all_runs_in_the_directory(comparison: Any) -> None:
    play(comparison(["task-static", "uniform"]))
    result = play(comparison(["one-hot"]))
    whole = play(comparison(["task-static", "uniform", "one-hot"]))
    assert result.best_students == whole.best_students


def test_a_beaten_student_is_deleted_as_soon_as_its_run_has_finished(
    comparison: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    request, there = comparison(["task-static", "uniform", "sqrt-task"]), []
    made = comparison_module._in_short
    monkeypatch.setattr(
        comparison_module,
        "_in_short",  # of each run in turn, before its student may go
        lambda summary: (there.append(len(list(request.directory.glob("runs/*/student")))), made(summary))[1],
    )
    result = play(request)
    # A best student for each of two tasks, that of the run, and uniform's of two seeds, from which others are derived.
    assert len(there) == 10 and max(there) <= 5
    whole = play(
        comparison(["task-static", "uniform", "sqrt-task"], out=request.directory.with_name("w"), keep_students=True)
    )
    assert {task: path.parent.name for task, path in result.best_students.items()} == {
        task: path.parent.name for task, path in whole.best_students.items()
    }
    assert len(list(result.directory.glob("runs/*/student"))) == 2


def test_all_students_are_kept_when_asked(comparison: Any) -> None:
    result = play(comparison(["task-static", "uniform"], keep_students=True))
    assert len(list(result.directory.glob("runs/*/student/config.json"))) == 8


def test_the_same_command_makes_only_what_is_missing_and_more_can_be_added(comparison: Any) -> None:
    first = play(comparison(["task-static"]))
    before = contents(first.directory / "runs")
    stamps = {path: path.stat().st_mtime_ns for path in first.directory.glob("runs/*/summary.json")}
    again = play(comparison(["task-static", "sqrt-task"], seeds=(0, 1, 2)))
    assert again.failures == {}
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps
    assert {name for name in before if "student" not in name} <= set(contents(first.directory / "runs"))
    assert len(list(first.directory.glob("runs/*/summary.json"))) == 12
    config = files.read_json(first.directory / "config.json")
    assert (config["agents"], config["seeds"]) == (["task-static", "sqrt-task"], [0, 1, 2])


def test_another_budget_is_refused(comparison: Any, small: Config) -> None:
    play(comparison(["uniform"]))
    other = small.model_copy(update={"budget": small.budget.model_copy(update={"total_tokens": 700})})
    request = comparison(["uniform"])
    with pytest.raises(ReadEnvError, match=r"budget.total_tokens: 600 in the folder, 700 in this command"):
        play(replace(request, config=other))


def test_what_cannot_be_compared_is_said_before_anything_runs(comparison: Any, tmp_path: Path) -> None:
    with pytest.raises(ReadEnvError, match="agents: uniform is there twice"):
        play(comparison(["uniform", "uniform"]))
    with pytest.raises(ReadEnvError, match="did you mean 'math'"):
        play(comparison(["uniform"], tasks=("mth",)))
    with pytest.raises(ReadEnvError, match="capability"):
        play(comparison(["one-hot,capability=mth"]))
    assert not (tmp_path / "comparison").exists()


def test_a_failure_is_in_the_result_and_the_rest_is_done(comparison: Any) -> None:
    def sometimes(config: Config) -> Any:
        def reset(*, seed: int | None = None, options: Any = None) -> None:
            if options["task"] == "travel-desk" and seed == 1:
                raise ReadEnvError("the disk is full")

        return watched_env(config, reset, "reset")

    result = compare(comparison(["task-static"]), QUIET, sometimes)
    assert result.failures == {"task-static__travel-desk__seed1": "the disk is full"}
    assert len(list(result.directory.glob("runs/*/summary.json"))) == 3
    assert play(comparison(["task-static"])).failures == {}


# --- one run for all tasks --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("agent", "keys"),
    [
        ("uniform", ["any task"] * 2),
        ("round-robin", ["any task"] * 2),
        ("one-hot,capability=code", ["code"] * 2),
        ("one-hot", ["math", "tool_use"]),
        ("task-static", [None] * 2),
        ("random-candidate", [None] * 2),
        ("read-bandit-published", [None] * 2),
    ],
)
def test_what_of_the_task_an_agent_looks_at(agent: str, keys: list[str | None]) -> None:
    suite = get_suite("micro")
    cards = [load_task(name, suite) for name in ("math", "bookkeeper")]
    assert [shared_key(AgentSpec.parse(agent), card, suite) for card in cards] == keys


@pytest.mark.parametrize(
    ("agent", "task"),
    [
        *product(("uniform", "round-robin", "one-hot,capability=code"), ("tutor", "translator", "code-reviewer")),
        ("one-hot", "polyglot-cashier"),
    ],
)
def test_a_derived_run_has_the_records_of_one_that_was_made(request_for: Make, agent: str, task: str) -> None:
    source, made, derived = (
        request_for(agent, folder, task=name) for folder, name in [("a", "math"), ("b", task), ("c", task)]
    )
    for request in (source, made):
        made_alone(request)
    derive(source, derived)
    one, other = contents(made.directory), contents(derived.directory)
    assert list((derived.directory / "tensorboard").iterdir())
    summary = json.loads(other.pop("summary.json"))
    assert summary.pop("derived_from") == "a"
    assert summary == json.loads(one.pop("summary.json"))
    assert other == one


def test_a_task_free_agent_runs_once_a_seed(comparison: Any) -> None:
    resets: list[Any] = []
    counted = partial(watched_env, before=lambda **options: resets.append(options), method="reset")
    result = compare(comparison(["uniform", "task-static"]), QUIET, counted)
    assert len(resets) == 2 + 4
    assert len(list(result.directory.glob("runs/*/summary.json"))) == 8


# --- transfer -----------------------------------------------------------------------------------------


def test_transfer_measures_the_exam_at_every_budget(small: Config, tmp_path: Path) -> None:
    request = TransferRequest(small, (400, 200, 600), (0,), ("math", "code"), 1, tmp_path / "transfer")
    assert transfer(request, QUIET, fake_env) == {}
    assert {path.name for path in (tmp_path / "transfer" / "runs").iterdir()} == {
        "one-hot-math__seed0",
        "one-hot-code__seed0",
    }
    steps = files.read_lines(tmp_path / "transfer" / "runs" / "one-hot-math__seed0" / "steps.jsonl")
    assert [record["budget_spent"] for record in steps if "exam" in record] == [200, 400, 600]
    assert all(record["allocation"][3] == 1.0 for record in steps)
    config = files.read_json(tmp_path / "transfer" / "config.json")
    assert (config["budgets"], config["seeds"]) == ([200, 400, 600], [0])
    with pytest.raises(ReadEnvError, match="budgets"):
        transfer(TransferRequest(small, (400, 600), (0,), out=tmp_path / "transfer"), QUIET, fake_env)


def test_no_student_stays_on_disk_beside_that_of_the_run(
    small: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there, made = [], comparison_module._in_short
    monkeypatch.setattr(
        comparison_module,
        "_in_short",
        lambda summary: (there.append(len(list(tmp_path.glob("*/runs/*/student")))), made(summary))[1],
    )
    matrix = TransferRequest(small, (200,), (0, 1), ("math", "code"), 1, tmp_path / "transfer")
    assert transfer(matrix, QUIET, fake_env) == {}
    asked = small.identify.model_copy(update={"interventions": 10, "tokens": 2000})
    config = small.model_copy(update={"task": "bill-abroad", "identify": asked})
    identify(IdentifyRequest(config, processes=1, runs_dir=tmp_path / "identify"), QUIET, fake_env)
    assert there == [1] * 14 and not list(tmp_path.glob("*/runs/*/student"))


def test_a_budget_between_two_steps_is_measured_when_it_is_passed(small: Config, tmp_path: Path) -> None:
    request = TransferRequest(small, (130, 601), (0,), ("math",), 1, tmp_path / "transfer")
    assert transfer(request, QUIET, fake_env) == {}
    steps = files.read_lines(tmp_path / "transfer" / "runs" / "one-hot-math__seed0" / "steps.jsonl")
    measured = [record["budget_spent"] for record in steps if "exam" in record]
    assert measured == [200, 600]


def test_only_runs_of_one_configuration_share_a_run(small: Config, tmp_path: Path) -> None:
    faster = small.model_copy(update={"distill": small.distill.model_copy(update={"learning_rate": 2e-3})})
    configs = {"slow": small, "slow-elsewhere": small.model_copy(update={"task": "travel-desk"}), "fast": faster}
    requests = {
        name: RunRequest(config.model_copy(update={"agent": "uniform"}), tmp_path / name)
        for name, config in configs.items()
    }
    assert run_many("settings", requests, 1, QUIET, fake_env) == {}
    derived = {name: files.read_json(tmp_path / name / "summary.json").get("derived_from") for name in requests}
    assert derived == {"slow": None, "slow-elsewhere": "slow", "fast": None}
