"""Logits in chunks of positions: the values and gradients of all positions at once."""

import pytest
import torch
import transformers
from micro import SUITE, micro_config
from transformers.modeling_outputs import CausalLMOutput

from read_env.capabilities.stream import PromptStream
from read_env.config import ModelConfig
from read_env.distillation.loading import load_student, load_teacher
from read_env.distillation.models import head
from read_env.distillation.models.head import completion_logits, logit_chunks
from read_env.distillation.models.weights import add_adapters
from read_env.distillation.student.evaluation import ProbeSet, probe_profile
from read_env.distillation.student.rollouts import sample_rollouts
from read_env.distillation.student.student import checkpoint_gradients
from read_env.distillation.text.alignment import same_vocabulary
from read_env.distillation.text.encoding import collate
from read_env.losses import OBJECTIVES

_TINY = {"vocab_size": 96, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
         "num_key_value_heads": 2, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}  # fmt: skip
_BATCH = collate([[5, 6, 7], [8]], [[9, 10, 2], [11, 12]], pad_id=0)


def model_of(kind, settings):
    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")(**{**_TINY, **settings})
    model = transformers.AutoModelForCausalLM.from_config(config).double().eval()
    model.get_output_embeddings().weight.data *= 50  # logits of a trained model's size
    return model


def gradients(model, positions):
    """Gradient of a sum over the positions that differs between them, by parameter; size of each chunk."""
    model.zero_grad()
    sizes = []
    for part, logits in logit_chunks(model, _BATCH, 91, positions=positions):
        sizes.append(len(logits))
        weights = torch.arange(1.0, 6.0)[part]
        (weights * torch.log_softmax(logits, -1).gather(-1, _BATCH.targets[part, None])[:, 0]).sum().backward()
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}, sizes


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("adapters", [(), ("q_proj", "lm_head")], ids=["all", "LoRA"])
@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("Llama", {"tie_word_embeddings": False}),
        ("Llama", {"tie_word_embeddings": True}),
        ("Gemma2", {"head_dim": 8, "final_logit_softcapping": 1.0}),
        ("Granite", {"logits_scaling": 8.0}),
        ("Cohere", {"logit_scale": 0.25}),
    ],
)
def test_chunks_have_the_values_and_gradients_of_the_whole(kind, settings, adapters, checkpointing):
    model = model_of(kind, settings)
    if adapters:
        add_adapters(model, ModelConfig(lora_r=2, lora_target_modules=adapters))
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.data.fill_(0.1)
    if checkpointing:
        checkpoint_gradients(model)
    expected, sizes = gradients(model, positions=5)
    assert sizes == [5] and all(g.abs().max() > 0 for g in expected.values())
    for positions, into in ((2, [2, 2, 1]), (1, [1] * 5)):
        found, sizes = gradients(model, positions)
        assert sizes == into
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)
    with torch.no_grad():
        pieces = torch.cat([logits for _, logits in logit_chunks(model, _BATCH, positions=2)])
        torch.testing.assert_close(pieces, completion_logits(model, _BATCH), rtol=1e-9, atol=1e-9)
    assert "forward" not in vars(head.decoder_of(model))


class Repeating(transformers.LlamaForCausalLM):
    """Its head needs the hidden states of every position."""

    def forward(self, input_ids, **others):
        states = self.model(input_ids=input_ids).last_hidden_state
        return CausalLMOutput(logits=self.lm_head(states).repeat(3 - len(states), 1, 1))


@pytest.mark.parametrize("model", [Repeating(transformers.LlamaConfig(**_TINY)), model_of("OPT", {"ffn_dim": 16})])
def test_a_head_that_reads_something_else_gives_one_chunk(model):
    expected = model(_BATCH.input_ids).logits[_BATCH.rows, _BATCH.columns, :91]
    ((part, logits),) = logit_chunks(model, _BATCH, 91, positions=2)
    assert part == slice(0, 5) and torch.equal(logits, expected)


@pytest.mark.parametrize("loss", OBJECTIVES)
def test_every_objective_has_the_gradient_of_the_whole(loss, monkeypatch):
    settings = micro_config(distill={"loss": loss, "teacher_top_k": 16, "max_grad_norm": 1e9, "grpo_beta": 0.1})
    student = load_student(settings)
    teacher = load_teacher(settings, student)
    prompts = [p for name in ("math", "code") for p in PromptStream(SUITE[name], 1).slice(1, 0, 3)]
    if student.objective.on_policy:
        batch = sample_rollouts(prompts, student, teacher, SUITE, num_generations=2, max_new_tokens=24, seed=0)
    else:
        texts = [p.text for p in prompts]
        batch = list(map(same_vocabulary, prompts, student.encoder.prompts(texts), teacher.complete(texts)))
    student.validation = batch[:2]
    probes = ProbeSet.build(SUITE, student.encoder, "probes", 2)
    results = []
    for large in (False, True):
        if large:
            monkeypatch.setattr(head, "SMALL_VOCABULARY", 0)
            monkeypatch.setattr(head, "POSITIONS", 7)
        student.reset(0)
        profile, scores = (
            probe_profile(student.model, probes),
            teacher.score([p.text for p in prompts[:1]], [batch[0].token_ids]),
        )
        stats = student.update(batch)
        found = {name: p.grad.clone() for name, p in student.model.named_parameters()}
        results.append((found, {"loss": stats.loss, **stats.metrics}, stats.by_capability, profile, vars(scores[0])))
    assert max(g.abs().max() for g in results[0][0].values()) > 1e-4
    torch.testing.assert_close(results[1], results[0], rtol=1e-4, atol=1e-6)
