"""How many seconds a chunk will take: measured on whole blocks of the prompts that the task needs."""

from __future__ import annotations

import time
from collections.abc import Sequence

import torch

from read_env.capabilities import Prompt, get_suite
from read_env.capabilities.stream import PromptStream
from read_env.config import Config
from read_env.distillation.loading import load_student, load_teacher
from read_env.distillation.student.student import Student
from read_env.distillation.teachers.base import Teacher
from read_env.distillation.teachers.remote import REMOTE
from read_env.distillation.text.alignment import align
from read_env.distillation.text.completion import Example
from read_env.losses.targets import TeacherTargets
from read_env.tasks import load_task

#: When so much time was spent on measuring, no further block is tried.
_ENOUGH_S = 60.0
#: Of the prompts: those that curricula begin and end with are shorter and longer.
_MEDIUM = 1


def chunk_seconds(config: Config) -> str:
    """Seconds of a chunk that is allocated as the task needs, in words: the teacher's, asked once a prompt, and the student's.

    The capabilities that the task needs are tried by weight, as many as a minute allows and one at least. A teacher
    behind an endpoint is not asked, since its answers may cost money: the student learns from the references.
    """
    torch.set_num_threads(config.models.threads)
    student = load_student(config)
    if student.on_policy:
        return f"not measured: with loss {config.distill.loss!r} it depends on what the student says"
    suite = get_suite(config.suite)
    requirement = load_task(config.task, suite).requirement_vector(suite)
    teacher = None if config.models.teacher.startswith(REMOTE) else load_teacher(config, student)
    tokens = 0
    tried: list[str] = []
    asked = learned = weights = 0.0
    begun = time.perf_counter()
    for index in requirement.argsort(kind="stable")[::-1]:
        weight = float(requirement[index])
        if weight == 0 or (tried and time.perf_counter() - begun > _ENOUGH_S):
            break
        prompts = PromptStream(suite[suite.names[index]], 0).slice(_MEDIUM, 0, config.distill.teacher_batch_size)
        if not tried:
            student.update(_lesson(prompts[:1], student, teacher)[0])  # warms both up
        examples, seconds = _lesson(prompts, student, teacher)
        size = sum(map(len, examples))
        started = time.perf_counter()
        student.update(examples)
        learned += weight * (time.perf_counter() - started) / size
        asked += weight * seconds / size
        weights += weight
        tokens += size
        tried.append(suite.names[index])
    scale = config.budget.step_tokens / weights
    of_teacher = "teacher not asked" if teacher is None else f"teacher {asked * scale:,.1f} s (once a prompt)"
    return (
        f"{config.budget.step_tokens:,} completion tokens: {of_teacher}, student {learned * scale:,.1f} s, beside probes; "
        f"from {tokens:,} tokens of {', '.join(tried)}"
    )


def _lesson(prompts: Sequence[Prompt], student: Student, teacher: Teacher | None) -> tuple[list[Example], float]:
    """What the student would learn from, and the teacher's seconds; from the references where no teacher is asked."""
    texts = [prompt.text for prompt in prompts]
    prompt_ids = student.encoder.prompts(texts)
    if teacher is None:
        said = student.encoder.completions([prompt.reference for prompt in prompts])
        examples = [
            Example(prompt, tuple(ids), tuple(tokens), TeacherTargets.of_text(torch.tensor(tokens)))
            for prompt, ids, tokens in zip(prompts, prompt_ids, said, strict=True)
        ]
        return examples, 0.0
    started = time.perf_counter()
    answers = teacher.ask(texts)
    seconds = time.perf_counter() - started
    alignment = align(teacher.encoder, student.encoder, student.config.loss)
    return list(map(alignment.example, prompts, prompt_ids, answers)), seconds
