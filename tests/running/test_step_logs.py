"""What a step leaves in the records, the report and TensorBoard: on the real micro models, with tiny budgets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fake_runs import curves

from read_env import files
from read_env.config import load_preset
from read_env.losses import loss_names
from read_env.reporting import run_report
from read_env.running.agents import AgentSpec
from read_env.running.requests import RunRequest
from read_env.running.runner import run
from read_env.running.tensorboard import TensorBoardCallback

TINY = {
    "budget": {"total_tokens": 480, "step_tokens": 240},
    "eval": {"probes": 2, "dev": 2, "exam": 2, "score_teacher": "never"},
}
DISTILL = {"tokens_per_update": 120, "teacher_batch_size": 8, "rollout_batch_size": 2, "max_completion_tokens": 24}


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures take longer than these runs."""
    monkeypatch.setattr("read_env.reporting.run_page.save", lambda figure, path, alt: "")
    for name in ("profile_picture", "utility_picture", "allocation_picture", "costs_picture"):
        monkeypatch.setattr(f"read_env.reporting.run_page.{name}", lambda *frames: None)


def played(directory: Path, agent: str = "one-hot,capability=math", **changes: Any) -> list[dict[str, Any]]:
    """The step records of a run with TensorBoard and a report. One capability: few blocks for the teacher to answer."""
    config = AgentSpec.parse(agent).configure(load_preset("micro", {**TINY, "distill": DISTILL, **changes}))
    request = RunRequest(config, directory)
    run(request, callbacks=[TensorBoardCallback(request)])
    run_report(directory)
    return list(files.read_lines(directory / "steps.jsonl"))


def values(directory: Path) -> dict[str, list[float]]:
    """Tag -> values of the curves."""
    return {tag: [value for _, value in points] for tag, points in curves(directory).items()}


def cells(page: str, first: str) -> list[str]:
    line = next(line for line in page.splitlines() if line.startswith(f"| {first} "))
    return [cell.strip() for cell in line.strip("|").split("|")]


# --- the objective --------------------------------------------------------------------------------


ALWAYS = {"fkl", "rkl", "topk_mass", "overlap", "grad_norm", "learning_rate"}
EXTRA = {
    "alpha": ("mixed-kl", "arkd", "arkd-published"),
    "reward": ("gkd", "grpo", "rlad"),
    "clip_fraction": ("grpo", "rlad"),
    "ratio": ("grpo", "rlad"),
    "unmatched_loss": ("uld",),
}
PROMISED = {loss: ALWAYS | {name for name, losses in EXTRA.items() if loss in losses} for loss in loss_names()}


@pytest.mark.parametrize("loss", PROMISED)
def test_an_objective_keeps_its_promise_in_records_report_and_values(loss: str, tmp_path: Path) -> None:
    # For tad the tail needs an inside: more tokens kept than its head has.
    steps = played(tmp_path / "run", distill={**DISTILL, "loss": loss, "teacher_top_k": 16 if loss == "tad" else 8})
    assert len(steps) == 2
    promised = PROMISED[loss]
    drawn, page = values(tmp_path / "run"), (tmp_path / "run" / "report.md").read_text()
    for step in steps:
        assert set(step["metrics"]) == promised
        for name in ("topk_mass", "overlap", "alpha", "clip_fraction", "reward"):
            assert 0 <= step["metrics"].get(name, 0) <= 1 + 1e-6
        assert step["metrics"]["fkl"] > 0 and step["metrics"]["rkl"] > 0
    for name in promised:
        recorded = [step["metrics"][name] for step in steps]
        assert drawn[f"distill/{name}"] == pytest.approx(recorded)
        shown = cells(page, f"`{name}`")
        assert shown[1], "the report says what a metric is"
        assert [float(shown[2]), float(shown[4])] == pytest.approx(recorded, abs=1e-4)


def test_a_teacher_of_text_has_no_divergences_to_report(tmp_path: Path) -> None:
    """The same pair, but through another vocabulary: what can't be known isn't made up."""
    from read_env.distillation.loading import load

    loaded = load("embedded:micro/teacher")
    tokenizer = loaded.encoder.tokenizer
    tokenizer.add_tokens(["a token of the teacher's own"])
    loaded.model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    loaded.model.save_pretrained(tmp_path / "teacher")
    tokenizer.save_pretrained(tmp_path / "teacher")
    steps = played(tmp_path / "run", models={"teacher": str(tmp_path / "teacher")}, distill={**DISTILL, "loss": "sft"})
    assert all(set(step["metrics"]) == {"grad_norm", "learning_rate"} for step in steps)
    assert "distill/fkl" not in values(tmp_path / "run")


