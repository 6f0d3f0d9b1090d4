"""Across vocabularies: what is the same, what goes through the text, what is refused."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from micro import micro_config, same_answers, saved
from transformers import AutoTokenizer

from read_env.distillation.loading import load, load_student, load_teacher
from read_env.distillation.process import Distillation
from read_env.distillation.text.alignment import align, first_difference, same_vocabulary, through_text
from read_env.distillation.text.completion import Answer
from read_env.distillation.text.encoding import Encoder
from read_env.errors import ReadEnvError
from read_env.losses.targets import TeacherTargets


@pytest.fixture(scope="module")
def swapped(tmp_path_factory):
    """A student whose tokenizer has two letters' ids exchanged."""
    folder = tmp_path_factory.mktemp("swapped")
    saved(folder)
    content = json.loads((folder / "tokenizer.json").read_text())
    vocabulary = content["model"]["vocab"]
    vocabulary["a"], vocabulary["b"] = vocabulary["b"], vocabulary["a"]
    (folder / "tokenizer.json").write_text(json.dumps(content))
    return folder


@pytest.fixture(scope="module")
def padded(tmp_path_factory):
    """The micro student with more rows of logits than there are tokens, the way large models are padded."""
    folder = tmp_path_factory.mktemp("padded")
    loaded = load("embedded:micro/student")
    rows = loaded.encoder.vocabulary + 37
    loaded.model.resize_token_embeddings(rows, mean_resizing=False)
    # Rows that would win if they counted.
    loaded.model.get_output_embeddings().weight.data[loaded.encoder.vocabulary :] = 30.0
    saved(folder, loaded.model)
    return folder


def encoders(swapped):
    return load("embedded:micro/teacher").encoder, Encoder(AutoTokenizer.from_pretrained(swapped))


def test_one_vocabulary_is_taken_over_as_it_is():
    teacher = load("embedded:micro/teacher").encoder
    assert first_difference(teacher.tokenizer, teacher.tokenizer) == ""
    assert align(teacher, teacher, "fkl") is same_vocabulary


def test_probabilities_do_not_cross_and_the_error_says_what_would(swapped):
    message = r"models.student: its tokenizer differs .* token 'a' has id \d+ there and \d+ here.*distill.loss 'sft'"
    with pytest.raises(ReadEnvError, match=message):
        align(*encoders(swapped), "fkl")


def test_text_crosses_and_a_cut_answer_stays_open(swapped):
    teacher, student = encoders(swapped)
    crossing = align(teacher, student, "sft")
    assert crossing.func is through_text
    whole = tuple(teacher.completions(["abba so b"])[0])
    for ids in (whole, whole[:-1]):
        answer = Answer(ids, TeacherTargets.from_logits(torch.randn(len(ids), 91), torch.tensor(ids), 4))
        example = crossing(SimpleNamespace(text="1"), [1, 2], answer)
        assert student.text(example.token_ids) == "abba so b" and example.token_ids != ids
        assert (example.token_ids[-1] == student.eos_id) == (ids is whole)
        assert example.targets.tokens.tolist() == list(example.token_ids)
        assert example.targets.top_ids.shape == (len(example), 0)


def test_a_cut_answer_of_which_nothing_is_left_has_no_tokens(swapped):
    teacher, student = encoders(swapped)
    cut = Answer((teacher.pad_id,), TeacherTargets.from_tokens(torch.tensor([teacher.pad_id])))
    example = align(teacher, student, "sft")(SimpleNamespace(text="1"), [1, 2], cut)
    assert len(example) == 0 and example.targets.tokens.dtype == torch.int64


def test_a_student_with_another_vocabulary_learns_from_text(swapped):
    distill = {"loss": "sft", "learning_rate": 3e-3}
    distillation = Distillation.load(micro_config(models={"student": str(swapped)}, distill=distill))
    only_tools = np.eye(10)[5]
    reports = [distillation.step(only_tools) for _ in range(3)]
    assert reports[-1].loss < 0.6 * reports[0].loss
    assert set(reports[0].metrics) == {"grad_norm", "learning_rate"}, "nothing is known of the teacher's probabilities"
    assert distillation.budget.spent <= 900 and distillation.exhausted


def test_padded_tables_of_logits_count_as_equal_and_their_rows_as_nothing(padded):
    plain, wide = (Distillation.load(micro_config(models=models)) for models in ({}, {"student": str(padded)}))
    assert np.allclose(wide.profile, plain.profile, atol=1e-5)
    assert np.abs(wide.exam() - plain.exam()).sum() <= 0.25, "one of 32 answers may hang on a near-tie"
    first, second = plain.step(np.ones(10)), wide.step(np.ones(10))
    assert second.loss == pytest.approx(first.loss, rel=1e-4)
    assert np.allclose(second.profile, first.profile, atol=1e-4)


def test_a_padded_teacher_says_the_same(padded):
    texts = ["2+3+4", "spell box with /", "capital of nepal"]
    settings = [micro_config(models={"teacher": name}) for name in (str(padded), "embedded:micro/student")]
    answers = [load_teacher(one, load_student(one)).complete(texts) for one in settings]
    assert same_answers(*answers)
    for wide, narrow in zip(*answers, strict=True):
        if wide.token_ids != narrow.token_ids:
            continue  # a near-tie
        torch.testing.assert_close(wide.targets.top_log_probs, narrow.targets.top_log_probs, rtol=1e-4, atol=1e-5)
