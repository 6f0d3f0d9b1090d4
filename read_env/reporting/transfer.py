"""Transfer matrices by budget, and the two diagnostics of waste (arXiv 2605.11290).

T_ij(B) = s_j(student after B tokens on i alone) − s_j(initial student): row = where the tokens went,
column = what moved. One matrix per budget and measure (exam, probe), over seeds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from read_env.records import RecordError
from read_env.reporting.frames import load_scores
from read_env.reporting.runs import Run, load_many, read_config, unfinished
from read_env.reporting.statistics import Estimate, holm, mean_interval, one_sample_p

#: An off-diagonal entry smaller than this is not counted, whatever its p-value.
SIZE = 0.02
LEVEL = 0.05


@dataclass(frozen=True, eq=False)
class TransferMatrix:
    """Changes of all capabilities by source at one budget; arrays are (sources, |C|) but for ``changes``."""

    budget: int
    changes: np.ndarray  # (sources, seeds, |C|), T_ij of every seed
    own: np.ndarray  # booleans: the entries of a source on itself
    mean: np.ndarray  # over seeds
    sd: np.ndarray  # over seeds
    p: np.ndarray  # two-sided one-sample t test over seeds
    p_holm: np.ndarray  # all entries but the own ones adjusted as one family; NaN on the own ones

    @property
    def significant(self) -> np.ndarray:
        """(sources, |C|) booleans: entries off the diagonal with an adjusted p of at most .05."""
        return np.nan_to_num(self.p_holm, nan=1.0) <= LEVEL

    def survivors(self, sign: int) -> np.ndarray:
        """(sources, |C|) booleans: the significant entries of this sign and at least ``SIZE``."""
        return (sign * self.mean >= SIZE) & self.significant


@dataclass(frozen=True)
class Waste:
    """The two diagnostics at one budget, with 95 % t intervals over seeds."""

    budget: int
    previous: int  # the budget before it, 0 for the first
    marginal_gain: Estimate  # on the target since the previous budget, per 10,000 completion tokens, mean over sources
    negative_spillover: Estimate  # mean over off-diagonal entries of max(−T_ij, 0)
    of_means: float  # the same from the matrix of means: noise of single seeds lifts a maximum with zero


@dataclass(frozen=True, eq=False)
class Transfer:
    """A transfer directory and the numbers of its report."""

    path: Path
    config: dict[str, Any]
    first: Run
    unfinished: tuple[str, ...]  # one line for each run that is not in the numbers
    suite: tuple[str, ...]  # all capabilities: the columns
    sources: tuple[str, ...]  # the capabilities that were distilled alone: the rows
    seeds: tuple[int, ...]  # the seeds that every source finished
    excluded_seeds: tuple[int, ...]
    budgets: tuple[int, ...]  # completion tokens, rising
    matrices: dict[str, list[TransferMatrix]]  # by measure (exam, probe), one per budget
    waste: dict[str, list[Waste]]


def load_transfer(directory: str | Path) -> Transfer:
    """Read a transfer directory and compute its matrices and diagnostics.

    Only seeds with a finished run for every source enter; the others are named in ``excluded_seeds``.

    Args:
        directory: ``runs/*/`` holds one-hot runs, their source in ``agent_options.capability``.

    Raises:
        RecordError: a record is missing or malformed, there is no complete seed, or a run has no exam at an asked budget.
    """
    path, config, every = Path(directory), read_config(Path(directory)), load_many(directory)
    suite = next(run.begun.suite for run in every if run.summary is not None)
    runs = dict(sorted(((_source(run, suite), run.seed), run) for run in every))
    sources = tuple(name for name in suite if name in {source for source, _ in runs})
    present = sorted({seed for _, seed in runs})
    finished = {key: run for key, run in runs.items() if run.summary is not None}
    seeds = tuple(seed for seed in present if all((name, seed) in finished for name in sources))
    if not seeds:
        raise RecordError(
            f"{path}: no seed has a finished run for every capability: "
            f"{len(finished)} of {len(sources) * len(present)} runs are finished"
        )
    budgets = tuple(sorted(map(int, config.get("budgets") or _budgets_of(finished[sources[0], seeds[0]]))))
    held = [[_changes(finished[name, seed], budgets) for seed in seeds] for name in sources]
    # (measures, budgets, sources, seeds, |C|)
    changes = dict(zip(("exam", "probe"), np.array(held).transpose(2, 3, 0, 1, 4), strict=True))
    own = np.array([[source == name for name in suite] for source in sources])
    wanted = {*(config.get("seeds") or []), *present}
    absent = [f"one-hot-{name}__seed{seed}" for name in sources for seed in wanted if (name, seed) not in runs]
    return Transfer(
        path=path,
        config=config,
        first=next(iter(runs.values())),
        unfinished=unfinished(every, absent),
        suite=suite,
        sources=sources,
        seeds=seeds,
        excluded_seeds=tuple(seed for seed in present if seed not in seeds),
        budgets=budgets,
        matrices={
            measure: [matrix(budget, moved, own) for budget, moved in zip(budgets, values, strict=True)]
            for measure, values in changes.items()
        },
        waste={measure: waste(budgets, values, own) for measure, values in changes.items()},
    )


def matrix(budget: int, changes: np.ndarray, own: np.ndarray) -> TransferMatrix:
    """The transfer matrix of (sources, seeds, |C|) changes; ``own`` marks each source's own column."""
    p = np.array([[one_sample_p(entry)[0] for entry in row.T] for row in changes])
    p_holm = np.full_like(p, np.nan)
    p_holm[~own] = holm(p[~own])
    sd = changes.std(axis=1, ddof=1) if changes.shape[1] > 1 else np.full_like(p, np.nan)
    return TransferMatrix(budget, changes, own, changes.mean(axis=1), sd, p, p_holm)


def waste(budgets: Sequence[int], changes: np.ndarray, own: np.ndarray) -> list[Waste]:
    """The two diagnostics of (budgets, sources, seeds, |C|) changes, by budget."""
    by_seed = changes.transpose(0, 2, 1, 3)  # (budgets, seeds, sources, |C|)
    target = by_seed[..., own].mean(axis=-1)  # (budgets, seeds): mean gain on the own target
    gains = np.diff(target, axis=0, prepend=0) / np.diff(budgets, prepend=0)[:, None] * 10_000
    drops = np.maximum(-by_seed, 0.0)[..., ~own].mean(axis=-1)
    of_means = np.maximum(-changes.mean(axis=2), 0.0)[:, ~own].mean(axis=-1)
    estimates = map(mean_interval, gains), map(mean_interval, drops)
    return list(map(Waste, budgets, (0, *budgets), *estimates, map(float, of_means)))


def as_json(result: Transfer) -> dict[str, Any]:
    """The content of ``transfer.json``: plain lists and numbers, None where a number does not exist."""

    def plain(found: Any, *names: str) -> dict[str, Any]:
        values = {name: np.asarray(getattr(found, name)) for name in names}
        return {name: np.where(np.isnan(value), None, value).tolist() for name, value in values.items()}  # type: ignore[call-overload]

    def pairs(marked: np.ndarray) -> list[list[str]]:
        return [[result.sources[i], result.suite[j]] for i, j in np.argwhere(marked)]

    def entry(found: TransferMatrix) -> dict[str, Any]:
        survivors = {"negative": pairs(found.survivors(-1)), "positive": pairs(found.survivors(+1))}
        return {**plain(found, "mean", "sd", "p", "p_holm"), "survivors": survivors}

    def diagnostics(found: Waste) -> dict[str, Any]:
        return {
            "budget": found.budget,
            "previous": found.previous,
            "marginal_gain_per_10k": plain(found.marginal_gain, "mean", "low", "high", "n"),
            "negative_spillover": plain(found.negative_spillover, "mean", "low", "high", "n"),
            "negative_spillover_of_means": found.of_means,
        }

    return {
        **{name: list(getattr(result, name)) for name in ("suite", "sources", "budgets", "seeds", "excluded_seeds")},
        "row": "capability that received all tokens",
        "column": "capability that moved",
        "size": SIZE,
        "level": LEVEL,
        "matrices": {measure: {str(m.budget): entry(m) for m in found} for measure, found in result.matrices.items()},
        "waste": {measure: [diagnostics(found) for found in entries] for measure, entries in result.waste.items()},
        "unfinished": list(result.unfinished),
    }


def _source(run: Run, suite: Sequence[str]) -> str:
    """The capability that received all tokens."""
    options = run.section("agent_options")
    source = options.get("capability")
    if run.config.get("agent") != "one-hot" or source is None:
        wrong = f"agent is {run.config.get('agent')!r} with options {options}"
        raise RecordError(f"{run.path / 'config.json'}: {wrong}, expected 'one-hot' with a capability")
    if source not in suite:
        raise RecordError(f"{run.path}: '{source}' is not a capability of the suite ({', '.join(suite)})")
    return str(source)


def _budgets_of(run: Run) -> set[int]:
    """The budgets at which a run held the exam; its last step stands for the whole budget."""
    end, step_tokens = run.ended, int(run.section("budget").get("step_tokens") or 0)
    found = [step.step * step_tokens or step.budget_spent for step in run.steps if step.exam is not None]
    if end.exam is not None and (not run.steps or run.steps[-1].exam is None):
        found.append(end.budget)
    return {min(budget, end.budget) for budget in found}


def _changes(run: Run, budgets: Sequence[int]) -> np.ndarray:
    """Exam and probe changes of one run, (2, budgets, |C|).

    Whole examples never fill a budget to the token, so the step that stands for a budget is the
    one with an exam whose spent tokens are nearest, and it must lie within one step's tokens.
    """
    by_step = load_scores(run).pivot(index=["step", "spent"], columns="capability", values=["exam", "probe"])
    start, held = by_step.iloc[0].astype(float), by_step[1:].dropna()
    if start["exam"].isna().any():
        raise RecordError(f"{run.path / 'start.json'}: exam is null: a transfer run needs the exam of the start")
    longest = max((step.completion_tokens for step in run.steps), default=0)
    tolerance = 1.1 * (int(run.section("budget").get("step_tokens") or 0) or longest)
    changes = []
    for budget in budgets:
        distance = np.abs(held.index.get_level_values("spent").to_numpy(float) - budget)
        # The exam of a budget that no step ends at is held at the end of the step that passes it.
        if not distance.size or distance.min() > tolerance:
            raise RecordError(f"{run.path / 'steps.jsonl'}: no step near {budget:,} completion tokens has an exam")
        changes.append((held.iloc[int(distance.argmin())] - start).to_numpy(float).reshape(2, -1))
    return np.array(changes).transpose(1, 0, 2)
