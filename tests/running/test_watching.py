"""Display and TensorBoard: what is shown of a run, and curves that go on after an interruption."""

from __future__ import annotations

import io
import json
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from fake_runs import EVERY_STEP, Make, curves, play
from micro import SUITE
from rich.console import Console
from tensorboard import program
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from read_env.reporting import load_scores, run_report
from read_env.running.display import ManyRunsDisplay, RunDisplay, result_rows
from read_env.running.requests import RunRequest
from read_env.running.tensorboard import TensorBoardCallback


def watched(request: RunRequest, stop_after: int | None = None, **kwargs: Any) -> None:
    play(request, stop_after, callbacks=[TensorBoardCallback(request)], **kwargs)


def test_curves_have_the_documented_tags(request_for: Make) -> None:
    request = request_for("read-bandit-published")
    watched(request)
    tags = curves(request.directory)
    expected = {
        "profile/math", "allocation/math", "reward/gain", "reward/spillover", "reward/cost", "budget/spent_tokens",
        "distill/loss", "distill/topk_mass", "rollout/ep_rew_mean", "rollout/ep_len_mean", "bandit/kappa", "bandit/mean",
        "bandit/uncertainty", "utility/probes", "utility/dev", "exam/utility",
    }  # fmt: skip
    assert expected <= set(tags)
    assert [step for step, _ in tags["profile/math"]] == [0, 1, 2, 3, 4, 5, 6]
    assert [value for _, value in tags["budget/spent_tokens"]] == [100, 200, 300, 400, 500, 600]


@pytest.mark.parametrize("checkpoint_share", [EVERY_STEP, 1e-9])
@pytest.mark.parametrize("stop_after", [1, 4])
def test_curves_go_on_after_an_interruption_without_gap_or_double(
    request_for: Make, stop_after: int, checkpoint_share: float
) -> None:
    whole, parts = (request_for("random-candidate", folder) for folder in ("whole", "parts"))
    watched(whole)
    watched(parts, stop_after, checkpoint_share=checkpoint_share)
    watched(parts)
    assert curves(parts.directory) == curves(whole.directory)


def test_figures_are_explained_in_the_curves_and_stand_beside_the_teachers(request_for: Make) -> None:
    request = request_for("uniform")
    watched(request)
    tags = curves(request.directory)
    assert tags["teacher/exam/math"] == [(0, pytest.approx(0.9))]
    assert [value for _, value in tags["distill/cut_share"]] == [0.0] * 6
    events = EventAccumulator(str(request.directory / "tensorboard")).Reload()
    text = events.Tensors("figures/text_summary")[0].tensor_proto.string_val[0].decode()
    assert "| `exam/utility` | weighted mean of exact match |" in text


def test_the_end_of_a_run_names_its_figures_and_the_needed_scores(request_for: Make) -> None:
    request = request_for("uniform")
    end = play(request).summary
    start = json.loads((request.directory / "start.json").read_text())
    rows = result_rows(start, end)
    assert [name for name, _ in rows] == ["probes", "", "", "", "exam", "", "", ""]
    assert rows[0][1].endswith("(weighted mean of the likelihood of the reference)")
    tool_use = SUITE.names.index("tool_use")
    before, after = (end[name][tool_use] for name in ("exam_start", "exam"))
    assert rows[5][1] == f"tool_use {before:.3f} -> {after:.3f} (exact match; need 0.50, teacher 0.900)"
    floor = result_rows({**start, "utility_form": "geometric_mean", "score": "exact-match"}, {**end, "exam": None})
    assert len(floor) == 4 and floor[0][1].endswith("(weighted geometric mean of exact match, floor 1e-6)")
    rows = result_rows({**start, "ungraded": ["tool_use"]}, end)
    assert rows[4][1].endswith("exact match or, without answers, the likelihood of the reference's tokens)")
    assert "(likelihood per token; need 0.50" in rows[5][1]


def test_the_report_shows_warnings_cut_completions_and_samples(request_for: Make) -> None:
    request = request_for("uniform")
    end = play(request).summary
    page = run_report(request.directory).read_text()
    assert "Warning" not in page and f"| {end['samples'][0]}" in page.split("Sample answers")[1]
    steps = [json.loads(line) for line in (request.directory / "steps.jsonl").read_text().splitlines()]
    steps[2]["cut_by_capability"] = steps[2]["examples_by_capability"]
    (request.directory / "steps.jsonl").write_text("".join(json.dumps(step) + "\n" for step in steps))
    page = run_report(request.directory).read_text()
    assert "**Warning:** 100% of the completions of step 3 were cut" in page
    assert load_scores(request.directory)["cut"].sum() == sum(steps[2]["cut_by_capability"])


