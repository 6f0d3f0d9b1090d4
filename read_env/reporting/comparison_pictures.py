"""Pictures of a comparison: agents beside each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from read_env.reporting import style
from read_env.reporting.comparison import Comparison, Measure
from read_env.reporting.style import FAINT, WIDTH, panels, readable, t_interval

#: More agents than this make a picture of bands or columns unreadable; the tables have all of them.
MOST_CURVES = 6
MOST_COLUMNS = 4


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
    allocations, shares = (
        table.pivot_table(index=index, columns="capability", values="tokens", aggfunc="sum", observed=True)
        for table, index in ((own_scores[own_scores["step"] > 0], "step"), (scores, "agent"))
    )
    allocations, shares = (table.div(table.sum(axis=1), axis=0) for table in (allocations, shares))
    edges = own.groupby("step")["spent"].mean().to_numpy(float)
    style.stacked_allocation(over_time, edges, allocations, float(own["budget"].max()))
    over_time.set(title=f"Allocation: {agent}", ylabel=f"share of tokens, {over}")
    handles = style.capability_handles(allocations.columns)
    _below(over_time, handles[::-1], 2)
    colours = [handle.get_facecolor() for handle in handles]
    if compared := shown[1 : MOST_COLUMNS + 1]:
        shares.loc[compared].plot.bar(stacked=True, width=0.72, color=colours, legend=False, ax=columns)
        columns.set_xticks(range(len(compared)), compared, rotation=45, ha="right", rotation_mode="anchor")
    columns.set(ylim=(0, 1), yticks=[], title="The others", xlabel="")
    return picture


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


def dots(comparison: Comparison, measure: Measure) -> Figure:
    """One measure by agent: the mean over tasks (left) and every task, with 95 % intervals and single runs.

    Agents are sorted by their mean over tasks, the best on top; agents that lack a task come last and
    have no entry in the left panel.
    """
    tables = {agent: comparison.by_seed(measure, agent) for agent in comparison.agents}
    means = {agent: table.mean().dropna() for agent, table in tables.items()}
    order = sorted(tables, key=lambda agent: (len(means[agent]), means[agent].mean(), agent), reverse=True)
    values = {task: pd.DataFrame({agent: tables[agent][task] for agent in order}) for task in comparison.tasks}
    if len(values) > 1:
        overall = pd.DataFrame({agent: tables[agent].dropna().mean(axis=1) for agent in order})
        values = {"mean over tasks": overall, **values}
    picture, grid = panels(values, 4, height=0.27 * len(order) + 0.9, sharey=True)
    options: Any = {"x": "value", "y": "agent", "hue": "agent", "order": order, "hue_order": order, "legend": False}
    options |= {"palette": {agent: style.agent_colours(order)[agent] for agent in order}}
    for axes, title in grid:
        data = values[title].melt(var_name="agent", value_name="value").dropna()
        sns.stripplot(data, **options, size=3, alpha=0.4, jitter=False, ax=axes)
        sns.pointplot(data, **options, errorbar=t_interval, linestyle="none", markersize=5, ax=axes)
        axes.set(title=title, xlabel="", ylabel="")
        axes.axvline(0, color=FAINT, linewidth=0.8, zorder=0)
        axes.grid(axis="x")
        axes.locator_params(axis="x", nbins=4)
    picture.supxlabel(f"{measure.title.lower()} (mean, 95 % interval; small: single seeds)", fontsize=9)
    return picture


def profile_changes(comparison: Comparison, task: str) -> Figure:
    """Change of every capability by agent on one task, as a heatmap."""
    scores = comparison.scores[comparison.scores["task"] == task]
    ends = scores.groupby(["agent", "path", "capability"], observed=True)["probe"].agg(["first", "last"])
    changes = (ends["last"] - ends["first"]).groupby(["agent", "capability"], observed=True).mean().unstack()
    changes = changes.loc[[agent for agent in comparison.agents if agent in changes.index]].rename(columns=readable)
    limit = max(0.05, float(changes.abs().max(axis=None)))
    picture, [(axes, _)] = panels([task], 1, WIDTH * 0.8, 0.3 * len(changes) + 1.7)
    style.heatmap(
        axes,
        changes,
        (changes.round(2) + 0.0).map("{:+.2f}".format),
        vmin=-limit,
        vmax=limit,
        cbar_kws={"label": "change of score"},
    )
    axes.set(title=f"Change of the probe profile on {task} (needed in bold)")
    needs = scores.groupby("capability", observed=True)["requirement"].first()
    for label, need in zip(axes.get_xticklabels(), needs, strict=True):
        label.set(rotation=35, ha="right", rotation_mode="anchor", fontweight="bold" if need > 0 else "normal")
    return picture


def _below(axes: Axes, handles: list[Any], columns: int) -> None:
    axes.legend(handles=handles, ncols=columns, loc="upper left", bbox_to_anchor=(-0.02, -0.17), borderaxespad=0)
