"""Several teachers, a capability each: whose answers a capability learns from, what they cost in identity, and what is refused."""

import json

import numpy as np
import pytest
import torch
from chat_server import answer, serving
from micro import SUITE, micro_config, saved
from scoring_server import scoring_servers

from read_env.config import ModelConfig, load_preset
from read_env.distillation.loading import load_student, load_teachers
from read_env.distillation.process import Distillation
from read_env.distillation.teachers.base import TeacherCache, Teachers
from read_env.distillation.teachers.remote_scoring import RemoteScoringTeacher
from read_env.distillation.teachers.store import BlockStore
from read_env.errors import ReadEnvError
from read_env.running.check import check
from read_env.running.identity import RunIdentity

TEACHER, STUDENT, APPRENTICE = (f"embedded:micro/{name}" for name in ("teacher", "student", "apprentice"))
MATH, CODE = SUITE.names.index("math"), SUITE.names.index("code")


def configured(teachers, loss="fkl", models=None, **distill):
    sizes = {"teacher_top_k": 6, "max_completion_tokens": 24, "teacher_batch_size": 4, "rollout_batch_size": 2}
    models = {"teachers": teachers, **(models or {})}
    return micro_config(300, 150, 2, models=models, distill={"loss": loss, **sizes, **distill})


def first_answers(distillation, *capabilities):
    return [distillation._stream.peek(SUITE.names.index(name)) for name in capabilities]


@pytest.fixture(scope="module")
def servers():
    with scoring_servers(TEACHER, APPRENTICE) as both:
        yield both


def test_each_capability_learns_from_its_own_teacher():
    mixed = Distillation.load(configured({"math": APPRENTICE, "code": APPRENTICE, "default": TEACHER}))
    teacher, apprentice = (Distillation.load(configured({"default": name})) for name in (TEACHER, APPRENTICE))
    assert len(mixed.cache.teachers.all) == 2, "the same reference is loaded once"
    for name in ("math", "code", "reasoning"):
        (ours,), (theirs,) = (
            first_answers(one, name) for one in (mixed, teacher if name == "reasoning" else apprentice)
        )
        assert ours.token_ids == theirs.token_ids and ours.targets.top_ids.equal(theirs.targets.top_ids)
    one, other = (distillation.step(np.eye(10)[MATH]) for distillation in (mixed, apprentice))
    np.testing.assert_array_equal(one.profile, other.profile)


@pytest.mark.parametrize("loss", ["gkd", "rlad"])
def test_samples_are_scored_by_the_teacher_of_their_capability(loss, monkeypatch):
    distillation = Distillation.load(configured({"math": APPRENTICE}, loss))
    scored = {}
    for name, teacher in (("math", distillation.cache.teachers.of("math")), ("others", distillation.cache.teacher)):

        def score(texts, ids, name=name, score=teacher.score):
            scored.setdefault(name, set()).update(texts)
            return score(texts, ids)

        monkeypatch.setattr(teacher, "score", score)
    weights = np.zeros(10)
    weights[[MATH, CODE]] = 0.5
    report = distillation.step(weights)
    assert report.completion_tokens > 0 and scored["math"] and scored["others"]
    assert not scored["math"] & scored["others"]
    alone = Distillation.load(configured({"default": APPRENTICE}, loss))
    assert alone.cache.teacher.identity == distillation.cache.teachers.of("math").identity


def test_one_cache_keeps_the_answers_of_all(tmp_path):
    student = load_student(configured({}))
    teachers = load_teachers(configured({"math": APPRENTICE}), student)
    texts, names = ["2+3", "4+5", "6+7"], ["math", "code", "math"]
    first = TeacherCache(teachers, store=BlockStore(tmp_path, 10**9))
    answers = first.complete(texts, names)
    again = TeacherCache(teachers, store=BlockStore(tmp_path, 10**9))
    assert [one.token_ids for one in again.complete(texts, names)] == [one.token_ids for one in answers]
    assert again.asked_tokens == 0 and first.asked_tokens == sum(map(len, answers)) > 0
    other = TeacherCache(Teachers(teachers.default), store=BlockStore(tmp_path, 10**9))
    other.complete([texts[1]])
    assert other.asked_tokens == 0, "the default teacher's block is found whichever other teachers there are"
    other.complete(["2+3", "6+7"])
    assert other.asked_tokens > 0, "the answers of the other teacher are not taken for its own"


