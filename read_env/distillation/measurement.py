"""Measurement of a student: scores on the held-out splits of a suite, and on the prompts of a task of its own."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property, partial

import numpy as np

from read_env.capabilities.base import Capability, Prompt, Split, Suite
from read_env.capabilities.stream import held_out
from read_env.config import Config
from read_env.distillation.student.evaluation import ProbeSet, examine
from read_env.distillation.student.student import Student
from read_env.distillation.teachers.base import TeacherCache
from read_env.distillation.teachers.evaluation import TeacherScores, evaluate_teacher
from read_env.distillation.text.lengths import LengthLimit, fitting_suite
from read_env.tasks.card import TaskCard
from read_env.tasks.prompts import check_fitting, hashes_of, sizes_of

#: Exam prompts per capability whose answers are recorded.
_SAMPLES = 2


class Measurement:
    """Scores of one student, and of its teacher.

    Every method that measures also returns a number of tokens: completion tokens scored, or tokens generated.

    Args:
        config: the configuration of the run.
        suite: the capabilities.
        student: the student.
        cache: cache of the teacher.
        limit: longest prompts that the models take.

    Attributes:
        task: prompts of the task itself; None for a task without.
        task_hashes: normalised hashes of all prompts of the task that are held out.
    """

    def __init__(self, config: Config, suite: Suite, student: Student, cache: TeacherCache, limit: LengthLimit) -> None:
        self._config, self._suite, self._student, self._cache, self._limit = config, suite, student, cache, limit
        self.task: Capability | None = None
        self.task_hashes = frozenset[int]()
        self._probe_sets: dict[tuple[str, Split], ProbeSet] = {}
        self._fitting_tasks: dict[Capability, Capability] = {}
        self._teacher_on_tasks: dict[Capability, TeacherScores | None] = {}

    def take_task(self, card: TaskCard | None) -> None:
        """Measure this task from now on.

        Raises:
            ReadEnvError: its prompts can't be read, or too many of them are too long.
        """
        given = card.task_prompts() if card else None
        self.task_hashes = frozenset[int]()
        if card is None or given is None:
            self.task = None
            return
        if given not in self._fitting_tasks:
            suite, _ = fitting_suite(Suite(given.name, (given,)), self._limit, self._config)
            check_fitting(suite.capabilities[0], given)
            self._fitting_tasks[given] = suite.capabilities[0]
        if self.task is not self._fitting_tasks[given]:
            self.task = self._fitting_tasks[given]
            self._task_suite = Suite(f"task {given.name}", (self.task,))
            self._probe_sets = {key: probes for key, probes in self._probe_sets.items() if key[0] == self._suite.name}
        self._task_score = card.score or self._config.eval.score
        sizes = self._config.eval
        wanted: dict[Split, int] = {"probes": sizes.task_probes, "dev": sizes.task_dev, "exam": sizes.task_exam}
        self._task_sizes: Mapping[Split, int] = sizes_of(self.task, wanted)
        # Of the task as it was given: a prompt that is too long for the models is one of the task all the same.
        self.task_hashes = hashes_of(given, self._task_sizes)

    def profile(self, split: Split) -> tuple[np.ndarray, int]:
        """(|C|,) probe scores on ``probes`` or ``dev``, each in [0, 1]."""
        sizes = self._config.eval
        return self._score(self._suite, split, sizes.probes if split == "probes" else sizes.dev, sizes.score)

    def task_score(self, split: Split) -> tuple[float | None, int]:
        """Score on the task's ``probes`` or ``dev``; None for a task without prompts of its own."""
        if self.task is None:
            return None, 0
        score, tokens = self._score(self._task_suite, split, self._task_sizes[split], self._task_score)
        return float(score[0]), tokens

    def exam(self) -> tuple[np.ndarray, int]:
        """(|C|,) exact match of greedily decoded answers on the exam, each in [0, 1]."""
        return self._exact_match(self._suite, self._config.eval.exam_split, self._config.eval.exam)

    def task_exam(self) -> tuple[float | None, int]:
        """Share of the task's exam that is answered rightly; None for a task without prompts of its own."""
        if self.task is None:
            return None, 0
        split = self._config.eval.exam_split
        score, generated = self._exact_match(self._task_suite, split, self._task_sizes[split])
        return float(score[0]), generated

    @cached_property
    def teacher_scores(self) -> TeacherScores | None:
        """Scores of the teacher on probes and exam; None where ``eval.score_teacher`` says so."""
        return evaluate_teacher(self._cache, self._suite, self._config.eval) if scores_teacher(self._config) else None

    def teacher_task_scores(self) -> TeacherScores | None:
        """The same on the task's own prompts, arrays of one score; None for a task without."""
        if self.task is None or not scores_teacher(self._config):
            return None
        if self.task not in self._teacher_on_tasks:
            sizes = {"probes": self._task_sizes["probes"], "exam": self._task_sizes[self._config.eval.exam_split]}
            config = self._config.eval.model_copy(update={**sizes, "score": self._task_score})
            self._teacher_on_tasks[self.task] = evaluate_teacher(self._cache, self._task_suite, config)
        return self._teacher_on_tasks[self.task]

    def samples(self) -> list[tuple[Prompt, str]]:
        """The first exam prompts of every capability, and of the task itself, with the student's greedily decoded answers."""
        split, count = self._config.eval.exam_split, self._config.eval.exam
        prompts = [prompt for c in self._suite for prompt in held_out(c, split, count)[:_SAMPLES]]
        if self.task is not None:
            prompts += held_out(self.task, split, self._task_sizes[split])[:_SAMPLES]
        encoder, texts = self._student.encoder, [prompt.text for prompt in prompts]
        ids = self._student.answer(texts, self._config.distill.max_completion_tokens)
        return list(zip(prompts, map(encoder.text, ids), strict=True))

    def _score(self, suite: Suite, split: Split, size: int, score: str) -> tuple[np.ndarray, int]:
        """Probe scores of a suite on a split, one per capability."""
        student = self._student
        if score == "exact-match":
            return self._exact_match(suite, split, size, averaged=True)
        key = (suite.name, split)
        if key not in self._probe_sets:
            self._probe_sets[key] = ProbeSet.build(suite, student.encoder, split, size)
        probes = self._probe_sets[key]
        return student.profile(probes, per_token=score == "token-likelihood", averaged=True), probes.scored_tokens

    def _exact_match(self, suite: Suite, split: Split, size: int, *, averaged: bool = False) -> tuple[np.ndarray, int]:
        """Exact match of a suite on a split, one score per capability; of the average if ``averaged``."""
        student = self._student
        scores, generated = examine(
            partial(student.answer, averaged=averaged), partial(student.profile, averaged=averaged), student.encoder,
            suite, split=split, per_capability=size, max_new_tokens=self._config.distill.max_completion_tokens,
            batch_size=self._config.eval.eval_batch_size,
        )  # fmt: skip
        return np.array([scores[name] for name in suite.names]), generated


def scores_teacher(config: Config) -> bool:
    """True if the teacher is evaluated, see ``eval.score_teacher``."""
    asked = config.eval.score_teacher
    return asked == "always" or (asked == "auto" and not config.models.any_remote)
