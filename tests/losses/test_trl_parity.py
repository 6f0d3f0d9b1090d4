"""The divergences against TRL's public function: same values, same gradients, on random logits and on the micro pair.

What the two sides must agree on, as TRL 1.16 has it:

- β weighs the teacher, m = β p + (1 − β) q. β = 0 is KL(teacher ‖ student) and β = 1 is KL(student ‖ teacher), where
  the formula itself would give 0.
- The temperature divides the logits of both sides, and the loss is not multiplied by its square. This library has no
  temperature: logits are divided before they come in.
- ``batchmean`` with labels sums over the vocabulary and over the tokens that have a label, and divides by their number:
  the mean of this library's values, one per token. The number of sequences plays no part.
"""

from functools import partial

import pytest
import torch

from read_env.distillation.loading import load
from read_env.distillation.models.head import completion_logits
from read_env.distillation.text.encoding import collate
from read_env.losses import TeacherTargets, forward_kl, jensen_shannon, reverse_kl

theirs = pytest.importorskip("trl.experimental.gkd").GKDTrainer.generalized_jsd_loss

#: Ours, and TRL's β for the same divergence.
PAIRS = {
    "fkl": (forward_kl, 0.0),
    "rkl": (reverse_kl, 1.0),
    **{f"jsd {beta}": (partial(jensen_shannon, beta=beta), beta) for beta in (0.0, 0.1, 0.5, 0.9, 1.0)},
}
EVERY_PAIR = pytest.mark.parametrize(("ours", "beta"), PAIRS.values(), ids=list(PAIRS))
#: This library computes divergences in float32 whatever comes in; float64 logits show that TRL's rounding is not ours.
EVERY_DTYPE = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
CLOSE = {"rtol": 2e-4, "atol": 2e-6}


def _logits(dtype, *shape, vocabulary=13, scale=3.0):
    generator = torch.Generator().manual_seed(7)
    teacher, student = (scale * torch.randn(*shape, vocabulary, generator=generator).to(dtype) for _ in range(2))
    return teacher, student


def _dense(teacher):
    """Targets that keep the whole vocabulary, of (m, V) logits; no divergence here looks at the tokens."""
    return TeacherTargets.from_logits(teacher, torch.zeros(len(teacher), dtype=torch.int64), teacher.shape[-1])


def _value_and_gradient(loss, student):
    student = student.detach().clone().requires_grad_()
    value = loss(student)
    value.backward()
    return value.detach(), student.grad


@EVERY_DTYPE
@EVERY_PAIR
def test_value_and_gradient_on_random_logits(ours, beta, dtype):
    teacher, student = _logits(dtype, 9)
    value, gradient = _value_and_gradient(lambda s: ours(s, _dense(teacher))[0].mean(), student)
    expected, right = _value_and_gradient(lambda s: theirs(s[None], teacher[None], beta=beta) / 9, student)
    assert value.item() == pytest.approx(expected.item(), rel=1e-4) and expected > 0.05
    torch.testing.assert_close(gradient, right, **CLOSE)


@EVERY_PAIR
def test_a_wrong_sign_or_direction_would_be_seen(ours, beta):
    teacher, student = _logits(torch.float64, 9)
    _, gradient = _value_and_gradient(lambda s: ours(s, _dense(teacher))[0].mean(), student)

    def likeness(wrong):
        _, other = _value_and_gradient(wrong, student)
        return torch.cosine_similarity(gradient.flatten(), other.flatten(), dim=0).item()

    assert likeness(lambda s: theirs(s[None], teacher[None], beta=beta)) > 1 - 1e-6
    assert likeness(lambda s: -theirs(s[None], teacher[None], beta=beta)) < -1 + 1e-6
    if beta != 0.5:  # in the middle the two directions are one
        assert likeness(lambda s: theirs(s[None], teacher[None], beta=1 - beta)) < 0.95
        assert likeness(lambda s: theirs(teacher[None], s[None], beta=beta)) < 0.95


@pytest.mark.parametrize("temperature", [0.5, 2.0])
@EVERY_PAIR
def test_temperature_divides_the_logits_of_both(ours, beta, temperature):
    teacher, student = _logits(torch.float64, 9)
    _, gradient = _value_and_gradient(lambda s: ours(s / temperature, _dense(teacher / temperature))[0].mean(), student)
    divided = partial(theirs, beta=beta, temperature=temperature)
    _, right = _value_and_gradient(lambda s: divided(s[None], teacher[None]) / 9, student)
    torch.testing.assert_close(gradient, right, **CLOSE)


@EVERY_PAIR
def test_reduction_is_the_mean_over_labelled_tokens(ours, beta):
    teacher, student = _logits(torch.float64, 3, 6)
    labels = torch.full((3, 6), -100)
    labels[0, 2:5] = labels[1, 1:] = 4  # the third sequence has no completion at all
    mask = labels != -100
    _, gradient = _value_and_gradient(lambda s: ours(s[mask], _dense(teacher[mask]))[0].mean(), student)
    _, right = _value_and_gradient(lambda s: theirs(s, teacher, labels=labels, beta=beta), student)
    torch.testing.assert_close(gradient, right, **CLOSE)
    assert (right[~mask] == 0).all() and (right[mask] != 0).any()
    # What a trainer passes for a batch in pieces: the number of tokens in all of them.
    a_piece = partial(theirs, labels=labels, beta=beta, num_items_in_batch=32)
    _, piece = _value_and_gradient(lambda s: a_piece(s, teacher), student)
    torch.testing.assert_close(piece * 32 / mask.sum(), right)


@pytest.fixture(scope="module")
def micro_pair():
    return load("embedded:micro/teacher"), load("embedded:micro/student", trained=True)


@EVERY_DTYPE
@pytest.mark.parametrize("name", ["fkl", "rkl", "jsd 0.5", "jsd 0.9"])
def test_gradients_of_the_micro_student_are_those_that_the_trainer_takes(micro_pair, name, dtype):
    """The trainer pads, masks and shifts whole sequences; here only the completion's hidden states meet the head."""
    (ours, beta), encoder = PAIRS[name], micro_pair[1].encoder
    teacher, student = (loaded.model.to(dtype) for loaded in micro_pair)
    prompts = encoder.prompts(["7 + 5 = ?", "what is the capital of x?", "a"])
    completions = encoder.completions(["12", "abc def", "b c d e f"])

    def gradients(loss):
        student.zero_grad()
        loss.backward()
        return torch.cat([p.grad.flatten().double() for p in student.parameters()])

    batch = collate(prompts, completions, encoder.pad_id)
    with torch.no_grad():
        said = completion_logits(teacher, batch)
    gradient = gradients(ours(completion_logits(student, batch), _dense(said))[0].mean())

    mask = torch.zeros_like(batch.input_ids)
    labels = torch.full_like(batch.input_ids, -100)
    for row, (prompt, completion) in enumerate(zip(prompts, completions, strict=True)):
        mask[row, : len(prompt) + len(completion)] = 1
        labels[row, len(prompt) : len(prompt) + len(completion)] = torch.tensor(completion)
    inputs = {"input_ids": batch.input_ids, "attention_mask": mask}
    with torch.no_grad():
        known = teacher(**inputs).logits[:, :-1]
    right = gradients(theirs(student(**inputs).logits[:, :-1], known, labels=labels[:, 1:], beta=beta))

    assert right.norm() > 1e-3
    assert (gradient - right).norm() < 1e-4 * right.norm()
