"""``read-env check``: what a configuration needs, and what of it is there."""

import re

import pytest

from read_env.cli import main
from read_env.config import load_preset
from read_env.running.check import check

LARGE = {"models": {"teacher": "Qwen/Qwen2.5-72B-Instruct", "student": "Qwen/Qwen2.5-14B-Instruct"}}


def rows(**changes):
    found = check(load_preset("micro", changes))
    return dict(found.rows), found.ready


def gib(text):
    return float(re.match(r"\s*([\d.]+) GiB", text)[1])


def test_what_is_there_is_loaded_and_measured():
    shown, ready = rows()
    assert ready and "0.9 M parameters" in shown["teacher"] and "0.3 M parameters" in shown["student"]
    assert re.search(r"6,000 completion tokens: teacher [\d.]+ s .*student [\d.]+ s", shown["a chunk"])


def test_models_that_are_elsewhere_are_sized_from_their_shapes():
    shown, ready = rows(**LARGE)
    assert not ready and "72,706.2 M parameters" in shown["teacher"]
    assert shown["missing (teacher)"] == "weights: hf download Qwen/Qwen2.5-72B-Instruct"
    assert shown["a chunk"].startswith("not measured")
    width = 2 if ", bf16, " in shown["teacher"] else 4
    assert gib(shown["teacher's weights"]) == pytest.approx(72.706e9 * width / 2**30, rel=0.01)
    assert "TOO MUCH" in shown["device in all"] or gib(shown["device in all"]) > 100


def test_adapters_and_checkpointing_save_what_they_save():
    plain, _ = rows(**LARGE)
    lora, _ = rows(models={**LARGE["models"], "lora_rank": 16, "gradient_checkpointing": True})
    assert gib(lora["optimizer"]) < 0.02 * gib(plain["optimizer"])
    assert gib(lora["activations"]) < 0.2 * gib(plain["activations"])
    half, _ = rows(models={**LARGE["models"], "student_layers": tuple(range(24))})
    assert gib(half["student's weights"]) == pytest.approx(0.5 * gib(plain["student's weights"]), rel=0.01)


def test_a_teacher_that_is_the_students_base_is_counted_once():
    shown, _ = rows(models={"teacher": "embedded:micro/student", "lora_rank": 4})
    assert "teacher's weights" not in shown


def test_the_command_says_what_is_missing_and_fails(capsys):
    assert main(["check", "--models.teacher", "Qwen/Qwen2.5-72B-Instruct"]) == 1
    assert "hf download Qwen/Qwen2.5-72B-Instruct" in capsys.readouterr().out


def test_a_model_of_unknown_shape_is_named_with_those_that_are_known(capsys):
    assert main(["check", "--models.teacher", "somebody/something"]) == 2
    message = capsys.readouterr().err
    assert "'somebody/something' is not on this machine" in message and "Qwen/Qwen2.5-14B-Instruct" in message


@pytest.mark.parametrize(("preset", "size"), [("qwen2.5", "14,770.0 M"), ("llama3", "8,030.3 M")])
def test_the_presets_of_the_paper_are_checked_as_far_as_their_weights_are_elsewhere(preset, size):
    found = check(load_preset(preset))
    shown = dict(found.rows)
    assert not found.ready and size in shown["student"]
    assert {"missing (teacher)", "missing (student)", "optimizer", "activations"} <= set(shown)
