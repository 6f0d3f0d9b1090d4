"""The commands as a user types them, on real models too small to learn anything."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from read_env.cli import main

SMALL = [
    "--budget.total-tokens", "900", "--budget.step-tokens", "300", "--eval.probes", "3", "--eval.dev", "3",
    "--eval.exam", "3", "--distill.max-completion-tokens", "20", "--distill.teacher-batch-size", "8",
]  # fmt: skip


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Options that name an untrained teacher and student over the micro vocabulary."""
    import torch
    from micro import saved
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

    folder = tmp_path_factory.mktemp("models")
    for seed, (name, width) in enumerate([("teacher", 32), ("student", 16)]):
        torch.manual_seed(seed)
        model = GPTNeoXForCausalLM(
            GPTNeoXConfig(
                vocab_size=91, hidden_size=width, intermediate_size=2 * width, num_hidden_layers=1,
                num_attention_heads=2, max_position_embeddings=256, pad_token_id=0, bos_token_id=1, eos_token_id=2,
            )
        )  # fmt: skip
        saved(folder / name, model)
    return ["--models.teacher", str(folder / "teacher"), "--models.student", str(folder / "student")]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Default directories are made below the working directory."""
    monkeypatch.chdir(tmp_path)


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=300)


def tensorboard_tags(directory: Path, kind: str, folder: str = "tensorboard") -> set[str]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    curves = EventAccumulator(str(directory / folder))
    curves.Reload()
    return set(curves.Tags()[kind])


# --- help and mistakes --------------------------------------------------------------------------------


def test_help_is_quick() -> None:
    code = (
        "import sys\nfrom read_env.cli import main\n"
        "try: main(sys.argv[1:])\nexcept SystemExit: print(*sys.modules, file=sys.stderr)"
    )
    for arguments in (["--help"], ["run", "--help"]):
        done = python("-c", code, *arguments)
        assert "--budget.total-tokens" in done.stdout or "compare" in done.stdout
        assert not {"torch", "transformers", "stable_baselines3", "matplotlib"} & set(done.stderr.split())


def test_a_preset_gives_the_defaults_that_help_shows(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["run", "--preset", "micro-demo", "--help"])
    assert left.value.code == 0
    assert "(default: 9000)" in re.sub(r"[\s│]+", " ", capsys.readouterr().out)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "--task", "mth"], "unknown task 'mth': did you mean 'math'? known: math, "),
        (["run", "--agent", "read-bandt"], "unknown agent 'read-bandt': did you mean 'read-bandit'?"),
        (["run", "--preset", "micr"], "unknown preset 'micr': did you mean 'micro'?"),
        (["run", "--distill.loss", "fk"], "unknown loss 'fk': did you mean 'fkl'?"),
        (["run", "--suite", "mcro"], "unknown suite 'mcro': did you mean 'micro'?"),
        (["run", "--agent", "one-hot,capability=mth"], "unknown capability 'mth': did you mean 'math'?"),
        (["run", "--agent", "uniform,kappa=1"], "unknown option 'kappa': known: none"),
        (["run", "--agent", "nowhere.at_all:Agent"], "nowhere"),
        (["run", "--models.teacher", "no/such/model"], "no/such/model"),
        (["compare", "--agents", "uniform", "--tasks", "math", "mth"], "did you mean 'math'"),
        (["compare", "--agents", "uniform", "unifrm"], "did you mean 'uniform'"),
        (["transfer-matrix", "--capabilities", "cod"], "did you mean 'code'"),
        (["transfer-matrix", "--budgets", "0", "100"], "budgets"),
        (["train", "--steps", "0"], "steps must be above 0"),
        (["run", "--agent", "grid-searched"], "no allocation for this task yet: call learn"),
        (["compare", "--agents", "uniform", "grid-searched"], "no allocation for this task yet"),
        (["run", "--agent", "uniform", "--eval.probes", "400"], "eval.probes is 400, but"),
        (
            ["run", "--agent", "uniform", *"--budget.total-tokens 1 --budget.step-tokens 1".split()],
            "below one completion",
        ),
        (["run", "--agent", "uniform", "--task", "broken.toml"], "broken.toml"),
        (["run", "--preset", "binary.toml"], "can't be read as UTF-8 text"),
        (["run", "--preset", "strange.toml"], "distil: Extra inputs are not permitted"),
        (["run", "--preset", "mine.toml"], "budget.total_tokens"),
        (["run", "--seed", str(2**64)], "seed: Input should be less than"),
        (["report", "nowhere"], "nowhere"),
        (["list", "capabilities", "--suite", "mcro"], "did you mean 'micro'"),
    ],
)
def test_mistakes_are_explained_without_a_traceback(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "broken.toml").write_text("name = 'broken'\n[requirement]\nmath = 'much'\n")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "strange.toml").write_text("[distil]\nloss = 'fkl'\n")
    (tmp_path / "mine.toml").write_text("[budget]\ntotal_tokens = 'many'\n")
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert message in error and error.startswith("read-env: ") and "Traceback" not in error


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "--budget.total-tokens", "-5"], "greater than 0"),
        (["run", "--budget.total-tokens", "-5"], "Error parsing budget: "),
        (["run", "--budget.total-tokns", "5"], "--budget.total-tokens"),
        (["run", "--distill.curriculum", "hard"], "easy-to-hard"),
        (["compar"], "compare"),
        (["list", "agnts"], "agents"),
    ],
)
def test_options_that_do_not_parse_are_explained(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        main(arguments)
    assert left.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["agents", "tasks", "presets", "losses", "capabilities"])
def test_list_names_what_the_options_take(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", kind]) == 0
    example = {"agents": "water-filling", "tasks": "bookkeeper", "presets": "micro", "losses": "fkl"}
    names = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert example.get(kind, "tool_use") in names


def test_ctrl_c_says_how_to_go_on(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("read_env.running.runner.run", interrupted)
    assert main(["run", "--agent", "uniform"]) == 130
    assert "the same command resumes" in capsys.readouterr().err
    monkeypatch.setattr("read_env.running.listing.describe", interrupted)
    assert main(["list", "agents"]) == 130
    assert capsys.readouterr().err == "\nread-env: interrupted\n"


# --- the commands ---------------------------------------------------------------------------------------


def test_run_leaves_student_report_and_curves_and_is_not_run_twice(
    models: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["run", "--agent", "task-static", "--out", "out", *SMALL, *models]
    assert main(command) == 0
    printed = capsys.readouterr().out
    for path in ("out/student", "out/report.md", "out/report.html"):
        assert path in printed and (tmp_path / path).exists()
    tags = tensorboard_tags(tmp_path / "out", "scalars")
    assert {"distill/fkl", "distill/rkl", "distill/topk_mass", "distill/tokens_per_second", "profile/math"} <= tags

    from transformers import AutoModelForCausalLM

    assert AutoModelForCausalLM.from_pretrained(tmp_path / "out" / "student").config.hidden_size == 16
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["steps"] == 3 and 900 - 20 < summary["spent"] <= 900

    assert main(command) == 0
    assert "was finished already" in capsys.readouterr().out
    assert main([*command, "--seed", "1"]) == 2
    assert "seed: 0 in the folder, 1 in this command" in capsys.readouterr().err

    pages = [tmp_path / "out" / name for name in ("report.md", "report.html")]
    before = [page.read_bytes() for page in pages]
    assert shlex.join(["read-env", *command]).encode() in before[0]
    for page in pages:
        page.unlink()
    assert main(["report", "out"]) == 0
    assert [page.read_bytes() for page in pages] == before
    assert capsys.readouterr().out.split() == ["out/report.md", "out/report.html"]


@pytest.mark.slow
def test_a_command_killed_inside_a_chunk_ends_with_the_same_student(models: list[str], tmp_path: Path) -> None:
    options = ["run", "--agent", "read-bandit", *SMALL, *models]
    assert main([*options, "--out", "whole"]) == 0
    slow = (
        "import sys, time\nfrom read_env.distillation.student.student import Student\nfrom read_env.cli import main\n"
        "update = Student.update\n"
        "def slowly(*arguments):\n    time.sleep(0.5)\n    return update(*arguments)\n"
        "Student.update = slowly\nmain(sys.argv[1:])"
    )
    process = subprocess.Popen([sys.executable, "-c", slow, *options, "--out", "parts"], stderr=subprocess.DEVNULL)
    steps = tmp_path / "parts" / "steps.jsonl"
    deadline = time.monotonic() + 120
    while not (steps.exists() and steps.read_bytes()) and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.2)  # somewhere in the second chunk
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "parts" / "summary.json").exists()
    assert main([*options, "--out", "parts"]) == 0
    for name in ("summary.json", "student/model.safetensors", "start.json"):
        assert (tmp_path / "parts" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


@pytest.mark.parametrize("processes", ["1", pytest.param("2", marks=pytest.mark.slow)])
def test_compare_ends_with_a_report_pictures_and_the_best_students(
    models: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], processes: str
) -> None:
    command = ["compare", "--agents", "task-static", "uniform", "--tasks", "math", "travel-desk", "--seeds", "0", "1"]
    assert main([*command, "--processes", processes, "--out", "out", *SMALL, *models]) == 0
    captured = capsys.readouterr()
    assert len(list((tmp_path / "out" / "runs").glob("*/summary.json"))) == 8
    assert "out/report.md" in captured.out and ".png" in captured.out
    assert "best student for math" in captured.out
    assert "allocation/math" in tensorboard_tags(tmp_path / "out" / "runs" / "uniform__travel-desk__seed1", "scalars")
    assert "[6/6" in captured.err, "uniform runs once a seed for both tasks"


@pytest.mark.slow
def test_transfer_writes_a_matrix_for_every_budget(models: list[str], tmp_path: Path) -> None:
    command = ["transfer-matrix", "--budgets", "300", "600", "--seeds", "0", "1", "--capabilities", "math", "code"]
    assert main([*command, "--processes", "1", "--out", "out", *SMALL, *models]) == 0
    assert (tmp_path / "out" / "report.md").exists()
    assert json.loads((tmp_path / "out" / "transfer.json").read_text())["budgets"] == [300, 600]
    assert "read-env transfer-matrix --budgets 300 600" in (tmp_path / "out" / "report.md").read_text()
    assert "report/transfer_exam" in tensorboard_tags(tmp_path / "out", "images", "tensorboard/pictures")


def test_a_trained_agent_runs_by_the_path_of_its_training(
    models: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["train", "--agent", "random-candidate", "--tasks", "math", "tutor", "--steps", "4", "--out", "trained"]
    assert main([*command, *SMALL, *models]) == 0
    assert "trained/agent.zip" in capsys.readouterr().out
    record = json.loads((tmp_path / "trained" / "training.json").read_text())
    assert (record["steps"], record["episodes"]) == (4, 1) and record["tokens_before_run"] > 1000
    assert main(["run", "--agent", "trained", "--out", "out", *SMALL, *models]) == 0
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["tokens_before_run"] == record["tokens_before_run"]
