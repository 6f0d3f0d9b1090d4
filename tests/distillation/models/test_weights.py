"""Models as they are loaded, and as they are saved again: what comes back must be what was there."""

import json
import os

import pytest
import torch
import transformers
from micro import saved
from tiny_gguf import write_gguf

from read_env.config import ModelConfig, load_preset
from read_env.distillation.loading import load, load_student, shares_base
from read_env.distillation.models.head import completion_logits
from read_env.distillation.models.placement import place
from read_env.distillation.models.sources import find_model
from read_env.distillation.models.weights import add_adapters, load_model, prune_layers, save_student
from read_env.distillation.text.encoding import collate
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
    assert len({file.stat().st_mode for file in tmp_path.iterdir()}) == 1, "the umask's mode"
    assert torch.equal(logits(load(str(tmp_path)).model), logits(student.model))


@pytest.mark.parametrize(
    ("published", "kept"),
    [
        ({"temperature": 0.6, "top_p": 0.9}, {}),
        ({"do_sample": False, "temperature": 0.6, "top_k": 20, "min_p": 0.1}, {"do_sample": False}),
        ({"do_sample": True, "temperature": 0.6}, {"do_sample": True, "temperature": 0.6}),
        ({"num_beams": 1, "early_stopping": True, "length_penalty": 2.0, "output_scores": True}, {"num_beams": 1}),
        ({"num_beams": 4, "early_stopping": True}, {"num_beams": 4, "early_stopping": True}),
    ],
)
def test_a_saved_generation_configuration_is_one_that_every_version_of_transformers_saves(published, kept, tmp_path):
    # In transformers 4.56 to 5.10, save_pretrained refuses what validate(strict=True) refuses.
    saved(tmp_path / "base")
    file = tmp_path / "base" / "generation_config.json"
    file.write_text(json.dumps({**published, "eos_token_id": [2, 3]}))
    loaded = load(str(tmp_path / "base"))
    own = loaded.model.generation_config
    save_student(loaded.model, loaded.encoder.tokenizer, tmp_path / "student")
    assert loaded.model.generation_config is own
    found = transformers.GenerationConfig.from_pretrained(tmp_path / "student")
    found.validate(strict=True)
    expected = transformers.GenerationConfig(**kept, eos_token_id=[2, 3])
    assert [getattr(found, name) for name in published] == [getattr(expected, name) for name in published]
    assert found.eos_token_id == [2, 3]


def test_a_generation_configuration_that_transformers_refuses_is_named(tmp_path):
    saved(tmp_path)
    (tmp_path / "generation_config.json").write_text('{"num_return_sequences": 3}')
    with pytest.raises(ReadEnvError, match="could not be loaded.*num_return_sequences"):
        load(str(tmp_path))


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


# --- logits after the head ------------------------------------------------------------------------------

_TINY = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
         "num_key_value_heads": 2, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("Gemma2", {"head_dim": 8, "final_logit_softcapping": 1.0}),
        ("Granite", {"logits_scaling": 8.0}),
        ("Cohere", {"logit_scale": 0.25}),
        ("Llama", {}),
        ("Qwen3Moe", {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16, "head_dim": 8}),
        ("GPT2", {"n_embd": 16, "n_layer": 2, "n_head": 2}),
        ("GPTNeoX", {}),
        ("OPT", {"ffn_dim": 16, "word_embed_proj_dim": 8, "init_std": 0.3}),  # its forward skips the base model
        ("Bloom", {"n_layer": 2, "n_head": 2}),
        ("Mamba", {"state_size": 4}),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_logits_are_those_of_the_models_own_forward(kind, settings, dtype):
    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")(**{"vocab_size": 96, **_TINY, **settings})
    model = transformers.AutoModelForCausalLM.from_config(config).to(dtype).eval()
    model.get_output_embeddings().weight.data *= 50  # logits of a trained model's size
    batch = collate([[5, 6, 7], [8]], [[9, 10, 2], [11, 12]], pad_id=0)
    own = model(input_ids=batch.input_ids).logits[batch.rows, batch.columns]
    assert own.float().std() > 0.3 and torch.equal(completion_logits(model, batch), own)
    assert completion_logits(model, batch, 91).shape == (5, 91)
    completion_logits(model, batch).float().logsumexp(-1).sum().backward()
    assert model.get_input_embeddings().weight.grad[5].abs().sum() > 0


# --- fewer layers, adapters on the embeddings ------------------------------------------------------------

_MOE = {"mlp_only_layers": [1], "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16, "head_dim": 8}
_ARCHITECTURES = {
    "SmolLM3": {},
    "Qwen3Moe": {**_MOE, "decoder_sparse_step": 1},
    "Gemma3": {"sliding_window": 4, "sliding_window_pattern": 3, "head_dim": 8},
    "Qwen2": {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 3},
    "Llama": {},
}


def _built(kind, **settings):
    config = getattr(transformers, f"{kind}TextConfig" if kind == "Gemma3" else f"{kind}Config")
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config(**{**_TINY, "vocab_size": 96, **settings}))
    for parameter in model.parameters():
        if parameter.dim() > 1:
            parameter.data.normal_(0, 0.2)
    return model.eval()


@pytest.mark.parametrize("kept", [(0, 1, 3), (1, 4, 5), (5, 3, 0)])
@pytest.mark.parametrize("kind", _ARCHITECTURES)
def test_a_pruned_student_is_reloaded_with_the_same_logits(kind, kept, tmp_path):
    model = _built(kind, num_hidden_layers=6, **_ARCHITECTURES[kind])
    whole = logits(model)
    prune_layers(model, kept)
    assert not torch.allclose(logits(model), whole)
    save_student(model, load("embedded:micro/student").encoder.tokenizer, tmp_path)
    again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path)
    torch.testing.assert_close(logits(again), logits(model), atol=1e-4, rtol=1e-4)


def test_layers_that_the_configuration_cannot_describe_are_refused():
    model = _built("Qwen3Moe", num_hidden_layers=6, **{**_MOE, "mlp_only_layers": []}, decoder_sparse_step=2)
    with pytest.raises(
        ReadEnvError, match=r"models.student_layers: Qwen3MoeForCausalLM .*layers.0.mlp would be built differently"
    ):
        prune_layers(model, (1, 3))


@pytest.mark.parametrize("target", ["lm_head", "embed_tokens"])
def test_adapters_on_tied_embeddings_survive_saving(target, tmp_path):
    model = adapted(_built("Llama", tie_word_embeddings=True), lora_target_modules=("q_proj", target))
    save_student(model, load("embedded:micro/student").encoder.tokenizer, tmp_path)
    assert model.config.tie_word_embeddings
    again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path)
    torch.testing.assert_close(logits(again), logits(model), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", ["Mixtral", "Qwen3Moe"])
def test_adapters_on_experts_survive_saving(kind, tmp_path):
    model = adapted(
        _built(kind, **(_MOE if kind == "Qwen3Moe" else {"num_local_experts": 2, "num_experts_per_tok": 1}))
    )
    save_student(model, load("embedded:micro/student").encoder.tokenizer, tmp_path)
    again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path)
    torch.testing.assert_close(logits(again), logits(model), atol=1e-4, rtol=1e-4)


def test_a_model_without_fused_attention_is_loaded(tmp_path):
    _built("Gemma2", head_dim=8, final_logit_softcapping=1.0).save_pretrained(tmp_path)
    load("embedded:micro/student").encoder.tokenizer.save_pretrained(tmp_path)
    assert load_student(configured(student=str(tmp_path))).placement.attention == "eager"


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