def test_the_teacher_of_a_capability_is_the_ceiling_of_its_scores():
    mixed = Distillation.load(configured({"math": STUDENT}))
    teacher, student = (Distillation.load(configured({"default": name})) for name in (TEACHER, STUDENT))
    found, best, worst = (one.measurement.teacher_scores for one in (mixed, teacher, student))
    assert found.profile[MATH] == pytest.approx(worst.profile[MATH], abs=1e-6)
    assert found.profile[CODE] == pytest.approx(best.profile[CODE], abs=1e-6) != worst.profile[CODE]


def test_teachers_on_servers_have_addresses_of_their_own(servers, monkeypatch):
    pytest.importorskip("openai")
    monkeypatch.setenv("READ_ENV_API_KEY", "x")
    vllm, sglang = (servers[kind].url for kind in ("vllm", "sglang"))
    remote = {"math": f"remote:m1@{vllm}", "code": f"remote:m@{sglang}", "default": "remote:m"}
    ours = Distillation.load(configured(remote, models={"remote_base_url": vllm}))
    assert {type(one) for one in ours.cache.teachers.all} == {RemoteScoringTeacher} and len(
        ours.cache.teachers.all
    ) == 3
    here = Distillation.load(configured({"math": APPRENTICE, "default": TEACHER}))
    for mine, other in zip(first_answers(ours, "math", "code"), first_answers(here, "math", "code"), strict=True):
        assert mine.token_ids == other.token_ids
        torch.testing.assert_close(mine.targets.top_log_probs, other.targets.top_log_probs, atol=1e-5, rtol=1e-5)
    shown = dict(check(configured(remote, models={"remote_base_url": vllm}))[0])
    assert shown["probabilities of math"] == "yes, from vLLM: every loss works"
    assert (
        shown["probabilities of code"] == "yes, from SGLang: every loss works" and shown["endpoint of code"] == sglang
    )


def test_a_teacher_of_text_beside_one_with_probabilities_teaches_sft_alone(monkeypatch):
    pytest.importorskip("openai")
    monkeypatch.setenv("READ_ENV_API_KEY", "x")
    with serving(lambda number, prompt: (200, answer("so 42"))) as server:
        teachers = {"math": f"remote:m@{server.url}"}
        distillation = Distillation.load(configured(teachers, "sft"))
        weights = np.zeros(10)
        weights[[MATH, CODE]] = 0.5
        report = distillation.step(weights)
        assert report.tokens_by_capability[MATH] > 0 < report.tokens_by_capability[CODE]
        with pytest.raises(ReadEnvError, match="gives text alone"):
            Distillation.load(configured(teachers, "fkl"))


def test_the_default_may_stand_beside_the_others_and_paths_are_relative_to_their_file(tmp_path):
    saved(tmp_path / "mine", name="apprentice")
    preset = tmp_path / "own.toml"
    preset.write_text('extends = "micro"\n[models]\nteachers = {math = "./mine", default = "embedded:micro/student"}\n')
    models = load_preset(str(preset)).models
    assert models.teacher == STUDENT and models.teachers == {"math": str(tmp_path / "mine")}
    assert load_preset(str(preset), {"models": {"teacher": TEACHER}}).models.teacher == TEACHER
    assert models.all_teachers == (STUDENT, str(tmp_path / "mine")) and models.teacher_of("math") != STUDENT
    assert ModelConfig.model_validate(json.loads(models.model_dump_json())) == models


def test_another_teacher_of_a_capability_is_another_run_and_a_moved_one_is_not(tmp_path):
    for name in ("a", "b"):
        saved(tmp_path / name, name="apprentice")
    one, moved, other = (
        RunIdentity.of_run(configured({"math": reference})) for reference in (str(tmp_path / "a"), str(tmp_path / "b"), STUDENT)
    )  # fmt: skip
    assert one.differences(moved) == []
    assert any("models.teachers.math" in line for line in one.differences(other))


def test_a_capability_that_the_suite_does_not_have_is_refused():
    with pytest.raises(ReadEnvError, match=r"models.teachers: capability 'maths': did you mean 'math'\?"):
        Distillation.load(configured({"maths": APPRENTICE}))


def test_an_address_with_a_password_is_refused_and_not_shown():
    with pytest.raises(ReadEnvError, match="the address of the teacher remote:m has a user, a password") as error:
        load_preset("micro", {"models": {"teachers": {"math": "remote:m@https://me:secret@host/v1"}}})
    assert "secret@" not in str(error.value)
