"""From a teacher's vocabulary to a student's: token by token where they agree, through the text where not."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import torch

from read_env.capabilities.base import Prompt
from read_env.distillation.text.completion import Answer, Example
from read_env.distillation.text.encoding import Encoder
from read_env.errors import ReadEnvError
from read_env.losses import needs_probabilities
from read_env.losses.targets import TeacherTargets

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_LOG = logging.getLogger(__name__)


class AnswerText(Protocol):
    """The vocabulary of answers, as far as their text goes."""

    @property
    def eos_id(self) -> int:
        """Ends an answer that wasn't cut."""
        ...

    def text(self, ids: Sequence[int]) -> str:
        """The text of an answer's ids."""
        ...


class Alignment(Protocol):
    """Makes a teacher's answer an example for the student."""

    def example(self, prompt: Prompt, prompt_ids: list[int], answer: Answer) -> Example:
        """The example; ``prompt_ids`` are the student's."""
        ...


class SameVocabulary:
    """One vocabulary: ids and probabilities are taken over as they are."""

    def example(self, prompt: Prompt, prompt_ids: list[int], answer: Answer) -> Example:
        return Example(prompt, tuple(prompt_ids), answer.token_ids, answer.targets)


class ThroughText:
    """Different vocabularies: the text is tokenized again, the probabilities are lost.

    Args:
        teacher: of the teacher's tokenizer.
        student: of the student's.

    Raises:
        ReadEnvError: from ``example``, where a cut answer has no tokens in the student's vocabulary: it would cost
            nothing and teach nothing, so a budget would never be spent.
    """

    def __init__(self, teacher: AnswerText, student: Encoder) -> None:
        self.teacher = teacher
        self.student = student

    def example(self, prompt: Prompt, prompt_ids: list[int], answer: Answer) -> Example:
        ids = self.student.completions([self.teacher.text(answer.token_ids)])[0]
        if answer.token_ids[-1:] != (self.teacher.eos_id,):
            ids = ids[:-1]  # cut by the teacher: the student must not learn to end there
            if not ids:
                raise ReadEnvError(
                    f"models.teacher: its answer to a prompt of {prompt.capability} was cut before it had said anything that "
                    "the student's tokenizer knows; right would be a larger distill.max_completion_tokens"
                )
        return Example(prompt, tuple(prompt_ids), tuple(ids), TeacherTargets.of_text(torch.tensor(ids)))


def align(teacher: AnswerText, student: Encoder, loss: str) -> Alignment:
    """The way from one to the other for an objective.

    Vocabularies are compared by content: tables of logits that are padded to different sizes count as equal.

    Raises:
        ReadEnvError: they differ and the objective needs the teacher's probabilities; names the first
            token that differs.
    """
    if isinstance(teacher, Encoder):
        difference = first_difference(teacher.tokenizer, student.tokenizer)
    else:
        difference = "of a remote teacher nothing but the text is known"
    if not difference:
        return SameVocabulary()
    if needs_probabilities(loss):
        raise ReadEnvError(
            f"models.student: its tokenizer differs from the teacher's ({difference}), and distill.loss {loss!r} compares "
            "probabilities token by token; right would be a student with the teacher's tokenizer, or distill.loss 'sft', "
            "which learns from the text"
        )
    _LOG.info("the tokenizers differ (%s): answers are tokenized again for the student", difference)
    return ThroughText(teacher, student)


def first_difference(teacher: PreTrainedTokenizerBase, student: PreTrainedTokenizerBase) -> str:
    """What sets two vocabularies apart, in words; empty if nothing does."""
    theirs, ours = teacher.get_vocab(), student.get_vocab()
    if ours == theirs:
        if teacher.eos_token_id == student.eos_token_id:
            return ""
        return f"eos_token_id is {teacher.eos_token_id} there and {student.eos_token_id} here"
    # By id, so that the message names an ordinary token and not the last of the added ones.
    token = min(
        (token for token in ours.keys() | theirs.keys() if ours.get(token) != theirs.get(token)),
        key=lambda token: (min(ours.get(token, 1 << 60), theirs.get(token, 1 << 60)), token),
    )
    return (
        f"{len(theirs)} tokens there and {len(ours)} here; token {token!r} has id {theirs.get(token)} there and "
        f"{ours.get(token)} here"
    )
