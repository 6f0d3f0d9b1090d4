"""Answers and lengths with several teachers: each capability by its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch

from read_env.capabilities.base import Prompt
from read_env.distillation.teachers.base import Teacher, Teachers
from read_env.distillation.text.alignment import Alignment, align, through_spans, through_text
from read_env.distillation.text.completion import Answer, Example
from read_env.distillation.text.encoding import Encoder
from read_env.distillation.text.lengths import Reader
from read_env.errors import ReadEnvError


def align_each(teachers: Teachers, student: Encoder, loss: str, max_completion_tokens: int | None = None) -> Alignment:
    """Alignment of every answer by the vocabulary of its capability's teacher; see :func:`~read_env.distillation.text.alignment.align`.

    Where the answers of one teacher come without probabilities, those of the others lose theirs, since a batch mixes them: this
    happens with a loss that needs none.

    Raises:
        ReadEnvError: as for ``align``, for any of the teachers; or probabilities are compared across tokenizers, and those of the
            teachers differ among each other: a batch has one set of tokens that both vocabularies share.
    """
    found = {id(one): align(one.encoder, student, loss, max_completion_tokens) for one in teachers.all}
    if len(found) == 1:
        return found[id(teachers.default)]
    if any(_is(through_spans, one) for one in found.values()) and not _one_shared_part(list(found.values())):
        raise ReadEnvError(
            f"models.teachers: the tokenizers of the {len(found)} teachers differ, and distill.loss {loss!r} compares probabilities "
            "with one other tokenizer at a time; right would be teachers of one family, or distill.loss 'sft'"
        )
    as_text = [_is(through_text, alignment) for alignment in found.values()]
    drop = any(as_text) and not all(as_text)
    return partial(_aligned, teachers, found, drop)


def readers_of(teachers: Teachers) -> list[Reader]:
    """Teachers as readers of the prompts of their capabilities, without those whose tokenizer is not known here."""
    return [
        Reader("teacher", one.encoder, getattr(one, "context", None), partial(_reads, teachers, one))
        for one in teachers.all
        if isinstance(one.encoder, Encoder)  # a server of text doesn't report the context of its model
    ]


def _aligned(
    teachers: Teachers, alignments: dict[int, Alignment], drop: bool, prompt: Prompt, prompt_ids: list[int], answer: Answer
) -> Example:  # fmt: skip
    example = alignments[id(teachers.of(prompt.capability))](prompt, prompt_ids, answer)
    return example.without_probabilities() if drop else example


def _reads(teachers: Teachers, teacher: Teacher, capability: str) -> bool:
    return teachers.of(capability) is teacher


def _one_shared_part(alignments: Sequence[Any]) -> bool:
    """True if all compare probabilities across tokenizers, of which the same tokens of the student's are shared."""
    if not all(_is(through_spans, one) for one in alignments):
        return False
    first, *others = (one.args[0].unshared for one in alignments)
    return all(torch.equal(first, other) for other in others)


def _is(kind: Callable[..., Example], alignment: Alignment) -> bool:
    return isinstance(alignment, partial) and alignment.func is kind
