"""What the teacher says of its own answers."""

import copy

import pytest
import torch
from micro import micro_config as config
from micro import same_answers
from transformers import GenerationConfig

from read_env.capabilities import get_suite
from read_env.capabilities.stream import PromptStream
from read_env.distillation.loading import load, load_student, load_teacher
from read_env.distillation.models.head import completion_logits
from read_env.distillation.teachers.base import TeacherCache
from read_env.distillation.teachers.local import LocalTeacher
from read_env.distillation.text.encoding import collate
from read_env.losses.targets import TeacherTargets


@pytest.fixture(scope="module")
def block():
    """A teacher, prompts of different lengths from three capabilities, and its answers to them."""
    loaded, suite = load("embedded:micro/teacher"), get_suite("micro")
    texts = [p.text for name in ("math", "code", "long_context") for p in PromptStream(suite[name], 1).slice(1, 0, 6)]
    teacher = LocalTeacher(loaded.model, loaded.encoder, "weights", max_completion_tokens=40, top_k=5)
    return teacher, texts, teacher.complete(texts)


def test_the_probabilities_are_those_of_a_teacher_forced_pass(block):
    teacher, texts, answers = block
    assert len({len(c) for c in answers}) > 3, "answers of one length would hide a wrong offset"
    batch = collate(teacher.encoder.prompts(texts), [c.token_ids for c in answers], teacher.encoder.pad_id)
    with torch.inference_mode():
        forced = TeacherTargets.from_logits(completion_logits(teacher.model, batch), batch.targets, teacher.top_k)
    decoded = TeacherTargets.concatenate([c.targets for c in answers])
    assert torch.equal(decoded.tokens, batch.targets)
    torch.testing.assert_close(decoded.top_log_probs[:, 0], forced.top_log_probs[:, 0], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(decoded.top_mass, forced.top_mass, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(decoded.log_tail.exp(), forced.log_tail.exp(), atol=1e-5, rtol=1e-3)


def test_a_completion_is_the_likeliest_token_at_every_position_and_ends(block):
    teacher, _, answers = block
    for answer in answers:
        assert list(answer.token_ids) == answer.targets.tokens.tolist()
        assert answer.targets.tokens.tolist() == answer.targets.top_ids[:, 0].tolist()
        assert answer.token_ids[-1] == teacher.encoder.eos_id


def test_decoding_is_plain_whatever_the_model_asks_for(block):
    teacher, texts, answers = block
    own = teacher.model.generation_config
    teacher.model.generation_config = GenerationConfig(repetition_penalty=3.0, num_beams=2, max_new_tokens=2)
    try:
        asked = teacher.model.generation_config
        again = teacher.complete(texts)
        assert teacher.model.generation_config is asked
    finally:
        teacher.model.generation_config = own
    assert [c.token_ids for c in again] == [c.token_ids for c in answers]
    assert all(
        torch.equal(a.targets.top_log_probs, b.targets.top_log_probs) for a, b in zip(again, answers, strict=True)
    )


def test_what_the_teacher_reads_is_part_of_the_key(block):
    """Two tokenizers with one vocabulary may cut a text differently."""
    teacher, texts, _ = block
    cutting = copy.copy(teacher)
    cutting.encoder = copy.copy(teacher.encoder)
    cutting.encoder.prompts = lambda texts: [ids[::-1] for ids in teacher.encoder.prompts(texts)]
    one, other = TeacherCache(teacher), TeacherCache(cutting)
    assert teacher.identity == cutting.identity and one._key(teacher, texts) != other._key(cutting, texts)
    assert one._key(teacher, texts) == TeacherCache(teacher)._key(teacher, texts) != one._key(teacher, texts[1:])


def test_a_teacher_distributed_by_device_map_gives_the_same_answers():
    texts = ["2+3", "7+5"]
    plain = config(models={"device": "cpu"})
    spread = config(models={"device": "cpu", "teacher_device_map": "auto"})
    answers = [load_teacher(one, load_student(plain)).complete(texts) for one in (plain, spread)]
    assert same_answers(*answers)
