"""Pictures of web pages: panels in SVG that show the values of a step under the pointer.

A panel has completion tokens as its x axis. Every step has a transparent rectangle whose ``<title>`` holds its values; texts and
lines take their colours from the page's style sheet.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from itertools import cycle
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.colors import to_hex
from matplotlib.ticker import EngFormatter, MaxNLocator

from read_env.reporting import style
from read_env.reporting.markdown import count, number, plus_minus
from read_env.reporting.statistics import mean_interval

#: Size of a panel and of the frame of its axes, in the units of the drawing.
_WIDTH, _HEIGHT = 360, 220
_LEFT, _RIGHT, _TOP, _BOTTOM = 50, 344, 8, 196

#: Dashes of lines in the order of the agents, so that they differ without their colours.
_DASHES = ("", "6 3", "2 2", "8 3 2 3", "4 1", "1 3")

#: Label and colour of a legend's entry, and the dashes of a line; an area has None.
Entry = tuple[str, str, str | None]


def figure(caption: str, entries: Iterable[Entry], panels: Sequence[str]) -> str:
    """Panels side by side, as many as fit, under one caption and one legend."""
    legend = "".join(f"<li>{_mark(colour, dashes)}{escape(label)}</li>" for label, colour, dashes in entries)
    return (
        f'<figure><figcaption>{escape(caption)}</figcaption>\n<ul class="legend">{legend}</ul>\n'
        f'<div class="panels">\n{"".join(panels)}</div></figure>'
    )


def capability_entries(suite: Iterable[str]) -> list[Entry]:
    """Legend of capabilities, in the colours of all pictures.

    Example:
        >>> capability_entries(["math"])
        [('math', '#88ccee', None)]
    """
    return [(patch.get_label(), to_hex(patch.get_facecolor()), None) for patch in style.capability_handles(suite)]


def agent_entries(agents: Sequence[str]) -> list[Entry]:
    """Legend of agents, in the colours of all pictures."""
    colours = style.agent_colours(agents)
    return [(agent, to_hex(colours[agent]), dashes) for agent, dashes in zip(agents, cycle(_DASHES), strict=False)]


def allocation_panel(title: str, edges: np.ndarray, shares: pd.DataFrame, budget: float) -> str:
    """Allocation over time as stacked areas.

    Args:
        title: heading of the panel.
        edges: completion tokens at the steps' ends, from 0, shape (steps + 1,).
        shares: share of each capability (columns) in each step (rows).
        budget: end of the token axis.
    """
    values = np.nan_to_num(shares.to_numpy(float))
    tops = np.cumsum(values, axis=1)
    places = _scale(edges, 0, budget, _LEFT, _RIGHT)
    areas, entries = [], capability_entries(shares.columns)
    for column, (_, colour, _) in enumerate(entries):
        rows = [
            f"M{_text(x0)} {_text(_share(top))}H{_text(x1)}V{_text(_share(top - value))}H{_text(x0)}z"
            for x0, x1, top, value in zip(places, places[1:], tops[:, column], values[:, column], strict=False)
            if value > 0
        ]
        if rows:
            areas.append(f'<path fill="{colour}" shape-rendering="crispEdges" d="{"".join(rows)}"/>')
    stops = []
    for step, row in enumerate(values):
        ordered = sorted(zip(row, entries, strict=True), key=lambda pair: -pair[0])
        lines = [f"{label}: {100 * value:.1f} %" for value, (label, *_) in ordered if value > 0]
        head = f"{title}, step {step + 1}: {count(edges[step])} to {count(edges[step + 1])} tokens"
        stops.append((places[step], places[step + 1], "\n".join([head, *lines])))
    return _panel(title, f"allocation, {title}", areas, stops, budget, {0: "0", 0.5: "50 %", 1: "100 %"}, (0, 1))


def line_panel(
    title: str, steps: pd.DataFrame, column: str, agents: Sequence[Entry], budget: float, *, from_zero: bool = False
) -> str:
    """Means over runs of a column of ``load_steps`` by agent, with 95 % t bands where an agent has several runs.

    Args:
        title: heading of the panel.
        steps: rows of ``load_steps`` of one task.
        column: the column.
        agents: entries of :func:`agent_entries` of the agents that are drawn.
        budget: end of the token axis.
        from_zero: the value axis begins at zero.
    """
    steps = style.shared_steps(steps[steps["agent"].isin([name for name, *_ in agents])]).dropna(subset=[column])
    tokens = steps.groupby(["agent", "step"])["spent"].mean()
    found = {key: mean_interval(values) for key, values in steps.groupby(["agent", "step"])[column]}
    ends = [end for one in found.values() for end in (one.mean, one.low, one.high) if np.isfinite(end)]
    bottom = min([0.0] if from_zero or not ends else ends)
    ticks = np.array(MaxNLocator(nbins=4).tick_values(bottom, max([*ends, bottom + 0.01])))
    low, high = float(ticks[0]), float(ticks[-1])
    shapes: list[str] = []
    texts: dict[int, list[str]] = {}
    for agent, colour, dashes in agents:
        own = {step: one for (name, step), one in found.items() if name == agent}
        if not own:
            continue
        x = _scale(np.array([tokens[agent, step] for step in own]), 0, budget, _LEFT, _RIGHT)
        y = {
            part: _scale(np.clip([getattr(one, part) for one in own.values()], low, high), low, high, _BOTTOM, _TOP)
            for part in ("mean", "low", "high")
        }
        if np.isfinite(y["low"]).all():
            around = _points(np.append(x, x[::-1]), np.append(y["low"], y["high"][::-1]))
            shapes.append(f'<polygon fill="{colour}" fill-opacity=".13" points="{around}"/>')
        dash = f' stroke-dasharray="{dashes}"' if dashes else ""
        shapes.append(
            f'<polyline fill="none" stroke="{colour}" stroke-width="1.8"{dash} points="{_points(x, y["mean"])}"/>'
        )
        for step, one in own.items():
            texts.setdefault(step, []).append(f"{agent}: {plus_minus(one)}")
    middles = tokens.groupby("step").mean()
    between = (middles.to_numpy()[1:] + middles.to_numpy()[:-1]) / 2
    bounds = _scale(np.array([0, *between, budget]), 0, budget, _LEFT, _RIGHT)
    stops = [
        (x0, x1, "\n".join([f"{title}, step {step}: {count(middles[step])} tokens", *texts[step]]))
        for x0, x1, step in zip(bounds, bounds[1:], middles.index, strict=False)
    ]
    labels = {float(tick): number(tick, _digits(ticks)) for tick in ticks}
    return _panel(title, f"{column}, {title}", shapes, stops, budget, labels, (low, high))


def _panel(
    title: str,
    described: str,
    shapes: Sequence[str],
    stops: Sequence[tuple[float, float, str]],
    budget: float,
    labels: Mapping[float, str],
    limits: tuple[float, float],
) -> str:
    tokens = [tick for tick in MaxNLocator(nbins=4).tick_values(0, budget) if 0 <= tick <= budget]
    engineering, lines, texts = EngFormatter(sep=""), [], []
    for value, label in labels.items():
        y = float(_scale(value, *limits, _BOTTOM, _TOP))
        lines.append(f"M{_LEFT} {_text(y)}H{_RIGHT}")
        texts.append(f'<text class="end" x="{_LEFT - 5}" y="{_text(y + 4)}">{label}</text>')
    for tick in tokens:
        x = float(_scale(tick, 0, budget, _LEFT, _RIGHT))
        texts.append(f'<text class="middle" x="{_text(x)}" y="{_BOTTOM + 16}">{engineering(tick)}</text>')
    rectangles = [
        f'<rect class="stop" x="{_text(x0)}" y="{_TOP}" width="{_text(x1 - x0)}" height="{_BOTTOM - _TOP}">'
        f"<title>{escape(text)}</title></rect>\n"
        for x0, x1, text in stops
    ]
    return (
        f'<div><h4>{escape(title)}</h4><svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(described)}">\n'
        f'<path class="grid" d="{"".join(lines)}"/>\n{"".join(texts)}\n{"".join(shapes)}\n{"".join(rectangles)}</svg></div>\n'
    )


def _mark(colour: str, dashes: str | None) -> str:
    if dashes is None:
        return f'<svg viewBox="0 0 16 8" aria-hidden="true"><path fill="{colour}" d="M0 0H16V8H0z"/></svg>'
    dash = f' stroke-dasharray="{dashes}"' if dashes else ""
    return (
        f'<svg viewBox="0 0 16 8" aria-hidden="true"><path stroke="{colour}" stroke-width="2"{dash} d="M0 4H16"/></svg>'
    )


def _scale(values: Any, low: float, high: float, start: float, end: float) -> Any:
    """Places of values between ``start`` and ``end``, those of ``low`` and ``high``."""
    return start + (np.asarray(values, float) - low) / (high - low) * (end - start)


def _share(value: float) -> float:
    return float(_scale(value, 0, 1, _BOTTOM, _TOP))


def _points(x: np.ndarray, y: np.ndarray) -> str:
    return " ".join(f"{_text(a)},{_text(b)}" for a, b in zip(x, y, strict=True))


def _text(place: float) -> str:
    return f"{round(float(place), 1):g}"


def _digits(ticks: np.ndarray) -> int:
    """Digits that tell ticks apart.

    Example:
        >>> _digits(np.array([0.0, 0.25, 0.5])), _digits(np.array([0.0, 10.0]))
        (2, 0)
    """
    return next((n for n in range(5) if np.allclose(np.round(ticks, n), ticks, atol=1e-9)), 5)
