"""Halving of batches on out-of-memory: the results are those of the whole."""

from unittest.mock import Mock

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from micro import SUITE, micro_config, same_answers

from read_env.distillation.models.memory import run_with_halving
from read_env.distillation.process import Distillation
from read_env.distillation.student.evaluation import exam
from read_env.distillation.student.rollouts import sample_rollouts
from read_env.errors import ReadEnvError

ROOM = 3


@given(st.lists(st.integers(), max_size=40), st.integers(1, 50))
def test_pieces_give_what_the_whole_gives(items, room):
    tried = []

    def work(piece):
        tried.append(len(piece))
        if len(piece) > room:
            raise torch.OutOfMemoryError("injected")
        return (-item for item in piece)

    assert run_with_halving(work, items, "counting", "fingers") == [-item for item in items]
    assert tried == sorted(tried, reverse=True), "what did not fit is not tried again"
    assert sum(size for size in tried if size <= room) == len(items)


def test_one_that_does_not_fit_is_an_error_with_a_remedy(caplog):
    work = Mock(side_effect=torch.OutOfMemoryError("20 GiB"))
    with pytest.raises(ReadEnvError, match="while counting with batch size 1: try fingers.*20 GiB"):
        run_with_halving(work, [1, 2, 3, 4, 5], "counting", "fingers")
    assert [record.message[-1] for record in caplog.records] == ["2", "1"]


def test_other_errors_are_let_through():
    with pytest.raises(RuntimeError, match="a fault"):
        run_with_halving(Mock(side_effect=RuntimeError("a fault")), [1, 2], "counting", "fingers")


def config(**distill):
    settings = {"teacher_batch_size": 9, "max_completion_tokens": 24, "rollout_batch_size": 4, **distill}
    return micro_config(held_out=2, distill=settings, cache={"directory": "none"})


@pytest.fixture
def little_room(monkeypatch):
    """Lets a model hold ``ROOM`` sequences; says how many it refused."""
    refused = []

    def limit(model, room=ROOM):
        forward = model.base_model.forward

        def limited(input_ids=None, **given):
            if len(input_ids) > room:
                refused.append(len(input_ids))
                raise torch.OutOfMemoryError("injected")
            return forward(input_ids=input_ids, **given)

        monkeypatch.setattr(model.base_model, "forward", limited)
        return refused

    return limit


def test_a_teacher_answers_and_scores_in_halves(pair, little_room):
    _, teacher, prompts = pair
    texts = [prompt.text for prompt in prompts]
    answers = teacher.complete(texts)
    scores = teacher.score(texts, [answer.token_ids for answer in answers])
    refused = little_room(teacher.model)
    assert same_answers(answers, teacher.complete(texts))
    again = teacher.score(texts, [answer.token_ids for answer in answers])
    assert refused.count(9) >= 1 and len(refused) >= 3
    for targets, expected in zip(again, scores, strict=True):
        torch.testing.assert_close(targets.teacher_log_probs, expected.teacher_log_probs, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(targets.top_log_probs, expected.top_log_probs, atol=1e-4, rtol=1e-4)
    for answer, whole in zip(teacher.complete(texts), answers, strict=True):
        if answer.token_ids != whole.token_ids:
            continue  # a near-tie
        torch.testing.assert_close(answer.targets.log_tail.exp(), whole.targets.log_tail.exp(), atol=1e-5, rtol=1e-3)


def test_an_exam_is_decoded_in_halves(pair, little_room):
    student, _, _ = pair
    whole = exam(student.model, student.encoder, SUITE, per_capability=2, max_new_tokens=24)
    refused = little_room(student.model)
    halves = exam(student.model, student.encoder, SUITE, per_capability=2, max_new_tokens=24)
    # One of the 20 answers may hang on a near-tie.
    assert sum(abs(halves[0][name] - whole[0][name]) for name in SUITE.names) <= 0.5
    assert refused == [20, 10, 5], "and what did not fit is not tried again"


def test_samples_are_drawn_in_halves_and_from_the_seed(pair, little_room):
    student, teacher, prompts = pair

    def samples():
        return sample_rollouts(prompts, student, teacher, SUITE, num_generations=2, max_new_tokens=24, seed=5)

    refused = little_room(student.model)
    first = samples()
    assert refused and [s.token_ids for s in first] == [s.token_ids for s in samples()]
    assert [s.prompt for s in first] == [p for p in prompts for _ in range(2)]
    pieces = [tuple(s.token_ids for s in first[i : i + 2]) for i in range(0, len(first), 2)]
    assert len(set(pieces)) > 1, "every piece has draws of its own"


@pytest.mark.parametrize("loss", ["fkl", "grpo"])
def test_a_chunk_goes_on_where_the_teachers_memory_is_short(loss, little_room):
    distillation = Distillation.load(config(loss=loss))
    refused = little_room(distillation.cache.teacher.model)
    profile = distillation.reset(1)
    chunk = distillation.step(np.full(10, 1 / 10))
    assert refused and chunk.completion_tokens > 0 and not np.array_equal(chunk.profile, profile)
