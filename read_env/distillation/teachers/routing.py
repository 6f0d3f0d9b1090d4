"""Answers and lengths with several teachers: each capability by its own."""

from __future__ import annotations

from functools import partial

from read_env.capabilities.base import Prompt
from read_env.distillation.teachers.base import Teacher, Teachers
from read_env.distillation.text.alignment import Alignment, align, through_text
from read_env.distillation.text.completion import Answer, Example
from read_env.distillation.text.encoding import Encoder
from read_env.distillation.text.lengths import Reader


def align_each(teachers: Teachers, student: Encoder, loss: str, max_completion_tokens: int | None = None) -> Alignment:
    """Alignment of every answer by the vocabulary of its capability's teacher; see :func:`~read_env.distillation.text.alignment.align`.

    Where the answers of one teacher come without probabilities, those of the others lose theirs, since a batch mixes them: this
    happens with a loss that needs none.

    Raises:
        ReadEnvError: as for ``align``, for any of the teachers.
    """
    found = {id(one): align(one.encoder, student, loss, max_completion_tokens) for one in teachers.all}
    if len(found) == 1:
        return found[id(teachers.default)]
    as_text = [_through_text(alignment) for alignment in found.values()]
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


def _through_text(alignment: Alignment) -> bool:
    return isinstance(alignment, partial) and alignment.func is through_text
