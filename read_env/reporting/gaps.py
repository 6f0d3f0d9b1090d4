"""How far a fixed allocation is from another one, task by task, on paired seeds.

A fixed allocation's final profile does not depend on the task, so it is run once a seed and used for
every task: the gap is arithmetic on final profiles. Search on one set of seeds and measure on another,
or the best of many looks better than it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from read_env.reporting.records import RecordError, load_run
from read_env.reporting.statistics import PairedTest, paired

#: Utility of one profile (|C|,), for example ``lambda profile: card.utility(profile, suite)``.
Utility = Callable[[np.ndarray], float]


@dataclass(frozen=True)
class Gap:
    """One task: utility under one allocation minus utility under another, over the same seeds.

    Attributes:
        allocation, reference: names of the two.
        utility, reference_utility: means over seeds.
        test: paired difference with its 95 % interval and p.
    """

    task: str
    allocation: str
    reference: str
    utility: float
    reference_utility: float
    test: PairedTest

    @property
    def above_zero(self) -> bool:
        """Whether the whole t interval lies above zero."""
        return self.test.difference.low > 0


def gap_table(
    profiles: Mapping[str, np.ndarray],
    tasks: Mapping[str, Utility],
    given: Mapping[str, str],
    reference: Mapping[str, str],
) -> tuple[Gap, ...]:
    """The gap of every task.

    Args:
        profiles: final profiles (seeds, |C|) by allocation name; row k is the same seed in all of them.
        tasks: utility of a profile by task name.
        given: the allocation to judge, by task (for example the best one on other seeds).
        reference: the allocation to judge it against, by task (task-static has one name a task).

    Raises:
        ValueError: a task without an allocation, an allocation without profiles, or unequal shapes.
    """
    shape = _common_shape(profiles)
    gaps = []
    for task, utility in tasks.items():
        scores = {}
        for role, names in (("given", given), ("reference", reference)):
            if task not in names:
                raise ValueError(f"{role} names no allocation for task '{task}'")
            if names[task] not in profiles:
                raise ValueError(f"{role}['{task}'] is '{names[task]}', which has no profiles")
            scores[role] = np.array([utility(profile) for profile in profiles[names[task]]]).reshape(shape[0])
        gaps.append(
            Gap(
                task=task,
                allocation=given[task],
                reference=reference[task],
                utility=float(scores["given"].mean()),
                reference_utility=float(scores["reference"].mean()),
                test=paired(scores["given"], scores["reference"]),
            )
        )
    return tuple(gaps)


def gap_markdown(gaps: tuple[Gap, ...]) -> str:
    """The gaps as a Markdown table."""
    from read_env.reporting.tables import interval, markdown_table, number, p_value

    rows = [
        [
            gap.task,
            f"`{gap.allocation}`",
            f"`{gap.reference}`",
            number(gap.utility),
            number(gap.reference_utility),
            number(gap.test.difference.mean, signed=True),
            interval(gap.test.difference.low, gap.test.difference.high),
            p_value(gap.test.p_t),
            str(gap.test.difference.n),
            "yes" if gap.above_zero else "no",
        ]
        for gap in gaps
    ]
    header = "task,allocation,reference,utility,reference utility,gap,95 % (paired t),p,seeds,above zero".split(",")
    return markdown_table(header, rows, text_columns=3)


def fixed_allocation_profiles(
    directory: str | Path, names: Sequence[str]
) -> tuple[dict[str, np.ndarray], tuple[int, ...]]:
    """Exam profiles at the end of fixed-allocation runs, ``runs/ALLOCATION__seedN/``.

    Args:
        directory: holds the runs; those of other allocations are left alone.
        names: of the allocations.

    Returns:
        Profiles (seeds, |C|) by allocation name, and the seeds. Only seeds that every allocation
        finished are in, so that rows pair up.

    Raises:
        RecordError: a run without exam, or no common seed.
    """
    folder = Path(directory) / "runs"
    found: dict[str, dict[int, np.ndarray]] = {}
    for name in names:
        profiles = found.setdefault(name, {})
        for path in sorted(folder.glob(f"{name}__seed*")):
            run = load_run(path)
            if run.finished:
                if run.ended.exam is None:
                    raise RecordError(f"{path / 'summary.json'}: exam is null: this run held no exam")
                profiles[int(path.name.rpartition("__seed")[2])] = run.ended.exam
    seeds = sorted(set.intersection(*(set(by_seed) for by_seed in found.values()))) if found else []
    if not seeds:
        raise RecordError(f"{folder}: no seed was finished by every allocation ({', '.join(found) or 'none'})")
    return {name: np.array([by_seed[seed] for seed in seeds]) for name, by_seed in found.items()}, tuple(seeds)


def _common_shape(profiles: Mapping[str, np.ndarray]) -> tuple[int, int]:
    shapes = {name: np.shape(array) for name, array in profiles.items()}
    if not shapes:
        raise ValueError("profiles is empty: give the final profiles of at least one allocation")
    first_name, first = next(iter(shapes.items()))
    for name, shape in shapes.items():
        if len(shape) != 2 or shape != first:
            raise ValueError(f"profiles['{name}'] has shape {shape}, expected (seeds, |C|) as '{first_name}' {first}")
    return first
