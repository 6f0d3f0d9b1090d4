"""The objectives for two vocabularies against TRL's ``ULDLoss``, the loss of its GOLD trainer.

What the two sides must agree on, as TRL 1.16 has it:

- With ``uld_token_merge_strategy`` ``bayesian`` logits stand before the token that they predict, as here. The default,
  ``observed``, reads them one position later.
- A value is the mean over spans of a sequence, and then over the sequences; here it is one per token of the student.
- Shared tokens have the same name in TRL and the same bytes here.
- TRL's divergence on shared tokens has no bin for all others, so this library's is larger by that bin.
- At merged spans TRL compares whole distributions; this library, the spans' probabilities. Sequences here have none, but
  for the test of the spans themselves.
"""

import math
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from read_env.distillation.text.spans import spans_of
from read_env.losses import TeacherTargets, gold, uld

ULDLoss = pytest.importorskip("trl.experimental.gold.gold_trainer").ULDLoss

#: Token -> id of two vocabularies that share four letters.
THERE = {token: i for i, token in enumerate(["a", "b", "c", "d", "there 1", "there 2", "there 3"])}
HERE = {token: i for i, token in enumerate(["here 1", "d", "c", "here 2", "b", "a"])}
IDS = torch.tensor([HERE.get(token, -1) for token in THERE])
UNSHARED = torch.tensor([token not in THERE for token in HERE])
LENGTH, PROMPT = 5, 2


def theirs(**settings):
    config = SimpleNamespace(
        **{
            "uld_crossentropy_weight": 0.0, "uld_distillation_weight": 1.0, "uld_student_temperature": 1.0,
            "uld_teacher_temperature": 1.0, "uld_skip_student_eos": False, "uld_skip_teacher_eos": False,
            "use_extended_uld": True, "uld_token_merge_strategy": "bayesian", "uld_use_hybrid_loss": True,
            "uld_hybrid_matched_weight": 1.0, "uld_hybrid_unmatched_weight": 1.0, "beta": 0.5, **settings,
        }
    )  # fmt: skip
    here, there = (SimpleNamespace(get_vocab=lambda vocabulary=v: vocabulary) for v in (HERE, THERE))
    return ULDLoss(config, here, there)


def sequence():
    """Logits and ids of either side for one prompt and the answer "abcda", one letter a token."""
    generator = torch.Generator().manual_seed(3)
    sides = []
    for vocabulary in (HERE, THERE):
        ids = torch.tensor([[0] * PROMPT + [vocabulary[letter] for letter in "abcda"]])
        labels = ids.clone()
        labels[:, :PROMPT] = -100
        offsets = torch.tensor([[[0, 0]] * PROMPT + [[i, i + 1] for i in range(LENGTH)]])
        logits = 2 * torch.randn(1, PROMPT + LENGTH, len(vocabulary), generator=generator)
        sides.append(SimpleNamespace(ids=ids, labels=labels, offsets=offsets, logits=logits))
    return sides


def their_value(loss, here, there, logits):
    return loss(logits, there.logits, here.labels, there.labels, here.ids, there.ids, here.offsets, there.offsets)


def targets(here, there):
    """Ours of the same answer: every span has one token on either side."""
    tokens = there.ids[0, PROMPT:]
    plain = TeacherTargets.from_logits(there.logits[0, PROMPT - 1 : -1], tokens, len(THERE))
    nothing = torch.zeros(LENGTH, dtype=torch.int64)
    return TeacherTargets(
        here.ids[0, PROMPT:], IDS[plain.top_ids], plain.top_log_probs, plain.log_tail, span_tokens=nothing,
        span_log_probs=nothing.float(), unshared=UNSHARED,
    )  # fmt: skip


def value_and_gradient(loss, logits):
    logits = logits.clone().requires_grad_()
    value = loss(logits)
    value.backward()
    return value.detach(), logits.grad


