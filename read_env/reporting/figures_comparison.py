"""Pictures of a comparison: agents beside each other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from read_env.reporting.curves import Curve, forgetting_curve, mean_allocation, spillover_curve, utility_curve
from read_env.reporting.measures import Measure, over_tasks
from read_env.reporting.panels import (
    allocation_columns,
    bands,
    capability_handles,
    profile_dumbbells,
    stacked_allocation,
)
from read_env.reporting.records import Comparison, Run
from read_env.reporting.statistics import Estimate, mean_interval
from read_env.reporting.style import (
    BEFORE,
    FAINT,
    INK,
    MUTED,
    NEED,
    WIDTH,
    agent_styles,
    figure,
    look,
    readable,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: More agents than this make a picture of bands or columns unreadable; the tables have all of them.
MOST_CURVES = 6
MOST_COLUMNS = 4


def overview(comparison: Comparison, task: str, agent: str, others: Sequence[str]) -> Figure:
    """The picture of the README: profile, utility over tokens, and who spent what, for one task.

    Args:
        comparison: the records.
        task: the task that is shown.
        agent: the agent whose student and allocation are shown.
        others: agents beside it, the most interesting first; as many as fit are drawn.
    """
    from matplotlib.lines import Line2D

    runs = {name: comparison.of(name, task) for name in (agent, *others)}
    runs = {name: found for name, found in runs.items() if found}
    start, suite = runs[agent][0].begun, comparison.suite
    colour = agent_styles([agent])[agent][0]
    after = np.array([run.ended.profile for run in runs[agent]])
    estimates = [mean_interval(column) for column in after.T]
    low, high = (np.array([getattr(entry, end) for entry in estimates]) for end in ("low", "high"))
    with look():
        picture = figure(WIDTH * 1.25, 4.3)
        left, middle, over_time, columns = picture.subplots(1, 4, width_ratios=[1.05, 1.3, 1.0, 0.62])
        profile_dumbbells(left, suite, start.requirement, start.profile, after.mean(axis=0), colour, low, high)
        left.set(title="What the task needs", xlabel="probe score")
        handles = [
            Line2D([], [], marker="o", linestyle="", markerfacecolor="white", markeredgecolor=BEFORE, label="before"),
            Line2D([], [], marker="o", linestyle="", color=colour, label=f"after {agent}"),
            Line2D([], [], linewidth=1, color=MUTED, label="95 % interval"),
            Line2D([], [], linewidth=6, color=NEED, alpha=0.25, label="needed (weight)"),
        ]
        _below(left, handles, 1)
        shown = list(runs)[:MOST_CURVES]
        bands(middle, {name: utility_curve(runs[name]) for name in shown}, _budget(runs[agent]))
        middle.set(title=f"Utility of {task}", ylabel=f"utility (probes), {_over(runs[agent])}")
        _below(middle, middle.get_legend_handles_labels()[0], 2)
        edges, allocations = mean_allocation(runs[agent])
        stacked_allocation(over_time, suite, edges, allocations, _budget(runs[agent]))
        over_time.set(title=f"Allocation: {agent}", ylabel=f"share of tokens, {_over(runs[agent])}")
        fixed = [name for name in shown if name != agent][:MOST_COLUMNS]
        means = {name: _spent_shares(runs[name]) for name in fixed}
        allocation_columns(columns, suite, means)
        columns.set_title("The others")
        spent = np.vstack([allocations, *means.values()]).max(axis=0)
        _below(over_time, capability_handles(suite, spent > 0.004), 2)  # thinner than a line: not in the legend
    return picture


def utility_bands(comparison: Comparison, agents: Sequence[str]) -> Figure:
    """Utility over tokens with 95 % bands, one panel a task; the first ``MOST_CURVES`` of ``agents`` are drawn."""
    return _curves(comparison, agents, utility_curve, "utility (probes)", share=False)


def harm_bands(comparison: Comparison, agents: Sequence[str]) -> tuple[Figure, Figure]:
    """Spillover and forgetting over tokens with 95 % bands, one panel a task, of the same agents."""
    return (
        _curves(comparison, agents, spillover_curve, "spillover, summed", share=True),
        _curves(comparison, agents, forgetting_curve, "forgetting", share=True),
    )


def comparison_dots(comparison: Comparison, measure: Measure) -> Figure:
    """One measure by agent: the mean over tasks (left) and every task, with 95 % intervals and single runs.

    Agents are sorted by their mean over tasks; agents that lack a task have no entry in the left panel.
    """
    columns: list[tuple[str, list[str]]] = (
        [("mean over tasks", list(comparison.tasks))] if len(comparison.tasks) > 1 else []
    )
    columns += [(task, [task]) for task in comparison.tasks]
    values = {
        (agent, task): [measure.value(run) for run in comparison.of(agent, task)]
        for agent in comparison.agents
        for task in comparison.tasks
    }
    # Best on top; an agent that lacks a task goes below those that have all.
    sign = 1 if measure.better == "higher" else -1
    means = {a: [float(np.mean(values[a, t])) for t in comparison.tasks if values[a, t]] for a in comparison.agents}
    agents = sorted(comparison.agents, key=lambda a: (len(means[a]), sign * float(np.mean(means[a])), a))
    rows_of_panels = -(-len(columns) // 4)
    across = min(4, len(columns))
    with look():
        picture = figure(WIDTH * (1.0 if across > 2 else 0.75), rows_of_panels * (0.27 * len(agents) + 0.75) + 0.3)
        grid = picture.subplots(rows_of_panels, across, sharey=True, squeeze=False)
        panels = list(grid.flat)
        styles = agent_styles(comparison.agents)
        for ax, (title, tasks) in zip(panels, columns, strict=False):
            for y, agent in enumerate(agents):
                samples = values[agent, tasks[0]]
                estimate = over_tasks(comparison, measure, agent) if len(tasks) > 1 else None
                if len(tasks) == 1 and samples:
                    estimate = mean_interval(samples)
                if estimate is None:
                    continue
                colour = styles[agent][0]
                if len(tasks) == 1:
                    heights = [y - 0.24] * len(samples)
                    ax.plot(samples, heights, "o", color=colour, alpha=0.4, markersize=3.5, markeredgewidth=0)
                _dot(ax, y, estimate, colour)
            ax.set_title(title)
            ax.axvline(0, color=FAINT, linewidth=0.8, zorder=0)
            ax.grid(axis="x")
            ax.locator_params(axis="x", nbins=4)
            ax.set_yticks(range(len(agents)), agents)
            ax.set_ylim(-0.6, len(agents) - 0.4)
            ax.tick_params(axis="y", length=0)
            ax.spines["left"].set_visible(False)
        for ax in panels[len(columns) :]:
            ax.set_axis_off()
        picture.supxlabel(f"{measure.title.lower()} (mean, 95 % interval; small: single runs)", fontsize=9)
    return picture


def profile_changes(comparison: Comparison, task: str) -> Figure:
    """Change of every capability by agent on one task, as a heatmap: where gains and drops fell."""
    from matplotlib.colors import TwoSlopeNorm

    agents = [agent for agent in comparison.agents if comparison.of(agent, task)]
    changes = np.array(
        [
            np.mean([run.ended.profile - run.ended.profile_start for run in comparison.of(a, task)], axis=0)
            for a in agents
        ]
    )
    requirement = comparison.of(agents[0], task)[0].begun.requirement
    limit = max(0.05, float(np.abs(changes).max()))
    with look():
        picture = figure(WIDTH * 0.8, 0.3 * len(agents) + 1.7)
        ax = picture.subplots()
        image = ax.imshow(changes, cmap="RdBu", norm=TwoSlopeNorm(0, -limit, limit), aspect="auto")
        for i, j in np.ndindex(changes.shape):
            ink = "white" if abs(changes[i, j]) > 0.6 * limit else INK
            ax.text(j, i, _points(float(changes[i, j])), ha="center", va="center", fontsize=8, color=ink)
        labels = [readable(name) for name in comparison.suite]
        ax.set_xticks(range(len(labels)), labels, rotation=35, ha="right", rotation_mode="anchor")
        for label, weight in zip(ax.get_xticklabels(), requirement, strict=True):
            label.set_fontweight("bold" if weight > 0 else "normal")
        ax.set_yticks(range(len(agents)), agents)
        ax.tick_params(length=0)
        ax.spines[:].set_visible(False)
        ax.set_title(f"Change of the probe profile on {task} (needed in bold)")
        picture.colorbar(image, ax=ax, label="change of score", shrink=0.9)
    return picture


def _curves(
    comparison: Comparison, wanted: Sequence[str], curve: Callable[[Sequence[Run]], Curve], label: str, share: bool
) -> Figure:
    tasks, agents = comparison.tasks, wanted[:MOST_CURVES]
    across = min(3, len(tasks))
    down = -(-len(tasks) // across)
    with look():
        picture = figure(WIDTH * (1.0 if across > 1 else 0.75), 2.5 * down + 0.7)
        grid = picture.subplots(down, across, squeeze=False, sharey=share)
        panels = list(grid.flat)
        for ax, task in zip(panels, tasks, strict=False):
            runs = {agent: comparison.of(agent, task) for agent in agents}
            present = {agent: curve(found) for agent, found in runs.items() if found}
            bands(ax, present, max(_budget(found) for found in runs.values() if found))
            ax.set_title(task)
            if ax in grid[:, 0]:
                ax.set_ylabel(label)
            if share:
                ax.set_ylim(bottom=0)
        for ax in panels[len(tasks) :]:
            ax.set_axis_off()
        by_label: dict[str, Any] = {}
        for ax in panels[: len(tasks)]:
            by_label |= dict(zip(*reversed(ax.get_legend_handles_labels()), strict=True))
        picture.legend(
            handles=list(by_label.values()),
            labels=list(by_label),
            loc="outside lower center",
            ncols=min(6, len(by_label)),
        )
    return picture


def _points(change: float) -> str:
    text = f"{change:+.2f}"
    return text.replace("0.", ".").replace("-", "−") if float(text) else "0"


def _dot(ax: Axes, y: float, estimate: Estimate, colour: str) -> None:
    if np.isfinite([estimate.low, estimate.high]).all():
        ax.plot([estimate.low, estimate.high], [y, y], color=colour, linewidth=1.8, solid_capstyle="round")
    ax.plot(estimate.mean, y, "o", color=colour, markersize=5, markeredgecolor="white", markeredgewidth=0.5, zorder=4)


def _spent_shares(runs: Sequence[Run]) -> np.ndarray:
    """(|C|,) shares of the completion tokens over whole runs."""
    tokens = np.sum([step.tokens_by_capability for run in runs for step in run.steps], axis=0)
    return tokens / tokens.sum()


def _over(runs: Sequence[Run]) -> str:
    return f"mean of {len(runs)} seeds" if len(runs) > 1 else "one seed"


def _budget(runs: Sequence[Run]) -> float:
    return float(max(run.ended.budget for run in runs))


def _below(ax: Axes, handles: list, columns: int) -> None:
    ax.legend(
        handles=handles,
        loc="upper left",
        bbox_to_anchor=(-0.02, -0.17),
        ncols=columns,
        columnspacing=1.2,
        borderaxespad=0,
    )
