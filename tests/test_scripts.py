"""Computations of the scripts: the projected step, the page of throughputs, pages of records."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from fake_distillation import FakeDistillationEnv
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from synthetic_records import write_run

from read_env import files
from read_env.errors import ReadEnvError
from read_env.reporting import load_run

Script = Callable[[str], ModuleType]


def test_projection_finds_the_fixed_and_the_growing_part(script: Script) -> None:
    def steps(tokens: int) -> list[dict[str, float]]:
        row = {
            "teacher": 4e-4 * tokens,
            "student": 1e-4 * tokens,
            "prompts": 2e-6 * tokens,
            "probes": 0.5,
            "other": 0.1,
        }
        return [row, row, {stage: 10 * seconds for stage, seconds in row.items()}]  # one step was disturbed

    measured = {"cold": {tokens: steps(tokens) for tokens in (4_000, 6_000, 10_000)}}
    lines = script("benchmark_chunk").projection(measured, choice=0.04)
    rows = {cells[1].strip(): [c.strip() for c in cells[2:]] for line in lines if (cells := line.split("|")[1:-1])}
    assert rows["teacher and student"][:3] == ["0.0000", "0.50000", "500.00"]
    assert rows["probes"] == ["0.5000", "0.00000", "0.50", "0.10%", "≤ 3%: met", "3.12%"]
    assert rows["everything else"][:3] == ["0.1400", "0.00200", "2.14"]


def test_a_section_replaces_the_one_of_its_pair_and_hardware(script: Script) -> None:
    merge = script("throughput_page").merge
    page = merge("", "## micro on a CPU\n\n1,000 tokens\n")
    page = merge(page, "## micro on a GPU\n\nother\n")
    page = merge(page, "## micro on a CPU\n\n2,000 tokens\n")
    assert page.count("# Throughput beside TRL") == 1 and page.count("\n## ") == 2
    assert "1,000 tokens" not in page and page.index("2,000 tokens") < page.index("other")
    assert "No GPU was at hand" in page
    assert "No GPU was at hand" not in merge(page, "## random-1b-8b on a GPU\n\n3,000 tokens\n")


@pytest.mark.parametrize(("theirs", "judged"), [(1.0, True), (1.2, False)])
def test_no_bar_is_met_by_students_that_learned_something_else(script: Script, theirs: float, judged: bool) -> None:
    page, variants = script("throughput_page"), script("throughput_variants")
    losses = dict.fromkeys(variants.VARIANTS, 1.0) | {variants.SHUFFLED: theirs}
    runs = {v: [variants.Run(1.0 if v == variants.WARM else 9.0, 100, 5)] for v in variants.VARIANTS}
    pair = SimpleNamespace(name="micro", student=SimpleNamespace(placement=SimpleNamespace(device=torch.device("cpu"))))
    work = SimpleNamespace(lengths=[10], token_ids=[(1, 2)], trained=1)
    measured = page.Measured("command", "", "", runs, losses, 2.0, dict.fromkeys(variants.VARIANTS, 0.1))
    text = page.section(pair, work, measured)
    assert (": met." in text) == (": missed." in text) == judged
    assert ("NOT the same" in text and "not judged" in text) == (not judged)


def test_memory_is_that_of_the_device_of_the_work(script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with a GPU may measure on its CPU."""
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("Linux only")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda *_: pytest.fail("the GPU was asked"))
    found = script("throughput_variants").added_memory(lambda: (b"x" * (64 * 2**20)).count(b"y"), torch.device("cpu"))
    assert 0.05 < found < 0.5


def test_several_gpus_are_refused_unless_the_work_is_on_the_cpu(
    script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs = script("throughput_pairs")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(SystemExit, match="2 GPUs are visible.*CUDA_VISIBLE_DEVICES=0"):
        pairs.load_pair("random-tiny", 1)
    assert pairs.load_pair("random-tiny", 1, "cpu").name == "random-tiny"


def test_a_run_without_exam_has_no_scores(script: Script, tmp_path: Path) -> None:
    end = write_run(tmp_path / "run", "uniform", steps=2) / "summary.json"
    assert script("common").exam_of(load_run(tmp_path / "run")).shape == (10,)
    end.write_text(json.dumps({**json.loads(end.read_text()), "exam": None}))
    with pytest.raises(ReadEnvError, match=r"summary.json: exam is null: this run held no exam"):
        script("common").exam_of(load_run(tmp_path / "run"))


@pytest.mark.parametrize(
    ("tolerated", "kept"), [("", None), ("the student update diverged", ["fine"]), ("another error", None)]
)
def test_only_failures_that_are_tolerated_let_a_script_go_on(
    script: Script, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tolerated: str, kept: Any
) -> None:
    common = script("common")
    requests = {name: SimpleNamespace(directory=tmp_path / name) for name in ("fine", "bad")}
    (write_run(tmp_path / "fine", steps=2) / "student").mkdir()
    monkeypatch.setattr(common, "run_many", lambda *_: {"bad": "the student update diverged: loss nan"})
    if kept is None:
        with pytest.raises(SystemExit, match="bad: the student update diverged"):
            common.run_all("runs", requests, 1, tolerated)
    else:
        assert list(common.run_all("runs", requests, 1, tolerated)) == kept
    assert not (tmp_path / "fine" / "student").exists()


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    total=st.integers(1, 400),
    step_tokens=st.integers(1, 500),
    lengths=st.integers(1, 4).flatmap(
        lambda size: st.lists(st.lists(st.integers(1, 90), min_size=1, max_size=5), min_size=size, max_size=size)
    ),
    data=st.data(),
)
def test_the_ledger_of_a_run_is_never_overspent(
    script: Script, total: int, step_tokens: int, lengths: list, data: st.DataObject
) -> None:
    weights = st.lists(st.floats(0, 1e9), min_size=len(lengths), max_size=len(lengths)).filter(any)
    allocations = data.draw(st.lists(weights, min_size=1, max_size=3))
    assert script("reliability").ledger_faults(total, step_tokens, lengths, allocations) == []


