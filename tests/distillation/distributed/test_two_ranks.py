"""A student of two ranks, which are two processes on the CPU, against the student of one process."""

import gc
import os
import signal
import time

import numpy as np
import pytest
import torch
from micro import SUITE, same_state
from micro import micro_config as config
from two_ranks import LORA, assert_close, llama, pair, settings, train

from read_env.capabilities.stream import PromptStream
from read_env.distillation.distributed import student as student_module
from read_env.distillation.distributed.ranks import RankError
from read_env.distillation.loading import load, load_student
from read_env.distillation.student.evaluation import ProbeSet
from read_env.errors import DivergedError, ReadEnvError


@pytest.fixture(scope="module", params=[None, LORA], ids=["all weights", "LoRA"])
def students(request):
    one, two, groups = pair(request.param)
    yield one, two, groups
    two.close()


@pytest.fixture(scope="module")
def full():
    one, two, groups = pair()
    yield one, two, groups
    two.close()


def test_twenty_updates_have_the_losses_of_one_process(students):
    one, two, groups = students
    one.reset(), two.reset()
    of_one, of_two = train(one, groups, 20), train(two, groups, 20)
    for first, second in zip(of_one, of_two, strict=True):
        assert second.loss == pytest.approx(first.loss, abs=1e-5)
        assert second.metrics == pytest.approx(first.metrics, abs=1e-4)
        assert second.tokens == first.tokens
        assert second.by_capability.keys() == first.by_capability.keys()
    assert of_one[-1].loss < of_one[0].loss
    assert_close(one.state_dict(), two.state_dict())


@pytest.mark.parametrize("adapters", [{}, LORA], ids=["all weights", "LoRA"])
def test_a_llama_has_the_losses_of_one_process(tmp_path, adapters):
    one, two, groups = pair({"student": llama(tmp_path / "llama"), **adapters})
    of_one, of_two = train(one, groups, 20), train(two, groups, 20)
    assert [step.loss for step in of_two] == pytest.approx([step.loss for step in of_one], abs=1e-5)
    assert of_one[-1].loss < of_one[0].loss
    assert_close(one.state_dict(), two.state_dict())


def test_ranks_of_a_student_that_was_never_closed_end_with_it():
    student = load_student(settings(2))
    student.profile(ProbeSet.build(SUITE, student.encoder, "probes", 1))
    processes = student._link._processes
    del student
    gc.collect()
    assert processes[0].wait(timeout=10) == 0
    another, alone = load_student(settings(2)), load_student(settings(1))
    changed = {name: value + 0.5 for name, value in alone.weights().items()}
    another.load_weights(changed)
    assert same_state(dict(another.weights()), changed)
    another.close()


def test_an_objective_that_validates_takes_the_course_of_one_process():
    one, two, groups = pair(loss="arkd")
    try:
        for student in (one, two):
            student.take_validation(tuple(groups[0]))
        of_one, of_two = train(one, groups[1:], 8), train(two, groups[1:], 8)
    finally:
        two.close()
    assert one.validates and one.validated_tokens == two.validated_tokens > 0
    assert [step.loss for step in of_two] == pytest.approx([step.loss for step in of_one], abs=1e-5)
    for first, second in zip(of_one, of_two, strict=True):
        assert second.metrics == pytest.approx(first.metrics, abs=1e-4)


def test_a_snapshot_is_exact_and_fits_another_number_of_ranks(students):
    one, two, groups = students
    one.reset(), two.reset()
    train(two, groups, 3)
    state = two.state_dict()
    after = train(two, groups, 2)
    two.load_state_dict(state)
    assert same_state(two.state_dict(), state)
    assert train(two, groups, 2) == after, "exact at the same number of ranks"
    one.load_state_dict(state)
    assert same_state(one.state_dict(), state), "the same form with one rank"
    alone = train(one, groups, 2)
    assert [s.loss for s in alone] == pytest.approx([s.loss for s in after], abs=1e-5)
    two.load_state_dict(one.state_dict())
    assert same_state(two.state_dict(), one.state_dict()), "and back"


