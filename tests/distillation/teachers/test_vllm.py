"""A teacher in vLLM, on a stand-in with vLLM's types: it must say what the same model says in transformers."""

import shutil
import sys
from pathlib import Path

import fake_vllm
import numpy as np
import pytest
import torch
from micro import SUITE, micro_config, same_answers

import read_env
from read_env.capabilities.stream import PromptStream
from read_env.distillation.loading import load_student, load_teacher
from read_env.distillation.process import Distillation
from read_env.distillation.teachers.vllm import VllmTeacher
from read_env.errors import ReadEnvError

FOLDER = str(Path(read_env.__file__).parent / "assets" / "micro" / "teacher")


@pytest.fixture(scope="module", autouse=True)
def vllm():
    with pytest.MonkeyPatch.context() as patched:
        patched.setitem(sys.modules, "vllm", fake_vllm)
        yield


def configured(teacher=f"vllm:{FOLDER}", models=None, **distill):
    sizes = {"teacher_top_k": 6, "max_completion_tokens": 12, "teacher_batch_size": 4, "rollout_batch_size": 2}
    models = {"teacher": teacher, "dtype": "float32", **(models or {})}
    return micro_config(200, 100, 2, models=models, distill={**sizes, **distill})


@pytest.fixture(scope="module")
def student(vllm):
    return load_student(configured())


@pytest.fixture(scope="module")
def both(student):
    """The micro teacher in the stand-in and in transformers, and prompts of different lengths."""
    texts = [p.text for name in ("math", "long_context") for p in PromptStream(SUITE[name], 1).slice(1, 0, 3)]
    return load_teacher(configured(), student), load_teacher(configured("embedded:micro/teacher"), student), texts


def close(first, second):
    for name in ("top_log_probs", "log_tail"):
        a, b = getattr(first, name).exp(), getattr(second, name).exp()
        # One prompt at a time here, a padded batch there.
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-3)
    assert torch.equal(first.tokens, second.tokens)
    # Tokens of next to no probability may change places.
    likely = first.top_log_probs > -8
    assert torch.equal(first.top_ids[likely], second.top_ids[likely])
    assert first.top_ids.dtype == second.top_ids.dtype and first.top_log_probs.dtype == second.top_log_probs.dtype


def test_it_answers_as_the_teacher_in_transformers(both):
    inside, local, texts = both
    assert isinstance(inside, VllmTeacher)
    answers, expected = inside.complete(texts), local.complete(texts)
    assert same_answers(expected, answers)
    ended = {a.token_ids[-1] == inside.encoder.eos_id for a in answers}
    assert ended == {True, False}, "answers that end and answers that are cut"
    for answer, other in zip(answers, expected, strict=True):
        if answer.token_ids == other.token_ids:
            close(answer.targets, other.targets)


def test_it_scores_what_others_wrote(both):
    inside, local, texts = both
    completion_ids = [[5, 9, 2], [7], [30, 31, 32, 33], [2], [40, 41], [8, 8, 8]]
    scores, expected = inside.score(texts, completion_ids), local.score(texts, completion_ids)
    for ours, theirs in zip(scores, expected, strict=True):
        close(ours, theirs)
        torch.testing.assert_close(ours.teacher_log_probs, theirs.teacher_log_probs, atol=1e-3, rtol=1e-3)
    log_probs = scores[-1].teacher_log_probs
    assert log_probs.shape == (3,) and log_probs.dtype == torch.float32


def test_what_vllm_is_told(both):
    inside, _, texts = both
    model = inside._model
    model.asked.clear()
    inside.complete(texts[:1])
    assert model.settings["dtype"] == "float32"
    assert model.settings["gpu_memory_utilization"] == 0.5 and model.settings["tensor_parallel_size"] == 1
    assert model.settings["max_logprobs"] == 6, "its own bound is 20"
    assert (model.settings["logprobs_mode"], model.settings["generation_config"]) == ("raw_logprobs", "vllm")
    (asked,) = model.asked
    assert (asked.temperature, asked.max_tokens, asked.logprobs) == (0.0, 12, 6)
    assert asked.ignore_eos and asked.stop_token_ids == list(inside.encoder.stop_ids)


def test_the_whole_vocabulary_has_no_tail(student):
    size = student.encoder.vocabulary
    teacher = load_teacher(configured(teacher_top_k=size + 10), student)
    answer = teacher.complete(["2+3"])[0]
    assert answer.targets.top_ids.shape == (len(answer), size)
    assert torch.isinf(answer.targets.log_tail).all()


