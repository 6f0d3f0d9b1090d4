"""The records of a run as they are made: the student before it, each step, and the end (:mod:`read_env.records`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from read_env.records import Judgement, RunStart, RunSummary, StepRecord
from read_env.running.requests import at_student
from read_env.tasks import essential

if TYPE_CHECKING:
    from read_env.capabilities.base import Prompt, Suite
    from read_env.config import Config
    from read_env.distillation.budget import TokenBudget
    from read_env.distillation.report import ChunkReport
    from read_env.distillation.teachers.evaluation import TeacherScores
    from read_env.tasks import TaskCard

#: Fields that a step's record takes from ``info`` as they are.
_FROM_INFO = tuple(
    name
    for name in StepRecord.model_fields
    if name not in ("reward", "exam", "task_exam", "metrics", "agent", "seconds", "cache", "skipped")
    and not name.startswith(("examples_", "cut_", "loss_", "divergence_"))
)


@dataclass(frozen=True)
class MeasuredTask:
    """Scores of a student on a task's own prompts.

    Attributes:
        score: on the probes, in [0, 1].
        dev: on the dev split, in [0, 1].
        exam: exact match on the exam, in [0, 1].
        graded: True if the prompts have answers to compare with.
        teacher: scores of the teacher, arrays of one; None if they were not measured.
    """

    score: float
    dev: float | None
    exam: float
    graded: bool
    teacher: TeacherScores | None


def start_record(
    config: Config,
    card: TaskCard,
    suite: Suite,
    profile: np.ndarray,
    exam: np.ndarray | None,
    dev_profile: np.ndarray | None,
    teacher: TeacherScores | None,
    samples: Sequence[tuple[Prompt, str]],
    overlong: Mapping[str, int],
    task: MeasuredTask | None = None,
) -> dict[str, Any]:
    """``start.json``: the student before the run.

    Args:
        config: the resolved configuration.
        card: the task.
        suite: the index order of the vectors.
        profile: (|C|,) scores on the probes.
        exam: (|C|,) exact match.
        dev_profile: (|C|,) scores on the dev split.
        teacher: scores of the teacher.
        samples: exam prompts with the student's answers.
        overlong: lines left out by capability.
        task: scores on the task's own prompts; None for a task without.
    """
    ceiling = None if teacher is None else teacher.profile
    answers = {**(teacher.answers if teacher else {}), **(task.teacher.answers if task and task.teacher else {})}
    return RunStart(
        suite=suite.names,
        task=at_student(card.name, config.models.start),
        student=config.models.start,
        requirement=card.requirement_vector(suite),
        utility_form=card.utility_form,
        profile=profile,
        utility=card.utility(profile, suite, ceiling, task.score if task else None),
        exam=exam,
        dev_profile=dev_profile,
        dev_utility=None
        if dev_profile is None
        else card.utility(dev_profile, suite, ceiling, task.dev if task else None),
        score=config.eval.score,
        auto=config.reasons or None,
        teacher_exam=teacher and teacher.exam,
        teacher_profile=ceiling,
        teacher_tokens=teacher and teacher.tokens + (task.teacher.tokens if task and task.teacher else 0),
        samples=tuple(
            {"capability": prompt.capability, "prompt": prompt.text, "reference": prompt.reference, "student": answer}
            | ({"teacher": answers[prompt.text]} if prompt.text in answers else {})
            for prompt, answer in samples
        ),
        overlong=dict(overlong) or None,
        ungraded=[c.name for c in suite if not c.graded] or None,
        task_exam=task and task.exam,
        task_measure=task and (card.score or config.eval.score),
        task_graded=task and task.graded,
        teacher_task_exam=None if task is None or task.teacher is None else float(task.teacher.exam[0]),
        description=card.description,
    ).to_json()


def step_record(
    info: Mapping[str, Any], reward: float, report: ChunkReport, scalars: Mapping[str, float], exam: np.ndarray | None,
    task_exam: float | None = None,
) -> dict[str, Any]:  # fmt: skip
    """A line of ``steps.jsonl``: a finished step."""
    return StepRecord(
        **{name: info[name] for name in _FROM_INFO if name in info},
        reward=reward,
        exam=exam,
        task_exam=task_exam,
        metrics=report.metrics,
        agent=scalars,
        seconds=report.seconds,
        cache=report.cache.counts(),
        skipped=report.skipped or None,
        examples_by_capability=report.examples_by_capability,
        cut_by_capability=report.cut_by_capability,
        loss_by_capability=report.loss_by_capability,
        divergence_by_capability=report.divergence_by_capability,
    ).to_json()


def summary_record(
    config: Config, card: TaskCard, suite: Suite, *, label: str, tokens_before_run: int, budget: TokenBudget,
    start: Mapping[str, Any], steps: Sequence[Mapping[str, Any]], exam: np.ndarray | None,
    samples: Sequence[tuple[Prompt, str]], left: Mapping[str, Any] | None = None, task_exam: float | None = None,
) -> dict[str, Any]:  # fmt: skip
    """``summary.json``: the end of a finished run.

    Args:
        config: the resolved configuration.
        card: the task.
        suite: the index order of the vectors.
        label: the agent's name in reports.
        tokens_before_run: completion tokens that the agent's training or search had spent.
        budget: the ledger at the end.
        start: the start record.
        steps: the step records.
        exam: (|C|,) exact match at the end, or None if no exam was held.
        samples: exam prompts with the distilled student's answers.
        left: with ``budget.may_stop``, the fields on tokens left unspent.
        task_exam: exact match on a measured task's exam.
    """
    return RunSummary(
        agent=label,
        task=start["task"],
        seed=config.seed,
        budget=budget.total,
        spent=budget.spent,
        residue=budget.left,
        prompt_tokens=budget.prompt_tokens,
        generated_tokens=budget.generated_tokens,
        probe_tokens=budget.probe_tokens,
        dev_tokens=budget.dev_tokens,
        tokens_before_run=tokens_before_run,
        steps=len(steps),
        profile_start=start["profile"],
        profile=steps[-1]["profile"] if steps else start["profile"],
        samples=tuple(answer for _, answer in samples),
        **(left or {}),
        **judgement(card, suite, config.reward.essential_k, start, steps, exam, task_exam),
    ).to_json()


def judgement(
    card: TaskCard, suite: Suite, essential_k: int, start: Mapping[str, Any], steps: Sequence[Mapping[str, Any]],
    exam: Sequence[float] | np.ndarray | None, task_exam: float | None = None,
) -> dict[str, Any]:  # fmt: skip
    """The part of a summary that depends on the task."""
    profile, ceiling = steps[-1]["profile"] if steps else start["profile"], start.get("teacher_exam")
    first, last = (start["exam"], exam) if exam is not None and start["exam"] is not None else (None, None)
    return Judgement(
        utility_start=start["utility"],
        utility=card.utility(profile, suite, start.get("teacher_profile"), (steps[-1] if steps else start)["utility"]),
        exam_start=start["exam"],
        exam=exam,
        exam_utility_start=None if first is None else card.utility(first, suite, ceiling, start.get("task_exam")),
        exam_utility=None if last is None else card.utility(last, suite, ceiling, task_exam),
        spillover=float(sum(record["spillover"] for record in steps)),
        forgetting=_mean_drop(card, suite, essential_k, start["profile"], profile),
        exam_forgetting=None if last is None else _mean_drop(card, suite, essential_k, first, last),
    ).to_json()


def _mean_drop(card: TaskCard, suite: Suite, essential_k: int, before: Any, after: Any) -> float:
    others = ~essential(card.requirement_vector(suite), essential_k)
    drops = np.maximum(np.asarray(before) - np.asarray(after), 0.0)[others]
    return float(drops.mean()) if drops.size else 0.0
