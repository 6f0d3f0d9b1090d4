"""Pictures of a single run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from read_env.reporting.curves import forgetting_curve, spillover_curve, token_edges
from read_env.reporting.panels import capability_handles, profile_dumbbells, stacked_allocation
from read_env.reporting.records import Run
from read_env.reporting.style import AFTER, BEFORE, HARM, INK, MUTED, NEED, figure, look, token_axis

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def run_profile(run: Run) -> Figure:
    """Profile before and after, on the probes and, where the run held it, on the exam."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    start = run.begun
    panels = [("Probe profile", "probe score", start.profile, run.steps[-1].profile if run.steps else start.profile)]
    exam = run.summary.exam if run.summary is not None else None
    if start.exam is not None and exam is not None:
        panels.append(("Exam", "exact match", start.exam, exam))
    with look():
        picture = figure(height=3.5)
        axes = picture.subplots(1, len(panels), sharey=True, squeeze=False)[0]
        for ax, (title, label, before, after) in zip(axes, panels, strict=True):
            profile_dumbbells(ax, start.suite, start.requirement, before, after)
            ax.set(title=title, xlabel=label)
        handles = [
            Line2D([], [], marker="o", linestyle="", markerfacecolor="white", markeredgecolor=BEFORE, label="before"),
            Line2D([], [], marker="o", linestyle="", color=AFTER, label="after"),
            Patch(color=NEED, alpha=0.2, label="needed by the task (weight)"),
        ]
        picture.legend(handles=handles, loc="outside lower right", ncols=3)
    return picture


def run_allocation(run: Run) -> Figure:
    """Where the tokens went: allocation over time as stacked areas."""
    with look():
        picture = figure(height=3.2)
        ax = picture.subplots()
        stacked_allocation(
            ax, run.begun.suite, token_edges(run), np.array([step.allocation for step in run.steps]), _budget(run)
        )
        ax.set(title="Allocation over time", ylabel="share of the step's tokens")
        picture.legend(handles=capability_handles(run.begun.suite), loc="outside right upper")
    return picture


def run_utility(run: Run) -> Figure:
    """Utility over tokens on the probes, with the dev measurements and the exam at both ends."""
    start = run.begun
    with look():
        picture = figure(height=3.2)
        ax = picture.subplots()
        edges = token_edges(run)
        ax.plot(
            edges, [start.utility, *(step.utility for step in run.steps)], color=AFTER, linewidth=1.8, label="probes"
        )
        dev = [(step.budget_spent, step.dev_utility) for step in run.steps if step.dev_utility is not None]
        if dev:
            ax.plot(*zip(*dev, strict=True), "D", color=NEED, markersize=5, label="dev", clip_on=False)
        before, after = (run.summary.exam_utility_start, run.summary.exam_utility) if run.summary else (None, None)
        if before is not None and after is not None:
            ax.plot(
                [0, edges[-1]], [before, after], "o", markersize=6, markerfacecolor="white", markeredgecolor=INK, label="exam",
                clip_on=False, zorder=5,
            )  # fmt: skip
        token_axis(ax, _budget(run))
        ax.set(title=f"Utility of {start.task} over tokens", ylabel="utility")
        ax.grid(axis="y")
        ax.margins(y=0.12)
        ax.legend(loc="best")
    return picture


def run_costs(run: Run) -> Figure:
    """Spillover (summed) and forgetting (against the start) over tokens."""
    with look():
        picture = figure(height=2.9)
        left, right = picture.subplots(1, 2)
        for ax, curve, colour, title, label in (
            (left, spillover_curve([run]), HARM, "Spillover", "weighted drops on needed\ncapabilities, summed"),
            (
                right,
                forgetting_curve([run]),
                MUTED,
                "Forgetting",
                "mean drop on the other\ncapabilities since the start",
            ),
        ):
            grid, mean, *_ = curve
            ax.plot(grid, mean, color=colour, linewidth=1.8)
            ax.fill_between(grid, 0, mean, color=colour, alpha=0.12, linewidth=0)
            token_axis(ax, _budget(run))
            ax.set(title=title, ylabel=label)
            ax.set_ylim(0, max(0.01, 1.15 * float(mean.max())))
            ax.grid(axis="y")
    return picture


def _budget(run: Run) -> float:
    return float(run.budget or token_edges(run)[-1])
