"""The look of all pictures, and the panels that several of them share.

Figures are plain :class:`matplotlib.figure.Figure` objects that seaborn draws into, under :func:`look`; pyplot's
global state is not touched. The palettes are safe for colour-blind readers: seaborn's for agents, which differ by
their dashes as well, and Paul Tol's “muted” for capabilities.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import ContextDecorator
from itertools import cycle
from pathlib import Path
from typing import Any, TypeVar

import matplotlib
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import EngFormatter

from read_env.reporting.statistics import mean_interval

Item = TypeVar("Item")

#: Width in inches of a picture that fills a README column.
WIDTH = 9.6

INK, MUTED, FAINT = "#222222", "#777777", "#DDDDDD"
BEFORE, AFTER, HARM, NEED = "#999999", "#0077BB", "#CC3311", "#EE7733"

_CAPABILITIES = "#88CCEE #332288 #DDCC77 #117733 #CC6677 #44AA99 #AA4499 #999933 #882255 #BBBBBB".split()
#: Agents in the order of the palette, so that one agent has one colour on all pages; others follow.
_AGENTS = [
    *("task-static", "grid-searched", "water-filling", "read-bandit", "random-candidate"),
    *("one-hot", "greedy", "uniform", "round-robin", "sqrt-task"),
]
_THEME: dict[Any, Any] = {
    **sns.axes_style("whitegrid"),
    **sns.plotting_context("paper"),
    "font.family": "DejaVu Sans",  # ships with matplotlib: the same picture on every machine
    "axes.spines.top": False, "axes.spines.right": False, "axes.edgecolor": MUTED, "grid.color": "#EEEEEE",
    "axes.titleweight": "bold", "axes.titlelocation": "left", "legend.frameon": False,
}  # fmt: skip


def look() -> ContextDecorator:
    """The style, as a decorator of functions that draw and save."""
    return matplotlib.rc_context(_THEME)


def save(picture: Figure, path: Path, alt: str) -> str:
    """Write a PNG without time stamps, so that equal figures are equal files; returns the Markdown that shows it."""
    picture.savefig(path, dpi=160, metadata={"Software": None})
    return f"![{alt}]({path.name})"


def panels(
    items: Iterable[Item], most: int, width: float = WIDTH, height: float = 3.2, **options: Any
) -> tuple[Figure, list[tuple[Axes, Item]]]:
    """A figure with a panel for each item, at most ``most`` in a row; ``height`` is that of a row, in inches.

    Example:
        >>> picture, grid = panels(["math", "code", "logic"], most=2)
        >>> len(picture.axes), len(grid)
        (4, 3)
    """
    items = list(items)
    down = -(-len(items) // most)
    picture = Figure(figsize=(width, height * down), layout=options.pop("layout", "constrained"))
    grid = picture.subplots(down, min(most, len(items)), squeeze=False, **options).flat
    for left_over in grid[len(items) :]:
        left_over.set_axis_off()
    return picture, list(zip(grid, items, strict=False))


def agent_colours(agents: Sequence[str]) -> dict[str, Any]:
    """Agent → colour."""
    palette = cycle([*sns.color_palette("colorblind"), *sns.color_palette("dark")])
    return dict(zip(dict.fromkeys([*_AGENTS, *agents]), palette, strict=False))


def capability_handles(suite: Iterable[str]) -> list[Any]:
    """Legend patches of capabilities, each in the colour of its place in the suite.

    Example:
        >>> [patch.get_label() for patch in capability_handles(["math", "tool_use"])]
        ['math', 'tool use']
    """
    colours = _CAPABILITIES * (1 + len(list(suite)) // len(_CAPABILITIES))
    return [Patch(color=colour, label=readable(name)) for name, colour in zip(suite, colours, strict=False)]


def readable(name: str) -> str:
    """Name of a capability or column in words.

    Example:
        >>> readable("tool_use")
        'tool use'
    """
    return name.replace("_", " ")


def token_axis(axes: Axes, budget: float, label: str = "completion tokens spent") -> None:
    """The x axis in completion tokens from zero to the budget."""
    axes.set(xlim=(0, budget), xlabel=label)
    axes.locator_params(axis="x", nbins=5)
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))


def heatmap(axes: Axes, values: pd.DataFrame, texts: Any, **options: Any) -> None:
    """Seaborn's heatmap from red to blue with a text in every cell, without tick marks."""
    sns.heatmap(values, annot=texts, fmt="", cmap="RdBu", ax=axes, annot_kws={"fontsize": 7.5}, **options)
    axes.set(xlabel="", ylabel="")
    axes.tick_params(axis="y", rotation=0)


