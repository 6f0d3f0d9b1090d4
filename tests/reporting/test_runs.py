import json

import pytest
from synthetic_records import write_comparison, write_run

from read_env.records import RecordError
from read_env.reporting import load_comparison, load_run, load_runs, load_training, load_transfer


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
        ("start.json", {"requirement": None}, r"start.json: requirement is None, expected a list of 8 finite numbers"),
        ("start.json", {"profile": [0.1]}, r"start.json: profile is \[0.1\], expected a list of 8"),
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
