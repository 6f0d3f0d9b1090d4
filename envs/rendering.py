"""Picture of an episode so far: profile at the start and now, allocation and utility over tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from read_env.envs.episode import Point
from read_env.tasks import TaskCard

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Height and width of every picture, pixels.
SHAPE = (640, 1120, 3)

_DPI = 100
_INK, _FAINT, _GRID = "#2b2d33", "#7d818c", "#e3e5ea"
_UP, _DOWN = "#2f8f5b", "#c8443c"
_STYLE: dict[str, Any] = {
    "font.size": 9.5,
    "text.color": _INK,
    "axes.labelcolor": _INK,
    "axes.edgecolor": _FAINT,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "xtick.color": _FAINT,
    "ytick.color": _FAINT,
    "xtick.labelcolor": _INK,
    "ytick.labelcolor": _INK,
}


def render_episode(
    names: Sequence[str], card: TaskCard, requirement: np.ndarray, trace: Sequence[Point], total: int
) -> np.ndarray:
    """Draw the episode.

    Args:
        names: |C| capability names.
        card: the task.
        requirement: (|C|,) requirement; needed capabilities are bold, with their weight.
        trace: points of the start and of every finished step.
        total: B, completion tokens.

    Returns:
        RGB picture, :data:`SHAPE` uint8.
    """
    # Without pyplot, whose figures are global, live until closed, and choose a window system.
    with matplotlib.rc_context(_STYLE):  # type: ignore[arg-type, unused-ignore]
        figure = Figure(figsize=(SHAPE[1] / _DPI, SHAPE[0] / _DPI), dpi=_DPI, facecolor="white")
        canvas = FigureCanvasAgg(figure)
        left = figure.add_axes((0.165, 0.14, 0.335, 0.69))
        top = figure.add_axes((0.57, 0.545, 0.405, 0.285))
        bottom = figure.add_axes((0.57, 0.14, 0.405, 0.265))
        _head(figure, card, trace, total)
        _profile(left, names, requirement, trace)
        _allocation(top, names, trace, total)
        _utility(bottom, trace, total)
        canvas.draw()
        return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _head(figure: Figure, card: TaskCard, trace: Sequence[Point], total: int) -> None:
    now = trace[-1]
    figure.text(0.022, 0.935, f"task {card.name}", fontsize=15, weight="bold")
    state = (
        f"step {len(trace) - 1}   ·   {now.spent:,} of {total:,} completion tokens   ·   "
        f"utility {now.utility:.3f} ({now.utility - trace[0].utility:+.3f}, {card.utility_form.replace('_', ' ')})"
    )
    figure.text(0.978, 0.938, state, ha="right", color=_FAINT, fontsize=10.5)


def _profile(axes: Axes, names: Sequence[str], requirement: np.ndarray, trace: Sequence[Point]) -> None:
    start, now = np.array(trace[0].profile), np.array(trace[-1].profile)
    rows = np.arange(len(names))
    colors = [_UP if change >= 0 else _DOWN for change in now - start]
    axes.barh(rows, start, height=0.72, color=_GRID, zorder=2)
    axes.barh(rows, now, height=0.4, color=colors, zorder=3)
    for row, (before, after) in enumerate(zip(start, now, strict=True)):
        axes.text(max(before, after) + 0.015, row, f"{after:.2f}", va="center", fontsize=8.5)
        axes.text(1.12, row, f"{after - before:+.3f}", va="center", ha="right", fontsize=8.5, color=colors[row])
    axes.set(title="Capability profile", xlim=(0, 1.12), ylim=(len(names) - 0.4, -0.6), xlabel="probe score")
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", ".25", ".5", ".75", "1"])
    axes.set_yticks(rows, [_label(name, r) for name, r in zip(names, requirement, strict=True)])
    for label, need in zip(axes.get_yticklabels(), requirement, strict=True):
        label.set_fontweight("bold" if need > 0 else "normal")
        label.set_color(_INK if need > 0 else _FAINT)
    axes.grid(axis="x", color=_GRID, zorder=0)
    axes.tick_params(length=0)
    handles = [Patch(color=_GRID, label="start"), Patch(color=_UP, label="gained"), Patch(color=_DOWN, label="lost")]
    axes.legend(handles=handles, ncols=3, frameon=False, fontsize=8.5, loc="upper left", bbox_to_anchor=(-0.02, -0.085))


def _allocation(axes: Axes, names: Sequence[str], trace: Sequence[Point], total: int) -> None:
    edges = np.array([point.spent for point in trace])
    base = np.zeros(max(len(trace) - 1, 0))
    shares = np.array([point.allocation for point in trace[1:]]).reshape(-1, len(names))
    colors = matplotlib.colormaps["tab10" if len(names) <= 10 else "tab20"].colors  # type: ignore[attr-defined]
    for index in range(len(names)):
        axes.bar(
            edges[:-1], shares[:, index], np.diff(edges), base, align="edge",
            color=colors[index % len(colors)], edgecolor="white", linewidth=0.5, zorder=2,
        )  # fmt: skip
        base += shares[:, index]
    axes.set(title="Allocation", xlim=(0, total), ylim=(0, 1), ylabel="share of tokens")
    handles = [Patch(color=colors[i % len(colors)], label=name.replace("_", " ")) for i, name in enumerate(names)]
    # Below the axes, since it would cover the bars inside.
    axes.legend(
        handles=handles, ncols=4, frameon=False, fontsize=7.5, loc="upper left", bbox_to_anchor=(-0.02, -0.09),
        handlelength=1, handleheight=1, columnspacing=1.2, borderpad=0,
    )  # fmt: skip
    axes.tick_params(labelbottom=False, length=0)


def _utility(axes: Axes, trace: Sequence[Point], total: int) -> None:
    spent, utility = [point.spent for point in trace], [point.utility for point in trace]
    axes.axhline(utility[0], color=_FAINT, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
    axes.plot(spent, utility, color="#2d6cdf", linewidth=2, marker="o", markersize=4, zorder=3)
    low, high = min(utility), max(utility)
    margin = max(0.15 * (high - low), 0.01)
    axes.set(
        title="Utility", xlim=(0, total), ylim=(low - margin, high + margin), xlabel="completion tokens", ylabel="U"
    )
    axes.xaxis.set_major_formatter(lambda value, _: f"{value / 1000:g}k" if value else "0")
    axes.grid(color=_GRID, zorder=0)
    axes.tick_params(length=0)


def _label(name: str, need: float) -> str:
    return name.replace("_", " ") + (f"  {need:.2f}".replace("0.", ".", 1) if need > 0 else "")
