"""Every objective against a float64 reference written out term by term."""

import math
from dataclasses import replace
from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from read_env.config import load_preset
from read_env.errors import ReadEnvError
from read_env.losses import (
    TeacherTargets,
    forward_kl,
    get_objective,
    jensen_shannon,
    loss_names,
    reverse_kl,
    sft,
    skew_forward_kl,
    skew_reverse_kl,
    tail_aware,
)


def _case(seed, tokens=5, vocabulary=11, scale=3.0):
    generator = torch.Generator().manual_seed(seed)
    teacher = scale * torch.randn(tokens, vocabulary, generator=generator)
    student = scale * torch.randn(tokens, vocabulary, generator=generator)
    return teacher, student, torch.randint(vocabulary, (tokens,), generator=generator)


def _bins(teacher, student, kept):
    """Rows of (p, q) pairs over the teacher's top tokens, largest first, and the rest, in float64."""
    p, q = torch.softmax(teacher.double(), -1), torch.softmax(student.double(), -1)
    rows = []
    for row in range(len(p)):
        top = torch.topk(p[row], kept).indices.tolist()
        rest = [i for i in range(p.shape[1]) if i not in top]
        pairs = [(p[row, i].item(), q[row, i].item()) for i in top]
        rows.append([*pairs, (p[row, rest].sum().item(), q[row, rest].sum().item())] if rest else pairs)
    return rows


def _kl(pairs):
    return sum(a * math.log(a / b) for a, b in pairs if a > 0)


def _forward(pairs):
    return _kl(pairs)


def _reverse(pairs):
    return _kl([(q, p) for p, q in pairs])


def _jensen_shannon(pairs, beta):
    mixed = [beta * p + (1 - beta) * q for p, q in pairs]
    first = _kl([(p, m) for (p, _), m in zip(pairs, mixed, strict=True)])
    return beta * first + (1 - beta) * _kl([(q, m) for (_, q), m in zip(pairs, mixed, strict=True)])


def _skew_forward(pairs, alpha):
    return _kl([(p, alpha * p + (1 - alpha) * q) for p, q in pairs])


def _skew_reverse(pairs, alpha):
    return _kl([(q, alpha * q + (1 - alpha) * p) for p, q in pairs])


#: Function, reference on (p, q) pairs, upper bound.
DIVERGENCES = {
    "fkl": (forward_kl, _forward, math.inf),
    "rkl": (reverse_kl, _reverse, math.inf),
    "jsd 0.5": (jensen_shannon, lambda pairs: _jensen_shannon(pairs, 0.5), math.log(2)),
    "jsd 0.9": (partial(jensen_shannon, beta=0.9), lambda pairs: _jensen_shannon(pairs, 0.9), math.log(2)),
    "jsd 0": (partial(jensen_shannon, beta=0.0), _forward, math.inf),
    "jsd 1": (partial(jensen_shannon, beta=1.0), _reverse, math.inf),
    "skew-fkl": (skew_forward_kl, lambda pairs: _skew_forward(pairs, 0.1), -math.log(0.1)),
    "skew-rkl": (skew_reverse_kl, lambda pairs: _skew_reverse(pairs, 0.1), -math.log(0.1)),
    "skew-fkl 0": (partial(skew_forward_kl, alpha=0.0), _forward, math.inf),
    "skew-rkl 0": (partial(skew_reverse_kl, alpha=0.0), _reverse, math.inf),
}
EVERY_DIVERGENCE = pytest.mark.parametrize(
    ("divergence", "reference", "bound"), DIVERGENCES.values(), ids=list(DIVERGENCES)
)


@EVERY_DIVERGENCE
@given(seed=st.integers(0, 10_000), kept=st.integers(1, 11), scale=st.sampled_from([0.1, 3.0, 12.0]))
def test_a_divergence_is_over_top_k_and_tail(divergence, reference, bound, seed, kept, scale):
    teacher, student, tokens = _case(seed, scale=scale)
    got, _ = divergence(student, TeacherTargets.from_logits(teacher, tokens, kept))
    expected = [reference(pairs) for pairs in _bins(teacher, student, kept)]
    assert got.tolist() == pytest.approx(expected, rel=2e-4, abs=2e-5)
    assert (got >= -1e-5).all() and (got <= bound + 1e-5).all()


