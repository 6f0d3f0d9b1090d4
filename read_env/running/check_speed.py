"""Seconds per step, measured on whole batches of the prompts that the task needs."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from read_env.capabilities import Prompt, get_suite
from read_env.capabilities.base import Capability
from read_env.capabilities.stream import PromptStream
from read_env.config import Config
from read_env.distillation.loading import load_student, load_teachers
from read_env.distillation.student.student import Student
from read_env.distillation.teachers.base import TeacherCache, Teachers
from read_env.distillation.teachers.routing import align_each, readers_of
from read_env.distillation.text.completion import Example
from read_env.distillation.text.lengths import LengthLimit, Reader, fitting_suite
from read_env.errors import ReadEnvError
from read_env.losses.targets import TeacherTargets
from read_env.tasks import load_task

#: Seconds of measuring after which no further capability is tried.
_LIMIT_SECONDS = 60.0
#: Prompts that are read for each one that is measured: some may be too long.
_DRAWS_PER_PROMPT = 4
#: Difficulty tertile of the prompts: curricula begin with shorter prompts and end with longer ones.
_MEDIUM = 1


@dataclass(frozen=True)
class Speed:
    """Seconds per completion token, beside probes and exam.

    Attributes:
        teacher: of the teacher's answers; None if it was not asked.
        student: of the student's updates.
        tokens: number of tokens that it was measured on.
        capabilities: the capabilities that they belong to.
    """

    teacher: float | None
    student: float
    tokens: int
    capabilities: tuple[str, ...]

    @property
    def seconds(self) -> float:
        """Of teacher and student together."""
        return (self.teacher or 0.0) + self.student

    def of_step(self, step_tokens: int) -> str:
        """Text of the seconds of a step.

        >>> Speed(0.001, 0.002, 500, ("math",)).of_step(1000)
        '1,000 completion tokens: teacher 1.0 s (once a prompt), student 2.0 s, beside probes; from 500 tokens of math'
        """
        teacher = (
            "teacher not asked"
            if self.teacher is None
            else f"teacher {self.teacher * step_tokens:,.1f} s (once a prompt)"
        )
        return (
            f"{step_tokens:,} completion tokens: {teacher}, student {self.student * step_tokens:,.1f} s, beside probes; "
            f"from {self.tokens:,} tokens of {', '.join(self.capabilities)}"
        )


def measure_speed(config: Config) -> Speed | None:
    """Speed in a step that is allocated by the task's requirement; evenly where that is not known yet.

    Capabilities are tried in order of their requirement, at least one and as many as a minute allows. A remote teacher is
    not asked, since its answers may cost money: the student then learns from the references. None for an objective on
    the student's own samples, whose speed depends on what it says.

    Raises:
        ReadEnvError: a model can't be loaded, or all prompts of a capability are too long or have no answer.
    """
    torch.set_num_threads(config.models.threads)
    student = load_student(config)
    try:
        return None if student.objective.on_policy else _speed(config, student)
    finally:
        student.close()


def _speed(config: Config, student: Student) -> Speed:
    teachers = None if config.models.any_remote else load_teachers(config, student)
    readers = [Reader.of("student", student.encoder, student.model), *(readers_of(teachers) if teachers else ())]
    limit = LengthLimit(readers, config.distill.max_completion_tokens)
    suite, _ = fitting_suite(get_suite(config.suite), limit, config)
    card = load_task(config.task, suite)
    requirement = card.requirement_vector(suite) if card.identified else np.full(len(suite), 1 / len(suite))
    tokens = 0
    tried: list[str] = []
    teacher_seconds = student_seconds = tried_weight = 0.0
    begun = time.perf_counter()
    for index in requirement.argsort(kind="stable")[::-1]:
        weight = float(requirement[index])
        if weight == 0 or (tried and time.perf_counter() - begun > _LIMIT_SECONDS):
            break
        prompts = _prompts(suite[suite.names[index]], limit, config.distill.teacher_batch_size)
        if not tried and (first := _examples(prompts[:1], student, teachers)[0]):
            student.update(first)  # the first call is slower
        examples, seconds = _examples(prompts, student, teachers)
        size = sum(map(len, examples))
        if not size:
            raise ReadEnvError(f"the answers to {len(prompts)} prompts of {suite.names[index]} have no tokens")
        started = time.perf_counter()
        student.update(examples)
        student_seconds += weight * (time.perf_counter() - started) / size
        teacher_seconds += weight * seconds / size
        tried_weight += weight
        tokens += size
        tried.append(suite.names[index])
    of_teacher = None if teachers is None else teacher_seconds / tried_weight
    return Speed(of_teacher, student_seconds / tried_weight, tokens, tuple(tried))


def _prompts(capability: Capability, limit: LengthLimit, count: int) -> list[Prompt]:
    """Prompts of one block that both models can read."""
    prompts = PromptStream(capability, 0).slice(_MEDIUM, 0, _DRAWS_PER_PROMPT * count)
    excess = limit.excess(prompts)
    fitting = [prompt for prompt, too_long in zip(prompts, excess, strict=True) if not too_long]
    if not fitting:
        raise ReadEnvError(f"{len(prompts)} prompts of {capability.name} are too long; the first: {excess[0]}")
    return fitting[:count]


def _examples(prompts: Sequence[Prompt], student: Student, teachers: Teachers | None) -> tuple[list[Example], float]:
    """Training examples from the teachers, or from the references without one, and the teachers' seconds."""
    texts, cut = [prompt.text for prompt in prompts], student.config.max_completion_tokens
    prompt_ids = student.encoder.prompts(texts)
    if teachers is None:
        references = student.encoder.completions([prompt.reference for prompt in prompts], texts)
        examples = [
            Example(prompt, tuple(ids), tuple(tokens[:cut]), TeacherTargets.from_tokens(torch.tensor(tokens[:cut])))
            for prompt, ids, tokens in zip(prompts, prompt_ids, references, strict=True)
        ]
        return examples, 0.0
    started = time.perf_counter()
    answers = TeacherCache(teachers).complete(texts, [prompt.capability for prompt in prompts])
    seconds = time.perf_counter() - started
    alignment = align_each(teachers, student.encoder, student.config.loss, cut)
    return [example for example in map(alignment, prompts, prompt_ids, answers) if len(example)], seconds
