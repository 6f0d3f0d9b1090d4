"""The pictures of a comparison's report; ``…_figure`` are those of its web page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from read_env.reporting import style, web_pictures
from read_env.reporting.comparison import Comparison, Measure
from read_env.reporting.style import WIDTH, panels

#: More agents than this make a picture of bands or columns unreadable; the tables have all of them.
MOST_CURVES, MOST_COLUMNS = 6, 4

#: Completion tokens at the steps' ends, from 0; share of each capability (columns) in each step (rows); budget.
Allocation = tuple[np.ndarray, pd.DataFrame, float]


def overview(comparison: Comparison, task: str, agent: str, others: Sequence[str]) -> Figure:
    """The picture of the README: profile, utility over tokens, and allocations, for one task.

    Profile and allocation are those of ``agent``; of the ``others`` beside it, as many as fit are drawn.
    """
    steps, scores = (frame[frame["task"] == task] for frame in (comparison.steps, comparison.scores))
    shown = [name for name in (agent, *others) if (steps["agent"] == name).any()][:MOST_CURVES]
    own, own_scores = (style.shared_steps(frame[frame["agent"] == agent]) for frame in (steps, scores))
    runs = own["path"].nunique()
    over = f"mean of {runs} seeds" if runs > 1 else "one seed"
    picture, grid = panels(range(4), 4, WIDTH * 1.25, 4.3, width_ratios=[1.05, 1.3, 1.0, 0.62])
    left, middle, over_time, columns = (axes for axes, _ in grid)
    colour = style.agent_colours([agent])[agent]
    _below(left, style.before_after(left, scores[scores["agent"] == agent], "probe", colour), 1)
    left.set(title="What the task needs", xlabel=f"probe score under {agent}")
    style.bands(middle, steps, "utility", shown)
    middle.set(title=f"Utility of {task}", ylabel=f"utility (probes), {over}")
    _below(middle, middle.get_legend_handles_labels()[0], 2)
    shares, (edges, allocations, budget) = _shares(scores, "agent"), _allocation(own, own_scores)
    style.stacked_allocation(over_time, edges, allocations, budget)
    over_time.set(title=f"Allocation: {agent}", ylabel=f"share of tokens, {over}")
    handles = style.capability_handles(comparison.first.begun.suite)
    _below(over_time, handles[::-1], 2)
    colours = [handle.get_facecolor() for handle in handles]
    compared = shown[1 : MOST_COLUMNS + 1]
    if compared and len(shares):  # agents that stop before their first step have no shares
        shares.reindex(compared).plot.bar(stacked=True, width=0.72, color=colours, legend=False, ax=columns)
        columns.set_xticks(range(len(compared)), compared, rotation=45, ha="right", rotation_mode="anchor")
    columns.set(ylim=(0, 1), yticks=[], title="The others", xlabel="")
    return picture


def allocations_picture(comparison: Comparison, task: str) -> Figure:
    """Allocation of every agent over time on one task, mean over seeds."""
    every = _allocations(comparison, task)
    picture, grid = panels(every.items(), 4, height=2.3, sharey=True)
    for axes, (agent, allocation) in grid:
        style.stacked_allocation(axes, *allocation)
        axes.set(title=agent)
    grid[0][0].set(ylabel="share of tokens")
    handles = style.capability_handles(comparison.first.begun.suite)
    picture.legend(handles=handles[::-1], loc="outside right upper")
    return picture


def allocations_figure(comparison: Comparison, task: str) -> str:
    """Allocation of every agent over time on one task, mean over seeds."""
    every = _allocations(comparison, task)
    drawn = [web_pictures.allocation_panel(agent, *allocation) for agent, allocation in every.items()]
    caption = f"Allocation on {task}, mean over seeds, by completion tokens"
    return web_pictures.figure(caption, web_pictures.capability_entries(comparison.first.begun.suite), drawn)


def _allocations(comparison: Comparison, task: str) -> dict[str, Allocation]:
    """Allocation of each agent; of one that stopped before its first step, without rows and columns."""
    steps, scores = (
        style.shared_steps(frame[frame["task"] == task]) for frame in (comparison.steps, comparison.scores)
    )
    return {
        agent: _allocation(steps[steps["agent"] == agent], scores[scores["agent"] == agent])
        for agent in comparison.agents
        if (steps["agent"] == agent).any()
    }


def _shares(scores: pd.DataFrame, index: str) -> pd.DataFrame:
    """Shares of the tokens that went to each capability (columns), by step or agent (rows)."""
    tokens = scores.pivot_table(index=index, columns="capability", values="tokens", aggfunc="sum", observed=True)
    return tokens.div(tokens.sum(axis=1), axis=0)


def _allocation(steps: pd.DataFrame, scores: pd.DataFrame) -> Allocation:
    """Allocation of one agent over time, mean over its runs."""
    edges = steps.groupby("step")["spent"].mean().to_numpy(float)
    return edges, _shares(scores[scores["step"] > 0], "step"), float(steps["budget"].max())


def curves(comparison: Comparison, agents: Sequence[str], column: str, label: str) -> Figure:
    """A column of ``load_steps`` over tokens with 95 % bands, one panel per task; panels of harms share an axis from 0."""
    harm = column != "utility"
    picture, grid = panels(comparison.tasks, 3, height=2.9, sharey=harm)
    handles: dict[str, Any] = {}
    for axes, task in grid:
        style.bands(axes, comparison.steps[comparison.steps["task"] == task], column, agents[:MOST_CURVES])
        axes.set(title=task, ylabel=label if axes is grid[0][0] else "")
        if harm:
            axes.set_ylim(bottom=0)
        handles |= dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    picture.legend(list(handles.values()), list(handles), loc="outside lower center", ncols=min(6, len(handles)))
    return picture


def curves_figure(comparison: Comparison, agents: Sequence[str], column: str, label: str) -> str:
    """A column of ``load_steps`` over tokens with 95 % bands, one panel per task."""
    entries = web_pictures.agent_entries(agents)[:MOST_CURVES]
    drawn = []
    for task in comparison.tasks:
        steps = comparison.steps[comparison.steps["task"] == task]
        budget, harm = float(steps["budget"].max()), column != "utility"
        drawn.append(web_pictures.line_panel(task, steps, column, entries, budget, from_zero=harm))
    return web_pictures.figure(f"{label.capitalize()}, by completion tokens", entries, drawn)


def dots(comparison: Comparison, measure: Measure) -> Figure:
    """One measure by agent: the mean over tasks (left) and every task, with 95 % intervals and single runs.

    Agents are sorted by their mean over tasks, the best on top; agents that lack a task come last and
    have no entry in the left panel.
    """
    runs, tasks, key = comparison.runs, comparison.tasks, measure.key
    means = runs.groupby(["agent", "task"])[key].mean().groupby("agent").agg(["size", "mean"])
    order = list(means.sort_values(["size", "mean"], ascending=False).index)
    seeds = runs.groupby(["agent", "seed"])[key].agg(["size", "mean"]).reset_index().rename(columns={"mean": key})
    data = {"mean over tasks": seeds[seeds["size"] == len(tasks)]} if len(tasks) > 1 else {}
    data |= {task: runs[runs["task"] == task] for task in tasks}
    picture, grid = panels(data, 4, height=0.27 * len(order) + 0.9, sharey=True)
    options: Any = {"x": key, "y": "agent", "hue": "agent", "order": order, "hue_order": order, "legend": False}
    options |= {"palette": {agent: style.agent_colours(order)[agent] for agent in order}}
    for axes, title in grid:
        sns.stripplot(data[title], **options, size=3.5, alpha=0.5, jitter=False, linewidth=0.5, zorder=3, ax=axes)
        sns.pointplot(data[title], **options, errorbar=style.t_interval, linestyle="none", markersize=5, ax=axes)
        axes.set(title=title, xlabel="", ylabel="")
        axes.axvline(0, color=style.FAINT, linewidth=0.8, zorder=0)
        axes.locator_params(axis="x", nbins=4)
    picture.supxlabel(f"{measure.title.lower()} (mean, 95 % interval; small: single seeds)", fontsize=9)
    return picture


def profile_changes(comparison: Comparison, task: str) -> Figure:
    """Change of every capability by agent on one task, as a heatmap."""
    scores = comparison.scores[comparison.scores["task"] == task]
    ends = scores.groupby(["agent", "path", "capability"], observed=True)["probe"].agg(["first", "last"])
    changes = (ends["last"] - ends["first"]).groupby(["agent", "capability"], observed=True).mean().unstack()
    changes = changes.reindex(comparison.agents).dropna(how="all").rename(columns=style.readable)
    limit = max(0.05, float(changes.abs().max(axis=None)))
    picture, [(axes, _)] = panels([task], 1, WIDTH * 0.8, 0.3 * len(changes) + 1.7)
    texts = (changes.round(2) + 0.0).map("{:+.2f}".format)
    style.heatmap(axes, changes, texts, vmin=-limit, vmax=limit, cbar_kws={"label": "change of score"})
    axes.set(title=f"Change of the probe profile on {task} (needed in bold)")
    needs = scores.groupby("capability", observed=True)["requirement"].first()
    for label, need in zip(axes.get_xticklabels(), needs, strict=True):
        label.set(rotation=35, ha="right", rotation_mode="anchor", fontweight="bold" if need > 0 else "normal")
    return picture


def _below(axes: Axes, handles: list[Any], columns: int) -> None:
    axes.legend(handles=handles, ncols=columns, loc="upper left", bbox_to_anchor=(-0.02, -0.17), borderaxespad=0)