def shown(request: RunRequest, terminal: bool) -> str:
    text = io.StringIO()
    console = Console(file=text, force_terminal=terminal, width=120, color_system=None)
    play(request, callbacks=[RunDisplay("a title", 600, console)])
    return text.getvalue()


def test_outside_a_terminal_a_run_is_shown_as_plain_lines(request_for: Make) -> None:
    text = shown(request_for("task-static"), terminal=False)
    lines = text.splitlines()
    assert len(lines) == 7 and "\x1b" not in text
    assert lines[0].startswith("a title: utility 0.") and "weighted mean of the likelihood" in lines[0]
    assert "probes: tool_use 0." in lines[6]
    assert "step   6        600 of 600 tokens" in lines[6] and "tool_use 50%, code 30%, math 20%" in lines[6]


def test_a_terminal_shows_budget_utility_allocation_and_time_left(request_for: Make) -> None:
    text = shown(request_for("task-static"), terminal=True)
    for part in (
        "a title",
        "600 of 600 completion tokens (100%)",
        "utility",
        "time left",
        "tool_use",
        "allocation",
        "teacher",
    ):
        assert part in text


def test_many_runs_are_shown_with_what_is_left() -> None:
    text = io.StringIO()
    display = ManyRunsDisplay("comparing", {"a": 100, "b": 100, "c": 100}, ["c"], Console(file=text, width=200))
    display.update("a", 50, 0.3)
    display.finish("a", "utility 0.4")
    display.finish("b", "FAILED: no [luck]")
    display.close()
    assert text.getvalue().splitlines()[0] == "comparing: 3 runs, 1 finished already"
    assert "[2/3" in text.getvalue() and "[3/3, 0:00:00 left] b: FAILED: no [luck]" in text.getvalue()


# --- TensorBoard beside the curves ----------------------------------------------------------------


def tensors(folder: Path) -> EventAccumulator:
    return EventAccumulator(str(folder / "tensorboard")).Reload()


def test_the_configuration_and_the_meaning_of_the_curves_are_texts(request_for: Make) -> None:
    request = request_for("one-hot,capability=math")
    watched(request)
    text = tensors(request.directory).Tensors("configuration/text_summary")[0].tensor_proto.string_val[0].decode()
    assert "| `budget.total_tokens` | 600 |" in text and "| `agent_options.capability` | math |" in text


def test_a_run_has_a_row_of_hyperparameters_whose_metrics_are_curves(request_for: Make) -> None:
    from tensorboard.plugins.hparams import metadata

    request = request_for("one-hot,capability=math")
    watched(request)
    events = tensors(request.directory)
    content = events.SummaryMetadata(metadata.SESSION_START_INFO_TAG).plugin_data.content
    row = metadata.parse_session_start_info_plugin_data(content).hparams
    assert row["agent"].string_value == "one-hot,capability=math" and row["seed"].number_value == 0
    assert row["task"].string_value == "bookkeeper" and row["with option capability"].string_value == "math"
    assert sorted(row)[:5] == ["agent", "budget", "seed", "student", "task"], "those that TensorBoard shows at first"
    experiment = metadata.parse_experiment_plugin_data(
        events.SummaryMetadata(metadata.EXPERIMENT_TAG).plugin_data.content
    )
    metrics = {metric.name.tag for metric in experiment.metric_infos}
    assert (
        metrics
        == {"exam/utility", "exam/utility_gain", "utility/probes", "rollout/ep_rew_mean"}
        <= set(curves(request.directory))
    )


def test_an_interrupted_run_has_one_layout_and_one_row(request_for: Make) -> None:
    request = request_for("uniform")
    watched(request, 3)
    watched(request)
    found = [
        len(tensors(request.directory).Tensors(tag))
        for tag in ("configuration/text_summary", "custom_scalars__config__")
    ]
    assert found == [1, 1]


def test_tensorboard_serves_every_tab(request_for: Make) -> None:
    """The data that the tabs of the browser ask for."""
    request = request_for("uniform")
    watched(request)
    run_report(request.directory)
    board = program.TensorBoard()
    board.configure(logdir=str(request.directory), port=0, load_fast="false", reload_interval=1)
    url = board.launch()

    def asked(path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        with urllib.request.urlopen(f"{url}data/{path}", data=data, timeout=20) as answer:
            return json.loads(answer.read())

    deadline = time.monotonic() + 30
    while not (runs := asked("runs")) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert runs == ["tensorboard"]
    enabled = {name for name, plugin in asked("plugins_listing").items() if plugin["enabled"]}
    assert {"scalars", "text", "hparams", "custom_scalars"} <= enabled
    layout = asked("plugin/custom_scalars/layout")
    assert [category["title"] for category in layout["category"]] == ["reward", "allocation", "profile", "budget"]
