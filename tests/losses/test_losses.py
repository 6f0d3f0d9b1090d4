"""Every objective against a float64 reference written out term by term."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from read_env.errors import ReadEnvError
from read_env.losses import TeacherTargets, forward_kl, get_loss, loss_names, reverse_kl, sft


def _case(seed, tokens=5, vocabulary=11, scale=3.0):
    generator = torch.Generator().manual_seed(seed)
    teacher = scale * torch.randn(tokens, vocabulary, generator=generator)
    student = scale * torch.randn(tokens, vocabulary, generator=generator)
    return teacher, student, torch.randint(vocabulary, (tokens,), generator=generator)


def _reference_kl(teacher, student, kept, reverse=False):
    p = torch.softmax(teacher.double(), -1)
    q = torch.softmax(student.double(), -1)
    result = []
    for row in range(len(p)):
        top = torch.topk(p[row], kept).indices.tolist()
        bins = [(p[row, i].item(), q[row, i].item()) for i in top]
        rest = [i for i in range(p.shape[1]) if i not in top]
        bins.append((p[row, rest].sum().item(), q[row, rest].sum().item()))
        bins = [(b, a) for a, b in bins] if reverse else bins
        result.append(sum(a * math.log(a / b) for a, b in bins if a > 0))
    return result


@given(st.integers(0, 10_000), st.integers(1, 11), st.sampled_from([0.1, 3.0, 12.0]))
def test_forward_kl_is_the_divergence_over_top_k_and_tail(seed, kept, scale):
    teacher, student, tokens = _case(seed, scale=scale)
    targets = TeacherTargets.from_logits(teacher, tokens, kept)
    got = forward_kl(student, targets)
    assert got.tolist() == pytest.approx(_reference_kl(teacher, student, kept), rel=2e-4, abs=2e-5)
    assert (got >= -1e-5).all()


@given(st.integers(0, 10_000), st.integers(1, 11), st.sampled_from([0.1, 3.0]))
def test_reverse_kl_is_the_divergence_the_other_way_round(seed, kept, scale):
    teacher, student, tokens = _case(seed, scale=scale)
    got = reverse_kl(student, TeacherTargets.from_logits(teacher, tokens, kept))
    assert got.tolist() == pytest.approx(_reference_kl(teacher, student, kept, reverse=True), rel=2e-4, abs=2e-5)
    assert (got >= -1e-5).all()


def test_a_certain_student_has_finite_reverse_kl_and_gradients():
    teacher, _, tokens = _case(4)
    student = torch.full((5, 11), -1e4)
    student[:, 3] = 0.0
    student.requires_grad_()
    loss = reverse_kl(student, TeacherTargets.from_logits(teacher, tokens, 4))
    loss.sum().backward()
    assert torch.isfinite(loss).all() and torch.isfinite(student.grad).all()


@given(st.integers(0, 10_000))
@pytest.mark.parametrize("divergence", [forward_kl, reverse_kl])
def test_with_every_token_kept_it_is_the_dense_divergence(divergence, seed):
    teacher, student, tokens = _case(seed)
    log_p, log_q = torch.log_softmax(teacher, -1), torch.log_softmax(student, -1)
    pair = (log_q, log_p) if divergence is forward_kl else (log_p, log_q)
    dense = torch.nn.functional.kl_div(*pair, log_target=True, reduction="none").sum(-1)
    torch.testing.assert_close(divergence(student, TeacherTargets.from_logits(teacher, tokens, 11)), dense)


@pytest.mark.parametrize("divergence", [forward_kl, reverse_kl])
def test_it_is_zero_with_zero_gradient_at_the_teacher(divergence):
    teacher, _, tokens = _case(0)
    student = teacher.clone().requires_grad_()
    loss = divergence(student, TeacherTargets.from_logits(teacher, tokens, 4)).sum()
    loss.backward()
    assert loss.item() == pytest.approx(0.0, abs=1e-6)
    assert student.grad.abs().max() < 1e-6


def test_a_certain_teacher_gives_finite_values_and_gradients():
    teacher = torch.full((2, 6), -1e4)
    teacher[:, 3] = 0.0
    student = torch.zeros(2, 6, requires_grad=True)
    targets = TeacherTargets.from_logits(teacher, torch.tensor([3, 3]), 2)
    loss = forward_kl(student, targets)
    assert loss.tolist() == pytest.approx([math.log(6)] * 2)
    loss.sum().backward()
    assert torch.isfinite(student.grad).all()


def test_sft_is_the_negative_log_likelihood():
    teacher, student, tokens = _case(1)
    reference = [-math.log(torch.softmax(student[i].double(), -1)[t].item()) for i, t in enumerate(tokens)]
    assert sft(student, TeacherTargets.from_logits(teacher, tokens, 4)).tolist() == pytest.approx(reference, rel=1e-5)


def test_top_mass_and_tail_sum_to_one():
    teacher, _, tokens = _case(2)
    targets = TeacherTargets.from_logits(teacher, tokens, 4)
    torch.testing.assert_close(targets.top_mass + targets.log_tail.exp(), torch.ones(5))


def test_an_unknown_loss_lists_the_known_ones():
    assert set(loss_names()) == {"sft", "fkl", "rkl"}
    with pytest.raises(ReadEnvError, match="unknown loss 'fkll': did you mean 'fkl'"):
        get_loss("fkll")