# --- the cache ------------------------------------------------------------------------------------


def results(directory: Path) -> list[dict[str, Any]]:
    """The records without what tells two runs of the same bits apart."""
    return [
        {name: value for name, value in step.items() if name not in ("seconds", "cache")}
        for step in files.read_lines(directory / "steps.jsonl")
    ]


def test_a_cold_run_is_served_nothing_a_warm_one_everything(tmp_path: Path) -> None:
    kept = {"cache": {"directory": str(tmp_path / "answers")}}
    cold, warm = played(tmp_path / "cold", **kept), played(tmp_path / "warm", **kept)
    blocks = [path.stat().st_size for path in (tmp_path / "answers").glob("??/*.block")]
    for steps, hit_rate in ((cold, 0.0), (warm, 1.0)):
        sums = {name: sum(step["cache"][name] for step in steps) for name in steps[0]["cache"]}
        assert sums["blocks_asked"] == len(blocks) and sums["tokens_asked"] > sum(s["completion_tokens"] for s in steps)
        assert sums["blocks_served"] / sums["blocks_asked"] == hit_rate
        assert sums["tokens_served"] / sums["tokens_asked"] == hit_rate
        assert sums["disk_tokens"] == sums["tokens_asked"] and sums["disk_bytes"] == sum(blocks) > 0
        assert sums["evictions"] == 0
        assert (sum(step["seconds"]["cache"] for step in steps) > 0) == (hit_rate == 1)
        assert all(value >= 0 for step in steps for value in step["seconds"].values())
    assert results(tmp_path / "cold") == results(tmp_path / "warm")
    assert (tmp_path / "cold" / "summary.json").read_bytes() == (tmp_path / "warm" / "summary.json").read_bytes()

    per_token = sum(blocks) / sum(step["cache"]["disk_tokens"] for step in warm)
    for name, hit_rate in (("cold", 0), ("warm", 1)):
        drawn, page = values(tmp_path / name), (tmp_path / name / "report.md").read_text()
        # A step may find all its blocks in hand: it asks for none and has no rates.
        assert set(drawn["cache/block_hit_rate"]) == set(drawn["cache/token_hit_rate"]) == {hit_rate}
        assert set(drawn["cache/evictions"]) == {0} and all(drawn["cache/bytes_per_token"])
        assert "time/cache_seconds" in drawn
        assert float(cells(page, "bytes a token on disk")[1]) == pytest.approx(per_token, abs=0.05)
        assert f"({100 * hit_rate:.1f} %)" in cells(page, "of these from the cache")[1]


def test_without_a_disk_there_are_no_bytes(tmp_path: Path) -> None:
    (first, _) = played(tmp_path / "run", cache={"directory": "none"})
    assert first["cache"]["blocks_asked"] > 0 == first["cache"]["disk_bytes"]
    assert "cache/bytes_per_token" not in values(tmp_path / "run")
    assert cells((tmp_path / "run" / "report.md").read_text(), "bytes a token on disk")[1] == "–"


def test_evictions_are_counted(tmp_path: Path) -> None:
    """A bound of a few blocks: what is written pushes out what came before."""
    bound = {"directory": str(tmp_path / "answers"), "max_gib": 30_000 / 2**30}
    steps = played(tmp_path / "run", "uniform", cache=bound)
    written = sum(step["cache"]["blocks_asked"] for step in steps)
    left = len(list((tmp_path / "answers").glob("??/*.block")))
    assert sum(step["cache"]["evictions"] for step in steps) == written - left > 0


def test_an_objective_on_own_samples_asks_the_cache_for_nothing(tmp_path: Path) -> None:
    steps = played(tmp_path / "run", distill={**DISTILL, "loss": "gkd"})
    assert all(not any(step["cache"].values()) for step in steps)
    assert not [tag for tag in values(tmp_path / "run") if tag.startswith("cache/")]
    assert "teacher's cache" not in (tmp_path / "run" / "report.md").read_text()


def test_records_from_before_the_cache_was_counted_still_have_a_report(tmp_path: Path) -> None:
    played(tmp_path / "run")
    lines = tmp_path / "run" / "steps.jsonl"
    old = [{name: value for name, value in step.items() if name != "cache"} for step in files.read_lines(lines)]
    lines.write_text("".join(json.dumps(step) + "\n" for step in old))
    assert "teacher's cache" not in run_report(tmp_path / "run").read_text()
