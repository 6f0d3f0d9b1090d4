"""How far a fixed allocation is from another one, task by task, on paired seeds.

A fixed allocation's final profile does not depend on the task, so it is run once a seed and used for
every task: the gap is arithmetic on final profiles. Search on one set of seeds and measure on another,
or the best of many looks better than it is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from read_env.reporting.records import RecordError, load_run
from read_env.reporting.statistics import PairedTest, paired

#: Utility of one profile (|C|,), for example ``lambda profile: card.utility(profile, suite)``.
Utility = Callable[[np.ndarray], float]

_FIXED_RUN = re.compile(r"^(?P<allocation>.+?)(__.+)?__seed(?P<seed>\d+)$")


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
        given: the allocation to judge, by task (for example from :func:`best_allocation` on other seeds).
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


def best_allocation(profiles: Mapping[str, np.ndarray], tasks: Mapping[str, Utility]) -> dict[str, str]:
    """For every task the allocation with the highest mean utility over these seeds; ties go to the first name."""
    _common_shape(profiles)
    return {
        task: max(profiles, key=lambda name: float(np.mean([utility(profile) for profile in profiles[name]])))
        for task, utility in tasks.items()
    }


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
    directory: str | Path, measure: Literal["exam", "probe"] = "exam"
) -> tuple[dict[str, np.ndarray], tuple[int, ...]]:
    """Final profiles of a directory of fixed-allocation runs, ``runs/ALLOCATION__seedN/``.

    Returns:
        Profiles (seeds, |C|) by allocation name, and the seeds. Only seeds that every allocation
        finished are in, so that rows pair up.

    Raises:
        RecordError: no such folder, a name that does not fit, a run without exam, or no common seed.
    """
    folder = Path(directory) / "runs"
    if not folder.is_dir():
        raise RecordError(f"{folder}: no such folder: expected runs/ALLOCATION__seedN in it")
    found: dict[str, dict[int, np.ndarray]] = {}
    for path in sorted(entry for entry in folder.iterdir() if entry.is_dir()):
        name = _FIXED_RUN.match(path.name)
        if not name:
            raise RecordError(f"{path}: expected a name like ALLOCATION__seedN")
        run = load_run(path)
        profiles = found.setdefault(name["allocation"], {})
        if run.finished:
            end = run.ended.exam if measure == "exam" else run.ended.profile
            if end is None:
                raise RecordError(f"{path / 'summary.json'}: exam is null: this run held no exam")
            profiles[int(name["seed"])] = end
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