@EVERY_DIVERGENCE
@given(seed=st.integers(0, 10_000))
def test_fewer_kept_tokens_never_make_it_larger(divergence, reference, bound, seed):
    teacher, student, tokens = _case(seed)
    coarse, fine = (divergence(student, TeacherTargets.from_logits(teacher, tokens, kept))[0] for kept in (3, 11))
    assert (coarse <= fine + 1e-5).all()


@EVERY_DIVERGENCE
def test_it_is_zero_with_zero_gradient_at_the_teacher(divergence, reference, bound):
    teacher, _, tokens = _case(0)
    student = teacher.clone().requires_grad_()
    loss = divergence(student, TeacherTargets.from_logits(teacher, tokens, 4))[0].sum()
    loss.backward()
    assert loss.item() == pytest.approx(0.0, abs=1e-6)
    assert student.grad.abs().max() < 1e-6


@EVERY_DIVERGENCE
@pytest.mark.parametrize("certain", ["teacher", "student"])
def test_certainty_gives_finite_values_and_gradients(divergence, reference, bound, certain):
    sharp, soft = torch.full((2, 6), -1e4), torch.zeros(2, 6)
    sharp[:, 3] = 0.0
    teacher, student = (sharp, soft) if certain == "teacher" else (soft, sharp)
    student = student.clone().requires_grad_()
    loss, _ = divergence(student, TeacherTargets.from_logits(teacher, torch.tensor([3, 3]), 2))
    loss.sum().backward()
    assert torch.isfinite(loss).all() and torch.isfinite(student.grad).all()


def test_forward_kl_to_a_certain_teacher_is_the_surprise():
    teacher = torch.full((2, 6), -1e4)
    teacher[:, 3] = 0.0
    targets = TeacherTargets.from_logits(teacher, torch.tensor([3, 3]), 2)
    assert forward_kl(torch.zeros(2, 6), targets)[0].tolist() == pytest.approx([math.log(6)] * 2)


@given(st.integers(0, 10_000))
@pytest.mark.parametrize("divergence", [forward_kl, reverse_kl])
def test_with_every_token_kept_it_is_the_dense_divergence(divergence, seed):
    teacher, student, tokens = _case(seed)
    log_p, log_q = torch.log_softmax(teacher, -1), torch.log_softmax(student, -1)
    pair = (log_q, log_p) if divergence is forward_kl else (log_p, log_q)
    dense = torch.nn.functional.kl_div(*pair, log_target=True, reduction="none").sum(-1)
    torch.testing.assert_close(divergence(student, TeacherTargets.from_logits(teacher, tokens, 11))[0], dense)


# --- tail-aware ----------------------------------------------------------------------------------


@given(st.integers(0, 10_000), st.integers(1, 8), st.integers(2, 11), st.sampled_from([0.0, 2.0, 5.0]))
def test_tail_aware_is_head_and_weighted_tail(seed, top, more, beta):
    kept = min(top + more, 11)
    teacher, student, tokens = _case(seed)
    got, _ = tail_aware(student, TeacherTargets.from_logits(teacher, tokens, kept), top, beta)
    heads, insides, masses = [], [], []
    for pairs in _bins(teacher, student, kept):
        p_tail, q_tail = (sum(pair[i] for pair in pairs[top:]) for i in (0, 1))
        heads.append(_kl([*pairs[:top], (p_tail, q_tail)]))
        insides.append(_kl([(p / p_tail, q / q_tail) for p, q in pairs[top:]]))
        masses.append(p_tail)
    mean = sum(masses) / len(masses)
    expected = [d1 + beta / mean * a * d2 for d1, d2, a in zip(heads, insides, masses, strict=True)]
    assert got.tolist() == pytest.approx(expected, rel=5e-4, abs=5e-5)


