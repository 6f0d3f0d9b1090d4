"""Forward and reverse KL together: fixed, scheduled, and learned shares."""

import math
from functools import partial
from unittest.mock import Mock

import pytest
import torch

from read_env.config import load_preset
from read_env.losses import StepState, TeacherTargets, forward_kl, get_objective, mixed_kl, reverse_kl, step_state
from read_env.losses.arkd import ARKD
from read_env.losses.arkd_published import PublishedARKD


def case(seed=0, kept=11):
    generator = torch.Generator().manual_seed(seed)
    teacher, student = (3 * torch.randn(5, 11, generator=generator) for _ in range(2))
    return student, TeacherTargets.from_logits(teacher, teacher.argmax(-1), kept), teacher


def scheduled(**changes):
    return get_objective("mixed-kl").controller(load_preset("micro", {"distill": changes}).distill, 0)


def state(fkl=1.0, rkl=1.0):
    return StepState(0.5, 0.7, 0.01, 0.01, fkl, rkl)


#: A validation that is not to be asked for.
never = Mock(side_effect=AssertionError)


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_the_mixture_is_the_mixture(alpha):
    student, targets, _ = case(kept=4)
    (forward, _), (reverse, _) = forward_kl(student, targets), reverse_kl(student, targets)
    mixture, metrics = mixed_kl(student, targets, alpha)
    torch.testing.assert_close(mixture, alpha * forward + (1 - alpha) * reverse)
    assert torch.equal(metrics["fkl"], forward) and torch.equal(metrics["rkl"], reverse)


def test_the_state_of_a_step_is_that_of_the_two_distributions():
    student, targets, teacher = case()
    p, q = torch.softmax(teacher.double(), -1), torch.softmax(student.double(), -1)
    parts = torch.stack(step_state(student, targets)).double()
    entropies, variances = [-(x * x.log()).sum(-1) for x in (p, q)], [x.var(-1, correction=0) for x in (p, q)]
    divergences = [(x * (x / y).log()).sum(-1) for x, y in ((p, q), (q, p))]
    expected = [*entropies, *variances, *divergences]
    torch.testing.assert_close(parts, torch.stack(expected), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"mixed_kl_start": 0.2}, [0.2, 0.2, 0.2]),
        ({"mixed_kl_schedule": "linear", "mixed_kl_start": 1.0, "mixed_kl_end": 0.0}, [1.0, 0.5, 0.0]),
    ],
)
def test_schedules(changes, expected):
    controller = scheduled(**changes)
    assert [controller.alpha(progress) for progress in (0.0, 0.5, 1.0)] == pytest.approx(expected)


def test_greedy_takes_the_smaller_divergence_of_the_step_before():
    controller = scheduled(mixed_kl_schedule="greedy")
    assert controller.alpha(0.0) == 0.5
    controller.learn(state(fkl=1.0, rkl=2.0), never)
    assert controller.alpha(0.1) == 1.0
    controller.learn(state(fkl=2.0, rkl=1.0), never)
    assert controller.alpha(0.2) == 0.0


def test_the_published_form_has_the_flaw_that_the_docstring_names():
    """No gradient of its reward: α rises while rewards rise, the forward KL being the smaller one or the larger."""
    for fkl, rkl in ((0.1, 3.0), (3.0, 0.1)):
        controller = PublishedARKD(learning_rate=1e-2)
        for step in range(400):
            scale = 0.995**step
            controller.alpha(0.0)
            controller.learn(state(fkl * scale, rkl * scale), never)
        assert controller.alpha(0.0) > 0.8


@pytest.mark.slow
def test_the_corrected_form_finds_the_share_that_helps():
    """A student whose held-out divergence falls faster the nearer α is to 0.2."""
    settled = []
    for seed in range(3):
        controller, divergence, drawn = ARKD(seed, window=1), [5.0], []
        for _ in range(1500):
            alpha = controller.alpha(0.0)
            drawn.append(alpha)
            divergence[0] -= 0.01 * math.exp(-8 * (alpha - 0.2) ** 2)
            controller.learn(state(), partial(divergence.__getitem__, 0))
        settled.append(sum(drawn[-300:]) / 300)
    assert sum(settled) / 3 == pytest.approx(0.2, abs=0.12) and max(settled) < 0.4


def test_an_alpha_is_held_for_its_window_and_validated_once_in_it():
    controller, alphas, validate = ARKD(window=4), [], Mock(return_value=1.0)
    for _ in range(13):
        alphas.append(controller.alpha(0.0))
        controller.learn(state(), validate)
    assert alphas[0] == 0.5 and len(set(alphas[1:5])) == 1 and len(set(alphas[5:9])) == 1 and alphas[4] != alphas[5]
    assert validate.call_count == 4


@pytest.mark.parametrize("make", [lambda: ARKD(3, window=2), lambda: PublishedARKD(3)])
def test_a_restored_controller_goes_on_alike(make, tmp_path):
    def play(controller, steps):
        found = []
        for step in range(steps):
            found.append(controller.alpha(0.0))
            controller.learn(state(1 + 0.1 * step, 2 - 0.1 * step), lambda step=step: 3 - 0.05 * step)
        return found

    first = make()
    play(first, 7)
    torch.save(first.state_dict(), tmp_path / "state.pt")
    second = make()
    second.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert play(first, 8) == play(second, 8)
