"""Probabilities of a teacher with another tokenizer: what the student's tokens get, and that they teach."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import transformers
from micro import SUITE, micro_config
from tiny_tokenizers import CHATML, byte_level, gemma_like, trained

from read_env.capabilities.stream import PromptStream, held_out
from read_env.distillation.loading import load_student
from read_env.distillation.models import head
from read_env.distillation.process import Distillation
from read_env.distillation.teachers.local import LocalTeacher
from read_env.distillation.teachers.routing import align_each
from read_env.distillation.text.alignment import align, through_spans
from read_env.distillation.text.completion import Answer
from read_env.distillation.text.encoding import Encoder
from read_env.errors import ReadEnvError
from read_env.losses import TeacherTargets
from read_env.running.check import check

PROMPT = SimpleNamespace(text="1", capability="math")


def answer_of(encoder, text, top_k=8, seed=0, rows=None):
    """An answer that the encoder's vocabulary can say, with random probabilities of which the token said is the largest."""
    ids = encoder.completions([text])[0]
    logits = 2 * torch.randn(len(ids), rows or encoder.vocabulary, generator=torch.Generator().manual_seed(seed))
    logits[torch.arange(len(ids)), torch.tensor(ids)] = logits.amax(-1) + 1
    return Answer(tuple(ids), TeacherTargets.from_logits(logits, torch.tensor(ids), top_k))


def crossed(there, here, answer, loss="gold", cut=None):
    alignment = align(there, here, loss, cut)
    assert alignment.func is through_spans
    return alignment(PROMPT, [1], answer)


@pytest.fixture(scope="module")
def texts():
    return [p.text + " " + p.reference for c in SUITE for p in PromptStream(c, 5).slice(1, 0, 8)]


def test_a_token_on_either_side_has_the_teachers_distribution(texts):
    there, here = Encoder(gemma_like(texts)), Encoder(byte_level(CHATML))
    answer = answer_of(there, "é!")
    example = crossed(there, here, answer)
    assert example.token_ids == align(there, here, "sft")(PROMPT, [1], answer).token_ids, "the same tokens as for sft"
    targets, said = example.targets, here.tokenizer.convert_ids_to_tokens(list(example.token_ids))
    assert said == ["Ã", "©", "!", "<|im_end|>"]
    assert targets.known.tolist() == [True] * 4, "byte by byte there as here"
    assert targets.span_tokens.tolist() == [0] * 4
    by_id = dict(zip(answer.targets.top_ids[2].tolist(), answer.targets.top_log_probs[2].tolist(), strict=True))
    found = dict(zip(targets.top_ids[2].tolist(), targets.top_log_probs[2].tolist(), strict=True))
    names = there.tokenizer.convert_ids_to_tokens(list(by_id))
    assert found[here.tokenizer.convert_tokens_to_ids("!")] == max(by_id.values()) and len(names) == 8
    assert (
        sorted(targets.top_log_probs[2].tolist()) == sorted(by_id.values())
        and targets.log_tail[2] == answer.targets.log_tail[2]
    )


def test_a_merged_span_has_the_sum_of_its_log_probabilities():
    there, here = Encoder(byte_level(CHATML)), Encoder(byte_level(CHATML, merges=[("a", "b"), ("Ġ", "ab")]))
    answer = answer_of(there, "ab ab!")
    example = crossed(there, here, answer)
    of_tokens = answer.targets.top_log_probs[:, 0]
    assert here.tokenizer.convert_ids_to_tokens(list(example.token_ids)) == ["ab", "Ġab", "!", "<|im_end|>"]
    assert example.targets.span_tokens.tolist() == [1, 1, 0, 0] and example.targets.known.tolist() == [
        False,
        False,
        True,
        True,
    ]
    assert example.targets.span_log_probs[:2].tolist() == pytest.approx(
        [of_tokens[:2].sum().item(), of_tokens[2:5].sum().item()]
    )
    back = crossed(here, there, answer_of(here, "ab ab!"))
    assert back.targets.span_tokens.tolist() == [0, 2, 0, 0, 3, 0, 0]
    assert back.targets.joined.tolist() == [False, True, False, True, True, False, False]


