"""Pictures of a comparison: agents beside each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from read_env.reporting import style
from read_env.reporting.comparison import Comparison, Measure
from read_env.reporting.style import FAINT, MUTED, NEED, WIDTH, figure, look, readable, t_interval

#: More agents than this make a picture of bands or columns unreadable; the tables have all of them.
MOST_CURVES = 6
MOST_COLUMNS = 4


@look()
def overview(comparison: Comparison, task: str, agent: str, others: Sequence[str]) -> Figure:
    """The picture of the README: profile, utility over tokens, and allocations, for one task.

    Profile and allocation are those of ``agent``; of the ``others`` beside it, as many as fit are drawn.
    """
    steps, scores = (frame[frame["task"] == task] for frame in (comparison.steps, comparison.scores))
    shown = [name for name in (agent, *others) if (steps["agent"] == name).any()][:MOST_CURVES]
    own, own_scores = steps[steps["agent"] == agent], scores[scores["agent"] == agent]
    colour, budget = style.agent_styles([agent])[agent][0], float(own["budget"].max())
    runs = own["path"].nunique()
    over = f"mean of {runs} seeds" if runs > 1 else "one seed"
    first, last = (own_scores.groupby(["path", "capability"], observed=True).nth(n) for n in (0, -1))
    before, after = first.groupby("capability", observed=True), last.groupby("capability", observed=True)["probe"]
    table = before.agg(requirement=("requirement", "first"), before=("probe", "first")).assign(after=after.mean())
    low, high = np.array([t_interval(values) for _, values in after]).T
    picture = figure(WIDTH * 1.25, 4.3)
    left, middle, over_time, columns = picture.subplots(1, 4, width_ratios=[1.05, 1.3, 1.0, 0.62])
    style.dumbbells(left, table, colour, (low, high))
    left.set(title="What the task needs", xlabel="probe score")
    interval = Line2D([], [], linewidth=1, color=MUTED, label="95 % interval")
    needed = Line2D([], [], linewidth=6, color=NEED, alpha=0.25, label="needed (weight)")
    _below(left, [*style.dumbbell_handles(f"after {agent}", colour), interval, needed], 1)
    style.bands(middle, steps, "utility", shown)
    middle.set(title=f"Utility of {task}", ylabel=f"utility (probes), {over}")
    _below(middle, middle.get_legend_handles_labels()[0], 2)
    # Up to the end of the shortest run.
    common = range(1, int(own.groupby("path")["step"].max().min()) + 1)
    edges = own[own["step"].isin([0, *common])].groupby("step")["spent"].mean().to_numpy(float)
    kept = own_scores[own_scores["step"].isin(common)]
    allocations = kept.pivot_table(index="step", columns="capability", values="allocation", observed=True)
    style.stacked_allocation(over_time, edges, allocations, budget)
    over_time.set(title=f"Allocation: {agent}", ylabel=f"share of tokens, {over}")
    tokens = scores.pivot_table(index="agent", columns="capability", values="tokens", aggfunc="sum", observed=True)
    shares = tokens.div(tokens.sum(axis=1), axis=0).loc[shown[1 : MOST_COLUMNS + 1]]
    _columns(columns, shares)
    spent = pd.concat([allocations, shares]).max()
    # Thinner than a line: not in the legend.
    _below(over_time, style.capability_handles(allocations.columns, spent > 0.004), 2)
    return picture


@look()
def curves(comparison: Comparison, agents: Sequence[str], column: str, label: str) -> Figure:
    """A column of ``load_steps`` over tokens with 95 % bands, one panel per task; panels of harms share an axis from 0."""
    harm = column != "utility"
    across = min(3, len(comparison.tasks))
    down = -(-len(comparison.tasks) // across)
    picture = figure(WIDTH * (1.0 if across > 1 else 0.75), 2.5 * down + 0.7)
    grid = picture.subplots(down, across, squeeze=False, sharey=harm)
    handles: dict[str, Any] = {}
    for axes, task in style.panels(grid, comparison.tasks):
        style.bands(axes, comparison.steps[comparison.steps["task"] == task], column, agents[:MOST_CURVES])
        axes.set(title=task, ylabel=label if axes in grid[:, 0] else "")
        if harm:
            axes.set_ylim(bottom=0)
        handles |= dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    ncols = min(6, len(handles))
    picture.legend(list(handles.values()), list(handles), loc="outside lower center", ncols=ncols)
    return picture


@look()
def dots(comparison: Comparison, measure: Measure) -> Figure:
    """One measure by agent: the mean over tasks (left) and every task, with 95 % intervals and single runs.

    Agents are sorted by their mean over tasks, the best on top; agents that lack a task come last and
    have no entry in the left panel.
    """
    values = {agent: comparison.by_seed(measure, agent) for agent in comparison.agents}
    means = {agent: table.mean().dropna() for agent, table in values.items()}
    order = sorted(values, key=lambda agent: (len(means[agent]), means[agent].mean(), agent), reverse=True)
    colours = {agent: colour for agent, (colour, _) in style.agent_styles(comparison.agents).items()}
    panels = {task: pd.DataFrame({agent: table[task] for agent, table in values.items()}) for task in comparison.tasks}
    if len(panels) > 1:
        overall = pd.DataFrame({agent: table.dropna().mean(axis=1) for agent, table in values.items()})
        panels = {"mean over tasks": overall, **panels}
    across = min(4, len(panels))
    down = -(-len(panels) // across)
    picture = figure(WIDTH * (1.0 if across > 2 else 0.75), down * (0.27 * len(order) + 0.75) + 0.3)
    grid = picture.subplots(down, across, sharey=True, squeeze=False)
    for axes, title in style.panels(grid, list(panels)):
        data = panels[title].melt(var_name="agent", value_name="value").dropna()
        sns.pointplot(
            data, x="value", y="agent", hue="agent", order=order, hue_order=order, palette=colours, legend=False,
            errorbar=t_interval, linestyle="none", markersize=5, markeredgecolor="white", markeredgewidth=0.5,
            err_kws={"linewidth": 1.8}, ax=axes,
        )  # fmt: skip
        if title in comparison.tasks:
            heights = data["agent"].map(order.index) + 0.24
            axes.scatter(data["value"], heights, s=12, c=data["agent"].map(colours), alpha=0.4, linewidth=0)
        axes.set(title=title, xlabel="", ylabel="", ylim=(len(order) - 0.4, -0.6))
        axes.axvline(0, color=FAINT, linewidth=0.8, zorder=0)
        axes.grid(axis="x")
        axes.locator_params(axis="x", nbins=4)
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
    picture.supxlabel(f"{measure.title.lower()} (mean, 95 % interval; small: single runs)", fontsize=9)
    return picture


@look()
def profile_changes(comparison: Comparison, task: str) -> Figure:
    """Change of every capability by agent on one task, as a heatmap."""
    scores = comparison.scores[comparison.scores["task"] == task]
    ends = scores.groupby(["agent", "path", "capability"], observed=True)["probe"].agg(["first", "last"])
    changes = (ends["last"] - ends["first"]).groupby(["agent", "capability"], observed=True).mean().unstack()
    changes = changes.loc[[agent for agent in comparison.agents if agent in changes.index]]
    needed = scores.groupby("capability", observed=True)["requirement"].first() > 0
    limit = max(0.05, float(changes.abs().max(axis=None)))
    picture = figure(WIDTH * 0.8, 0.3 * len(changes) + 1.7)
    axes = picture.subplots()
    style.heatmap(
        axes, changes, changes.map(_points), annot_kws={"fontsize": 8}, vmin=-limit, vmax=limit,
        cbar_kws={"label": "change of score", "shrink": 0.9},
    )  # fmt: skip
    names = [readable(name) for name in changes.columns]
    axes.set_xticks(axes.get_xticks(), names, rotation=35, ha="right", rotation_mode="anchor")
    for label, need in zip(axes.get_xticklabels(), needed, strict=True):
        label.set_fontweight("bold" if need else "normal")
    axes.set(title=f"Change of the probe profile on {task} (needed in bold)", xlabel="", ylabel="")
    return picture


def _points(change: float) -> str:
    text = f"{change:+.2f}"
    return text.replace("0.", ".").replace("-", "−") if float(text) else "0"


def _columns(axes: Axes, shares: pd.DataFrame) -> None:
    """Mean allocations of the other agents, one stacked column each."""
    if len(shares):
        colours: Any = style.capability_colours(shares.columns)
        frames = {"linewidth": 0.3, "edgecolor": "white"}
        shares.plot.bar(stacked=True, width=0.72, color=colours, legend=False, ax=axes, **frames)
    axes.set_xticks(range(len(shares)), list(shares.index), rotation=45, ha="right", rotation_mode="anchor")
    axes.set(ylim=(0, 1), xlim=(-0.6, len(shares) - 0.4), title="The others", xlabel="")
    axes.set_yticks([0, 0.25, 0.5, 0.75, 1], [])
    axes.tick_params(length=0)
    axes.spines["left"].set_visible(False)


def _below(axes: Axes, handles: list[Any], columns: int) -> None:
    place: Any = (-0.02, -0.17)
    axes.legend(
        handles=handles, ncols=columns, loc="upper left", bbox_to_anchor=place, columnspacing=1.2, borderaxespad=0
    )
