import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from synthetic_records import SUITE, write_comparison, write_run, write_training, write_transfer

import read_env
from read_env.record_files import RecordError
from read_env.reporting import load_comparison, load_run, load_runs, load_training, load_transfer
from read_env.reporting.runs import IDENTITY


def edit(path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.fixture
def run(tmp_path):
    return write_run(tmp_path / "run", steps=4)


def test_a_finished_run(run):
    loaded = load_run(run)
    assert loaded.summary is not None and loaded.status == "finished"
    assert (loaded.agent, loaded.task, loaded.seed, loaded.budget) == ("read-bandit", "tickets", 0, 24_000)
    assert [step.step for step in loaded.steps] == [1, 2, 3, 4]
    assert loaded.essential.sum() == 2
    edit(run / "summary.json", agent="read-bandit-trained")  # a label that only the summary knows
    assert load_run(run).agent == "read-bandit-trained"


def test_an_unfinished_run_says_how_far_it_came(tmp_path):
    path = write_run(tmp_path / "run", stop_after=2)
    loaded = load_run(path)
    assert loaded.summary is None and loaded.status.startswith("unfinished: 2 steps, ")
    assert "of 120,000 completion tokens" in loaded.status
    with (path / "steps.jsonl").open("a") as file:
        file.write('{"step": 3, "alloc')  # cut off by a kill
    loaded = load_run(path)
    assert len(loaded.steps) == 2 and "last record cut off" in loaded.status
    (path / "error.txt").write_text("Traceback ...\nDivergedError: loss 41.2 above max_loss 30\n")
    assert load_run(path).status == "failed after 2 steps: DivergedError: loss 41.2 above max_loss 30"


@pytest.mark.parametrize(
    ("file", "changes", "message"),
    [
        ("start.json", {"requirement": None}, r"start.json: requirement is None, expected a list of 10 finite numbers"),
        ("start.json", {"profile": [0.1]}, r"start.json: profile is \[0.1\], expected a list of 10"),
        ("start.json", {"utility": "high"}, r"start.json: utility is 'high', expected a finite number"),
        ("summary.json", {"spent": -1}, r"summary.json: spent is -1, expected a whole number"),
        ("summary.json", {"steps": 9}, r"summary.json: steps is 9, but steps.jsonl has 4"),
        ("summary.json", {"utility": float("nan")}, r"summary.json: utility is nan"),
    ],
)
def test_malformed_fields_are_named(run, file, changes, message):
    edit(run / file, **changes)
    with pytest.raises(RecordError, match=message):
        load_run(run)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("not json", r"steps.jsonl, line 3: not valid JSON"),
        ("[1, 2]", r"steps.jsonl, line 3: expected a JSON object, found list"),
        ('{"step": 7}', r"steps.jsonl, line 3: step is 7, expected 3"),
        ('{"step": 3}', r"steps.jsonl, line 3: field 'reward' is missing"),
    ],
)
def test_malformed_lines_are_named(run, line, message):
    lines = (run / "steps.jsonl").read_text().splitlines()
    (run / "steps.jsonl").write_text("\n".join([*lines[:2], line, *lines[3:]]) + "\n")
    with pytest.raises(RecordError, match=message):
        load_run(run)


def test_missing_files(run, tmp_path):
    (run / "start.json").unlink()
    with pytest.raises(RecordError, match=r"start.json: missing, although"):
        load_run(run)
    (run / "steps.jsonl").unlink()
    (run / "summary.json").unlink()
    assert load_run(run).status == "not started"
    for path, load, message in [
        (tmp_path / "nowhere", load_run, "no such run directory"),
        (tmp_path / "nowhere", load_runs, "no such run directory"),
        (tmp_path, load_run, "not a run directory"),
        (tmp_path, load_training, r"episodes.jsonl: missing"),
        (tmp_path, load_comparison, "runs: no such folder"),
    ]:
        with pytest.raises(RecordError, match=message):
            load(path)


def test_a_comparison_names_every_run_that_is_not_in_the_numbers(tmp_path):
    path = write_comparison(tmp_path / "c", agents=("uniform", "task-static"), seeds=(0, 1), steps=3)
    (path / "runs" / "uniform__tickets__seed1" / "summary.json").unlink()
    edit(path / "config.json", seeds=[0, 1, 2])
    loaded = load_comparison(path)
    assert loaded.agents == ("uniform", "task-static")  # the configuration's order
    assert len(loaded.runs) == 3
    absent = ["task-static__tickets__seed2", "uniform__tickets__seed1", "uniform__tickets__seed2"]
    assert [line.split(":")[0] for line in loaded.unfinished] == absent


def test_runs_that_do_not_belong_together(tmp_path):
    path = write_comparison(tmp_path / "c", agents=("uniform",), seeds=(0,), steps=3)
    with pytest.raises(RecordError, match="agent is 'uniform' with options {}, expected 'one-hot' with a capability"):
        load_transfer(path)
    other = write_run(path / "runs" / "task-static__tickets__seed0", "task-static", steps=4)
    with pytest.raises(RecordError, match=r"different budgets \(\[18000, 24000\]\)"):
        load_comparison(path)
    other.rename(tmp_path / "other")
    write_run(path / "runs" / "copy", "uniform", "tickets", 0, steps=3)
    with pytest.raises(RecordError, match=r"the same agent, task and seed as copy: remove one of the two"):
        load_comparison(path)


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return write_comparison(
        tmp_path_factory.mktemp("frames") / "c", ("uniform", "task-static"), ("tickets",), (0, 1), steps=3
    )


def test_one_row_per_run_with_identity_and_results(directory):
    runs = read_env.load_runs(directory)
    assert list(runs.columns[: len(IDENTITY)]) == IDENTITY
    assert runs["agent"].tolist() == ["task-static"] * 2 + ["uniform"] * 2 and runs["seed"].tolist() == [0, 1, 0, 1]
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
    assert len(runs) == 1 + 1 + len(SUITE) + 4
    episodes = runs[runs["episode"].notna()]
    gains = episodes["utility"] - episodes["utility_start"]
    assert gains.tolist() == pytest.approx(episodes["utility_gain"].tolist())
    assert episodes["agent"].unique().tolist() == ["read-bandit"] and episodes["steps"].unique().tolist() == [20]
    assert read_env.load_steps(*paths)["path"].nunique() == 1 + 1 + len(SUITE)
    assert read_env.load_steps(paths[3]).empty and read_env.load_scores(paths[3]).empty


def test_the_documentation_names_every_column(directory):
    text = (Path(__file__).parents[2] / "docs/records.md").read_text()
    for load in (read_env.load_runs, read_env.load_steps, read_env.load_scores):
        assert [name for name in load(directory) if "/" not in name and f"`{name}`" not in text] == []