def test_all_tokens_that_end_the_teachers_turn_are_the_students_end():
    there, here = Encoder(byte_level(CHATML), stop_ids=[256, 257]), Encoder(byte_level(CHATML, merges=[("a", "b")]))
    answer = answer_of(there, "a", top_k=there.vocabulary)
    targets = crossed(there, here, answer).targets
    ends = torch.isin(answer.targets.top_ids[-1], torch.tensor(there.stop_ids))
    assert ends.sum() == len(there.stop_ids) > 1
    (at,) = (targets.top_ids[-1] == here.eos_id).nonzero()[:, 0].tolist()
    assert targets.top_log_probs[-1, at].item() == pytest.approx(
        answer.targets.top_log_probs[-1][ends].logsumexp(0).item()
    )
    assert targets.top_mass[-1].item() == pytest.approx(1.0, rel=1e-5)


def test_a_cut_answer_ends_with_its_last_common_boundary():
    there, here = Encoder(byte_level(CHATML)), Encoder(byte_level(CHATML, merges=[("a", "b")]))
    whole = answer_of(there, "abé")
    for length, said in ((1, ["a"]), (2, ["ab"]), (3, ["ab"])):  # the last one is cut inside the two bytes of é
        ids = whole.token_ids[:length]
        example = crossed(there, here, Answer(ids, whole.targets[:length]))
        assert here.tokenizer.convert_ids_to_tokens(list(example.token_ids)) == said
        assert here.eos_id not in example.token_ids
    cut = crossed(there, here, whole, cut=1)
    assert len(cut) == 1 and cut.targets.span_tokens.tolist() == [1]


def test_a_span_with_a_token_that_was_not_kept_has_no_target():
    there, here = Encoder(byte_level(CHATML)), Encoder(byte_level(CHATML, merges=[("a", "b")]))
    answer = answer_of(there, "ab", top_k=1)
    answer.targets.top_ids[0] = (answer.targets.tokens[0] + 1) % 200
    assert crossed(there, here, answer).targets.span_tokens.tolist() == [0, 0]


def test_objectives_that_compare_tokens_name_those_that_compare_spans():
    there, here = Encoder(byte_level(CHATML)), Encoder(byte_level(CHATML, merges=[("a", "b")]))
    with pytest.raises(ReadEnvError, match="'fkl' compares probabilities token by token.*'sft'.*'gold' or 'uld'"):
        align(there, here, "fkl")
    with pytest.raises(
        ReadEnvError,
        match=r"a remote teacher gives text alone\), and distill.loss 'gold' compares probabilities; .*'sft'",
    ):
        align(SimpleNamespace(stop_ids=(), text=str), here, "gold")


def test_several_teachers_must_share_the_same_tokens_with_the_student():
    here = Encoder(byte_level(CHATML, merges=[("a", "b")]))
    one, same, other = (Encoder(byte_level(CHATML, merges=m)) for m in ((), (), [("a", "b"), ("c", "d")]))

    def aligned(*encoders, loss="gold"):
        teachers = [SimpleNamespace(encoder=encoder) for encoder in encoders]
        return align_each(SimpleNamespace(all=teachers, default=teachers[0]), here, loss)

    aligned(one, same)
    for others in ((one, other), (one, here)):
        with pytest.raises(
            ReadEnvError, match="models.teachers: the tokenizers of the 2 teachers differ.*'gold'.*'sft'"
        ):
            aligned(*others)
    aligned(one, other, loss="sft")


# --- a pair of models -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def student(tmp_path_factory, texts):
    """A Llama of two layers that knows nothing yet, with byte-level BPE in place of the micro teacher's letters."""
    folder = tmp_path_factory.mktemp("byte-level")
    tokenizer = trained(texts, template=None)
    torch.manual_seed(0)
    shape = transformers.LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=4, max_position_embeddings=256, tie_word_embeddings=True, pad_token_id=None,
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    transformers.LlamaForCausalLM(shape).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def config_for(student, loss="gold", **distill):
    settings = {
        "loss": loss,
        "teacher_batch_size": 16,
        "tokens_per_update": 150,
        "max_completion_tokens": 40,
        **distill,
    }
    return micro_config(2400, 1200, models={"student": str(student)}, distill={"learning_rate": 3e-3, **settings})


