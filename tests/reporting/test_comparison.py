import csv
import json

import numpy as np
import pytest
from scipy import stats
from synthetic_records import write_comparison

from read_env.reporting import comparison_report
from read_env.reporting.comparison import EXAM_UTILITY, contrast, contrasts, load_comparison
from read_env.reporting.comparison_page import measure_table
from read_env.reporting.statistics import holm, wilcoxon_p

AGENTS = ("read-bandit", "task-static", "water-filling", "random-candidate")
PAIRS = [("read-bandit", name) for name in AGENTS[1:]]


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return write_comparison(
        tmp_path_factory.mktemp("comparison") / "c", AGENTS, ("tickets", "puzzles"), range(4), steps=6
    )


@pytest.fixture(scope="module")
def report(directory):
    return comparison_report(directory)


def summaries(directory, agent, task):
    found = sorted((directory / "runs").glob(f"{agent}__{task}__seed*/summary.json"))
    return [json.loads(path.read_text()) for path in found]


def gains(directory, agent):
    tasks = ("tickets", "puzzles")
    rows = [[s["exam_utility"] - s["exam_utility_start"] for s in summaries(directory, agent, t)] for t in tasks]
    return np.array(rows)


@pytest.fixture(scope="module")
def comparison(directory):
    return load_comparison(directory)


def test_the_table_has_the_means_of_the_records_and_intervals_over_seeds(directory, comparison):
    table = measure_table(comparison, EXAM_UTILITY)
    row = next(line for line in table.splitlines() if "`task-static`" in line)
    values = gains(directory, "task-static")
    columns = [*values, values.mean(axis=0)]  # the mean over tasks rests on seeds
    halves = [stats.t.ppf(0.975, 3) * by_seed.std(ddof=1) / 2 for by_seed in columns]
    cells = [f"{by_seed.mean():+.3f} ± {half:.3f}" for by_seed, half in zip(columns, halves, strict=True)]
    assert [cell.strip() for cell in row.strip("|").split("|")][1:] == [*cells, "8"]


def test_a_contrast_is_the_paired_t_test_over_seeds(directory, comparison):
    found = contrast(comparison, EXAM_UTILITY, "read-bandit", "task-static")
    a, b = gains(directory, "read-bandit"), gains(directory, "task-static")
    assert found is not None
    assert found.p_t == pytest.approx(stats.ttest_rel(a.mean(axis=0), b.mean(axis=0)).pvalue)
    assert found.difference.mean == pytest.approx((a - b).mean())
    assert (found.difference.n, found.wins, found.losses) == (4, int((a > b).sum()), int((a < b).sum()))
    assert found.wins + found.losses + found.ties == 8
    assert found.p_wilcoxon == pytest.approx(wilcoxon_p((a - b).ravel()))


def test_the_primary_contrasts_are_holm_adjusted_together(comparison):
    found = contrasts(comparison, EXAM_UTILITY, PAIRS)
    p = [test.p_t for test in found.values()]
    assert [test.p_holm for test in found.values()] == pytest.approx(list(holm(p)))
    # A contrast that is missing still counts.
    more = contrasts(comparison, EXAM_UTILITY, [PAIRS[0], ("read-bandit", "oracle")])
    assert {pair: test.p_holm for pair, test in more.items()} == {PAIRS[0]: pytest.approx(min(1.0, 2 * p[0]))}


def test_an_incomplete_seed_is_left_out_of_the_contrast_and_said(tmp_path):
    path = write_comparison(tmp_path / "c", AGENTS[:2], ("tickets", "puzzles"), range(3), steps=3)
    (path / "runs" / "read-bandit__puzzles__seed2" / "summary.json").unlink()
    found = contrast(load_comparison(path), EXAM_UTILITY, "read-bandit", "task-static")
    assert found is not None
    assert (found.difference.n, found.wins + found.losses + found.ties) == (2, 4)
    assert "1 pair" in found.note


def test_exploratory_contrasts_leave_the_primary_ones_to_their_table(report):
    primary, exploratory = report.read_text().partition("## Primary contrasts")[2].split("## Exploratory contrasts")
    exploratory = exploratory.partition("### Spillover")[0]
    for agent in AGENTS[2:]:
        assert f"| `read-bandit` − `{agent}` " in primary
        assert f"| `{agent}` − `task-static` " in exploratory
    assert "| `read-bandit` − `task-static` " in primary and "`read-bandit` − `task-static`" not in exploratory


def test_runs_without_exam_are_compared_on_the_probes(tmp_path, no_pictures):
    path = write_comparison(tmp_path / "c", AGENTS[:2], seeds=(0, 1), steps=3)
    for summary in path.glob("runs/*/summary.json"):
        value = json.loads(summary.read_text())
        value.update(exam=None, exam_utility=None, exam_utility_start=None, exam_forgetting=None)
        summary.write_text(json.dumps(value))
    assert load_comparison(path).measures[0].key == "utility_gain"
    page = comparison_report(path).read_text()
    assert "on probe utility, gain" in page
    assert "Exam" not in page


def test_the_page_says_what_it_is_made_from_and_shows_its_pictures(report):
    page = report.read_text()
    for text in [
        "4 agents, 2 tasks, 4 seeds (0, 1, 2, 3), 32 finished runs", "budget 36,000 completion tokens",
        "read-env compare --agents ...", "Holm-adjusted over these 3", "leads, not findings",
    ]:  # fmt: skip
        assert text in page
    assert "Unfinished" not in page
    names = [line.split("](")[1].rstrip(")") for line in page.splitlines() if line.startswith("![")]
    assert {"comparison.png", "allocation_tickets.png"} <= set(names)
    assert all((report.parent / name).read_bytes().startswith(b"\x89PNG") for name in names)


def test_unfinished_runs_are_named_and_in_the_csv(tmp_path, no_pictures):
    path = write_comparison(tmp_path / "c", AGENTS[:2], seeds=(0, 1), steps=3)
    (path / "runs" / "task-static__tickets__seed1" / "summary.json").unlink()
    page = comparison_report(path).read_text()
    assert "**Unfinished: 1 run, not in the numbers below.**" in page
    assert "- task-static__tickets__seed1: unfinished: 3 steps" in page
    assert "Holm-adjusted over these 1." in page and "Not made" not in page, "nobody asked for the other references"
    with (path / "runs.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 4
    assert [row["exam_utility_gain"] == "" for row in rows] == [False, False, False, True]
    assert float(rows[0]["exam_math"]) == summaries(path, "read-bandit", "tickets")[0]["exam"][3]


def test_one_seed_gives_a_report_without_tests(tmp_path):
    path = write_comparison(tmp_path / "c", AGENTS[:2], seeds=(0,), steps=3)
    page = comparison_report(path).read_text()
    assert "1 seed (0)" in page
    assert "one value: no test" in page
