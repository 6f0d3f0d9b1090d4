"""The transfer matrix by budget, and the two diagnostics of waste (arXiv 2605.11290).

T_ij(B) = s_j(student after B tokens on i alone) − s_j(initial student): row = where the tokens went,
column = what moved. One matrix a budget and a measure (exam, probe), over seeds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from read_env.reporting.records import RecordError, Run, Transfer
from read_env.reporting.statistics import Estimate, holm, mean_interval, one_sample_p

#: An off-diagonal entry smaller than this is not counted, whatever its p-value.
SIZE = 0.02
LEVEL = 0.05


@dataclass(frozen=True, eq=False)
class TransferMatrix:
    """Changes of all capabilities by source at one budget.

    Attributes:
        measure: ``exam`` or ``probe``.
        budget: completion tokens.
        changes: (sources, seeds, |C|), T_ij of every seed.
        own: (sources, |C|) booleans: the entries of a source on itself.
        mean, sd: (sources, |C|) over seeds.
        p: (sources, |C|) two-sided one-sample t test of every entry over seeds.
        p_holm: the p-values of all other entries adjusted as one family; NaN on the own ones.
    """

    measure: str
    budget: int
    changes: np.ndarray
    own: np.ndarray
    mean: np.ndarray
    sd: np.ndarray
    p: np.ndarray
    p_holm: np.ndarray

    @property
    def significant(self) -> np.ndarray:
        """(sources, |C|) booleans: entries off the diagonal with an adjusted p of at most .05."""
        return np.nan_to_num(self.p_holm, nan=1.0) <= LEVEL

    def survivors(self, sign: int, size: float = SIZE) -> np.ndarray:
        """(sources, |C|) booleans: the significant entries of this sign and at least this size."""
        large = self.mean >= size if sign > 0 else self.mean <= -size
        return large & self.significant


@dataclass(frozen=True)
class Waste:
    """The two diagnostics at one budget, with 95 % t intervals over seeds.

    Attributes:
        budget: completion tokens; ``previous`` is the budget before it (0 for the first).
        marginal_gain: gain on the target since the previous budget, per 10,000 completion tokens,
            mean over sources.
        negative_spillover: mean over off-diagonal entries of max(−T_ij, 0).
        of_means: the same from the matrix of means. Noise of single seeds lifts ``negative_spillover``
            (a maximum with zero has a positive mean), so the truth lies between the two.
    """

    budget: int
    previous: int
    marginal_gain: Estimate
    negative_spillover: Estimate
    of_means: float


@dataclass(frozen=True, eq=False)
class TransferResult:
    """Everything that a transfer report says.

    Attributes:
        suite: all capabilities: the columns.
        sources: the capabilities that were distilled alone: the rows.
        seeds: the seeds that every source finished.
        excluded_seeds: the others.
        budgets: completion tokens, rising.
        matrices, waste: by measure (``exam``, ``probe``), one a budget.
    """

    suite: tuple[str, ...]
    sources: tuple[str, ...]
    seeds: tuple[int, ...]
    excluded_seeds: tuple[int, ...]
    budgets: tuple[int, ...]
    matrices: dict[str, tuple[TransferMatrix, ...]]
    waste: dict[str, tuple[Waste, ...]]


def analyse(transfer: Transfer) -> TransferResult:
    """Matrices and diagnostics of a transfer directory.

    Only seeds with a finished run for every source enter, so that all entries rest on the same seeds;
    the others are named in ``excluded_seeds``.

    Raises:
        RecordError: no complete seed, or a run without exam scores at an asked budget.
    """
    suite, sources, finished = transfer.suite, transfer.sources, transfer.finished
    present = sorted({seed for _, seed in transfer.runs})
    seeds = tuple(seed for seed in present if all((name, seed) in finished for name in sources))
    if not seeds:
        raise RecordError(
            f"{transfer.path}: no seed has a finished run for every capability: "
            f"{len(finished)} of {len(sources) * len(present)} runs are finished"
        )
    budgets = _budgets(transfer, finished[sources[0], seeds[0]])
    shape = (len(budgets), len(sources), len(seeds), len(suite))
    changes = {"exam": np.empty(shape), "probe": np.empty(shape)}
    for b, i, k in np.ndindex(shape[:3]):
        changes["exam"][b, i, k], changes["probe"][b, i, k] = _changes(finished[sources[i], seeds[k]], budgets[b])
    own = np.array([[source == name for name in suite] for source in sources])
    return TransferResult(
        suite=suite,
        sources=sources,
        seeds=seeds,
        excluded_seeds=tuple(seed for seed in present if seed not in seeds),
        budgets=budgets,
        matrices={
            measure: tuple(matrix(measure, budget, c, own) for budget, c in zip(budgets, values, strict=True))
            for measure, values in changes.items()
        },
        waste={measure: waste(budgets, values, own) for measure, values in changes.items()},
    )


def matrix(measure: str, budget: int, changes: np.ndarray, own: np.ndarray) -> TransferMatrix:
    """The transfer matrix of (sources, seeds, |C|) changes; ``own`` marks each source's own column."""
    sources, seeds, size = changes.shape
    p = np.array([[one_sample_p(changes[i, :, j])[0] for j in range(size)] for i in range(sources)])
    p_holm = np.full_like(p, np.nan)
    p_holm[~own] = holm(p[~own])
    sd = changes.std(axis=1, ddof=1) if seeds > 1 else np.full((sources, size), np.nan)
    return TransferMatrix(measure, budget, changes, own, changes.mean(axis=1), sd, p, p_holm)


