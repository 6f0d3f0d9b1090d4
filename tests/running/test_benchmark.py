"""Frozen benchmarks, over a distillation without models."""

from __future__ import annotations

import io
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_runs import SMALL, fake_env
from rich.console import Console

from read_env import files
from read_env.errors import ReadEnvError
from read_env.running import benchmark as module
from read_env.running import comparison
from read_env.running.benchmark import IncompleteResult, benchmark, benchmark_names, load_protocol, load_result
from read_env.running.tool_requests import BenchmarkRequest

QUIET = Console(file=io.StringIO())
PROTOCOL = """
seeds = [5, 6]
[[pairs]]
preset = "small.toml"
task = "math"
student = "even"
[[pairs]]
preset = "small.toml"
task = "travel-desk"
student = "clerk"
"""


@pytest.fixture
def protocol(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    budget = SMALL["budget"]
    Path("small.toml").write_text(
        f'extends = "micro"\n[budget]\ntotal_tokens = {budget["total_tokens"]}\nstep_tokens = {budget["step_tokens"]}\n'
    )
    Path("small-v1.toml").write_text(PROTOCOL)
    return "small-v1.toml"


def play(protocol: str, agent: str = "uniform", **changes: Any) -> module.BenchmarkResult:
    return benchmark(BenchmarkRequest(agent, protocol, processes=1, **changes), QUIET, fake_env)


def test_the_result_has_every_pair_and_seed_and_what_was_spent(protocol: str) -> None:
    done = play(protocol, "task-static,floor=0.02")
    assert done.path == Path("runs/small-v1/task-static,floor=0.02.json") and not done.failures
    result = load_result(done.path, load_protocol(protocol))
    assert [one["pair"] for one in result["pairs"]] == ["math@even", "travel-desk@clerk"]
    assert list(result["runs"]) == ["math@even__5", "math@even__6", "travel-desk@clerk__5", "travel-desk@clerk__6"]
    run = done.path.with_suffix("") / "travel-desk@clerk__6"
    summary = files.read_json(run / "summary.json")
    assert result["pairs"][1]["exam_utility"][1] == round(summary["exam_utility"], 6)
    assert result["pairs"][1]["spent"] == [summary["spent"]] * 2 and summary["seed"] == 6
    gains = np.subtract(result["pairs"][1]["exam_utility"], result["pairs"][1]["exam_utility_start"])
    assert done.gains["travel-desk@clerk"] == pytest.approx(gains.mean(), abs=1e-6)
    start = files.read_json(run / "start.json")
    assert result["runs"]["travel-desk@clerk__6"]["profile_start"] == pytest.approx(start["profile"], abs=1e-4)
    assert not (run / "student").exists()


def test_the_same_command_goes_on(protocol: str, monkeypatch: pytest.MonkeyPatch) -> None:
    first = play(protocol)
    assert first.path is not None
    text = first.path.read_text()
    files.remove(first.path.with_suffix("") / "math@even__5")
    steps = {path: path.stat().st_mtime_ns for path in first.path.with_suffix("").glob("*/steps.jsonl")}
    again = play(protocol)
    assert again.path == first.path and first.path.read_text() == text
    assert len(steps) == 3 and all(path.stat().st_mtime_ns == at for path, at in steps.items())


def test_a_file_goes_on_without_the_folders_of_its_runs(protocol: str) -> None:
    first = play(protocol)
    assert first.path is not None
    complete = first.path.read_text()
    files.remove(first.path.with_suffix(""))
    values = files.read_json(first.path)
    del values["runs"]["travel-desk@clerk__5"]
    files.write_json(first.path, values)
    with pytest.raises(IncompleteResult, match="has 3 of 4 runs; the same read-env benchmark makes the others"):
        load_result(first.path, load_protocol(protocol))
    play(protocol)
    assert [path.name for path in first.path.with_suffix("").iterdir()] == ["travel-desk@clerk__5"]
    assert first.path.read_text() == complete


def test_runs_of_another_agent_are_made_again(protocol: str, tmp_path: Path) -> None:
    uniform = play(protocol, "uniform", out=tmp_path / "uniform.json")
    (tmp_path / "static.json").write_text((tmp_path / "uniform.json").read_text())
    static = play(protocol, "task-static", out=tmp_path / "static.json")
    assert static.gains != uniform.gains and len(list((tmp_path / "static").iterdir())) == 4


def test_a_student_is_deleted_as_soon_as_its_run_is_in_the_file(protocol: str, monkeypatch: pytest.MonkeyPatch) -> None:
    there, made = [], comparison._in_short
    monkeypatch.setattr(
        comparison,
        "_in_short",
        lambda summary: (there.append(len(list(Path("runs").rglob("student")))), made(summary))[1],
    )
    play(protocol, "task-static")
    assert there == [1] * 4


@pytest.mark.parametrize("interrupt", [False, True])
def test_the_file_holds_what_was_finished(protocol: str, monkeypatch: pytest.MonkeyPatch, interrupt: bool) -> None:
    made = comparison.run_many

    def half(title: str, runs: Any, *arguments: Any, **options: Any) -> dict[str, str]:
        names = list(runs)
        made(title, {name: runs[name] for name in names[:2]}, *arguments, **options)
        if interrupt:
            raise KeyboardInterrupt
        return dict.fromkeys(names[2:], "no such model")

    monkeypatch.setattr(comparison, "run_many", half)
    with pytest.raises(KeyboardInterrupt) if interrupt else nullcontext():
        assert play(protocol).path is None
    path = Path("runs/small-v1/uniform.json")
    assert list(files.read_json(path)["runs"]) == ["math@even__5", "math@even__6"]
    files.remove(path.with_suffix(""))
    monkeypatch.setattr(comparison, "run_many", made)
    assert play(protocol).path == path and len(list(path.with_suffix("").iterdir())) == 2


def test_results_of_another_protocol_are_refused(protocol: str) -> None:
    done = play(protocol)
    assert done.path is not None
    Path("small.toml").write_text(Path("small.toml").read_text() + "\n[distill]\nlearning_rate = 2e-3\n")
    with pytest.raises(ReadEnvError, match=r"its digest is \w+, that of the protocol \w+: pairs, presets"):
        load_result(done.path, load_protocol(protocol))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seeds = []\npairs = []", "pairs: Tuple should have at least 1 item"),
        (PROTOCOL + "weight = 1", "pairs.1.weight: Extra inputs are not permitted"),
        ("seeds = [", "is not valid TOML"),
    ],
)
def test_a_bad_protocol_is_refused(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "p.toml").write_text(text)
    with pytest.raises(ReadEnvError, match=message):
        load_protocol(str(tmp_path / "p.toml"))


