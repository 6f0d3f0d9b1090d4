"""One agent against another, paired by task and seed.

All tasks of one seed share their prompts, and a policy that ignores the task makes the very same run
for each of them, so the pairs of one seed are not independent. The unit of the test is therefore the
seed: differences are taken pair by pair, averaged over the tasks of a seed, and tested over seeds.
The tasks are fixed; nothing is claimed about tasks that were not run.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np

from read_env.reporting.measures import Measure
from read_env.reporting.records import Comparison
from read_env.reporting.statistics import Estimate, holm, paired


@dataclass(frozen=True)
class Contrast:
    """agent − reference on one measure.

    Attributes:
        difference: mean over seeds of the tasks' mean difference, t interval over seeds; n = seeds.
        bootstrap: the same mean with a bootstrap interval over seeds.
        p: two-sided paired t test over seeds.
        p_holm: p adjusted within the family it was tested in (NaN outside a family).
        p_wilcoxon: signed-rank test over all (task, seed) pairs.
        wins, losses, ties: over all (task, seed) pairs, by the size of the measure.
        pairs: number of (task, seed) pairs in the numbers.
        note: what was left out or degenerate.
    """

    agent: str
    reference: str
    measure: str
    difference: Estimate
    bootstrap: Estimate
    p: float
    p_holm: float
    p_wilcoxon: float
    wins: int
    losses: int
    ties: int
    pairs: int
    note: str = ""


def contrast(
    comparison: Comparison, measure: Measure, agent: str, reference: str, tasks: Sequence[str] | None = None
) -> Contrast | None:
    """Compare two agents over the seeds that both finished on every task; None where there is no such seed.

    Args:
        comparison: the records.
        measure: what is compared.
        agent: the first.
        reference: the second, subtracted.
        tasks: the tasks that are averaged over; all if None.
    """
    tasks = comparison.tasks if tasks is None else tasks
    scores = {
        name: {(run.task, run.seed): measure.value(run) for run in comparison.finished if run.agent == name}
        for name in (agent, reference)
    }
    common = {key for key in scores[agent].keys() & scores[reference].keys() if key[0] in tasks}
    seeds = sorted(seed for seed in comparison.seeds if all((task, seed) in common for task in tasks))
    if not seeds:
        return None
    a, b = (np.array([[scores[name][task, seed] for task in tasks] for seed in seeds]) for name in (agent, reference))
    by_seed, by_pair = paired(a.mean(axis=1), b.mean(axis=1)), paired(a.ravel(), b.ravel())
    left_out = len(common) - a.size
    notes = [by_seed.note] if by_seed.note else []
    notes += [f"{left_out} pairs of seeds that lack a task are left out"] if left_out else []
    return Contrast(
        agent=agent,
        reference=reference,
        measure=measure.key,
        difference=by_seed.difference,
        bootstrap=by_seed.bootstrap,
        p=by_seed.p_t,
        p_holm=math.nan,
        p_wilcoxon=by_pair.p_wilcoxon,
        wins=by_pair.wins,
        losses=by_pair.losses,
        ties=by_pair.ties,
        pairs=a.size,
        note="; ".join(notes),
    )


def family(comparison: Comparison, measure: Measure, pairs: Sequence[tuple[str, str]]) -> tuple[Contrast, ...]:
    """The primary contrasts, (agent, reference) pairs named beforehand, Holm-adjusted together.

    Pairs without a common seed are absent from the result; the adjustment still counts them,
    so that an unfinished comparison is never easier to pass than the finished one.
    """
    found = [contrast(comparison, measure, agent, reference) for agent, reference in pairs]
    adjusted = holm([entry.p if entry is not None else math.nan for entry in found])
    made = zip(found, adjusted, strict=True)
    return tuple(replace(entry, p_holm=float(p)) for entry, p in made if entry is not None)


def against(
    comparison: Comparison, measure: Measure, reference: str, skip: Collection[tuple[str, str]] = ()
) -> tuple[Contrast, ...]:
    """Exploratory contrasts: every agent against the reference, except the pairs in ``skip``."""
    names = [name for name in comparison.agents if name != reference and (name, reference) not in skip]
    found = (contrast(comparison, measure, name, reference) for name in names)
    return tuple(entry for entry in found if entry is not None)
