"""Records are written and read through one model: the same bytes come back, and a wrong value is named."""

import json

import numpy as np
import pytest
from pydantic import ValidationError
from synthetic_records import write_run, write_training

from read_env.record_files import RecordError, read_record, read_records
from read_env.records import Episode, Record, RunStart, RunSummary, StepRecord, TrainingSummary


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("records") / "run", steps=5, exam_steps=(2,))


def names(model: type[Record]) -> list[str]:
    return [field.alias or name for name, field in model.model_fields.items()]


def test_steps_come_back_to_the_byte(run):
    steps, cut = read_records(run / "steps.jsonl", StepRecord, size=10)
    lines = [json.loads(line) for line in (run / "steps.jsonl").read_text().splitlines()]
    assert not cut and [step.to_json() for step in steps] == lines
    assert [("exam" in step.to_json(), "dev_profile" in step.to_json()) for step in steps] == [
        (False, False), (True, False), (False, False), (False, False), (False, True)
    ]  # fmt: skip
    assert isinstance(steps[0].to_json()["tokens_by_capability"][0], int)


@pytest.mark.parametrize(("file", "model"), [("start.json", RunStart), ("summary.json", RunSummary)])
def test_start_and_summary_come_back(run, file, model):
    written = json.loads((run / file).read_text())
    value = read_record(run / file, model).to_json()
    assert {name: value[name] for name in written} == written
    assert all(value[name] is None for name in set(value) - set(written)), "an optional field that was not written"


def test_the_order_of_fields_is_fixed(run):
    end = list(read_record(run / "summary.json", RunSummary).model_copy(update={"derived_from": "x"}).to_json())
    assert end[:4] == ["agent", "task", "seed", "budget"]
    assert end[-10:] == [
        "utility_start", "utility", "exam_start", "exam", "exam_utility_start", "exam_utility", "spillover",
        "forgetting", "exam_forgetting", "derived_from",
    ]  # fmt: skip
    assert names(Episode) == [
        "episode", "task", "return", "steps", "completion_tokens", "utility_start", "utility", "seed",
    ]  # fmt: skip
    assert names(TrainingSummary)[0] == "label"


def test_numpy_values_are_written_as_json_numbers():
    counts = dict.fromkeys("step completion_tokens prompt_tokens trained_tokens budget_spent".split(), np.int64(3))
    numbers = dict.fromkeys("reward utility gain spillover cost forgetting loss".split(), np.float64(0.1))
    vectors = {"allocation": np.ones(2) / 2, "tokens_by_capability": np.array([1, 2]), "profile": np.zeros(2)}
    by_name = {"cache": {"evictions": np.int64(2)}, "metrics": {"fkl": np.float32(0.5)}}
    step = StepRecord(**counts, **numbers, **vectors, **by_name)
    text = json.dumps(step.to_json())
    assert '"tokens_by_capability": [1, 2]' in text and '"evictions": 2' in text and '"fkl": 0.5' in text


def test_a_value_that_is_not_finite_is_not_written():
    with pytest.raises(ValidationError, match="episode_return|return"):
        Episode(**{"return": float("nan"), "episode": 1, "task": "t", "steps": 1, "completion_tokens": 1, "seed": 0})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"return": None}, r"line 2: return is None, expected a finite number"),
        ({"steps": 2.5}, r"line 2: steps is 2.5, expected a whole number, zero or more"),
        ({"seed": True}, r"line 2: seed is True, expected a whole number, zero or more"),
        ({"task": 3}, r"line 2: task is 3, expected a string"),
    ],
)
def test_a_wrong_value_is_named_with_file_line_and_field(tmp_path, change, message):
    path = write_training(tmp_path / "training", 3) / "episodes.jsonl"
    first, second, third = path.read_text().splitlines()
    path.write_text("\n".join([first, json.dumps({**json.loads(second), **change}), third]) + "\n")
    with pytest.raises(RecordError, match=f"episodes.jsonl, {message}"):
        read_records(path, Episode)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"suite": []}, r"suite is \[\], expected a list of strings"),
        ({"suite": ["math", 3]}, r"suite.1 is 3, expected a string"),
        ({"profile": ["a"] * 10}, r"profile is .*, expected a list of 10 finite numbers, one per capability"),
        ({"exam": [0.5, None] * 5}, r"exam is .*, expected a list of 10 finite numbers"),
    ],
)
def test_a_wrong_start_is_named(run, tmp_path, change, message):
    path = tmp_path / "start.json"
    path.write_text(json.dumps({**json.loads((run / "start.json").read_text()), **change}))
    with pytest.raises(RecordError, match=f"start.json: {message}"):
        read_record(path, RunStart)


def test_numbers_by_name_must_be_numbers(run, tmp_path):
    step = json.loads((run / "steps.jsonl").read_text().splitlines()[0])
    (tmp_path / "steps.jsonl").write_text(json.dumps({**step, "metrics": {"fkl": "low"}}) + "\n")
    with pytest.raises(RecordError, match=r"line 1: metrics is .*, expected an object whose values are numbers"):
        read_records(tmp_path / "steps.jsonl", StepRecord, size=10)