def nats_per_byte(distillation, capability):
    own = distillation.student
    prompts = held_out(distillation.suite[capability], "dev", 16)
    reader = LocalTeacher(own.model, own.encoder, "", max_completion_tokens=8, top_k=1)
    texts = [p.text for p in prompts]
    scored = reader.score(texts, own.encoder.completions([p.reference for p in prompts], texts))
    return -sum(one.teacher_log_probs.sum().item() for one in scored) / sum(len(p.reference.encode()) for p in prompts)


@pytest.mark.parametrize(("loss", "beta"), [("gold", 0.0), ("gold", 0.5), ("uld", 0.5)])
def test_a_student_with_another_tokenizer_learns_from_probabilities(student, loss, beta):
    distillation = Distillation.load(config_for(student, loss, jsd_beta=beta))
    prices = distillation.suite.names.index("prices")
    before, only = nats_per_byte(distillation, "prices"), np.eye(10)[prices]
    first, second = (distillation.step(only) for _ in range(2))
    assert second.loss < 0.8 * first.loss
    assert nats_per_byte(distillation, "prices") < 0.6 * before
    assert {"fkl", "rkl", "overlap"}.isdisjoint(first.metrics), "divergences of one vocabulary are not made up"
    if loss == "gold":
        assert first.metrics["aligned"] + first.metrics["merged"] == pytest.approx(1.0)
        assert 0.1 < first.metrics["merged"] < 0.9
    assert distillation.budget.spent <= 2400


def test_the_cache_keeps_the_teachers_own_ids_and_serves_any_student(student):
    crossing, plain = (
        Distillation.load(c) for c in (config_for(student), micro_config(distill={"teacher_batch_size": 16}))
    )
    prompts = held_out(crossing.suite["math"], "dev", 4)
    texts = [p.text for p in prompts]
    kept = crossing.cache.complete(texts)
    assert all(a.token_ids == tuple(a.targets.tokens.tolist()) and a.targets.unshared is None for a in kept)
    assert {a.targets.top_ids.shape[-1] for a in kept} == {8}
    teacher = crossing.cache.teacher.encoder
    assert [teacher.text(a.token_ids)[:7] for a in kept] == [
        plain.cache.teacher.encoder.text(a.token_ids)[:7] for a in kept
    ]
    assert max(int(a.targets.top_ids.max()) for a in kept) < teacher.vocabulary < crossing.student.encoder.vocabulary


def test_small_chunks_have_the_gradient_of_the_whole(student, texts, monkeypatch):
    """Chunks of logits never cut a span: with two positions in each the gradient is the same."""
    config = config_for(student, max_grad_norm=1e9)
    own = load_student(config)
    teacher = Encoder(trained(texts, merges=400))
    alignment = align(teacher, own.encoder, "gold")
    prompts = [p for name in ("math", "code", "long_context") for p in PromptStream(SUITE[name], 1).slice(1, 0, 4)]
    answers = [answer_of(teacher, p.reference, seed=i) for i, p in enumerate(prompts)]
    batch = list(map(alignment, prompts, own.encoder.prompts([p.text for p in prompts]), answers))
    sizes = [int(n) for example in batch for n in example.targets.span_tokens]
    assert max(sizes) >= 2, "spans that a chunk could cut"
    found = []
    for large in (False, True):
        if large:
            monkeypatch.setattr(head, "SMALL_VOCABULARY", 0)
            monkeypatch.setattr(head, "POSITIONS", 2)
        own.reset(0)
        stats = own.update(batch)
        found.append(
            ({n: p.grad.clone() for n, p in own.model.named_parameters()}, {"loss": stats.loss, **stats.metrics})
        )
    assert max(g.abs().max() for g in found[0][0].values()) > 1e-4
    torch.testing.assert_close(found[1], found[0], rtol=1e-4, atol=1e-6)


def test_no_chunk_is_longer_than_its_positions_or_its_span():
    joined = torch.tensor([False, True, True, False, False, True, False])
    slices = head.chunks_of(7, 2, joined)
    assert slices == [slice(0, 3), slice(3, 4), slice(4, 6), slice(6, 7)]
    assert head.chunks_of(7, 100, joined) == [slice(0, 7)] and math.prod(s.stop > s.start for s in slices)


def test_check_says_what_a_run_would(student):
    assert check(config_for(student)).ready
    refused = check(config_for(student, "fkl"))
    assert not refused.ready
    assert any(name == "refused" and "'gold' or 'uld'" in text for name, text in refused.rows)
