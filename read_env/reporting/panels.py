"""Panels that several pictures share: each draws one thing into given axes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from read_env.reporting.style import (
    AFTER,
    BEFORE,
    FAINT,
    MUTED,
    NEED,
    agent_styles,
    capability_colours,
    readable,
    token_axis,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def profile_dumbbells(
    axes: Axes,
    suite: Sequence[str],
    requirement: np.ndarray,
    before: np.ndarray,
    after: np.ndarray,
    after_colour: str = AFTER,
    low: np.ndarray | None = None,
    high: np.ndarray | None = None,
) -> None:
    """Profile before (hollow) and after (filled), one row a capability, the needed ones on top and marked.

    ``requirement``, ``before`` and ``after`` are (|C|,), scores in [0, 1]; a needed capability's row is
    tinted and carries its weight. ``low`` and ``high`` are the ends of an interval around ``after``.
    """
    needed = requirement > 0
    order = sorted(range(len(suite)), key=lambda c: (not needed[c], -requirement[c], c))
    rows = np.arange(len(suite))[::-1]
    for row, c in zip(rows, order, strict=True):
        if needed[c]:
            axes.axhspan(row - 0.5, row + 0.5, color=NEED, alpha=0.12, linewidth=0)
        axes.plot([before[c], after[c]], [row, row], color=after_colour if needed[c] else FAINT, linewidth=2, zorder=2)
        if low is not None and high is not None and np.isfinite([low[c], high[c]]).all():
            axes.plot([max(low[c], 0), min(high[c], 1)], [row - 0.27] * 2, color=MUTED, linewidth=1, zorder=2)
        axes.plot(before[c], row, "o", markersize=5.5, markerfacecolor="white", markeredgecolor=BEFORE, zorder=3)
        axes.plot(
            after[c], row, "o", markersize=5.5, color=after_colour, alpha=1 if needed[c] else 0.55, zorder=4,
            markeredgewidth=0,
        )  # fmt: skip
    labels = [f"{readable(suite[c])}  {_share(requirement[c])}" if needed[c] else readable(suite[c]) for c in order]
    axes.set_yticks(rows, labels)
    # Axes that share their labels with a neighbour have none of their own.
    for label, c in zip(axes.get_yticklabels(), order, strict=False):
        label.set_fontweight("bold" if needed[c] else "normal")
        label.set_color("#222222" if needed[c] else MUTED)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.set(ylim=(-0.6, len(suite) - 0.4), xlim=(0, 1))
    axes.set_xticks(np.linspace(0, 1, 6))
    axes.grid(axis="x")


def stacked_allocation(
    axes: Axes, suite: Sequence[str], edges: np.ndarray, allocations: np.ndarray, budget: float
) -> None:
    """Allocation over time as stacked areas: constant within a step.

    ``edges`` (steps + 1,) are the completion tokens at the steps' ends, from 0; ``allocations``
    (steps, |C|) lie on the simplex; ``budget`` in completion tokens ends the axis.
    """
    colours = capability_colours(suite)
    heights = np.vstack([allocations, allocations[-1:]])
    top = np.zeros(len(edges))
    for c, name in enumerate(suite):
        bottom, top = top, top + heights[:, c]
        axes.fill_between(edges, bottom, top, step="post", color=colours[name], linewidth=0.3, edgecolor="white")
    token_axis(axes, budget)
    axes.set_ylim(0, 1)
    axes.set_yticks([0, 0.25, 0.5, 0.75, 1])


def allocation_columns(axes: Axes, suite: Sequence[str], columns: Mapping[str, np.ndarray]) -> None:
    """Mean allocations, one stacked column an agent."""
    colours = capability_colours(suite)
    for x, allocation in enumerate(columns.values()):
        bottom = 0.0
        for c, name in enumerate(suite):
            axes.bar(x, allocation[c], 0.72, bottom=bottom, color=colours[name], linewidth=0.3, edgecolor="white")
            bottom += float(allocation[c])
    axes.set(ylim=(0, 1), xlim=(-0.6, len(columns) - 0.4))
    axes.set_yticks([0, 0.25, 0.5, 0.75, 1], [])
    axes.set_xticks(range(len(columns)), list(columns), rotation=45, ha="right", rotation_mode="anchor")
    axes.tick_params(length=0)
    axes.spines["left"].set_visible(False)


def bands(
    axes: Axes, curves: Mapping[str, tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]], budget: float
) -> None:
    """Curves (grid, mean, low, high) over tokens by agent; a band stands where an interval exists."""
    for agent, (colour, line) in agent_styles(list(curves)).items():
        grid, mean, low, high = curves[agent]
        if np.isfinite(low).any():
            axes.fill_between(grid, low, high, color=colour, alpha=0.13, linewidth=0)
        axes.plot(grid, mean, color=colour, linestyle=line, linewidth=1.7, label=agent)
    token_axis(axes, budget)
    axes.grid(axis="y")


def capability_handles(suite: Sequence[str], shown: np.ndarray | None = None) -> list:
    """Legend patches of capabilities, bottom of the stack last; ``shown`` (|C|,) booleans choose some."""
    from matplotlib.patches import Patch

    colours = capability_colours(suite)
    names = [name for c, name in enumerate(suite) if shown is None or shown[c]]
    return [Patch(color=colours[name], label=readable(name)) for name in reversed(names)]


def _share(weight: float) -> str:
    return f"({weight:.2f})".replace("(0.", "(.").replace("(1.00)", "(1)")
