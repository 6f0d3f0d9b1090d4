import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from synthetic_records import SUITE, write_comparison, write_run, write_training, write_transfer

import read_env
from read_env.reporting.runs import IDENTITY


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return write_comparison(
        tmp_path_factory.mktemp("frames") / "c", ("uniform", "task-static"), ("tickets",), (0, 1), steps=3
    )


def test_one_row_per_run_with_identity_and_results(directory):
    runs = read_env.load_runs(directory)
    assert list(runs.columns[: len(IDENTITY)]) == IDENTITY
    assert list(zip(runs["agent"], runs["seed"], strict=True)) == [
        ("task-static", 0), ("task-static", 1), ("uniform", 0), ("uniform", 1)
    ]  # fmt: skip
    folder = directory / "runs" / "uniform__tickets__seed1"
    end = json.loads((folder / "summary.json").read_text())
    steps = [json.loads(line) for line in (folder / "steps.jsonl").read_text().splitlines()]
    row = runs.iloc[3]
    assert (row["task"], row["preset"], row["suite"], row["status"]) == ("tickets", "micro", "micro", "finished")
    assert (row["budget"], row["step_tokens"], row["spent"], row["steps"]) == (18_000, 6_000, end["spent"], 3)
    assert row["utility_gain"] == end["utility"] - end["utility_start"]
    assert row["exam_match_gain"] == pytest.approx(end["exam_utility"] - end["exam_utility_start"])
    assert row["return"] == pytest.approx(sum(step["reward"] for step in steps))
    assert runs["spent"].dtype == "Int64" and runs["utility"].dtype == float


def test_one_row_per_step_from_the_initial_student_on(directory):
    steps = read_env.load_steps(directory / "runs" / "uniform__tickets__seed0")
    assert list(steps["step"]) == [0, 1, 2, 3]
    assert steps["spent"].iloc[0] == 0 and steps["spent"].is_monotonic_increasing
    assert np.isnan(steps["reward"].iloc[0]) and pd.isna(steps["completion_tokens"].iloc[0])
    assert steps["spillover_sum"].iloc[-1] == pytest.approx(steps["spillover"].sum())
    end = read_env.load_runs(directory / "runs" / "uniform__tickets__seed0").iloc[0]
    assert steps["forgetting_so_far"].iloc[-1] == pytest.approx(end["forgetting"])
    assert {"metrics/fkl", "agent/bandit/kappa", "seconds/teacher", "cache/blocks_asked"} <= set(steps)


def test_one_row_per_capability_of_a_step(directory):
    scores = read_env.load_scores(directory)
    assert len(scores) == 4 * 4 * len(SUITE)
    assert tuple(scores["capability"].cat.categories) == SUITE
    folder = directory / "runs" / "task-static__tickets__seed1"
    last = scores[(scores["path"] == str(folder)) & (scores["step"] == 3)]
    end = json.loads((folder / "summary.json").read_text())
    assert last["probe"].tolist() == end["profile"] and last["exam"].tolist() == end["exam"]
    first = scores[(scores["path"] == str(folder)) & (scores["step"] == 0)]
    assert first["exam"].tolist() == end["exam_start"] and first["allocation"].isna().all()
    shares = scores[scores["step"] > 0].groupby(["path", "step"])["allocation"].sum()
    assert shares.to_numpy() == pytest.approx(1)


def test_a_renamed_folder_changes_nothing_but_the_path(tmp_path):
    path = write_run(tmp_path / "task-static__tickets__seed7", "uniform", "puzzles", 3, steps=2)
    loaders = (read_env.load_runs, read_env.load_steps, read_env.load_scores)
    before = [load(path) for load in loaders]
    assert before[0][["agent", "task", "seed"]].values.tolist() == [["uniform", "puzzles", 3]]
    moved = path.rename(tmp_path / "read-bandit__sums__seed9")
    for frame, load in zip(before, loaders, strict=True):
        after = load(moved)
        assert set(after["path"]) == {str(moved)}
        pd.testing.assert_frame_equal(after.drop(columns="path"), frame.drop(columns="path"))


def test_an_unfinished_run_has_no_end(tmp_path):
    row = read_env.load_runs(write_run(tmp_path / "run", "one-hot-math", stop_after=2)).iloc[0]
    assert (row["agent"], row["steps"], bool(row["finished"])) == ("one-hot,capability=math", 2, False)
    assert row["status"].startswith("unfinished: 2 steps")
    assert pd.isna(row["residue"]) and np.isnan(row["utility"])


def test_several_directories_of_every_kind(tmp_path):
    paths = [
        write_run(tmp_path / "run", steps=2),
        write_comparison(tmp_path / "c", ("uniform",), ("tickets",), (0,), steps=2),
        write_transfer(tmp_path / "t", (6_000,), range(1)),
        write_training(tmp_path / "training", 4),
    ]
    runs = read_env.load_runs(*paths)
    assert len(runs) == 1 + 1 + 8 + 4
    episodes = runs[runs["episode"].notna()]
    assert (episodes["utility"] - episodes["utility_start"]).tolist() == pytest.approx(
        episodes["utility_gain"].tolist()
    )
    assert episodes["agent"].unique().tolist() == ["read-bandit"] and episodes["steps"].unique().tolist() == [20]
    assert read_env.load_steps(*paths)["path"].nunique() == 10
    assert read_env.load_steps(paths[3]).empty and read_env.load_scores(paths[3]).empty


def test_the_documentation_names_every_column(directory):
    text = (Path(__file__).parents[2] / "docs/records.md").read_text()
    for load in (read_env.load_runs, read_env.load_steps, read_env.load_scores):
        assert [name for name in load(directory) if "/" not in name and f"`{name}`" not in text] == []
