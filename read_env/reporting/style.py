"""The look of all pictures (fonts, colours, axes, saving), and the panels that several pictures share.

Figures are plain :class:`matplotlib.figure.Figure` objects that seaborn draws into; pyplot's global state
is not touched. The palettes are Paul Tol's colour-blind safe schemes (“muted” for capabilities, “vibrant”
for agents); agents differ by line style as well.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import ContextDecorator
from pathlib import Path
from typing import Any, TypeVar

import matplotlib
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, MaxNLocator

from read_env.reporting.statistics import mean_interval

Item = TypeVar("Item")

#: Width in inches of a picture that fills a README column: 9 pt there is about 11 px on screen.
WIDTH = 9.6
DPI = 160

INK, MUTED, FAINT = "#222222", "#777777", "#DDDDDD"
BEFORE, AFTER, HARM, NEED = "#999999", "#0077BB", "#CC3311", "#EE7733"

_CAPABILITIES = (
    "#88CCEE", "#332288", "#DDCC77", "#117733", "#CC6677", "#44AA99", "#AA4499", "#999933", "#882255", "#BBBBBB",
)  # fmt: skip
_DASHED, _DOTTED, _DASH_DOT = (5, 1.5), (1, 1.2), (3, 1, 1, 1)
_AGENTS: dict[str, tuple[str, Any]] = {
    "read-bandit": ("#CC3311", ""), "task-static": ("#0077BB", ""), "water-filling": ("#009988", _DASHED),
    "random-candidate": ("#AA4499", _DOTTED), "uniform": ("#777777", _DASHED), "sqrt-task": ("#33BBEE", _DASH_DOT),
    "one-hot": ("#222222", _DOTTED), "round-robin": ("#BBBBBB", ""), "greedy": ("#EE7733", _DASHED),
    "grid-searched": ("#332288", _DASH_DOT),
}  # fmt: skip
_OTHER_AGENTS = ("#EE3377", "#999933", "#DDAA33", "#882255", "#44AA99", "#6699CC")

_THEME: dict[Any, Any] = {
    "font.family": "DejaVu Sans",  # ships with matplotlib: the same picture on every machine
    "font.size": 9, "text.color": INK, "svg.hashsalt": "read-env",
    "axes.titlesize": 9.5, "axes.titleweight": "bold", "axes.titlelocation": "left", "axes.titlepad": 8,
    "axes.labelsize": 9, "axes.labelcolor": INK, "axes.edgecolor": MUTED, "axes.linewidth": 0.8,
    "axes.spines.top": False, "axes.spines.right": False, "axes.axisbelow": True,
    "xtick.color": MUTED, "xtick.labelcolor": INK, "xtick.labelsize": 8.5, "xtick.major.size": 3,
    "ytick.color": MUTED, "ytick.labelcolor": INK, "ytick.labelsize": 8.5, "ytick.major.size": 3,
    "grid.color": "#EAEAEA", "grid.linewidth": 0.8,
    "legend.fontsize": 8.5, "legend.frameon": False, "legend.handlelength": 1.8,
    "figure.facecolor": "white", "savefig.facecolor": "white",
}  # fmt: skip


def look() -> ContextDecorator:
    """The style, as a decorator of functions that draw."""
    return matplotlib.rc_context(_THEME)


def figure(width: float = WIDTH, height: float = 3.4, layout: Any = "constrained") -> Figure:
    """An empty figure (inches); call it under :func:`look`."""
    return Figure(figsize=(width, height), dpi=DPI, layout=layout)


@look()
def save(picture: Figure, path: Path) -> None:
    """Write a PNG without software or time stamps, so that equal figures are equal files."""
    picture.savefig(path, dpi=DPI, metadata={"Software": None})


def agent_styles(agents: Sequence[str]) -> dict[str, tuple[str, Any]]:
    """(colour, dashes) by agent: fixed for the known agents, by order for the others."""
    others = [agent for agent in agents if agent not in _AGENTS]
    named = {agent: (_OTHER_AGENTS[index % 6], ("", _DASHED)[index // 6 % 2]) for index, agent in enumerate(others)}
    return {agent: _AGENTS.get(agent) or named[agent] for agent in agents}


def readable(name: str) -> str:
    """``tool_use`` → ``tool use``."""
    return name.replace("_", " ")


def token_axis(axes: Axes, budget: float, label: str = "completion tokens spent") -> None:
    """The x axis in thousands of completion tokens from zero to the budget."""
    unit, suffix = (1e6, "M") if budget >= 4e6 else (1e3, "k") if budget >= 4e3 else (1.0, "")
    axes.set_xlim(0, budget)
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 4, 5, 10]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value / unit:g}{suffix if value else ''}"))
    axes.set_xlabel(label)


def panels(grid: np.ndarray, items: Iterable[Item]) -> list[tuple[Axes, Item]]:
    """Pairs of axes and items; the axes that are left over are switched off."""
    pairs = list(zip(grid.flat, items, strict=False))
    for axes in grid.flat[len(pairs) :]:
        axes.set_axis_off()
    return pairs


def heatmap(axes: Axes, values: Any, texts: Any, **options: Any) -> None:
    """Seaborn's heatmap from red to blue with a text in every cell, without tick marks."""
    sns.heatmap(values, annot=texts, fmt="", cmap="RdBu", ax=axes, **options)
    axes.tick_params(length=0)
    axes.tick_params(axis="y", rotation=0)


def t_interval(values: pd.Series) -> tuple[float, float]:
    """The 95 % t interval of a mean, for seaborn's ``errorbar``."""
    found = mean_interval(values)
    return found.low, found.high


