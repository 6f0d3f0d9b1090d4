"""The one look of all pictures: colours, fonts, axes, saving.

Figures are plain :class:`matplotlib.figure.Figure` objects, so nothing here touches pyplot's global
state; the style is applied inside a context. The palettes are Paul Tol's colour-blind safe schemes
(“muted” for capabilities, “vibrant” for agents); agents differ by line style as well.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Width in inches of a picture that fills a README column: 9 pt there is about 11 px on screen.
WIDTH = 9.6
DPI = 160

INK = "#222222"
MUTED = "#777777"
FAINT = "#DDDDDD"
BEFORE = "#999999"
AFTER = "#0077BB"
HARM = "#CC3311"
NEED = "#EE7733"

_CAPABILITIES = (
    "#88CCEE", "#332288", "#DDCC77", "#117733", "#CC6677", "#44AA99", "#AA4499", "#999933", "#882255", "#BBBBBB",
)  # fmt: skip
_AGENTS: dict[str, tuple[str, Any]] = {
    "read-bandit": ("#CC3311", "-"),
    "task-static": ("#0077BB", "-"),
    "water-filling": ("#009988", (0, (5, 1.5))),
    "random-candidate": ("#AA4499", (0, (1, 1.2))),
    "uniform": ("#777777", (0, (5, 1.5))),
    "sqrt-task": ("#33BBEE", (0, (3, 1, 1, 1))),
    "one-hot": ("#222222", (0, (1, 1.2))),
    "round-robin": ("#BBBBBB", "-"),
    "greedy": ("#EE7733", (0, (5, 1.5))),
    "grid-searched": ("#332288", (0, (3, 1, 1, 1))),
}
_OTHER_AGENTS = ("#EE3377", "#999933", "#DDAA33", "#882255", "#44AA99", "#6699CC")

_RC: dict[Any, Any] = {
    "font.family": "DejaVu Sans",  # ships with matplotlib: the same picture on every machine
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 8,
    "axes.labelsize": 9,
    "axes.labelcolor": INK,
    "axes.edgecolor": MUTED,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "xtick.major.size": 3,
    "ytick.major.size": 3,
    "grid.color": "#EAEAEA",
    "grid.linewidth": 0.8,
    "legend.fontsize": 8.5,
    "legend.frameon": False,
    "legend.handlelength": 1.8,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "svg.hashsalt": "read-env",
}


@contextmanager
def look() -> Iterator[None]:
    """The style, for the figures built inside the block."""
    import matplotlib

    with matplotlib.rc_context(_RC):
        yield


def figure(width: float = WIDTH, height: float = 3.4, layout: Literal["constrained"] | None = "constrained") -> Figure:
    """An empty figure (inches); call it inside :func:`look`. Without a layout the caller places the axes."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=DPI, layout=layout)


def save(picture: Figure, path: Path) -> Path:
    """Write a PNG without software or time stamps, so that equal figures are equal files."""
    with look():
        picture.savefig(path, dpi=DPI, metadata={"Software": None})
    return path


def capability_colours(suite: Sequence[str]) -> dict[str, str]:
    """A colour a capability, by its place in the suite."""
    return {name: _CAPABILITIES[index % len(_CAPABILITIES)] for index, name in enumerate(suite)}


def agent_styles(agents: Sequence[str]) -> dict[str, tuple[str, Any]]:
    """(colour, line style) by agent: fixed for the known agents, by order for the others."""
    others = iter(range(len(agents)))
    styles: dict[str, tuple[str, Any]] = {}
    for agent in agents:
        if agent in _AGENTS:
            styles[agent] = _AGENTS[agent]
        else:
            index = next(others)
            styles[agent] = (_OTHER_AGENTS[index % len(_OTHER_AGENTS)], ("-", (0, (5, 1.5)))[index // 6 % 2])
    return styles


def readable(name: str) -> str:
    """``tool_use`` → ``tool use``."""
    return name.replace("_", " ")


def token_axis(axes: Axes, budget: float, label: str = "completion tokens spent") -> None:
    """The x axis in thousands of completion tokens from zero to the budget."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    unit, suffix = (1e6, "M") if budget >= 4e6 else (1e3, "k") if budget >= 4e3 else (1.0, "")
    axes.set_xlim(0, budget)
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 4, 5, 10]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value / unit:g}{suffix if value else ''}"))
    axes.set_xlabel(label)


def short_tokens(budget: int) -> str:
    """``60000`` → ``60k``."""
    if budget >= 1_000_000:
        return f"{budget / 1e6:g}M"
    return f"{budget / 1e3:g}k" if budget >= 1000 else str(budget)
