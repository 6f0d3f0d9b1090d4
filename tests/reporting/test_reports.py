import json
import subprocess
import sys

import numpy as np
import pytest
from synthetic_records import write_run, write_training

from read_env.reporting import (
    RecordError,
    correlation_table,
    correlations,
    fixed_allocation_profiles,
    gap_markdown,
    gap_table,
    run_report,
    training_report,
)

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


def test_gaps_by_hand():
    profiles = {"static": np.array([[0.5, 0.1], [0.6, 0.1], [0.4, 0.1]]), "mix": np.array([[0.7, 0.0]] * 3)}
    tasks = {"first": lambda profile: profile[0], "second": lambda profile: profile[1]}
    gaps = gap_table(profiles, tasks, {"first": "mix", "second": "static"}, dict.fromkeys(tasks, "static"))
    assert gaps[0].test.difference.mean == pytest.approx(0.2)
    assert gaps[0].test.difference.half_width == pytest.approx(4.302653 * 0.1 / 3**0.5, rel=1e-5)
    assert not gaps[0].above_zero  # 0.2 ± 0.248
    assert gaps[1].test.difference.mean == 0 and not gaps[1].above_zero
    assert "| first " in gap_markdown(gaps) and "+0.200" in gap_markdown(gaps)


@pytest.mark.parametrize(
    ("given", "profiles", "message"),
    [
        ({}, {"a": np.zeros((2, 2))}, "given names no allocation for task 't'"),
        ({"t": "b"}, {"a": np.zeros((2, 2))}, "given\\['t'\\] is 'b', which has no profiles"),
        ({"t": "a"}, {"a": np.zeros((2, 2)), "b": np.zeros((3, 2))}, "profiles\\['b'\\] has shape"),
        ({"t": "a"}, {}, "profiles is empty"),
    ],
)
def test_gaps_of_what_does_not_fit(given, profiles, message):
    with pytest.raises(ValueError, match=message):
        gap_table(profiles, {"t": lambda profile: profile[0]}, given, {"t": "a"})


def test_profiles_of_fixed_allocations_pair_up_by_seed(tmp_path):
    for name, seeds in (("uniform", (0, 1, 2)), ("half-math", (0, 2))):
        for seed in seeds:
            write_run(tmp_path / "runs" / f"{name}__seed{seed}", name, seed=seed, steps=2)
    write_run(tmp_path / "runs" / "left-over__seed9", "left-over", seed=9, steps=2)
    profiles, seeds = fixed_allocation_profiles(tmp_path, ["uniform", "half-math"])
    assert seeds == (0, 2)
    assert {name: array.shape for name, array in profiles.items()} == {"uniform": (2, 8), "half-math": (2, 8)}
    with pytest.raises(RecordError, match="no seed was finished by every allocation"):
        fixed_allocation_profiles(tmp_path, ["uniform", "absent"])


def test_correlations_by_capability():
    rng = np.random.default_rng(0)
    profiles = rng.random((12, 2))
    exams = np.column_stack([profiles[:, 0] ** 2, np.full(12, 0.25)])
    found = correlations(("math", "code"), profiles, exams)
    assert found["math"].rho == pytest.approx(1.0)
    assert "does not vary" in found["code"].note
    table = correlation_table(found, exams)
    assert "does not vary" in table and "0.25 – 0.25" in table
    with pytest.raises(ValueError, match=r"shape \(students, 3\)"):
        correlations(("a", "b", "c"), profiles, exams)


def test_importing_reports_is_light():
    code = (
        "import sys, read_env.reporting;"
        "print([name for name in ('torch', 'transformers', 'matplotlib', 'scipy') if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout == "[]\n"
