import json
import subprocess
import sys

import pytest
from synthetic_records import write_run, write_training

from read_env.reporting import RecordError, run_report, training_report

PICTURES = ("profile.png", "utility.png", "allocation.png", "costs.png")


def cells(page, first):
    line = next(line for line in page.splitlines() if line.startswith(f"| {first}"))
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_the_report_of_a_run_has_its_numbers(tmp_path):
    path = write_run(tmp_path / "run", steps=5)
    page = run_report(path).read_text()
    end = json.loads((path / "summary.json").read_text())
    assert page.startswith("# `read-bandit` on tickets, seed 0\n")
    assert "This run is **finished**." in page
    assert cells(page, "utility, exam")[1:3] == [f"{end['exam_utility_start']:.3f}", f"{end['exam_utility']:.3f}"]
    assert cells(page, "completion tokens (counted in B)")[1] == f"{end['spent']:,}"
    assert cells(page, "tool_use")[1] == "0.50"
    assert all((path / name).exists() and f"({name})" in page for name in PICTURES)


def test_the_report_of_an_unfinished_run_says_so(tmp_path, no_pictures):
    page = run_report(write_run(tmp_path / "run", stop_after=2)).read_text()
    assert "**This run is unfinished: 2 steps," in page


def test_a_run_without_any_step_has_a_report(tmp_path, no_pictures):
    path = write_run(tmp_path / "run", stop_after=1)
    (path / "steps.jsonl").write_text("")
    assert "unfinished: 0 steps" in run_report(path).read_text()
    (path / "steps.jsonl").unlink()
    (path / "start.json").unlink()
    assert "**This run is not started.**" in run_report(path).read_text()


def test_equal_runs_give_equal_pages(tmp_path):
    first = run_report(write_run(tmp_path / "a", steps=3))
    second = run_report(write_run(tmp_path / "b", steps=3))
    assert first.read_bytes() == second.read_bytes()
    assert [(first.parent / name).read_bytes() == (second.parent / name).read_bytes() for name in PICTURES] == [
        True
    ] * 4


def test_the_report_of_a_training(tmp_path):
    path = write_training(tmp_path / "training", 24)
    page = training_report(path).read_text()
    assert "24 finished episodes, 480 environment steps" in page
    assert cells(page, "tickets")[1] == "12"
    assert "ρ = +0." in page
    assert (path / "learning_curve.png").exists()
    assert "Unfinished" not in page


def test_an_unfinished_training_says_so(tmp_path, no_pictures):
    path = write_training(tmp_path / "training", 3, finished=False)
    assert "**Unfinished: 60 of 60 environment steps" in training_report(path).read_text()
    (path / "episodes.jsonl").write_text("")
    with pytest.raises(RecordError, match="no episode has finished yet"):
        training_report(path)


def test_importing_reports_is_light():
    code = (
        "import sys, read_env.reporting;"
        "print([name for name in ('torch', 'transformers', 'matplotlib', 'scipy', 'pandas', 'seaborn', 'statsmodels') if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout == "[]\n"
