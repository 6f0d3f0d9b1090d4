"""References for held-out prompts that come without: the teacher's own completions."""

from __future__ import annotations

from dataclasses import replace

from read_env.capabilities.base import Split, Suite
from read_env.capabilities.from_jsonl import FileCapability
from read_env.capabilities.stream import held_out
from read_env.config import Config
from read_env.distillation.teachers.base import TeacherCache
from read_env.errors import ReadEnvError

#: Objectives that reward graded completions.
_GRADED = ("grpo", "rlad")


def with_references(suite: Suite, cache: TeacherCache, config: Config) -> Suite:
    """Suite whose held-out prompts all have a reference; where a file gives none, it is the teacher's completion.

    Raises:
        ReadEnvError: the objective rewards correct completions, and a capability can't be graded.
    """
    for capability in suite:
        if not capability.graded and config.distill.loss in _GRADED:
            raise ReadEnvError(
                f"distill.loss is {config.distill.loss!r}, which rewards correct answers, and {capability.name} has none to compare "
                "with: give each line of its file an 'answer', or take another loss, such as 'sft'"
            )
    return Suite(suite.name, tuple(
        _answered(c, cache, config) if isinstance(c, FileCapability) and not c.has_references else c for c in suite
    ))  # fmt: skip


def _answered(capability: FileCapability, cache: TeacherCache, config: Config) -> FileCapability:
    sets: tuple[tuple[Split, int], ...] = (
        ("probes", config.eval.probes),
        ("dev", config.eval.dev),
        (config.eval.exam_split, config.eval.exam),
    )
    asked = list(dict.fromkeys(prompt for split, count in sets for prompt in held_out(capability, split, count)))
    size, text = config.distill.teacher_batch_size, cache.teacher.encoder.text
    answers = [a for i in range(0, len(asked), size) for a in cache.complete([p.text for p in asked[i : i + size]])]
    found = {prompt.text: text(answer.token_ids) for prompt, answer in zip(asked, answers, strict=True)}
    return replace(capability, prompts=tuple(replace(p, reference=found.get(p.text, "")) for p in capability.prompts))
