import json
import subprocess
import sys

import pytest
from synthetic_records import write_comparison, write_run, write_training, write_transfer

from read_env.reporting import RecordError, comparison_report, run_report, training_report, transfer_report
from read_env.reporting.markdown import markdown_table

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
    path = write_run(tmp_path / "run", stop_after=2)
    assert "**This run is unfinished: 2 steps," in run_report(path).read_text()
    (path / "steps.jsonl").write_text("")
    assert "unfinished: 0 steps" in run_report(path).read_text()
    (path / "steps.jsonl").unlink()
    (path / "start.json").unlink()
    assert "**This run is not started.**" in run_report(path).read_text()


@pytest.mark.parametrize(
    ("write", "report", "options"),
    [
        (write_run, run_report, {"steps": 3}),
        (write_training, training_report, {"episodes": 4}),
        (write_transfer, transfer_report, {"budgets": (6_000,), "seeds": range(2)}),
        (write_comparison, comparison_report, {"agents": ("uniform", "task-static"), "seeds": range(2), "steps": 2}),
    ],
)
def test_equal_records_give_equal_files_whatever_the_names_of_folders(tmp_path, write, report, options):
    first, second = report(write(tmp_path / "a", **options)).parent, write(tmp_path / "b", **options)
    for number, run in enumerate(sorted((second / "runs").glob("*"))):
        run.rename(run.with_name(f"{number:03d}"))
    report(second)
    names = sorted(path.name for path in first.iterdir() if path.is_file())
    assert "report.md" in names and any(name.endswith(".png") for name in names)
    assert [name for name in names if (first / name).read_bytes() != (second / name).read_bytes()] == []


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


def test_tables_are_aligned():
    assert markdown_table(["agent", "gain"], [["a|b", "+0.1"], ["uniform", "-0.123"]]).splitlines() == [
        "| agent   |   gain |",
        "|:--------|-------:|",
        "| a\\|b    |   +0.1 |",
        "| uniform | -0.123 |",
    ]
    with pytest.raises(ValueError, match="a row has 1 cells, the header 2"):
        markdown_table(["a", "b"], [["only"]])


def test_importing_reports_is_light():
    heavy = "{'torch', 'transformers', 'matplotlib', 'scipy', 'pandas', 'seaborn', 'statsmodels'}"
    code = f"import sys, read_env.reporting; print({heavy} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout == "set()\n"