@given(st.integers(0, 10_000), st.integers(1, 8), st.integers(1, 11))
def test_tail_aware_with_bracket_one_is_the_forward_kl(seed, top, more):
    teacher, student, tokens = _case(seed)
    targets = TeacherTargets.from_logits(teacher, tokens, min(top + more, 11))
    if targets.top_ids.shape[-1] > top:
        torch.testing.assert_close(
            tail_aware(student, targets, top, None)[0], forward_kl(student, targets)[0], rtol=1e-4, atol=1e-5
        )


def test_tail_aware_with_a_certain_teacher_is_its_head():
    teacher = torch.full((2, 6), -1e4)
    teacher[:, 3] = 0.0
    student = torch.zeros(2, 6, requires_grad=True)
    loss, _ = tail_aware(student, TeacherTargets.from_logits(teacher, torch.tensor([3, 3]), 4), 2)
    loss.sum().backward()
    assert loss.tolist() == pytest.approx([math.log(6)] * 2)
    assert torch.isfinite(student.grad).all()


def test_tail_aware_needs_more_kept_tokens_than_its_head_has():
    teacher, student, tokens = _case(0)
    with pytest.raises(ValueError, match=r"distill.tad_top_k is 4, but distill.teacher_top_k keeps only 4"):
        tail_aware(student, TeacherTargets.from_logits(teacher, tokens, 4), 4)
    with pytest.raises(
        ReadEnvError, match=r"distill: with loss 'tad', teacher_top_k must be above tad_top_k \(10\), and is 8"
    ):
        load_preset("micro", {"distill": {"loss": "tad"}})
    assert load_preset("micro", {"distill": {"loss": "tad", "teacher_top_k": 16}}).distill.tad_beta == 2.0


def test_sft_is_the_negative_log_likelihood():
    teacher, student, tokens = _case(1)
    reference = [-math.log(torch.softmax(student[i].double(), -1)[t].item()) for i, t in enumerate(tokens)]
    loss, metrics = sft(student, TeacherTargets.from_logits(teacher, tokens, 4))
    assert loss.tolist() == pytest.approx(reference, rel=1e-5) and metrics == {}


def test_top_mass_and_tail_sum_to_one():
    teacher, _, tokens = _case(2)
    targets = TeacherTargets.from_logits(teacher, tokens, 4)
    torch.testing.assert_close(targets.top_mass + targets.log_tail.exp(), torch.ones(5))


def test_an_unknown_loss_lists_the_known_ones():
    known = {"sft", "fkl", "rkl", "jsd", "skew-fkl", "skew-rkl", "tad", "mixed-kl", "arkd-published", "arkd"}
    assert set(loss_names()) == known | {"gold", "uld", "gkd", "grpo", "rlad"}
    with pytest.raises(ReadEnvError, match="unknown loss 'fkll': did you mean 'fkl'"):
        get_objective("fkll")


def test_parameters_of_an_objective_come_from_the_configuration():
    teacher, student, tokens = _case(3)
    targets = TeacherTargets.from_logits(teacher, tokens, 11)
    config = load_preset("micro", {"distill": {"jsd_beta": 1.0, "skew_alpha": 0.0}}).distill
    for name, divergence in (("jsd", reverse_kl), ("skew-fkl", forward_kl)):
        loss = get_objective(name).bind(config)
        assert torch.equal(loss(student, targets)[0], divergence(student, targets)[0])


@pytest.mark.parametrize("name", loss_names())
def test_every_objective_has_the_signature_and_reports_per_token(name):
    teacher, student, tokens = _case(4)
    samples = replace(
        TeacherTargets.from_logits(teacher, tokens, 11),
        teacher_log_probs=torch.log_softmax(teacher, -1).gather(-1, tokens[:, None])[:, 0],
        advantages=torch.linspace(-1, 1, len(tokens)),
    )
    config = load_preset("micro", {}).distill
    per_token, metrics = get_objective(name).bind(config)(student.requires_grad_(), samples)
    per_token.sum().backward()
    assert per_token.shape == (5,) and {values.shape for values in metrics.values()} <= {(5,)}
    assert student.grad.abs().sum() > 0
