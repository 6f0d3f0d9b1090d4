"""Updates of a student of two ranks against those of one process: large vocabularies, bf16, the student's own samples."""

from contextlib import contextmanager

import pytest
import torch
from micro import SUITE
from two_ranks import LORA, assert_close, llama, pair, settings, train

from read_env.capabilities.stream import PromptStream
from read_env.distillation.distributed import student as student_module
from read_env.distillation.loading import load_teacher
from read_env.distillation.student.rollouts import sample_rollouts


def losses(steps):
    return [step.loss for step in steps]


@pytest.mark.parametrize(
    ("tied", "models"),
    [(False, {}), (True, {"gradient_checkpointing": True}), (True, LORA)],
    ids=["head of its own", "tied, recomputed layers", "tied, LoRA"],
)
def test_logits_of_a_large_vocabulary_in_chunks(tmp_path, monkeypatch, tied, models):
    """One rank has a forward pass of several chunks more than the other, and both have passes of one chunk."""
    student = llama(tmp_path / "llama", 33_000, tied=tied)
    one, two, groups = pair({"student": student, **models}, micro_batch_tokens=3_000)
    chunked, original = [], student_module.gradients_kept

    @contextmanager
    def counted(model):
        chunked.append(1)
        with original(model):
            yield

    monkeypatch.setattr(student_module, "gradients_kept", counted)
    every = [example for group in groups for example in group]
    try:
        steps = [every * 3, every, every * 2, groups[0], every * 3]
        of_one, of_two = train(one, steps, 5), train(two, steps, 5)
        assert losses(of_two) == pytest.approx(losses(of_one), abs=1e-5)
        assert [s.metrics["grad_norm"] for s in of_two] == pytest.approx(
            [s.metrics["grad_norm"] for s in of_one], rel=1e-4
        )
        assert_close(one.state_dict(), two.state_dict())
        assert len(chunked) >= 3, "the first rank took the gradients of several chunks"
        after = one.update(groups[1], 0.9).loss
        assert two.update(groups[1], 0.9).loss == pytest.approx(after, abs=1e-5)
    finally:
        two.close()


@pytest.mark.parametrize("models", [{}, LORA], ids=["all weights", "LoRA"])
def test_updates_in_bf16_have_fp32_weights_and_the_course_of_one_process_up_to_rounding(models):
    one, two, groups = pair({"dtype": "bfloat16", **models})
    try:
        begin = one.weights()
        of_one, of_two = train(one, groups, 10), train(two, groups, 10)
        assert losses(of_two) == pytest.approx(losses(of_one), rel=0.15)
        assert of_two[0].metrics["grad_norm"] == pytest.approx(of_one[0].metrics["grad_norm"], rel=0.05)
        moved_one, moved_two = (
            torch.cat([(student.weights()[name] - begin[name]).flatten() for name in begin]) for student in (one, two)
        )
        assert torch.nn.functional.cosine_similarity(moved_one, moved_two, dim=0) > 0.97
        assert moved_two.norm().item() == pytest.approx(moved_one.norm().item(), rel=0.05)
        state = two.state_dict()
        assert {value.dtype for value in state["model"].values()} == {torch.float32}
        after = train(two, groups, 2)
        two.load_state_dict(state)
        assert train(two, groups, 2) == after
    finally:
        two.close()


@pytest.mark.parametrize("loss", ["gkd", "grpo", "rlad"])
def test_updates_on_samples_of_the_student(loss):
    one, two, _ = pair(loss=loss, num_generations=2, max_completion_tokens=16)
    try:
        teacher = load_teacher(settings(1), one)
        prompts = PromptStream(SUITE["math"], 1).slice(1, 0, 6)
        for step in range(3):
            samples = sample_rollouts(
                prompts, one, teacher, SUITE, num_generations=2, max_new_tokens=16, seed=100 * step
            )
            alone, divided = one.update(samples, step / 20), two.update(samples, step / 20)
            assert divided.loss == pytest.approx(alone.loss, abs=1e-5)
            assert divided.metrics == pytest.approx(alone.metrics, abs=1e-4)
        assert_close(one.state_dict(), two.state_dict())
        own = sample_rollouts(prompts, two, teacher, SUITE, num_generations=2, max_new_tokens=16, seed=7)
        assert len(own) == 12 and all(1 <= len(example) <= 16 for example in own)
        two.update(own, 0.5)
    finally:
        two.close()