def bin_of_others(logits, there, beta):
    """Mean divergence within the bin of all tokens that are not shared, which TRL leaves out."""
    q = torch.softmax(logits[0, PROMPT - 1 : -1], -1)[:, UNSHARED].sum(-1)
    p = torch.softmax(there.logits[0, PROMPT - 1 : -1], -1)[:, IDS < 0].sum(-1)
    if beta in (0, 1):
        return ((q * (q / p).log()) if beta else (p * (p / q).log())).mean()
    m = beta * p + (1 - beta) * q
    return (beta * p * (p / m).log() + (1 - beta) * q * (q / m).log()).mean()


@pytest.mark.parametrize("weights", [(1.0, 1.0), (0.25, 2.0)])
@pytest.mark.parametrize("beta", [0.0, 0.1, 0.5, 1.0])
def test_the_hybrid_loss_is_theirs_and_the_bin_of_the_others(beta, weights):
    here, there = sequence()
    loss = theirs(beta=beta, uld_hybrid_matched_weight=weights[0], uld_hybrid_unmatched_weight=weights[1])
    batch = targets(here, there)
    ours = value_and_gradient(
        lambda logits: gold(logits[0, PROMPT - 1 : -1], batch, beta, *weights)[0].mean(), here.logits
    )
    expected = value_and_gradient(
        lambda logits: their_value(loss, here, there, logits) + weights[0] * bin_of_others(logits, there, beta),
        here.logits,
    )
    assert ours[0].item() == pytest.approx(expected[0].item(), rel=1e-4) and ours[0] > 0.05
    torch.testing.assert_close(ours[1], expected[1], rtol=1e-3, atol=1e-5)
    assert (ours[1] != 0).any()


@pytest.mark.parametrize("weight", [1.0, 1.5])
def test_the_loss_without_shared_tokens_is_theirs(weight):
    here, there = sequence()
    loss = theirs(uld_use_hybrid_loss=False, uld_crossentropy_weight=1.0, uld_distillation_weight=weight)
    batch = targets(here, there)
    ours = value_and_gradient(lambda logits: uld(logits[0, PROMPT - 1 : -1], batch, weight)[0].mean(), here.logits)
    expected = value_and_gradient(lambda logits: their_value(loss, here, there, logits), here.logits)
    assert ours[0].item() == pytest.approx(expected[0].item(), rel=1e-5)
    torch.testing.assert_close(ours[1], expected[1], rtol=1e-4, atol=1e-6)


def test_a_merged_span_has_the_probability_that_theirs_multiplies():
    """The distribution at the last token times the probabilities before it: at the span's own token, the span's probability."""
    here, _ = sequence()
    probabilities, tokens = torch.softmax(here.logits[0, PROMPT - 1 : -1], -1), here.ids[0, PROMPT:].tolist()
    merged = theirs()._merge_probabilities_with_alignment_groups(probabilities, [[0], [1, 2, 3], [4]], tokens)
    nothing = torch.zeros(LENGTH, dtype=torch.int64)
    lengths, span_log_probs = nothing.clone(), nothing.float()
    lengths[3], span_log_probs[3] = 3, math.log(0.4)
    ids, log_probs = torch.full((LENGTH, 1), -1), torch.full((LENGTH, 1), float("-inf"))
    batch = TeacherTargets(here.ids[0, PROMPT:], ids, log_probs, nothing.float(), span_tokens=lengths,
                           span_log_probs=span_log_probs, unshared=UNSHARED)  # fmt: skip
    loss, _ = gold(here.logits[0, PROMPT - 1 : -1], batch, beta=0.0)
    q = merged[1, tokens[3]].item()
    assert loss[3].item() == pytest.approx(0.4 * math.log(0.4 / q) + 0.6 * math.log(0.6 / (1 - q)), rel=1e-4)


@given(cuts=st.tuples(*[st.sets(st.integers(1, 19))] * 2))
def test_spans_are_their_groups(cuts):
    text = "abcdefghijklmnopqrst"
    sides = []
    for inner in cuts:
        at = [0, *sorted(inner), len(text)]
        sides.append([(a, b) for a, b in zip(at, at[1:], strict=False)])
    groups = ULDLoss._align_by_byte_offsets(*sides)
    there, here = ([text[a:b].encode() for a, b in side] for side in sides)
    spans = spans_of(text, there, here)
    assert [list(range(*span.teacher)) for span in spans] == groups[0]
    assert [list(range(*span.student)) for span in spans] == groups[1]