def test_scores_answers_and_the_saved_folder_are_those_of_one_process(students, tmp_path):
    one, two, groups = students
    two.reset()
    train(two, groups, 3)
    one.load_state_dict(two.state_dict())
    probes = ProbeSet.build(SUITE, one.encoder, "probes", 5)
    for averaged in (False, True):
        np.testing.assert_allclose(
            two.profile(probes, averaged=averaged), one.profile(probes, averaged=averaged), rtol=1e-4
        )
    texts = [p.text for p in PromptStream(SUITE["math"], 2).slice(0, 0, 5)]
    assert two.answer(texts, 24) == one.answer(texts, 24)
    assert two.answer(texts[:1], 24) == one.answer(texts[:1], 24), "fewer prompts than ranks"
    samples = two.sample(one.encoder.prompts(texts), 8, seed=3)
    assert samples == two.sample(one.encoder.prompts(texts), 8, seed=3) and len(samples) == 5
    two.save(tmp_path / "two")
    one.save(tmp_path / "one")
    saved, expected = load(str(tmp_path / "two")), load(str(tmp_path / "one"))
    assert (tmp_path / "two" / "config.json").read_text() == (tmp_path / "one" / "config.json").read_text()
    for name, value in expected.model.state_dict().items():
        assert torch.equal(saved.model.state_dict()[name], value), name
    train(two, groups, 1)  # measuring and saving leave a student that can be trained


def test_a_divergence_is_the_error_of_one_process_and_leaves_the_ranks_usable(full):
    _, two, groups = full
    two.reset()
    two.configure(two.config.model_copy(update={"max_loss": 1e-6}))
    with pytest.raises(DivergedError, match=r"distill\.max_loss"):
        two.update(groups[0])
    two.configure(settings(2).distill)
    two.update(groups[0])


def test_a_rank_that_dies_ends_the_call_within_seconds_and_the_next_call_starts_it_again(full):
    _, two, groups = full
    two.reset()
    train(two, groups, 2)
    state = two.state_dict()
    expected = train(two, groups, 1)
    two.load_state_dict(state)
    os.kill(two._link._processes[0].pid, signal.SIGKILL)
    begun = time.monotonic()
    with pytest.raises(RankError, match="rank 1 of 2 was killed by signal 9.*same command goes on"):
        train(two, groups, 1)
    assert time.monotonic() - begun < 5
    two.load_state_dict(state)
    assert train(two, groups, 1) == expected


def test_an_error_of_one_rank_comes_back_with_its_number(full):
    _, two, _ = full
    two.reset()
    with pytest.raises(RankError, match=r"rank 1 of 2: AttributeError: .*'no_such_call'"):
        two._link.call("no_such_call", (), {}, lambda: two._exchange(None))


def test_out_of_memory_on_one_rank_halves_the_passes_of_both(full, monkeypatch):
    _, two, groups = full
    two.reset()
    first = train(two, groups, 2)
    two.reset()
    train(two, groups, 1)
    original, asked = student_module.ShardedStudent._backward, []

    def limited(self, passes, *rest):
        asked.append(max(sum(len(e.prompt_ids) + len(e) for e in part) for part in passes))
        if len(asked) == 1:
            raise torch.OutOfMemoryError("injected")
        return original(self, passes, *rest)

    monkeypatch.setattr(student_module.ShardedStudent, "_backward", limited)
    again = two.update(groups[1], 1 / 20)
    assert again.loss == pytest.approx(first[1].loss, abs=1e-5), "the update before it was made again"
    assert two.micro_batch_tokens < 300 and len(asked) == 3
    assert two.state_dict()["micro_batch_tokens"] == two.micro_batch_tokens


def test_settings_that_don_t_fit_are_refused():
    with pytest.raises(ReadEnvError, match=r"models: gpus is 2 and device 'cuda:1'"):
        config(models={"gpus": 2, "device": "cuda:1"})
    with pytest.raises(ReadEnvError, match="offload_optimizer is set and gpus is 1"):
        config(models={"offload_optimizer": True})
