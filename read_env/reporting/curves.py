"""Numbers over tokens: runs of one agent brought onto one grid, with a confidence band."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from read_env.reporting.records import Run, Step
from read_env.reporting.statistics import t_quantile

Curve = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def token_edges(run: Run) -> np.ndarray:
    """(steps + 1,) completion tokens spent before the first step and after each step."""
    return np.array([0, *(step.budget_spent for step in run.steps)], dtype=np.float64)


def curve(
    runs: Sequence[Run], value: Callable[[Step], float], first: Callable[[Run], float], points: int = 41
) -> Curve:
    """Mean over runs of a number by completion tokens, with a 95 % t band.

    Runs spend slightly different amounts in a step (whole examples only), so each is interpolated
    linearly onto a grid that ends where the shortest of them ends.

    Args:
        runs: of one agent on one task, at least one.
        value: of a step, valid at its end.
        first: of a run, valid at zero tokens.
        points: on the grid.

    Returns:
        Grid (tokens), mean, low, high, each (points,); low and high are NaN for a single run.
    """
    grid = np.linspace(0, min(token_edges(run)[-1] for run in runs), points)
    samples = np.array(
        [np.interp(grid, token_edges(run), [first(run), *(value(step) for step in run.steps)]) for run in runs]
    )
    mean, n = samples.mean(axis=0), len(runs)
    half = t_quantile(0.95, n - 1) * samples.std(axis=0, ddof=1) / np.sqrt(n) if n > 1 else np.full(points, np.nan)
    return grid, mean, mean - half, mean + half


def utility_curve(runs: Sequence[Run]) -> Curve:
    """Utility on the probe profile."""
    return curve(runs, lambda step: step.utility, lambda run: run.begun.utility)


def spillover_curve(runs: Sequence[Run]) -> Curve:
    """Spillover, summed up to each point."""
    totals = {id(step): float(total) for run in runs for step, total in zip(run.steps, _cumulative(run), strict=True)}
    return curve(runs, lambda step: totals[id(step)], lambda run: 0.0)


def forgetting_curve(runs: Sequence[Run]) -> Curve:
    """Mean drop since the start on the capabilities that are not essential (gains count as zero).

    A step's own ``forgetting`` is the drop within that step; what is lost at a point of the run is
    measured against the start, as in the summary.
    """
    lost = {id(step): _lost(run, step) for run in runs for step in run.steps}
    return curve(runs, lambda step: lost[id(step)], lambda run: 0.0)


def mean_allocation(runs: Sequence[Run]) -> tuple[np.ndarray, np.ndarray]:
    """Token edges (steps + 1,) and allocations (steps, |C|), averaged over runs up to the shortest."""
    steps = min(len(run.steps) for run in runs)
    edges = np.mean([token_edges(run)[: steps + 1] for run in runs], axis=0)
    return edges, np.mean([[step.allocation for step in run.steps[:steps]] for run in runs], axis=0)


def _lost(run: Run, step: Step) -> float:
    others = ~run.essential
    return float(np.maximum(run.begun.profile - step.profile, 0.0)[others].mean()) if others.any() else 0.0


def _cumulative(run: Run) -> np.ndarray:
    return np.cumsum([step.spillover for step in run.steps])
