"""Updates of the student: in pieces, when memory runs out, with adapters, and with layers taken out."""

import sys
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from micro import SUITE, same_state
from micro import micro_config as config

from read_env.capabilities.stream import PromptStream
from read_env.config import ModelConfig
from read_env.distillation.loading import load, load_student, load_teacher
from read_env.distillation.process import Distillation
from read_env.distillation.student import student as student_module
from read_env.distillation.student.evaluation import ProbeSet, probe_profile
from read_env.distillation.student.student import Student
from read_env.distillation.text.alignment import same_vocabulary
from read_env.errors import ReadEnvError


def examples(count=12, models=None, **distill):
    """A student, and short and long examples from three capabilities."""
    settings = config(distill={"max_grad_norm": 1e9, **distill}, models=models or {})
    student = load_student(settings)
    names = ("math", "code", "reasoning")
    prompts = [p for name in names for p in PromptStream(SUITE[name], 1).slice(1, 0, count // 3)]
    texts = [p.text for p in prompts]
    answers = load_teacher(settings, student).complete(texts)
    return student, list(map(same_vocabulary, prompts, student.encoder.prompts(texts), answers))


def gradients(student):
    return torch.cat([p.grad.flatten() for p in student.model.parameters()])


@pytest.mark.parametrize(("loss", "top_k"), [("fkl", 8), ("tad", 16), ("jsd", 8)])
def test_a_step_in_pieces_has_the_gradient_of_the_whole(loss, top_k):
    student, batch = examples(loss=loss, teacher_top_k=top_k)
    whole = student.update(batch)
    expected = gradients(student)
    for tokens in (1, 90, 300):
        student.reset()
        student.micro_batch_tokens = tokens
        pieces = student.update(batch)
        torch.testing.assert_close(gradients(student), expected, rtol=1e-3, atol=1e-6)
        assert pieces.loss == pytest.approx(whole.loss, rel=1e-5)
        assert pieces.metrics == pytest.approx(whole.metrics, rel=1e-3)
        assert pieces.tokens == whole.tokens


def test_out_of_memory_halves_the_pieces_and_keeps_the_gradient(monkeypatch):
    student, batch = examples()
    student.update(batch)
    expected = gradients(student)
    student.reset()
    asked = []

    def limited(model, part, *arguments, **settings):
        asked.append(part.input_ids.numel())
        if asked[-1] > 200:
            raise torch.OutOfMemoryError("injected")
        return original(model, part, *arguments, **settings)

    original = student_module.logit_chunks
    monkeypatch.setattr(student_module, "logit_chunks", limited)
    student.update(batch)
    torch.testing.assert_close(gradients(student), expected, rtol=1e-3, atol=1e-6)
    assert student.micro_batch_tokens <= 200 < asked[0]
    failures = sum(tokens > 200 for tokens in asked)
    student.update(batch)
    assert sum(tokens > 200 for tokens in asked) == failures, "what was learned about the memory is kept"
    state = student.state_dict()
    student.reset()
    assert student.micro_batch_tokens > 200, "another run doesn't begin where this one ended"
    student.load_state_dict(state)
    assert student.micro_batch_tokens <= 200


def test_out_of_memory_with_a_single_example_says_what_may_help(monkeypatch):
    student, batch = examples(3)

    never = Mock(side_effect=torch.OutOfMemoryError("injected"))
    monkeypatch.setattr("read_env.distillation.student.student.logit_chunks", never)
    message = r"out of memory with a single example of \d+ tokens.*gradient_checkpointing"
    with pytest.raises(ReadEnvError, match=message):
        student.update(batch)


def test_gradient_checkpointing_changes_no_gradient():
    plain, batch = examples()
    plain.update(batch)
    saving, _ = examples(models={"gradient_checkpointing": True})
    saving.update(batch)
    torch.testing.assert_close(gradients(saving), gradients(plain), rtol=1e-4, atol=1e-6)


def test_kept_layers_are_the_model_of_these_layers():
    layers = [0, 1, 3]
    student = load_student(config(models={"student_layers": layers}))
    whole = load("embedded:micro/student").model
    assert student.model.config.num_hidden_layers == len(student.model.base_model.layers) == 3
    for mine, index in zip(student.model.base_model.layers, layers, strict=True):
        for a, b in zip(mine.parameters(), whole.base_model.layers[index].parameters(), strict=True):
            assert torch.equal(a, b)


def test_a_pruned_student_decodes_with_its_cache_and_comes_back_from_disk(tmp_path):
    student = load_student(config(models={"student_layers": [0, 1, 3]}))
    probes = ProbeSet.build(SUITE, student.encoder, "probes", 4)
    student.save(tmp_path)
    again = load(str(tmp_path))
    assert np.array_equal(probe_profile(again.model, probes), probe_profile(student.model, probes))
    ids = torch.tensor([student.encoder.prompts(["2+3"])[0]])
    settings = {"input_ids": ids, "max_new_tokens": 8, "do_sample": False}
    with_cache, without = (student.model.generate(**settings, use_cache=cache) for cache in (True, False))
    assert torch.equal(with_cache, without)


@pytest.mark.parametrize(
    ("layers", "message"), [([0, 9], "has 9; the student's layers are 0 to 3"), ([1, 1], "names a layer twice")]
)
def test_layers_that_cannot_be_kept_are_refused(layers, message):
    with pytest.raises(ReadEnvError, match=message):
        load_student(config(models={"student_layers": layers}))


# --- LoRA ------------------------------------------------------------------------------------------


def test_adapters_learn_and_the_base_stays():
    pytest.importorskip("peft")
    student, batch = examples(models={"lora_r": 4}, learning_rate=1e-2, lr_scheduler_type="constant", warmup_ratio=0)
    frozen = {n: p.detach().clone() for n, p in student.model.named_parameters() if not p.requires_grad}
    assert 0 < student.trained_parameters < 0.3 * sum(p.numel() for p in frozen.values())
    losses = [student.update(batch).loss for _ in range(6)]
    assert losses[-1] < losses[0]
    assert all(torch.equal(p, frozen[n]) for n, p in student.model.named_parameters() if n in frozen)
    state = student.state_dict()
    assert sum(t.numel() for t in state["model"].values()) == student.trained_parameters
    after = [student.update(batch).loss for _ in range(2)]
    student.load_state_dict(state)
    assert [student.update(batch).loss for _ in range(2)] == after
    student.reset()
    assert student.update(batch).loss == losses[0]


def test_the_first_adapters_depend_on_nothing_that_was_drawn_before():
    pytest.importorskip("peft")
    first = load_student(config(models={"lora_r": 4})).state_dict()["model"]
    torch.manual_seed(11)
    drawn = torch.rand(1)
    again = load_student(config(models={"lora_r": 4})).state_dict()["model"]
    assert any(weights.count_nonzero() for weights in first.values())
    assert same_state(again, first)
    after = torch.rand(1)
    torch.manual_seed(11)
    assert torch.equal(drawn, torch.rand(1)) and torch.equal(after, torch.rand(1)), "torch's generator is left alone"


def test_a_teacher_that_is_the_base_is_loaded_once_and_never_sees_the_adapters():
    pytest.importorskip("peft")
    distillation = Distillation.load(
        config(models={"lora_r": 4, "teacher": "embedded:micro/student"}, eval={"ema_decay": 0.0})
    )
    teacher = distillation.cache.teacher
    assert teacher.model is distillation.student.model
    texts = ["2+3+4", "9-7"]
    before = teacher.complete(texts)
    for p in distillation.student._trained.values():
        p.data.add_(0.3)
    after = teacher.complete(texts)
    for one, other in zip(after, before, strict=True):
        assert one.token_ids == other.token_ids
        assert torch.equal(one.targets.top_log_probs, other.targets.top_log_probs)
    assert not np.array_equal(distillation._measure(), distillation.profile)


def test_saved_adapters_load_like_any_model(tmp_path):
    pytest.importorskip("peft")
    from transformers import AutoModelForCausalLM

    student, batch = examples(models={"lora_r": 4}, learning_rate=1e-2, lr_scheduler_type="constant", warmup_ratio=0)
    for _ in range(3):
        student.update(batch)
    student.save(tmp_path)
    again = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32).eval()
    probes = ProbeSet.build(SUITE, student.encoder, "probes", 4)
    np.testing.assert_allclose(probe_profile(again, probes), probe_profile(student.model, probes), rtol=1e-3)


def test_wrong_adapter_targets_are_named():
    pytest.importorskip("peft")
    with pytest.raises(ReadEnvError, match=r"models.lora_target_modules is \['nothing_like_it'\]"):
        load_student(config(models={"lora_r": 4, "lora_target_modules": ["nothing_like_it"]}))


def test_lora_without_peft_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(ReadEnvError, match=r"models.lora_r is 4: LoRA needs peft .*pip install peft"):
        load_student(config(models={"lora_r": 4}))


def test_a_student_remembers_its_placement():
    loaded = load("embedded:micro/student", ModelConfig(dtype="float32", attn_implementation="eager"), trained=True)
    student = Student(loaded.model, loaded.encoder, config().distill, loaded.placement)
    assert loaded.model.config._attn_implementation == "eager"
    assert "eager attention (as asked for)" in str(student)
