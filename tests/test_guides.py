"""The guides in docs/guides: their code and commands run as printed, and every guide is tested."""

import json
import shlex

import pytest
from documents import ROOT, blocks

from read_env.capabilities import get_suite
from read_env.cli import main
from read_env.tasks import load_task

GUIDE = "docs/guides/your_task.md"


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with the guide's examples, and a cache of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("READ_ENV_CACHE", str(tmp_path / "cache"))
    exec(compile(blocks(GUIDE, "python")[0], GUIDE, "exec"), {})
    return tmp_path


def command(name: str) -> list[str]:
    program, *arguments = shlex.split(blocks(GUIDE, name)[0])
    assert program == "read-env"
    return arguments


def test_every_guide_is_tested():
    assert [str(path.relative_to(ROOT)) for path in sorted((ROOT / "docs/guides").glob("*.md"))] == [GUIDE]


def test_the_splits_are_as_large_as_the_guide_says(place):
    prompts = load_task("notes.jsonl", get_suite("micro")).task_prompts()
    splits = [prompts.split_of(prompt.text) for prompt in prompts.prompts]
    assert len(splits) == 160 and 45 <= splits.count("exam") <= 75


@pytest.mark.slow
def test_the_guide_to_a_task_of_ones_own_goes_from_examples_to_a_student(place, capsys):
    assert main(command("dry run")) == 0
    shown = capsys.readouterr().out
    assert all(f"\n{stage} " in shown for stage in ("needs", "run", "student")), shown
    assert not (place / "runs").exists()

    assert main(command("run")) == 0
    summary = json.loads((place / "runs/notes/summary.json").read_text())
    assert summary["task"] == "notes" and summary["tokens_before_run"] > 0
    started = json.loads((place / "runs/notes/start.json").read_text())
    assert summary["utility"] > started["utility"]
    card = (place / "runs/notes/student/README.md").read_text()
    assert "Find two numbers in a list, and add them." in card and "notes" in card
    capsys.readouterr()
    exec(compile(blocks(GUIDE, "load")[0], GUIDE, "exec"), {})
    assert "B7" in capsys.readouterr().out

    for line in blocks(GUIDE, "by hand")[0].splitlines():
        assert main(shlex.split(line)[1:]) == 0, line
    assert load_task("notes.toml", get_suite("micro")).identified
    again = json.loads((place / "runs/by-hand/summary.json").read_text())
    assert again["tokens_before_run"] == load_task("notes.toml", get_suite("micro")).tokens_before_run
