"""Problems that records show: what is found, what is not, and one warning for each while a run goes on."""

import logging
import re

import pytest
from micro import micro_config

from read_env.diagnosis import diagnose
from read_env.reporting import run_report
from read_env.running.diagnosis import DiagnosisCallback
from read_env.running.requests import RunRequest
from read_env.running.runner import run

SUITE = ["math", "code"]
CONFIG = {
    "distill": {"loss": "grpo", "learning_rate": 1e-9, "max_completion_tokens": 40},
    "eval": {"score": "likelihood"},
}


def start(**changes):
    return {"suite": SUITE, "requirement": [0.75, 0.25], "profile": [0.2, 0.3], "exam": [0.1, 0.2], **changes}


def step(number=1, profile=(0.3, 0.4), cut=(0, 0), **metrics):
    return {
        "step": number, "profile": list(profile), "metrics": {"grad_norm": 0.5, **metrics},
        "examples_by_capability": [60, 40], "cut_by_capability": list(cut),
    }  # fmt: skip


def steps(count, **changes):
    return [step(number, **changes) for number in range(1, count + 1)]


def test_a_run_that_learns_has_no_problem():
    assert diagnose(start(teacher_exam=[0.9, 0.9]), steps(5, reward=0.2), CONFIG, finished=True) == {}
    old = {key: value for key, value in step().items() if not key.endswith("_by_capability")}
    assert diagnose(start(), [old] * 3, {}) == {}, "records of early versions"


@pytest.mark.parametrize(("cut", "share"), [((5, 0), None), ((6, 0), "6%"), ((2, 10), "12%")])
def test_cut_completions_above_a_twentieth_are_a_problem(cut, share):
    found = diagnose(start(), [step(), step(2, cut=cut)], CONFIG)
    assert list(found) == (["cut"] if share else [])
    if share:
        most = SUITE[int(cut[1] > cut[0])]
        assert f"{share} of the completions of step 2 were cut at distill.max_completion_tokens (40)" in found["cut"]
        assert f"{sum(cut)} of 200 so far, most of them of {most}" in found["cut"]


@pytest.mark.parametrize(
    ("teacher", "problem"),
    [([0.9, 0.04], "less than 5% of the exam's prompts of code"), ([0.06, 0.06], "above its teacher: .* 0.125 against 0.060")],
)  # fmt: skip
def test_a_teacher_that_can_not_do_the_task(teacher, problem):
    assert re.search(problem, diagnose(start(teacher_exam=teacher), [], CONFIG)["teacher"])
    unneeded = start(teacher_exam=[0.9, 0.0], requirement=[1.0, 0.0])
    assert diagnose(unneeded, [], CONFIG) == {}


STILL = {"profile": (0.2, 0.3)}


@pytest.mark.parametrize(
    ("loss", "changes", "begin", "problem"),
    [
        ("grpo", {"reward": 0.0}, {}, "no sample of grpo earned a reward in 3 steps"),
        ("rlad", {"reward": 1.0, "grad_norm": 0.0}, {}, "all samples of a prompt earned the same"),
        ("fkl", {"grad_norm": 0.0}, {}, "most likely the student equals the teacher"),
        ("fkl", STILL, {}, "distill.learning_rate (1e-09) is too small"),
        ("fkl", {"profile": (1e-5, 2e-6)}, {"profile": [1e-9, 1e-8]}, "right would be eval.score token-likelihood"),
        ("fkl", {"profile": (0, 0)}, {"profile": [0, 0], "score": "exact-match"}, "no probe of a needed capability is answered"),
        ("gkd", {"reward": 0.0}, {}, None),  # its gradient comes from the teacher
        ("fkl", STILL, {"score": "exact-match"}, None),  # a level that exact match keeps for a while
        ("fkl", {"profile": (0.2, 0.31)}, {}, None),
    ],
)  # fmt: skip
def test_nothing_is_learned(loss, changes, begin, problem):
    config = {**CONFIG, "distill": {**CONFIG["distill"], "loss": loss}}
    found = diagnose(start(**begin), steps(3, **changes), config)
    assert (problem in found["learning"]) if problem else found == {}
    assert diagnose(start(**begin), steps(2, **changes), config) == {}, "too early to say"
    assert list(diagnose(start(**begin), steps(1, **changes), config, finished=True)) == list(found)


def test_adapters_are_named_where_there_are_any():
    config = {**CONFIG, "models": {"lora_r": 8}}
    assert "models.lora_target_modules" in diagnose(start(), steps(3, **STILL), config)["learning"]


def test_a_real_run_whose_adapters_do_not_move_says_so(tmp_path, caplog):
    distill = {"learning_rate": 1e-12, "teacher_batch_size": 8}
    config = micro_config(600, 200, 2, agent="uniform", distill=distill, models={"lora_r": 2})
    run(RunRequest(config, tmp_path / "run"))
    (told,) = [message for message in caplog.messages if message.startswith("run: ")]
    assert "distill.learning_rate (1e-12) is too small, or adapters" in told
    assert f"**Warning:** {told.removeprefix('run: ')}." in run_report(tmp_path / "run").read_text()


def test_each_problem_is_told_once_also_after_an_interruption(caplog):
    caplog.set_level(logging.WARNING)
    begun, records = start(teacher_exam=[0.0, 0.9]), steps(4, cut=(50, 0), reward=0.0)

    def told(callback, known, new):
        caplog.clear()
        callback.on_run_start(begun, known)
        for record in new:
            callback.on_step(record)
        callback.on_run_end({})
        return [message.split(":")[0] for message in caplog.messages], caplog.text

    names, text = told(DiagnosisCallback("a run", CONFIG), [], records)
    assert names == ["a run"] * 3 and all(part in text for part in ("teacher", "were cut", "earned a reward"))
    names, text = told(DiagnosisCallback("a run", CONFIG), records[:2], records[2:])
    assert len(names) == 1 and "earned a reward" in text
