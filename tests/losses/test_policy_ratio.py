"""On-policy objectives: against formulas written out, and against each other where they coincide."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from read_env.config import DistillConfig
from read_env.losses import TeacherTargets, get_objective, jensen_shannon
from read_env.losses.grpo import group_advantages
from read_env.losses.policy_ratio import policy_ratio_loss, sampled_kl


def _logs(seed, count=6, size=9):
    """Log-probabilities of the same sampled tokens under three models, (count,) each."""
    generator = torch.Generator().manual_seed(seed)
    token = torch.randint(size, (count, 1), generator=generator)
    return [torch.randn(count, size, generator=generator).log_softmax(-1).gather(1, token)[:, 0] for _ in range(3)]


@given(st.integers(0, 10_000), st.floats(0, 1), st.floats(0.05, 0.5))
def test_the_loss_is_the_clipped_ratio(seed, alpha, epsilon):
    student, old, teacher = _logs(seed)
    advantages = torch.randn(6, generator=torch.Generator().manual_seed(seed + 1))
    settings = {"teacher_log_probs": teacher, "alpha": alpha, "epsilon": epsilon}
    per_token, metrics = policy_ratio_loss(student, old, advantages, **settings)
    for i in range(6):
        s, o, t, a = (x[i].item() for x in (student.exp(), old.exp(), teacher.exp(), advantages))
        ratio = s / (o**alpha * t ** (1 - alpha))
        bounded = min(max(ratio, 1 - epsilon), 1 + epsilon)
        assert metrics["ratio"][i].item() == pytest.approx(ratio, rel=1e-4)
        assert per_token[i].item() == pytest.approx(-min(ratio * a, bounded * a), rel=1e-4, abs=1e-6)


@given(st.integers(0, 10_000))
def test_with_alpha_one_the_teacher_has_no_say(seed):
    student, old, teacher = _logs(seed)
    advantages = torch.linspace(-1, 1, 6)
    with_teacher, _ = policy_ratio_loss(student, old, advantages, teacher_log_probs=teacher, alpha=1.0)
    assert torch.equal(with_teacher, policy_ratio_loss(student, old, advantages)[0])


def test_the_first_update_of_grpo_is_the_policy_gradient_and_clips_nothing():
    student, _, teacher = _logs(0)
    advantages = torch.linspace(-1, 1, 6)
    leaf = student.clone().requires_grad_()
    loss, metrics = policy_ratio_loss(leaf, student, advantages)
    loss.sum().backward()
    torch.testing.assert_close(leaf.grad, -advantages)
    assert not metrics["clip_fraction"].any()
    _, anchored = policy_ratio_loss(student, student, advantages, teacher_log_probs=teacher, alpha=0.5)
    assert anchored["clip_fraction"].any() and not torch.allclose(anchored["ratio"], torch.ones(6))


def test_a_clipped_token_gets_no_gradient():
    student = torch.log(torch.tensor([0.9, 0.1, 0.9, 0.1])).requires_grad_()
    old = torch.full((4,), math.log(0.5))
    loss, metrics = policy_ratio_loss(student, old, torch.tensor([1.0, 1.0, -1.0, -1.0]))
    loss.sum().backward()
    assert metrics["clip_fraction"].tolist() == [1, 0, 0, 1]
    assert (student.grad == 0).tolist() == [True, False, False, True]


def test_a_bad_token_that_the_teacher_would_never_say_has_a_bounded_loss():
    student = torch.tensor([-0.1]).requires_grad_()
    arguments = student, torch.tensor([-0.1]), torch.tensor([-1.0])
    teacher = {"teacher_log_probs": torch.tensor([-40.0]), "alpha": 0.5}
    assert policy_ratio_loss(*arguments, **teacher)[0].item() > 1e8
    bounded, metrics = policy_ratio_loss(*arguments, **teacher, delta=10.0)
    bounded.sum().backward()
    assert bounded.item() == pytest.approx(10.0)
    assert metrics["clip_fraction"].item() == 1 and student.grad.item() == 0


@pytest.mark.parametrize("advantage", [-1.0, 0.0, 1.0])
@pytest.mark.parametrize("alpha", [0.0, 0.5])
def test_a_ratio_beyond_all_numbers_is_still_one(advantage, alpha):
    student = torch.tensor([-0.1]).requires_grad_()
    settings = {"teacher_log_probs": torch.tensor([-400.0]), "alpha": alpha, "delta": 10.0}
    loss, _ = policy_ratio_loss(student, torch.tensor([-0.1]), torch.tensor([advantage]), **settings)
    loss.sum().backward()
    assert loss.item() == pytest.approx({-1.0: 10.0, 0.0: 0.0, 1.0: -1.2}[advantage])
    assert student.grad.item() == 0


def _samples(seed=0, count=6, size=9):
    """Student logits with gradient, and what was sampled from them."""
    generator = torch.Generator().manual_seed(seed)
    logits, theirs = torch.randn(2, count, size, generator=generator)
    targets = TeacherTargets.from_logits(theirs, torch.randint(size, (count,), generator=generator), top_k=4)
    log_probs = theirs.log_softmax(-1).gather(1, targets.tokens[:, None])[:, 0]
    samples = replace(targets, teacher_log_probs=log_probs, advantages=torch.linspace(-1, 1, count))
    return logits.requires_grad_(), samples


def _loss(name, **settings):
    return get_objective(name).bind(DistillConfig(loss=name, **settings))


def _gradient(name, **settings):
    logits, samples = _samples()
    _loss(name, **settings)(logits, samples)[0].sum().backward()
    return logits.grad, logits.detach(), samples


def test_grpo_on_samples_is_the_policy_gradient():
    got, logits, samples = _gradient("grpo")
    one_hot = torch.nn.functional.one_hot(samples.tokens, logits.shape[-1])
    torch.testing.assert_close(got, -samples.advantages[:, None] * (one_hot - logits.softmax(-1)))


def test_rlad_scales_that_gradient_by_the_ratio_where_it_does_not_clip():
    plain, logits, samples = _gradient("grpo")
    got, *_ = _gradient("rlad", rlad_alpha=0.5, epsilon=0.99)
    log_student = logits.log_softmax(-1).gather(1, samples.tokens[:, None])[:, 0]
    ratio = (0.5 * (log_student - samples.teacher_log_probs)).exp()
    inside = (ratio < 1.99) & (ratio > 0.01)
    assert inside.sum() >= 3
    torch.testing.assert_close(got[inside], (ratio[:, None] * plain)[inside])


def test_the_divergence_to_the_teacher_pulls_the_sampled_token_towards_it():
    plain, *_ = _gradient("grpo")
    anchored, logits, samples = _gradient("grpo", grpo_beta=0.3)
    log_student = logits.log_softmax(-1).gather(1, samples.tokens[:, None])[:, 0]
    one_hot = torch.nn.functional.one_hot(samples.tokens, logits.shape[-1])
    pull = (1 - (samples.teacher_log_probs - log_student).exp())[:, None] * (one_hot - logits.softmax(-1))
    torch.testing.assert_close(anchored - plain, 0.3 * pull)


def test_gkd_on_samples_is_the_divergence_at_their_positions():
    logits, samples = _samples()
    per_token, metrics = _loss("gkd", jsd_beta=0.3)(logits, samples)
    assert torch.equal(per_token, jensen_shannon(logits, samples, 0.3)[0]) and metrics == {}


@pytest.mark.parametrize("name", ["grpo", "rlad"])
def test_policy_losses_need_samples(name):
    logits, samples = _samples()
    with pytest.raises(ValueError, match="needs on-policy samples"):
        _loss(name)(logits, replace(samples, advantages=None))


def test_a_teacher_in_the_ratio_must_be_given():
    with pytest.raises(ValueError, match=r"alpha is 0\.5.*teacher_log_probs is missing"):
        policy_ratio_loss(torch.zeros(2), torch.zeros(2), torch.ones(2), alpha=0.5)


def test_advantages_are_standardised_inside_each_group():
    rewards = torch.tensor([[0.0, 1.0, 1.0, 0.0], [1.0, 1.0, 1.0, 1.0], [0.0, 0.0, 0.0, 4.0]])
    got = group_advantages(rewards)
    torch.testing.assert_close(got.mean(dim=1), torch.zeros(3))
    torch.testing.assert_close(got.std(dim=1), torch.tensor([1.0, 0.0, 1.0]))
    assert got[2, 3] > 0 > got[2, 0]


def test_the_sampled_kl_is_the_kl_in_expectation():
    generator = torch.Generator().manual_seed(3)
    log_q, log_p = (torch.randn(7, generator=generator).log_softmax(-1) for _ in range(2))
    estimate = sampled_kl(log_q, log_p)  # every token once; weighted by the student below
    assert (estimate >= 0).all()
    exact = (log_q.exp() * (log_q - log_p)).sum()
    torch.testing.assert_close((log_q.exp() * estimate).sum(), exact)