def bands(axes: Axes, steps: pd.DataFrame, column: str, agents: Sequence[str], points: int = 41) -> None:
    """Mean of a column of ``load_steps`` over completion tokens by agent, with a 95 % t band over the runs of one task.

    Runs spend slightly different amounts in a step (whole examples only), so each is interpolated
    linearly onto a grid of ``points`` that ends where the agent's shortest run ends.
    """
    parts = []
    ends = steps.groupby(["agent", "path"])["spent"].max().groupby("agent").min()
    for (agent, _), run in steps[steps["agent"].isin(agents)].groupby(["agent", "path"]):
        grid = np.linspace(0, ends[agent], points)
        values = np.interp(grid, run["spent"].astype(float), run[column])
        parts.append(pd.DataFrame({"agent": agent, "tokens": grid, "value": values}))
    data, styles = pd.concat(parts), agent_styles(agents)
    order = [agent for agent in agents if agent in set(data["agent"])]
    sns.lineplot(
        data, x="tokens", y="value", hue="agent", style="agent", hue_order=order, style_order=order, ax=axes,
        palette={agent: styles[agent][0] for agent in order}, dashes={agent: styles[agent][1] for agent in order},
        errorbar=t_interval, err_kws={"alpha": 0.13, "linewidth": 0}, linewidth=1.7,
    )  # fmt: skip
    token_axis(axes, float(steps["budget"].max()))
    axes.set_ylabel("")
    axes.grid(axis="y")
    if legend := axes.get_legend():
        legend.remove()


def dumbbells(
    axes: Axes, scores: pd.DataFrame, colour: str = AFTER, interval: tuple[np.ndarray, np.ndarray] | None = None
) -> None:
    """Scores before (hollow) and after (filled), one row per capability, the needed ones on top and marked.

    ``scores`` has the columns ``requirement``, ``before`` and ``after``, indexed by capability; ``interval`` is
    the low and the high end of an interval around ``after``, (|C|,) each.
    """
    low, high = interval or (np.nan, np.nan)
    table = scores.assign(low=low, high=high).sort_values("requirement", ascending=False, kind="stable")
    heights = np.arange(len(table))[::-1]
    for row, entry in zip(heights, table.itertuples(), strict=True):
        needed = entry.requirement > 0
        if needed:
            axes.axhspan(row - 0.5, row + 0.5, color=NEED, alpha=0.12, linewidth=0)
        axes.plot([entry.before, entry.after], [row, row], color=colour if needed else FAINT, linewidth=2, zorder=2)
        if np.isfinite([entry.low, entry.high]).all():
            axes.plot([max(entry.low, 0), min(entry.high, 1)], [row - 0.27] * 2, color=MUTED, linewidth=1, zorder=2)
        axes.plot(entry.before, row, "o", ms=5.5, markerfacecolor="white", markeredgecolor=BEFORE, zorder=3)
        axes.plot(entry.after, row, "o", ms=5.5, color=colour, alpha=1 if needed else 0.55, zorder=4, markeredgewidth=0)
    needs, names = table["requirement"] > 0, []
    for name, weight in table["requirement"].items():
        share = f"  ({weight:.2f})".replace("(0.", "(.").replace("(1.00)", "(1)")
        names.append(readable(str(name)) + (share if weight > 0 else ""))
    axes.set_yticks(heights, names)
    # Axes that share their labels with a neighbour have none of their own.
    for label, need in zip(axes.get_yticklabels(), needs, strict=False):
        label.set(fontweight="bold" if need else "normal", color=INK if need else MUTED)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.set(ylim=(-0.6, len(table) - 0.4), xlim=(0, 1), xticks=np.linspace(0, 1, 6))
    axes.grid(axis="x")


def dumbbell_handles(after: str = "after", colour: str = AFTER) -> list[Any]:
    """Legend entries of the two ends of a dumbbell."""
    return [
        Line2D([], [], marker="o", linestyle="", markerfacecolor="white", markeredgecolor=BEFORE, label="before"),
        Line2D([], [], marker="o", linestyle="", color=colour, label=after),
    ]


def stacked_allocation(axes: Axes, edges: np.ndarray, allocations: pd.DataFrame, budget: float) -> None:
    """Allocation over time as stacked areas, constant within a step.

    ``edges`` are the (steps + 1,) completion tokens at the steps' ends, from 0; ``allocations`` are shares by step
    (rows) and capability (columns); ``budget`` is where the axis ends, in completion tokens.
    """
    heights = np.vstack([allocations, allocations[-1:]]).T
    colours = capability_colours(allocations.columns)
    axes.stackplot(edges, heights, colors=list(colours.values()), step="post", linewidth=0.3, edgecolor="white")
    token_axis(axes, budget)
    axes.set(ylim=(0, 1), yticks=[0, 0.25, 0.5, 0.75, 1])


def capability_colours(suite: Sequence[str]) -> dict[str, str]:
    """Capability → colour, by its place in the suite."""
    return {name: _CAPABILITIES[index % len(_CAPABILITIES)] for index, name in enumerate(suite)}


def capability_handles(suite: Sequence[str], shown: Mapping[str, bool] | None = None) -> list[Any]:
    """Legend patches of capabilities, bottom of the stack last; ``shown`` chooses some."""
    colours = capability_colours(suite)
    names = [name for name in suite if shown is None or shown[name]]
    return [Patch(color=colours[name], label=readable(name)) for name in reversed(names)]
