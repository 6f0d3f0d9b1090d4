"""`read-env distill`: from a file of prompts to a student with a card, in one command that goes on after a kill."""

import json
import random
import re
from pathlib import Path

import pytest
from huggingface_hub import ModelCard
from transformers import AutoModelForCausalLM, AutoTokenizer

from read_env import files
from read_env.capabilities.micro.composites import COMPOSITES
from read_env.cli import main
from read_env.errors import ReadEnvError
from read_env.running import comparison, distill
from read_env.running.display import StderrConsole
from read_env.running.distill import Stage, _Progress

SMALL = [
    "--identify.interventions", "10", "--identify.tokens", "1200", "--processes", "1", "--budget.total-tokens", "600",
    "--budget.step-tokens", "300", "--eval.probes", "4", "--eval.dev", "4", "--eval.exam", "4", "--eval.task-probes", "16",
    "--eval.task-dev", "4", "--eval.task-exam", "8", "--eval.score", "token-likelihood",
]  # fmt: skip


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a file of 70 prompts, and a cache of its own."""
    monkeypatch.chdir(tmp_path)
    rows: dict[str, str] = {}
    for prompt in COMPOSITES["chain_to_price"].draws(random.Random(1)):
        rows[prompt.text] = prompt.reference
        if len(rows) == 70:
            break
    lines = (json.dumps({"prompt": text, "completion": reference}) + "\n" for text, reference in rows.items())
    (tmp_path / "chains.jsonl").write_text("".join(lines))
    return tmp_path


def command(*more: str) -> list[str]:
    folder = ["--cache.directory", "cache"]
    return ["distill", "--task", "chains.jsonl", "--describe", "Prices at the end of a chain.", *SMALL, *folder, *more]


@pytest.mark.slow
def test_one_command_goes_from_prompts_to_a_student_with_a_card(place, capsys, monkeypatch):
    assert main([*command(), "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert re.search(r"^needs +10 interventions, 1 at a time; 1,200 completion tokens, at least 0:00:0\d$", shown, re.M)
    assert re.search(r"^run +2 steps by read-bandit, .*; 600 completion tokens, at least", shown, re.M)
    assert not (place / "runs").exists() and not list(place.glob("cache/**/*.toml")), "a dry run makes nothing"

    # Interrupted among the interventions, then inside the run: the same command goes on.
    real = comparison.map_jobs

    def two(work, runs, *rest, **options):
        real(work, {name: runs[name] for name in list(runs)[:2]}, *rest, **options)
        raise KeyboardInterrupt

    monkeypatch.setattr(comparison, "map_jobs", two)
    assert main(command()) == 130
    made = []

    def recorded(work, runs, *rest, **options):
        made.extend(runs)
        real(work, runs, *rest, **options)

    monkeypatch.setattr(comparison, "map_jobs", recorded)
    run = distill.run

    def killed(request, callbacks):
        class Kill(type(callbacks[0])):
            def on_step(self, record):
                raise KeyboardInterrupt

        return run(request, callbacks=[Kill("", 1, StderrConsole())])

    monkeypatch.setattr(distill, "run", killed)
    assert main(command()) == 130
    assert len(made) == 8 and len(files.read_lines(place / "runs" / "distill-chains" / "steps.jsonl")) == 1
    monkeypatch.setattr(distill, "run", run)
    capsys.readouterr()
    assert main(command()) == 0
    printed = capsys.readouterr()
    assert len(made) == 8, "what was inferred is not inferred again"
    assert "stage 2 of 4, needs: those that the run began with" in printed.err and "stage 4 of 4" in printed.err
    assert "stage 1" not in printed.err, "an interrupted run was checked before"
    directory = place / "runs" / "distill-chains"
    summary = files.read_json(directory / "summary.json")
    assert summary["tokens_before_run"] > 0 and "student " in printed.out
    card = ModelCard.load(directory / "student" / "README.md")
    assert card.data.license == "apache-2.0" and card.data.library_name == "transformers"
    text = card.content
    assert "for the task *chains*: Prices at the end of a chain." in text
    assert f"{summary['spent']:,} of 600" in text and f"{summary['tokens_before_run']:,}" in text
    assert f"{summary['exam_utility']:.3f}" in text and f"{summary['exam_utility_start']:.3f}" in text
    # The card's own lines load the student and complete a prompt.
    code = re.search(r"```python\n(.*?)```", text, re.DOTALL)[1]
    code = code.replace('path = "."', f"path = {str(directory / 'student')!r}").replace(
        'prompt = "…"', 'prompt = "1+2"'
    )
    exec(compile(code, "card", "exec"), {})
    assert capsys.readouterr().out.strip()
    # Finished, it says so, and the loaded student has the run's tokenizer.
    assert main(command()) == 0 and "finished already" in capsys.readouterr().out
    assert len(AutoTokenizer.from_pretrained(directory / "student")) == 91
    assert AutoModelForCausalLM.from_pretrained(directory / "student").num_parameters() == 341_360


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--describe", "A task without prompts."], "description alone is not enough"),
        (["--task", "absent.jsonl"], "absent.jsonl"),
        (["--task", "bookkeeper", "--describe", "Books."], "has a card, with a description of its own"),
        (["--task", "chains.jsonl", "--student", "./absent"], "teacher: none is given"),
        (["--task", "chains.jsonl", "--student", "./absent", "--teacher", "./absent"], "no such folder"),
        (["--task", "few.jsonl"], "few.jsonl"),
        (["--task", "same.jsonl"], "same.jsonl"),
        (["--task", "unanswered.jsonl"], "unanswered.jsonl"),
    ],
)
def test_bad_input_is_refused_before_models_are_trained(place, arguments, words, capsys):
    few = [{"prompt": f"{n}+1?", "answer": str(n + 1)} for n in range(9)]
    contents = {
        "few": few,
        "same": [{"prompt": f"is {n} a number?", "answer": "yes"} for n in range(99)],
        "unanswered": [{"prompt": f"{n}+1?"} for n in range(99)],
    }
    for name, rows in contents.items():
        (place / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert main(["distill", *arguments]) == 2
    assert words in capsys.readouterr().err
    assert not (place / "runs").exists()


def test_the_time_left_follows_what_the_stages_took(monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr(distill.time, "monotonic", lambda: now[0])
    stages = [Stage("needs", "6 interventions", 600, 10.0), Stage("run", "2 steps", 1200, 20.0), Stage("student", "")]
    progress = _Progress(stages, StderrConsole())
    progress.begin("needs")
    now[0] = 30.0  # three times the estimate
    progress.begin("run")
    shown = capsys.readouterr().err
    assert "stage 2 of 4, needs: 6 interventions" in shown and "about 0:00:30 left" in shown
    assert "about 0:01:00 left" in shown


def test_a_description_stands_for_a_file_of_prompts_only(place):
    from micro import SUITE

    from read_env.running.identify import described
    from read_env.tasks import load_task

    assert described(load_task("chains.jsonl", SUITE), "Chains.").description == "Chains."
    with pytest.raises(ReadEnvError, match="description of its own"):
        described(load_task("chain-to-price", SUITE), "Chains.")
