"""What a finished run is judged by: one number a run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from read_env.reporting.records import Comparison, RecordError, Run
from read_env.reporting.statistics import Estimate, mean_interval


@dataclass(frozen=True)
class Measure:
    """A number computed from a finished run.

    Attributes:
        key: column name in ``runs.csv``.
        title: heading in reports and axis label in pictures.
        explanation: one sentence below the heading.
        value: from a finished run; raises :class:`RecordError` where the record lacks what it needs.
        signed: a change, printed with its sign.
        better: whether more is better (``higher``) or less (``lower``).
    """

    key: str
    title: str
    explanation: str
    value: Callable[[Run], float]
    signed: bool = True
    better: str = "higher"


def _taken(run: Run, name: str) -> float:
    value = getattr(run.ended, name)
    if value is None:
        raise RecordError(f"{run.path / 'summary.json'}: {name} is null: this run held no exam")
    return float(value)


def _exam_requirement_gain(run: Run) -> float:
    end = run.ended
    if end.exam is None or end.exam_start is None:
        raise RecordError(f"{run.path / 'summary.json'}: exam or exam_start is null: this run held no exam")
    return float(np.dot(run.begun.requirement, end.exam - end.exam_start))


EXAM_UTILITY = Measure(
    "exam_utility_gain",
    "Exam utility, gain",
    "Utility of the task on the held-out exam (exact match), end minus start.",
    lambda run: _taken(run, "exam_utility") - _taken(run, "exam_utility_start"),
)
EXAM_MATCH = Measure(
    "exam_match_gain",
    "Exam exact match, gain",
    "Exact match on the held-out exam, weighted by the task's requirement vector, end minus start; "
    "equal to the utility gain where the utility is the weighted mean.",
    _exam_requirement_gain,
)
PROBE_UTILITY = Measure(
    "utility_gain",
    "Probe utility, gain",
    "Utility of the task on the probe profile, end minus start: what the agents see.",
    lambda run: run.ended.utility - run.ended.utility_start,
)
SPILLOVER = Measure(
    "spillover",
    "Spillover",
    "Drops on the essential capabilities, weighted by the requirement vector, summed over the steps (probes).",
    lambda run: run.ended.spillover,
    signed=False,
    better="lower",
)
EXAM_FORGETTING = Measure(
    "exam_forgetting",
    "Forgetting, exam",
    "Mean drop on the capabilities that are not essential (gains count as zero), start to end, on the exam.",
    lambda run: _taken(run, "exam_forgetting"),
    signed=False,
    better="lower",
)
FORGETTING = Measure(
    "forgetting",
    "Forgetting, probes",
    "Mean drop on the capabilities that are not essential (gains count as zero), start to end, on the probe profile.",
    lambda run: run.ended.forgetting,
    signed=False,
    better="lower",
)


def over_tasks(comparison: Comparison, measure: Measure, agent: str) -> Estimate | None:
    """Mean over tasks and seeds of one agent, with a t interval over seeds.

    Runs of one seed share their prompts across tasks, so they are averaged within a seed first and
    only seeds count as independent. None where no seed has a finished run on every task.
    """
    scores = {(run.task, run.seed): measure.value(run) for run in comparison.finished if run.agent == agent}
    by_seed = [
        float(np.mean([scores[task, seed] for task in comparison.tasks]))
        for seed in comparison.seeds
        if all((task, seed) in scores for task in comparison.tasks)
    ]
    return mean_interval(by_seed) if by_seed else None


def holds_exam(comparison: Comparison) -> bool:
    """Whether every finished run has exam scores, so that agents can be compared on them."""
    return all(run.ended.exam is not None and run.ended.exam_utility is not None for run in comparison.finished)


def main_measure(comparison: Comparison) -> Measure:
    """Exam utility where the runs held the exam, probe utility otherwise."""
    return EXAM_UTILITY if holds_exam(comparison) else PROBE_UTILITY


def measures(comparison: Comparison) -> tuple[Measure, ...]:
    """The measures that this comparison's records support, the main one first."""
    if holds_exam(comparison):
        return (EXAM_UTILITY, EXAM_MATCH, PROBE_UTILITY, SPILLOVER, EXAM_FORGETTING, FORGETTING)
    return (PROBE_UTILITY, SPILLOVER, FORGETTING)
