"""When memory runs out, batches are halved: the results are those of the whole."""

import logging

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from read_env.capabilities import get_suite
from read_env.capabilities.stream import PromptStream
from read_env.config import load_preset
from read_env.distillation.loading import load_student, load_teacher
from read_env.distillation.models.memory import in_halves
from read_env.distillation.process import Distillation
from read_env.distillation.student.evaluation import exam
from read_env.distillation.student.rollouts import roll_out
from read_env.errors import ReadEnvError

SUITE = get_suite("micro")
ROOM = 3


@given(st.lists(st.integers(), max_size=40), st.integers(1, 50))
def test_pieces_give_what_the_whole_gives(items, room):
    tried = []

    def work(piece):
        tried.append(len(piece))
        if len(piece) > room:
            raise torch.OutOfMemoryError("injected")
        return (-item for item in piece)

    assert in_halves(items, work, "counting", "fingers") == [-item for item in items]
    assert tried == sorted(tried, reverse=True), "what did not fit is not tried again"
    assert sum(size for size in tried if size <= room) == len(items)


def test_one_that_does_not_fit_is_an_error_with_a_remedy(caplog):
    def work(piece):
        raise torch.OutOfMemoryError("20 GiB")

    with (
        caplog.at_level(logging.WARNING),
        pytest.raises(ReadEnvError, match="while counting, one at a time: try fingers.*20 GiB"),
    ):
        in_halves([1, 2, 3, 4, 5], work, "counting", "fingers")
    assert [record.message[-1] for record in caplog.records] == ["2", "1"]


def test_other_errors_are_let_through():
    def work(piece):
        raise RuntimeError("a fault")

    with pytest.raises(RuntimeError, match="a fault"):
        in_halves([1, 2], work, "counting", "fingers")


def config(**distill):
    return load_preset(
        "micro",
        {
            "budget": {"total_tokens": 900, "step_tokens": 300},
            "eval": {"probes": 2, "dev": 2, "exam": 2},
            "distill": {"teacher_batch_size": 9, "max_completion_tokens": 24, "rollout_batch_size": 4, **distill},
            "cache": {"directory": "none"},
        },
    )


@pytest.fixture(scope="module")
def pair():
    settings = config()
    student = load_student(settings)
    prompts = [p for name in ("math", "code", "tool_use") for p in PromptStream(SUITE[name], 3).slice(0, 0, 3)]
    return student, load_teacher(settings, student), prompts


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
    answers = teacher.ask(texts)
    scores = teacher.score(texts, [answer.token_ids for answer in answers])
    refused = little_room(teacher.model)
    assert [a.token_ids for a in teacher.ask(texts)] == [a.token_ids for a in answers]
    again = teacher.score(texts, [answer.token_ids for answer in answers])
    assert refused.count(9) >= 1 and len(refused) >= 3
    for (targets, own), (expected, theirs) in zip(again, scores, strict=True):
        torch.testing.assert_close(own, theirs, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(targets.top_log_probs, expected.top_log_probs, atol=1e-4, rtol=1e-4)
    for answer, whole in zip(teacher.ask(texts), answers, strict=True):
        torch.testing.assert_close(answer.targets.log_tail.exp(), whole.targets.log_tail.exp(), atol=1e-5, rtol=1e-3)


def test_an_exam_is_decoded_in_halves(pair, little_room):
    student, _, _ = pair
    whole = exam(student.model, student.encoder, SUITE, per_capability=2, max_new_tokens=24)
    refused = little_room(student.model)
    assert exam(student.model, student.encoder, SUITE, per_capability=2, max_new_tokens=24) == whole
    assert refused == [16, 8, 4], "and what did not fit is not tried again"


def test_samples_are_drawn_in_halves_and_from_the_seed(pair, little_room):
    student, teacher, prompts = pair

    def samples():
        return roll_out(prompts, student, teacher, SUITE, group=2, max_new_tokens=24, seed=5)

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
    chunk = distillation.step(np.full(8, 1 / 8))
    assert refused and chunk.completion_tokens > 0 and not np.array_equal(chunk.profile, profile)
