import json

import pytest
from synthetic_records import write_comparison, write_run

from read_env.errors import ReadEnvError
from read_env.records import RecordError
from read_env.reporting import load_comparison, load_run, load_training, load_transfer


def edit(path, change):
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


@pytest.fixture
def run(tmp_path):
    return write_run(tmp_path / "run", steps=4)


def test_a_finished_run(run):
    loaded = load_run(run)
    assert loaded.summary is not None and loaded.status == "finished"
    assert (loaded.agent, loaded.task, loaded.seed, loaded.budget) == ("read-bandit", "tickets", 0, 24_000)
    assert [step.step for step in loaded.steps] == [1, 2, 3, 4]
    assert loaded.essential.sum() == 2


def test_a_label_that_only_the_summary_knows(run):
    edit(run / "summary.json", lambda value: value.update(agent="read-bandit-trained"))
    assert load_run(run).agent == "read-bandit-trained"


def test_an_unfinished_run_says_how_far_it_came(tmp_path):
    loaded = load_run(write_run(tmp_path / "run", stop_after=2))
    assert loaded.summary is None
    assert loaded.status.startswith("unfinished: 2 steps, ")
    assert "of 120,000 completion tokens" in loaded.status


def test_a_last_line_cut_off_by_a_kill_is_no_record(tmp_path):
    path = write_run(tmp_path / "run", stop_after=2)
    with (path / "steps.jsonl").open("a") as file:
        file.write('{"step": 3, "alloc')
    loaded = load_run(path)
    assert len(loaded.steps) == 2
    assert "last record cut off" in loaded.status


def test_a_failed_run_says_why(tmp_path):
    path = write_run(tmp_path / "run", stop_after=1)
    (path / "error.txt").write_text("Traceback ...\nDivergedError: loss 41.2 above max_loss 30\n")
    assert load_run(path).status == "failed after 1 steps: DivergedError: loss 41.2 above max_loss 30"


def test_a_run_that_only_has_its_configuration_has_not_started(run):
    for name in ("start.json", "steps.jsonl", "summary.json"):
        (run / name).unlink()
    assert load_run(run).status == "not started"


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("start.json", lambda v: v.pop("requirement"), r"start.json: field 'requirement' is missing"),
        ("start.json", lambda v: v.update(profile=[0.1]), r"start.json: profile is \[0.1\], expected a list of 8"),
        ("start.json", lambda v: v.update(utility="high"), r"start.json: utility is 'high', expected a finite number"),
        ("summary.json", lambda v: v.update(spent=-1), r"summary.json: spent is -1, expected a whole number"),
        ("summary.json", lambda v: v.update(steps=9), r"summary.json: steps is 9, but steps.jsonl has 4"),
        ("summary.json", lambda v: v.update(utility=float("nan")), r"summary.json: utility is nan"),
    ],
)
def test_malformed_fields_are_named(run, file, change, message):
    edit(run / file, change)
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
    lines[2] = line
    (run / "steps.jsonl").write_text("\n".join(lines) + "\n")
    with pytest.raises(RecordError, match=message):
        load_run(run)


def test_steps_without_a_start_are_an_error(run):
    (run / "start.json").unlink()
    with pytest.raises(RecordError, match=r"start.json: missing, although"):
        load_run(run)


def test_what_is_no_run_directory(tmp_path):
    with pytest.raises(ReadEnvError, match="no such run directory"):
        load_run(tmp_path / "nowhere")
    with pytest.raises(RecordError, match="not a run directory"):
        load_run(tmp_path)


def test_a_comparison_names_every_run_that_is_not_in_the_numbers(tmp_path):
    path = write_comparison(tmp_path / "c", agents=("uniform", "task-static"), seeds=(0, 1), steps=3)
    (path / "runs" / "uniform__tickets__seed1" / "summary.json").unlink()
    edit(path / "config.json", lambda value: value["seeds"].append(2))
    loaded = load_comparison(path)
    assert loaded.agents == ("uniform", "task-static")  # the configuration's order
    assert len(loaded.runs) == 3
    assert [line.split(":")[0] for line in loaded.unfinished] == [
        "task-static__tickets__seed2",
        "uniform__tickets__seed1",
        "uniform__tickets__seed2",
    ]


def test_a_comparison_of_different_budgets_is_refused(tmp_path):
    path = write_comparison(tmp_path / "c", agents=("uniform",), seeds=(0,), steps=3)
    write_run(path / "runs" / "task-static__tickets__seed0", "task-static", steps=4)
    with pytest.raises(RecordError, match=r"different budgets \(\[18000, 24000\]\)"):
        load_comparison(path)


def test_directories_that_hold_something_else(tmp_path):
    with pytest.raises(RecordError, match="runs: no such folder"):
        load_comparison(tmp_path)
    with pytest.raises(RecordError, match=r"episodes.jsonl: missing"):
        load_training(tmp_path)
    path = write_comparison(tmp_path / "c", agents=("uniform",), seeds=(0,), steps=3)
    with pytest.raises(RecordError, match="agent is 'uniform' with options {}, expected 'one-hot' with a capability"):
        load_transfer(path)