def waste(budgets: Sequence[int], changes: np.ndarray, own: np.ndarray) -> tuple[Waste, ...]:
    """The two diagnostics of (budgets, sources, seeds, |C|) changes, by budget."""
    by_seed = changes.transpose(0, 2, 1, 3)  # (budgets, seeds, sources, |C|)
    target = by_seed[..., own].mean(axis=-1)  # (budgets, seeds): mean gain on the own target
    negative = np.maximum(-by_seed, 0.0)[..., ~own].mean(axis=-1)
    of_means = np.maximum(-changes.mean(axis=2), 0.0)[:, ~own].mean(axis=-1)
    result, last, previous = [], np.zeros(changes.shape[2]), 0
    for b, budget in enumerate(budgets):
        marginal = (target[b] - last) / (budget - previous) * 10_000
        result.append(Waste(budget, previous, mean_interval(marginal), mean_interval(negative[b]), float(of_means[b])))
        last, previous = target[b], budget
    return tuple(result)


def as_json(result: TransferResult) -> dict[str, Any]:
    """The content of ``transfer.json``: plain lists and numbers, None where a number does not exist."""
    return {
        "suite": list(result.suite),
        "sources": list(result.sources),
        "budgets": list(result.budgets),
        "seeds": list(result.seeds),
        "excluded_seeds": list(result.excluded_seeds),
        "row": "capability that received all tokens",
        "column": "capability that moved",
        "size": SIZE,
        "level": LEVEL,
        "matrices": {
            measure: {
                str(entry.budget): {
                    **{name: _plain(getattr(entry, name)) for name in ("mean", "sd", "p", "p_holm")},
                    "survivors": {
                        name: [[result.sources[i], result.suite[j]] for i, j in np.argwhere(entry.survivors(sign))]
                        for name, sign in (("negative", -1), ("positive", +1))
                    },
                }
                for entry in entries
            }
            for measure, entries in result.matrices.items()
        },
        "waste": {
            measure: [
                {
                    "budget": entry.budget,
                    "previous": entry.previous,
                    "marginal_gain_per_10k": _estimate(entry.marginal_gain),
                    "negative_spillover": _estimate(entry.negative_spillover),
                    "negative_spillover_of_means": entry.of_means,
                }
                for entry in entries
            ]
            for measure, entries in result.waste.items()
        },
    }


def _budgets(transfer: Transfer, run: Run) -> tuple[int, ...]:
    """The budgets at which exams were held: as the configuration asked, else from the steps that have one."""
    asked = transfer.config.get("budgets")
    if asked:
        return tuple(sorted(int(budget) for budget in asked))
    step_tokens = _step_tokens(run)
    found = [
        entry.step * step_tokens if step_tokens else entry.budget_spent for entry in run.steps if entry.exam is not None
    ]
    if run.ended.exam is not None and (not run.steps or run.steps[-1].exam is None):
        found.append(run.ended.budget)
    # A last step that ends the budget early still stands for the whole budget.
    return tuple(sorted({min(budget, run.ended.budget) for budget in found}))


def _changes(run: Run, budget: int) -> tuple[np.ndarray, np.ndarray]:
    """Exam and probe changes of one run at one budget, (|C|,) each.

    Whole examples never fill a budget to the token, so the step that stands for a budget is the
    one with an exam whose spent tokens are nearest, and it must lie within one step's tokens.
    """
    start, end = run.begun, run.ended
    exam_start = start.exam if start.exam is not None else end.exam_start
    if exam_start is None:
        raise RecordError(f"{run.path / 'start.json'}: exam is null: a transfer run needs the exam of the start")
    held = [(step.budget_spent, step.exam, step.profile) for step in run.steps if step.exam is not None]
    if end.exam is not None:
        held.append((end.spent, end.exam, end.profile))
    spent, exam, profile = min(held, key=lambda entry: abs(entry[0] - budget), default=(-1, None, start.profile))
    # The exam of a budget that no step ends at is held at the end of the step that passes it.
    tolerance = 1.1 * (_step_tokens(run) or max((step.completion_tokens for step in run.steps), default=0))
    if exam is None or abs(spent - budget) > tolerance:
        raise RecordError(f"{run.path / 'steps.jsonl'}: no step near {budget:,} completion tokens has an exam")
    return exam - exam_start, profile - start.profile


def _step_tokens(run: Run) -> int:
    return int(dict(run.config.get("budget") or {}).get("step_tokens") or 0)


def _plain(array: np.ndarray) -> list[Any]:
    return [[None if np.isnan(value) else float(value) for value in row] for row in array]


def _estimate(entry: Estimate) -> dict[str, float | int | None]:
    values = {"mean": entry.mean, "low": entry.low, "high": entry.high, "n": entry.n}
    return {key: None if np.isnan(value) else value for key, value in values.items()}