def t_interval(values: pd.Series) -> tuple[float, float]:
    """The 95 % t interval of a mean, for seaborn's ``errorbar``."""
    found = mean_interval(values)
    return found.low, found.high


def shared_steps(frame: pd.DataFrame) -> pd.DataFrame:
    """Rows of the steps that all runs of an agent reached: up to the end of the shortest.

    Example:
        >>> steps = pd.DataFrame({"agent": "uniform", "path": ["a", "a", "b"], "step": [0, 1, 0]})
        >>> shared_steps(steps)["step"].tolist()
        [0, 0]
    """
    runs = frame.groupby("agent")["path"].transform("nunique")
    return frame[frame.groupby(["agent", "step"])["path"].transform("nunique") == runs]


def bands(axes: Axes, steps: pd.DataFrame, column: str, agents: Sequence[str]) -> None:
    """Mean of a column of ``load_steps`` by agent, with a 95 % t band over the runs of one task.

    Runs spend slightly different amounts in a step (whole examples only): a step stands at the agent's mean.
    """
    data = shared_steps(steps[steps["agent"].isin(agents)])
    tokens = data.groupby(["agent", "step"])["spent"].transform("mean").astype(float)
    order = [agent for agent in agents if agent in set(data["agent"])]
    sns.lineplot(
        data.assign(tokens=tokens), x="tokens", y=column, hue="agent", style="agent", hue_order=order,
        style_order=order, palette=agent_colours(order), errorbar=t_interval, err_kws={"alpha": 0.13, "linewidth": 0},
        linewidth=1.7, ax=axes,
    )  # fmt: skip
    token_axis(axes, float(steps["budget"].max()))
    axes.get_legend().remove()  # type: ignore[union-attr]


def before_after(axes: Axes, scores: pd.DataFrame, split: str, colour: str) -> list[Any]:
    """Mean scores at the first and the last step of the runs with 95 % t intervals, and their legend handles.

    ``scores`` are rows of ``load_scores`` of one agent and task, ``split`` is ``probe`` or ``exam``. One row per
    capability, the needed ones on top and shaded.
    """
    runs = scores.groupby(["path", "capability"], observed=True)
    ends = pd.concat({"before": runs.nth(0), "after": runs.nth(-1)}, names=["when"]).reset_index("when")
    means = ends.pivot_table(index="capability", columns="when", values=["requirement", split], observed=True)
    means = means.sort_values(("requirement", "before"), ascending=False, kind="stable")
    needs, rows = means["requirement"]["before"], np.arange(len(means))
    axes.axhspan(-0.5, (needs > 0).sum() - 0.5, color=NEED, alpha=0.12, linewidth=0)
    colours = [colour if need else MUTED for need in needs]
    axes.hlines(rows, means[split]["before"], means[split]["after"], colors=colours, linewidth=5, alpha=0.3)
    sns.pointplot(
        ends.astype({"capability": str}), x=split, y="capability", hue="when", order=needs.index.astype(str),
        palette={"before": BEFORE, "after": colour}, errorbar=t_interval, linestyle="none", markersize=5,
        err_kws={"linewidth": 1.2}, ax=axes,
    )  # fmt: skip
    axes.set_yticks(rows, [readable(name) + (f" ({need:.2f})" if need else "") for name, need in needs.items()])
    for label, need in zip(axes.get_yticklabels(), needs, strict=False):  # none where a neighbour has them
        label.set(fontweight="bold" if need else "normal")
    axes.set(xlim=(0, 1), ylim=(len(rows) - 0.5, -0.5), ylabel="")
    axes.get_legend().remove()  # type: ignore[union-attr]
    return [*axes.get_legend_handles_labels()[0], Patch(color=NEED, alpha=0.2, label="needed (weight)")]


def stacked_allocation(axes: Axes, edges: np.ndarray, allocations: pd.DataFrame, budget: float) -> None:
    """Allocation over time as stacked areas, constant within a step: shares by step (rows) and capability (columns).

    ``edges`` are the (steps + 1,) completion tokens at the steps' ends, from 0; ``budget`` is where the axis ends.
    """
    if len(allocations):  # none of an agent that stopped before its first step
        colours = [handle.get_facecolor() for handle in capability_handles(allocations.columns)]
        heights = np.vstack([allocations, allocations[-1:]]).T
        axes.stackplot(edges, heights, colors=colours, step="post", linewidth=0.3, edgecolor="white")
    token_axis(axes, budget)
    axes.set(ylim=(0, 1))
