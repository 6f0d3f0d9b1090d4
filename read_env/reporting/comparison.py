"""A comparison directory as DataFrames, its measures, and contrasts of agents paired by task and seed.

All tasks of one seed share their prompts, so its pairs are not independent. The unit of a test is therefore
the seed: differences are taken pair by pair, averaged over the tasks of a seed, and tested over seeds.
The tasks are fixed; nothing is claimed about tasks that were not run.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from read_env.record_files import RecordError
from read_env.reporting.runs import Run, load_many, load_runs, load_scores, load_steps, read_config, unfinished
from read_env.reporting.statistics import PairedTest, holm, paired


class Measure(NamedTuple):
    """A number by which finished runs are judged: a column of ``load_runs``."""

    key: str  # the column
    title: str  # heading in reports and axis label in pictures
    explanation: str
    signed: bool  # a change, printed with its sign, more is better; otherwise a harm, less is better


_UNNEEDED = "Mean drop on the capabilities that are not essential (gains count as zero), start to end, on the"
EXAM_UTILITY, EXAM_MATCH, PROBE_UTILITY, SPILLOVER, EXAM_FORGETTING, FORGETTING = _MEASURES = tuple(
    Measure(key, title, explanation, signed=key.endswith("_gain"))
    for key, title, explanation in [
        ("exam_utility_gain", "Exam utility, gain",
         "Utility of the task on the held-out exam, end minus start: a mean of exact match weighted by need, as said above."),
        ("exam_match_gain", "Exam exact match, gain",
         "Exact match on the held-out exam, weighted by the task's requirement vector, end minus start; "
         "equal to the utility gain where the utility is the weighted mean."),
        ("utility_gain", "Probe utility, gain",
         "Utility of the task on the probe profile, end minus start: what the agents see; the same mean of the probes' score."),
        ("spillover", "Spillover",
         "Drops on the essential capabilities, weighted by the requirement vector, summed over the steps (probes)."),
        ("exam_forgetting", "Forgetting, exam", f"{_UNNEEDED} exam."),
        ("forgetting", "Forgetting, probes", f"{_UNNEEDED} probe profile."),
    ]
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Comparison:
    """A comparison directory; agents and tasks come in the order of the configuration where it has one."""

    path: Path
    config: dict[str, Any]
    first: Run  # the first finished run
    table: pd.DataFrame  # all runs, as from load_runs
    runs: pd.DataFrame  # the finished ones; so are those of steps and scores
    steps: pd.DataFrame
    scores: pd.DataFrame
    unfinished: tuple[str, ...]  # one line for each run that is not in the numbers
    agents: tuple[str, ...]
    tasks: tuple[str, ...]
    seeds: tuple[int, ...]

    @property
    def measures(self) -> tuple[Measure, ...]:
        """The measures that these records support, the main one first: the exam where every run held it."""
        examined = self.runs[[EXAM_UTILITY.key, EXAM_MATCH.key]].notna().all(axis=None)
        return _MEASURES if examined else (PROBE_UTILITY, SPILLOVER, FORGETTING)

    def by_seed(self, measure: Measure, agent: str) -> pd.DataFrame:
        """One agent's measure, seeds × tasks; NaN where a run is not finished."""
        own = self.runs[self.runs["agent"] == agent]
        table = own.pivot(index="seed", columns="task", values=measure.key)
        return table.reindex(index=list(self.seeds), columns=list(self.tasks))


def load_comparison(directory: str | Path) -> Comparison:
    """Read a comparison directory, whose runs must share one suite and one budget.

    Raises:
        RecordError: no finished run, runs that can't be compared, or a record that is missing or malformed.
    """
    path, config, every = Path(directory), read_config(Path(directory)), load_many(directory)
    finished = [run for run in every if run.summary is not None]
    table = load_runs(*every)
    runs = table[table["finished"]].reset_index(drop=True)
    if len(budgets := sorted(map(int, set(runs["budget"])))) > 1:
        raise RecordError(f"{path}: runs with different budgets ({budgets}) cannot be compared")
    wanted = {key: list(config.get(f"{key}s") or []) for key in ("agent", "task", "seed")}
    asked = set(product(*wanted.values())) - {(run.agent, run.task, run.seed) for run in every}

    def ordered(column: str) -> tuple[str, ...]:
        found = set(runs[column])
        return tuple(dict.fromkeys([*(name for name in wanted[column] if name in found), *sorted(found)]))

    absent = [f"{agent}__{task}__seed{seed}" for agent, task, seed in asked]
    names = ordered("agent"), ordered("task"), tuple(sorted(map(int, set(runs["seed"]))))
    steps, scores, lines = load_steps(*finished), load_scores(*finished), unfinished(every, absent)
    return Comparison(path, config, finished[0], table, runs, steps, scores, lines, *names)


def contrast(
    comparison: Comparison, measure: Measure, agent: str, reference: str, tasks: Sequence[str] | None = None
) -> PairedTest | None:
    """Compare agent − reference over the seeds that both finished on every task (of ``tasks``); None without such a seed."""
    chosen = list(tasks or comparison.tasks)
    every = [comparison.by_seed(measure, name)[chosen] for name in (agent, reference)]
    both = every[0].notna() & every[1].notna()
    a, b = (table[both.all(axis=1)] for table in every)
    if a.empty:
        return None
    found, left_out = paired(a, b), int(both.to_numpy().sum()) - a.size
    notes = [found.note, f"{left_out} pairs of seeds that lack a task are left out" if left_out else ""]
    return replace(found, note="; ".join(filter(None, notes)))


def contrasts(
    comparison: Comparison, measure: Measure, pairs: Sequence[tuple[str, str]]
) -> dict[tuple[str, str], PairedTest]:
    """Contrasts of (agent, reference) pairs, Holm-adjusted together as one family.

    Pairs without a common seed are absent; the adjustment counts them, so that an unfinished comparison is never easier
    to pass than the finished one.
    """
    found = [contrast(comparison, measure, *pair) for pair in pairs]
    adjusted = holm([test.p_t if test else math.nan for test in found])
    return {pair: replace(t, p_holm=float(p)) for pair, t, p in zip(pairs, found, adjusted, strict=True) if t}
