"""Alignment of two vocabularies: token by token where they agree, through the text where they differ."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Protocol

import torch

from read_env.capabilities.base import Prompt
from read_env.distillation.text.completion import Answer, Example
from read_env.distillation.text.encoding import Encoder
from read_env.errors import ReadEnvError
from read_env.losses import get_objective
from read_env.losses.targets import TeacherTargets

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_LOG = logging.getLogger(__name__)


class AnswerText(Protocol):
    """Vocabulary of a teacher's answers: decoding alone."""

    @property
    def stop_ids(self) -> Sequence[int]:
        """Ids of the tokens that end an answer."""
        ...

    def text(self, ids: Sequence[int]) -> str:
        """Text of an answer's token ids."""
        ...


#: Conversion of a teacher's answer: prompt, prompt ids in the student's vocabulary, answer -> example for the student.
Alignment = Callable[[Prompt, list[int], Answer], Example]


def same_vocabulary(prompt: Prompt, prompt_ids: list[int], answer: Answer) -> Example:
    """Example with the token ids and probabilities of the answer."""
    return Example(prompt, tuple(prompt_ids), answer.token_ids, answer.targets)


def with_students_end(
    teacher: AnswerText, student: Encoder, prompt: Prompt, prompt_ids: list[int], answer: Answer
) -> Example:
    """Example whose answer ends with the token that ends the student's turns; the two tokens' probabilities are swapped."""
    last = answer.token_ids[-1:]
    if not last or last[0] not in teacher.stop_ids or last[0] == student.eos_id:
        return same_vocabulary(prompt, prompt_ids, answer)
    token_ids = (*answer.token_ids[:-1], student.eos_id)
    return Example(prompt, tuple(prompt_ids), token_ids, answer.targets.swap_ids(last[0], student.eos_id))


def through_text(
    teacher: AnswerText, student: Encoder, max_completion_tokens: int | None, prompt: Prompt, prompt_ids: list[int],
    answer: Answer,
) -> Example:  # fmt: skip
    """Example with the answer's text in the student's tokens; the probabilities are dropped.

    An answer that was cut, or whose bytes are not UTF-8, has no end: the student must not learn to stop there. Of a cut
    answer, no token may be left.
    """
    text, undecodable, _ = teacher.text(answer.token_ids).partition("\ufffd")
    prompt_ids, ids = student.pairs([prompt.text], [text])[0]
    if undecodable or answer.token_ids[-1:] == () or answer.token_ids[-1] not in teacher.stop_ids:
        ids = ids[:-1]
    ids = ids[:max_completion_tokens]
    targets = TeacherTargets.from_tokens(torch.tensor(ids, dtype=torch.int64))
    return Example(prompt, tuple(prompt_ids), tuple(ids), targets)


def align(teacher: AnswerText, student: Encoder, loss: str, max_completion_tokens: int | None = None) -> Alignment:
    """Alignment from the teacher's vocabulary to the student's for an objective.

    Vocabularies are compared by content: logits padded to different sizes count as equal.

    Args:
        teacher: vocabulary of the teacher's answers.
        student: encoder of the student's tokenizer.
        loss: name of the objective.
        max_completion_tokens: length in the student's tokens at which answers of another vocabulary are cut.

    Raises:
        ReadEnvError: the vocabularies differ and the objective needs the teacher's probabilities; the message names
            the first token that differs.

    Example:
        >>> from read_env.distillation.loading import load
        >>> teacher, student = (load(f"embedded:micro/{name}").encoder for name in ("teacher", "student"))
        >>> align(teacher, student, "fkl") is same_vocabulary
        True
    """
    if isinstance(teacher, Encoder):
        difference = first_difference(teacher.tokenizer, student.tokenizer)
        if teacher.eos_token != student.eos_token:
            _LOG.warning(
                "the teacher ends its answers with %r and the student with %r: answers are given the student's end",
                teacher.eos_token, student.eos_token,
            )  # fmt: skip
    else:
        difference = "a remote teacher gives text alone"
    if isinstance(teacher, Encoder) and not difference:
        teacher.vocabulary = student.vocabulary = min(teacher.vocabulary, student.vocabulary)
        same_end = set(teacher.stop_ids) <= {student.eos_id}
        return same_vocabulary if same_end else partial(with_students_end, teacher, student)
    if get_objective(loss).needs_probabilities:
        raise ReadEnvError(
            f"models.student: its tokenizer differs from the teacher's ({difference}), and distill.loss {loss!r} compares "
            "probabilities token by token; right would be a student with the teacher's tokenizer, or distill.loss 'sft', "
            "which learns from the text"
        )
    _LOG.info("the tokenizers differ (%s): answers are tokenized again for the student", difference)
    return partial(through_text, teacher, student, max_completion_tokens)


def first_difference(teacher: PreTrainedTokenizerBase, student: PreTrainedTokenizerBase) -> str:
    """Description of the first difference between two vocabularies; empty if they are equal.

    Example:
        >>> from read_env.distillation.loading import load
        >>> teacher, student = (load(f"embedded:micro/{name}").encoder for name in ("teacher", "student"))
        >>> first_difference(teacher.tokenizer, student.tokenizer)
        ''
    """
    theirs, ours = teacher.get_vocab(), student.get_vocab()
    if ours == theirs:
        return ""
    # By id, so that the message names an ordinary token and not the last of the added ones.
    token = min(
        (token for token in ours.keys() | theirs.keys() if ours.get(token) != theirs.get(token)),
        key=lambda token: (min(ours.get(token, 1 << 60), theirs.get(token, 1 << 60)), token),
    )
    return (
        f"{len(theirs)} tokens there and {len(ours)} here; token {token!r} has id {theirs.get(token)} there and "
        f"{ours.get(token)} here"
    )
