"""References for held-out prompts that come without: the teacher's own completions."""

from __future__ import annotations

from dataclasses import replace

from read_env.capabilities.base import Prompt, Split, Suite
from read_env.capabilities.from_file import FileCapability
from read_env.capabilities.stream import held_out
from read_env.config import Config
from read_env.distillation.teachers.base import TeacherCache
from read_env.errors import ReadEnvError

#: Objectives that reward graded completions.
_GRADED = ("grpo", "rlad")


def require_answers(suite: Suite, loss: str) -> None:
    """Raise if the objective rewards correct answers and a capability has none to compare with."""
    for capability in suite:
        if not capability.graded and loss in _GRADED:
            raise ReadEnvError(
                f"distill.loss is {loss!r}, which rewards correct answers, and {capability.name} has none to compare with: "
                "give each line of its file an 'answer', or take another loss, such as 'sft'"
            )


def with_references(suite: Suite, cache: TeacherCache, config: Config) -> Suite:
    """Suite whose held-out prompts all have a reference; where a file gives none, it is the teacher's completion.

    Raises:
        ReadEnvError: see :func:`require_answers`.
    """
    require_answers(suite, config.distill.loss)
    return Suite(suite.name, tuple(
        _answered(c, cache, config) if isinstance(c, FileCapability) and not c.has_references else c for c in suite
    ))  # fmt: skip


def _answered(capability: FileCapability, cache: TeacherCache, config: Config) -> FileCapability:
    sets: tuple[tuple[Split, int], ...] = (
        ("probes", config.eval.probes),
        ("dev", config.eval.dev),
        (config.eval.exam_split, config.eval.exam),
    )
    size, text = config.distill.teacher_batch_size, cache.teachers.of(capability.name).encoder.text
    # A prompt that the teacher does not answer is left out; another takes its place, if there is one.
    while asked := [p for split, count in sets for p in _held_out(capability, split, count) if not p.reference]:
        texts = list(dict.fromkeys(prompt.text for prompt in asked))
        blocks = [texts[i : i + size] for i in range(0, len(texts), size)]
        answers = [a for block in blocks for a in cache.complete(block, [capability.name] * len(block))]
        # An answer may be cut inside a character.
        found = {
            prompt: text(answer.token_ids).partition("\ufffd")[0] for prompt, answer in zip(texts, answers, strict=True)
        }
        prompts = [replace(p, reference=found.get(p.text, p.reference)) for p in capability.prompts]
        capability = replace(capability, prompts=tuple(p for p in prompts if p.reference or p.text not in found))
    return capability


def _held_out(capability: FileCapability, split: Split, count: int) -> tuple[Prompt, ...]:
    """At most ``count`` prompts of a split; the size is fitted or refused when all answers are known."""
    there = sum(capability.split_of(prompt.text) == split for prompt in capability.prompts)
    return held_out(capability, split, min(count, there)) if there else ()
