"""docs/your_own.md: its example runs as printed. The table of docs/models.md is complete."""

import json
import re
import shlex
import shutil
from importlib import resources

import pytest
from documents import ROOT, blocks

from read_env.cli import main
from read_env.config import load_preset, preset_names

DOCUMENT = "docs/your_own.md"


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with the document's files, and with the micro models for a pair of one's own."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(str(resources.files("read_env") / "assets" / "micro"), tmp_path / "models")
    exec(compile(blocks(DOCUMENT, "python")[0], DOCUMENT, "exec"), {})
    (tmp_path / "own.toml").write_text(blocks(DOCUMENT, "own.toml")[0])
    return tmp_path


@pytest.mark.slow
def test_the_example_runs_from_prompts_to_a_student(place, capsys):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    commands = [shlex.split(line) for block in blocks(DOCUMENT, "commands") for line in block.splitlines()]
    assert [command[:2] for command in commands] == [["read-env", c] for c in ("check", "check-contamination", "run")]
    check, check_contamination, run = (command[1:] for command in commands)
    assert main(check) == 0
    shown = capsys.readouterr().out
    assert "models/teacher" in shown and "prompts up to" in shown and "TOO" not in shown
    assert main(check_contamination) == 1
    overlaps = re.findall(r"totals, seed 0: '(WHAT IS [\d+]+)'", capsys.readouterr().out)
    assert overlaps
    assert main(run) == 0
    shown = capsys.readouterr().out
    assert "exam" in shown and "3 steps" in shown
    # What the table says comes out, came out.
    table = re.search(r"there are\n\n(.*?)\n\n", (ROOT / DOCUMENT).read_text(), re.DOTALL)[1]
    for pattern in re.findall(r"`([^` ]+)`", "\n".join(row.split("|")[1] for row in table.splitlines())):
        assert list((place / "runs" / "own").glob(pattern.rstrip("/"))), pattern
    summary = json.loads((place / "runs" / "own" / "summary.json").read_text())
    assert summary["task"] == "totals" and len(summary["exam"]) == 11 and 2_000 < summary["spent"] <= 3_000
    student = AutoModelForCausalLM.from_pretrained("runs/own/student")
    ids = AutoTokenizer.from_pretrained("runs/own/student")("what is 2+2\n", return_tensors="pt")
    assert student.generate(ids["input_ids"], max_new_tokens=3).shape[1] > ids["input_ids"].shape[1]


def test_the_configuration_has_five_lines_and_says_what_the_text_says(place):
    assert len((place / "own.toml").read_text().strip().splitlines()) == 5
    config = load_preset("own.toml")
    assert config.task == "totals" and config.budget.steps == 3 and config.models.teacher == "models/teacher"


def test_what_the_evaluation_file_has_is_never_trained_on(place):
    from read_env.capabilities import get_suite
    from read_env.capabilities.base import normalised_hash
    from read_env.capabilities.contamination import evaluation_hashes
    from read_env.capabilities.stream import PromptStream

    refused = evaluation_hashes(["evaluation.jsonl"])
    stream = PromptStream(get_suite("totals=totals.jsonl")["totals"], 0, refused)
    drawn = {normalised_hash(prompt.text) for tertile in range(3) for prompt in stream.slice(tertile, 0, 200)}
    assert refused and not drawn & refused


def test_the_configuration_of_the_models_page_is_valid(place):
    own = re.search(r"```toml\n(.*?)```", (ROOT / "docs/models.md").read_text(), re.DOTALL)[1]
    (place / "models.toml").write_text(own)
    config = load_preset("models.toml")
    assert config.budget.steps == 20 and len(own.strip().splitlines()) == 5


def test_the_table_names_every_preset():
    text = (ROOT / "docs/models.md").read_text()
    rows = re.findall(r"^\| (.*?) \|", text.partition("## Presets")[2].partition("\n## ")[0], re.MULTILINE)
    assert sorted(n for row in rows for n in re.findall(r"`([\w.-]+)`", row)) == sorted([*preset_names(), "PATH.toml"])
