"""Pictures of a transfer directory: matrices by budget, and the two panels of waste."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from read_env.reporting.style import AFTER, HARM, INK, WIDTH, figure, look, readable, short_tokens, token_axis
from read_env.reporting.transfer import TransferResult

#: Side of a heatmap cell in inches: room for “−12*” at 7.5 pt.
CELL = 0.36

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def transfer_heatmaps(result: TransferResult, measure: str = "exam") -> Figure:
    """Transfer matrices side by side, one a budget, on one colour scale.

    Cells carry the mean change in points of 100. A star marks off-diagonal entries that survive
    Holm's correction within their matrix; the diagonal is framed.
    """
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import SymLogNorm
    from matplotlib.patches import Rectangle

    matrices, columns, rows = result.matrices[measure], len(result.suite), len(result.sources)
    limit = max(0.05, max(float(np.abs(entry.mean).max()) for entry in matrices))
    # Off-diagonals are a tenth of the diagonal: a linear scale would leave them white.
    norm = SymLogNorm(linthresh=0.05, vmin=-limit, vmax=limit)
    across = min(3, len(matrices))
    down = -(-len(matrices) // across)
    # Square cells and long labels defeat automatic layout: everything is placed in inches.
    wide, high, left, gap, right, top, bottom = columns * CELL, rows * CELL, 1.6, 0.2, 0.9, 0.4, 1.6
    width, height = left + across * (wide + gap) + right, down * (high + top + bottom)
    with look():
        picture = figure(width, height, None)
        for index, entry in enumerate(matrices):
            x = left + index % across * (wide + gap)
            y = height - (index // across + 1) * (high + top) - index // across * bottom
            ax = picture.add_axes((x / width, y / height, wide / width, high / height))
            ax.imshow(entry.mean, cmap="RdBu", norm=norm, aspect="auto")
            for i, j in np.ndindex(entry.mean.shape):
                star = "*" if entry.significant[i, j] else ""
                dark = abs(float(norm(entry.mean[i, j])) - 0.5) > 0.28
                points = f"{100 * entry.mean[i, j]:.0f}".replace("-0", "0").replace("-", "−")
                ax.text(j, i, points + star, ha="center", va="center", fontsize=7.5, color="white" if dark else INK)
                if entry.own[i, j]:
                    ax.add_patch(Rectangle((j - 0.5, i - 0.5), 1, 1, fill=False, edgecolor=INK, linewidth=0.9))
            ax.set_xticks(range(columns), [readable(name) for name in result.suite], rotation=90)
            first = index % across == 0
            ax.set_yticks(range(rows), [readable(name) for name in result.sources] if first else [""] * rows)
            ax.tick_params(length=0)
            ax.spines[:].set_visible(False)
            ax.set_title(f"{short_tokens(entry.budget)} completion tokens")
            if first:
                ax.set_ylabel("tokens spent on")
        middle = (left + (across * (wide + gap) - gap) / 2) / width
        caption = f"change on the {measure} in points of 100   (* p < .05 after Holm)"
        picture.text(middle, 0.12 / height, caption, ha="center", va="bottom", fontsize=9)
        box = ((width - right + 0.05) / width, (bottom + 0.1 * high) / height, 0.12 / width, 0.8 * high / height)
        bar = picture.colorbar(ScalarMappable(norm, "RdBu"), cax=picture.add_axes(box))
        ticks = [t for t in (-0.5, -0.2, -0.05, 0, 0.05, 0.2, 0.5) if abs(t) <= limit]
        bar.set_ticks(ticks, labels=[f"{100 * t:+.0f}".replace("+0", "0").replace("-", "−") for t in ticks])
        bar.ax.minorticks_off()
        bar.outline.set_visible(False)
    return picture


def waste_panels(result: TransferResult, measure: str = "exam") -> Figure:
    """Diminishing returns and rising harm: marginal target gain, and mean negative spillover, by budget."""
    entries = result.waste[measure]
    budgets = np.array([entry.budget for entry in entries], dtype=float)
    with look():
        picture = figure(WIDTH * 0.9, 3.0)
        left, right = picture.subplots(1, 2)
        spans = [f"{short_tokens(e.previous) if e.previous else '0'}–{short_tokens(e.budget)}" for e in entries]
        for ax, name, colour in ((left, "marginal_gain", AFTER), (right, "negative_spillover", HARM)):
            estimates = [getattr(entry, name) for entry in entries]
            x = np.arange(len(entries), dtype=float) if ax is left else budgets
            means = np.array([100 * estimate.mean for estimate in estimates])
            errors = np.array([0.0 if np.isnan(e.half_width) else 100 * e.half_width for e in estimates])
            if ax is left:
                ax.bar(x, means, 0.6, color=colour, alpha=0.85)
                ax.errorbar(x, means, errors, fmt="none", ecolor=INK, elinewidth=1, capsize=3)
                ax.axhline(0, color=INK, linewidth=0.8)
            else:
                ax.errorbar(x, means, errors, fmt="o-", color=colour, linewidth=1.8, capsize=3, markersize=5)
            ax.grid(axis="y")
        left.set_xticks(range(len(entries)), spans)
        left.tick_params(axis="x", length=0)
        left.set(
            title="Returns on the target",
            xlabel="completion tokens spent on the target",
            ylabel="marginal gain\n(points per 10k tokens)",
        )
        token_axis(right, float(budgets.max()) * 1.06, "completion tokens spent on one capability")
        right.set(title="Harm to the others", ylabel="mean negative spillover\n(points of 100)")
        right.set_ylim(bottom=0)
    return picture
