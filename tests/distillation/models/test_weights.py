"""Models as they are loaded, and as they are saved again: what comes back must be what was there."""

import os

import numpy as np
import pytest
import torch
from micro import saved
from tiny_gguf import write_gguf

from read_env.config import ModelConfig, load_preset
from read_env.distillation import loading
from read_env.distillation.loading import load, load_student, load_teacher, shares_base
from read_env.distillation.models import placement
from read_env.distillation.models.placement import place
from read_env.distillation.models.sources import find_model
from read_env.distillation.models.weights import add_adapters, load_model, save_student
from read_env.errors import ReadEnvError

IDS = torch.arange(3, 23)[None]


def configured(loss="fkl", **models):
    return load_preset("micro", {"models": models, "distill": {"loss": loss}})


@torch.inference_mode()
def logits(model):
    return model(input_ids=IDS).logits


def adapted(model, **changes):
    """Gives a model adapters that change what it says."""
    generator = torch.Generator().manual_seed(0)
    add_adapters(model, ModelConfig(lora_r=2, **changes))
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.data.normal_(0, 0.2, generator=generator)
    return model


@pytest.mark.parametrize("layers", [(), (0, 3)], ids=["whole", "pruned"])
def test_a_student_with_adapters_comes_back_from_its_folder_alone(layers, tmp_path):
    pytest.importorskip("peft")
    student = load_student(configured(lora_r=2, student_layers=layers))
    for name, parameter in student.model.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(0, 0.2, generator=torch.Generator().manual_seed(0))
    before = logits(student.model)
    save_student(student.model, student.encoder.tokenizer, tmp_path)
    assert torch.equal(logits(student.model), before), "saving changes nothing"
    assert not torch.allclose(before, logits(load("embedded:micro/student").model), atol=1e-2)
    assert "adapter_config.json" not in os.listdir(tmp_path)
    # As a student again, with adapters of its own, which begin at nothing.
    again = load_student(configured(student=str(tmp_path), lora_r=2))
    torch.testing.assert_close(logits(again.model), before, atol=1e-4, rtol=1e-4)
    assert len(again.model.base_model.layers) == (len(layers) or 4)


def test_a_student_without_adapters_is_saved_to_the_bit(tmp_path):
    student = load_student(configured())
    save_student(student.model, student.encoder.tokenizer, tmp_path)
    assert torch.equal(logits(load(str(tmp_path)).model), logits(student.model))


def test_adapters_on_a_gguf_file_are_saved_with_its_weights(tmp_path):
    pytest.importorskip("gguf")
    pytest.importorskip("peft")
    source = find_model(str(write_gguf(tmp_path / "tiny.gguf", seed=1)))
    where = place(ModelConfig(), 1000, trained=False)
    model = adapted(load_model(source, where))
    save_student(model, load("embedded:micro/student").encoder.tokenizer, tmp_path / "student")
    again = load_model(find_model(str(tmp_path / "student")), where)
    torch.testing.assert_close(logits(again), logits(model), atol=1e-4, rtol=1e-4)


def test_adapters_in_bf16_are_added_in_fp32_and_rounded_once(tmp_path):
    pytest.importorskip("peft")
    where = place(ModelConfig(dtype="bfloat16"), 1000, trained=False)
    model = adapted(load_model(find_model("embedded:micro/student"), where), lora_target_modules=("q_proj",))
    save_student(model, load("embedded:micro/student").encoder.tokenizer, tmp_path)
    again = load_model(find_model(str(tmp_path)), where)
    one, saved = (next(m for name, m in found.named_modules() if name.endswith("q_proj")) for found in (model, again))
    change = one.lora_B["default"].weight.float() @ one.lora_A["default"].weight.float() * one.scaling["default"]
    assert saved.weight.dtype == torch.bfloat16
    torch.testing.assert_close(saved.weight, (one.base_layer.weight.float() + change).bfloat16(), atol=0, rtol=2**-7)


# --- what a model's logits are -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def capped(tmp_path_factory):
    """A teacher that caps its logits after the head, as Gemma 2 does, with the micro vocabulary."""
    from transformers import Gemma2Config, Gemma2ForCausalLM

    folder = tmp_path_factory.mktemp("capped")
    torch.manual_seed(0)
    model = Gemma2ForCausalLM(Gemma2Config(
        vocab_size=91, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=2, head_dim=8, final_logit_softcapping=1.0,
    ))  # fmt: skip
    model.get_output_embeddings().weight.data *= 50
    saved(folder, model)
    return str(folder)


def test_a_teacher_that_changes_its_logits_after_the_head_is_refused_where_it_scores(capped):
    student = load_student(configured())
    with pytest.raises(ReadEnvError, match=r"models.teacher: Gemma2ForCausalLM changes .*choose a teacher of another"):
        load_teacher(configured("gkd", teacher=capped, attn_implementation="eager"), student)
    # Of its own answers it says what the whole model says.
    teacher = load_teacher(configured(teacher=capped, attn_implementation="eager"), student)
    (answer,) = teacher.complete(["2+3"])
    ids = torch.tensor([[*teacher.encoder.prompts(["2+3"])[0]]])
    own = torch.log_softmax(teacher.model(input_ids=ids).logits[0, -1], -1).topk(teacher.top_k).values
    np.testing.assert_allclose(answer.targets.top_log_probs[0], own.detach(), atol=1e-4)


def test_logits_are_checked_in_the_numbers_that_training_computes_in(monkeypatch):
    """fp32 weights under autocast: some attention takes nothing else than bf16."""
    monkeypatch.setattr(placement, "SMALL", 0)
    monkeypatch.setattr(placement, "_cpu_has_bf16", lambda: True)
    seen, check = [], loading.check_logits

    def watched(model, encoder, role):
        seen.append((role, torch.is_autocast_enabled("cpu"), next(model.parameters()).dtype))
        check(model, encoder, role)

    monkeypatch.setattr(loading, "check_logits", watched)
    settings = configured("gkd")
    load_teacher(settings, load_student(settings))
    # A teacher's weights are bf16 themselves.
    assert seen == [("student", True, torch.float32), ("teacher", False, torch.bfloat16)]


# --- one model for both ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "shared"),
    [
        ({"lora_r": 2}, True),
        ({}, False),
        ({"lora_r": 2, "student_layers": (0, 1)}, False),
        ({"lora_r": 2, "teacher": "vllm:embedded:micro/student"}, False),
        ({"lora_r": 2, "teacher": "embedded:micro/teacher"}, False),
    ],
)
def test_when_the_base_serves_both(changes, shared):
    models = ModelConfig(**{"teacher": "embedded:micro/student", **changes})
    teacher = find_model(models.teacher.removeprefix("vllm:"))
    assert shares_base(models, teacher, find_model(models.student)) == shared