def test_rows_beyond_the_tokenizers_vocabulary_are_not_taken_for_tokens(both):
    inside, _, _ = both
    position = {token: fake_vllm.Logprob(-float(rank), rank) for rank, token in enumerate((3, 999, 4, 5, 6, 7), 1)}
    with pytest.raises(ReadEnvError, match=r"vLLM gave 5 of the 6 most likely tokens .* smaller distill.teacher_top_k"):
        inside._targets([3], [position])


def test_a_token_beyond_the_likeliest_comes_first_and_is_left_out(both):
    inside, _, _ = both
    position = {50: fake_vllm.Logprob(-9.0, 40)}
    position |= {token: fake_vllm.Logprob(-float(rank), rank) for rank, token in enumerate((3, 8, 4, 5, 6, 7), 1)}
    targets = inside._targets([50], [position])
    assert targets.tokens.tolist() == [50] and targets.top_ids.tolist() == [[3, 8, 4, 5, 6, 7]]
    assert targets.log_tail.exp().item() == pytest.approx(1 - sum(np.exp(-float(k)) for k in range(1, 7)), rel=1e-5)


def test_a_certain_teacher_keeps_a_tail_that_a_difference_can_show(both):
    inside, _, _ = both
    position = {token: fake_vllm.Logprob(0.0 if rank == 1 else -40.0, rank) for rank, token in enumerate(range(6), 1)}
    assert inside._targets([0], [position]).log_tail.exp().item() == pytest.approx(2**-24)


def test_other_settings_are_another_teacher(both, student):
    inside, local, _ = both
    other, again = (load_teacher(configured(max_completion_tokens=cut), student) for cut in (13, 12))
    assert len({inside.identity, local.identity, other.identity}) == 3
    assert inside.identity == again.identity


def test_the_vocabulary_is_not_read_for_every_key(both, monkeypatch):
    inside, _, _ = both
    expected = inside.identity
    monkeypatch.setattr(type(inside.encoder), "fingerprint", property(lambda _: pytest.fail("read again")))
    assert inside.identity == expected


@pytest.mark.parametrize("loss", ["fkl", "rlad"])
def test_a_student_learns_from_it_as_from_the_one_in_transformers(loss):
    both = (f"vllm:{FOLDER}", "embedded:micro/teacher")
    one, other = (Distillation.load(configured(teacher, loss=loss)).step(np.eye(10)[3]) for teacher in both)
    assert one.completion_tokens == other.completion_tokens > 0
    np.testing.assert_allclose(one.profile, other.profile, atol=1e-4)
    assert one.metrics["fkl"] == pytest.approx(other.metrics["fkl"], rel=1e-3)


def test_without_vllm_the_error_names_the_extra(student, monkeypatch):
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(ReadEnvError, match=r"a teacher vllm:NAME needs the package vllm .*'read-env\[vllm\]'"):
        load_teacher(configured("vllm:no/such/model"), student)


def test_what_vllm_says_against_a_model_is_passed_on(student):
    message = r"vLLM could not load .*Free memory on device.*models.vllm_gpu_memory_utilization is 1"
    with pytest.raises(ReadEnvError, match=message):
        load_teacher(configured(models={"vllm_gpu_memory_utilization": 1.0}), student)


def test_prompts_beyond_the_models_context_are_refused_before_it_is_loaded(student, monkeypatch):
    monkeypatch.setattr(fake_vllm, "LLM", lambda **_: pytest.fail("loaded"))
    with pytest.raises(ReadEnvError, match=r"models.teacher reads at most [\d,]+ tokens; the prompt has"):
        load_teacher(configured(max_completion_tokens=10**6), student)


def test_a_gguf_file_is_refused(student, tmp_path):
    (tmp_path / "x.gguf").write_bytes(b"")
    with pytest.raises(ReadEnvError, match=r"a teacher in vLLM is a folder or hub id .* not a GGUF file"):
        load_teacher(configured(f"vllm:{tmp_path / 'x.gguf'}"), student)


def test_a_moved_folder_is_the_same_run(tmp_path):
    from read_env.running.identity import model_content

    moved = shutil.copytree(FOLDER, tmp_path / "moved")
    here, there = (model_content(f"vllm:{folder}", configured()) for folder in (FOLDER, moved))
    assert here == there == model_content("embedded:micro/teacher", configured()) != ""