def test_the_study_of_the_ledger_sees_faults(script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    reliability = script("reliability")
    monkeypatch.setattr(reliability.Ledger, "_charge", lambda self, examples: None)
    assert set(reliability.ledger_faults(100, 50, [[10]], [[1.0]])) == {"overspent", "miscounted", "left over"}
    monkeypatch.setattr(reliability.Ledger, "_gather", lambda *_: ([reliability._Completion(60)], [1]))
    assert {"overspent", "outside"} <= set(reliability.ledger_faults(100, 50, [[10], [10]], [[1.0, 0.0]]))


@pytest.mark.parametrize("kind", ["command line", "preset (TOML)", "task card (TOML)", "prompts (JSONL)",
                                  "evaluation prompts (JSONL)", "saved agent"])  # fmt: skip
def test_malformed_inputs_end_in_a_line(
    script: Script, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: str
) -> None:
    monkeypatch.chdir(tmp_path)
    inputs = script("malformed_inputs")
    strategy, read = inputs.Kinds(tmp_path).all()[kind]
    found = inputs.tried(strategy(), read, 15, number=1)
    assert found["tracebacks"] == [] and 5 < found["refused"] <= found["tried"] <= 15


def test_malformed_snapshots_and_folders_end_in_a_line(
    script: Script, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    inputs = script("malformed_inputs")
    kinds = inputs.Kinds(tmp_path)
    kinds.env = FakeDistillationEnv(overrides=inputs.TINY)
    kinds.env.reset(seed=0)
    for name in ("snapshot", "report of a damaged folder", "resume of a damaged folder", "damaged checkpoint"):
        strategy, read = kinds.all()[name]
        found = inputs.tried(strategy(), read, 10, number=1)
        assert found["tracebacks"] == [] and found["refused"], name


def test_a_traceback_is_counted(script: Script) -> None:
    inputs = script("malformed_inputs")
    found = inputs.tried(st.just("1"), lambda value: value + 1, 1, number=0)
    assert (
        found["tried"] == 1 and found["tracebacks"][0][0].startswith("TypeError") and found["tracebacks"][0][2] == "'1'"
    )


def test_the_page_of_reliability_is_made_from_logs(
    script: Script, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("sys.argv", ["scripts/reliability.py"])
    reliability = script("reliability")
    lines = [
        {"command": command, "event": event, "fresh": 8.0, "forked": 2.0, "files": 3, "run": 0, "at": 1.0, "kills": 1,
         "stage": "with a checkpoint", "writing": False, "code": 0, "differs": ["summary.json"] * (command == "train")}
        for command in ("run", "train", "compare")
        for event in ("whole", "kill", "end")
    ]  # fmt: skip
    (tmp_path / "kills").mkdir()
    (tmp_path / "kills" / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    study = reliability.Study(tmp_path)
    study.ledger(30)
    study.ledger(30)  # goes on from its log
    study.note(part="inputs", kind="preset (TOML)", tried=9, refused=8, tracebacks=[["KeyError: 'x'", "cli.py:1", "…"]])
    rows = [[cell.strip() for cell in line.split("|")[1:-1]]
            for line in study.page(tmp_path / "page.md", "python x").read_text().splitlines() if "|" in line]  # fmt: skip
    assert ["all", "", "", "3", "0", "3", "0", "0", "3", "1", "0", "1"] in rows
    assert ["30", "0", "0", "0", "0", "0"] in [row[:1] + row[2:] for row in rows]
    assert ["all", "9", "8", "1"] in rows


@pytest.mark.slow
def test_killed_runs_end_as_whole_ones(script: Script, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, script("kill_runs").__file__, "--kills", "3", "--out", str(tmp_path)],
        capture_output=True, text=True, timeout=900,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert sum(line["event"] == "kill" for line in lines) >= 3
    assert all(line["code"] == 0 and not line["differs"] for line in lines if line["event"] == "end")


def test_a_difference_between_runs_is_found(script: Script, tmp_path: Path) -> None:
    kill_runs = script("kill_runs")
    for name, seconds, gain in (("one", 1.0, 0.5), ("same", 2.0, 0.5), ("other", 1.0, np.nextafter(0.5, 1))):
        (tmp_path / name).mkdir()
        files.append_line(
            tmp_path / name / "steps.jsonl", {"step": 1, "gain": float(gain), "seconds": {"all": seconds}}
        )
    one, same, other = (kill_runs.results(tmp_path / name) for name in ("one", "same", "other"))
    assert kill_runs.differences(one, same) == [] and kill_runs.differences(one, other) == ["steps.jsonl"]
    assert kill_runs.differences(one, {}) == ["steps.jsonl"]