def test_bad_names_are_refused(protocol: str, tmp_path: Path) -> None:
    with pytest.raises(ReadEnvError, match="unknown protocol 'micro-v2': did you mean 'micro-v1'"):
        load_protocol("micro-v2")
    with pytest.raises(ReadEnvError, match="right would be a .json file"):
        play(protocol, out=tmp_path / "result.txt")
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(ReadEnvError, match="is no result of read-env benchmark"):
        load_result(tmp_path / "other.json", load_protocol(protocol))


def test_the_judging_pairs_of_the_shipped_protocol_are_not_for_training() -> None:
    from read_env.distillation.starts import TRAINING_STARTS

    assert benchmark_names() == ("micro-dev", "micro-dev-tasks", "micro-v1")
    shipped = load_protocol("micro-v1")
    assert len(shipped.pairs) >= 10 and len(shipped.seeds) >= 10
    assert len({pair.label for pair in shipped.pairs}) == len(shipped.pairs)
    assert not {pair.student for pair in shipped.pairs} & set(TRAINING_STARTS)
    assert {pair.preset for pair in shipped.pairs} == {"micro", "micro-tasks"}
    for development in map(load_protocol, ("micro-dev", "micro-dev-tasks")):
        assert not {pair.student for pair in shipped.pairs} & {pair.student for pair in development.pairs}
        assert not {pair.task for pair in shipped.pairs} & {pair.task for pair in development.pairs}
        assert not set(shipped.seeds) & set(development.seeds)
