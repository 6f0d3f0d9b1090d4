"""The report of a transfer directory: changes of every capability when one gets all the tokens."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.cm import ScalarMappable
from matplotlib.colors import SymLogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import EngFormatter

from read_env.reporting import markdown
from read_env.reporting.markdown import count, interval, markdown_table, number
from read_env.reporting.style import AFTER, HARM, INK, heatmap, look, panels, readable, save, token_axis
from read_env.reporting.transfer import LEVEL, SIZE, Transfer, TransferMatrix, Waste, as_json, load_transfer

_NAMES = {"exam": "Exam (exact match)", "probe": "Probes"}


@look()
def transfer_report(directory: str | Path) -> Path:
    """Write ``transfer.json``, ``report.md`` and the pictures into a transfer directory, and return the page's path.

    Raises:
        RecordError: records that are missing or malformed, or no seed with a finished run for every capability.
    """
    result = load_transfer(directory)
    (result.path / "transfer.json").write_text(json.dumps(as_json(result), indent=1) + "\n", encoding="utf-8")
    rows, columns = len(result.sources), len(result.suite)
    entries, excluded = rows * (columns - 1), ", ".join(map(str, result.excluded_seeds))
    blocks = [
        "# Transfer between capabilities",
        f"One-hot runs on {columns if rows == columns else f'{rows} of {columns}'} capabilities, {len(result.seeds)} seeds "
        f"({', '.join(map(str, result.seeds))}), budgets {', '.join(map(count, result.budgets))} completion tokens.",
        markdown.missing(result.unfinished),
        f"Left out, since not every capability's run is finished: seeds {excluded}." if excluded else "",
        "Rows: the capability that received all tokens. Columns: the capability that moved. Cells: mean change of "
        "the score from the initial student, over seeds.",
        "## Entries that survive",
        f"Off-diagonal entries of size at least {number(SIZE, 2)} whose one-sample t test over seeds has p ≤ "
        f"{number(LEVEL, 2)} after Holm's correction over the {entries} "
        "off-diagonal entries of the same matrix. The tests speak of training seeds; the prompts are fixed.",
        _survivors(result),
    ]
    for measure, name in _NAMES.items():
        file, alt = result.path / f"transfer_{measure}.png", f"transfer matrices, {name.lower()}"
        blocks += [f"## {name}", save(heatmaps(result, measure), file, alt)]
        for entry in result.matrices[measure]:
            blocks += [f"### {name}, {count(entry.budget)} completion tokens", _matrix(result, entry)]
    alt = "marginal gain on the target and negative spillover by budget"
    blocks += [
        "Mean over seeds (standard deviation); `*` p ≤ .05 after Holm (off-diagonal entries).",
        "## Waste",
        "Marginal gain: what the own capability gained between two budgets, per 10,000 completion tokens, mean over "
        "capabilities. Negative spillover: mean over all other capabilities of max(−change, 0). Noise of single runs "
        "lifts the latter (a drop counts, a rise does not); the last column takes the mean over seeds first, and the "
        "truth lies between the two. 95 % t intervals over seeds.",
        save(waste_panels(result.waste["exam"]), result.path / "waste.png", alt),
    ]
    for measure, name in _NAMES.items():
        blocks += [f"### {name}", _waste(result.waste[measure])]
    blocks += markdown.provenance(result.path, result.config, result.first)
    return markdown.write_page(result.path / "report.md", blocks)


def _survivors(result: Transfer) -> str:
    rows, listed = [], []
    for measure, entries in result.matrices.items():
        for entry in entries:
            negative, positive = entry.survivors(-1), entry.survivors(+1)
            rows.append([measure, count(entry.budget), str(negative.sum()), str(positive.sum())])
            names = [
                f"{readable(result.sources[i])} → {readable(result.suite[j])} {number(entry.mean[i, j], signed=True)}"
                for i, j in np.argwhere(positive)
            ]
            if measure == "exam" and names:
                listed.append(f"- {count(entry.budget)} tokens: {'; '.join(names)}")
    table = markdown_table(["measure", "budget", "negative", "positive"], rows)
    return "\n".join([table, "", "The positive ones on the exam:", "", *listed]) if listed else table


def _matrix(result: Transfer, entry: TransferMatrix) -> str:
    means, sds = (pd.DataFrame(values) for values in (entry.mean, entry.sd))
    cells = (
        means.map(lambda m: number(m, signed=True))
        + " ("
        + sds.map(number)
        + ")"
        + np.where(entry.significant, " *", "")
    )
    rows = [[source, *row] for source, row in zip(result.sources, cells.to_numpy().tolist(), strict=True)]
    return markdown_table(["tokens on", *result.suite], rows)


def _waste(entries: Sequence[Waste]) -> str:
    rows = []
    for entry in entries:
        gain, drop = entry.marginal_gain, entry.negative_spillover
        row = [f"{count(entry.previous)} – {count(entry.budget)}", number(gain.mean, 4, True), interval(gain, 4)]
        rows.append([*row, number(drop.mean, 4), interval(drop, 4), number(entry.of_means, 4)])
    header = ["budget", "marginal gain / 10k", "95 %", "negative spillover at the end", "95 %", "of mean matrix"]
    return markdown_table(header, rows)


def heatmaps(result: Transfer, measure: str) -> Figure:
    """Transfer matrices in points of 100, one per budget, on one colour scale; the diagonal is framed."""
    matrices, rows, columns = result.matrices[measure], *map(len, (result.sources, result.suite))
    limit = max(0.05, *(float(np.abs(entry.mean).max()) for entry in matrices))
    # Off-diagonals are a tenth of the diagonal: a linear scale would leave them white.
    norm = SymLogNorm(linthresh=0.05, vmin=-limit, vmax=limit)
    # A cell has room for “−12*”, a label for some twenty letters.
    width = min(3, len(matrices)) * 0.37 * columns + 2.2
    picture, grid = panels(matrices, 3, width, 0.37 * rows + 1.7, sharey=True, layout="compressed")
    for axes, entry in grid:
        means = pd.DataFrame(entry.mean, map(readable, result.sources), map(readable, result.suite))
        texts = means.map(_points) + np.where(entry.significant, "*", "")
        heatmap(axes, means, texts, norm=norm, cbar=False, square=True)
        for i, j in np.argwhere(entry.own):
            axes.add_patch(Rectangle((j, i), 1, 1, fill=False, edgecolor=INK, linewidth=0.9, clip_on=False))
        axes.set(title=f"{_short(entry.budget)} completion tokens")
    grid[0][0].set_ylabel("tokens spent on")
    picture.supxlabel(f"change on the {measure} in points of 100   (* p < .05 after Holm)", fontsize=9)
    bar = picture.colorbar(ScalarMappable(norm, "RdBu"), ax=[axes for axes, _ in grid], shrink=0.8, pad=0.01)
    ticks = [tick for tick in (-0.5, -0.2, -0.05, 0, 0.05, 0.2, 0.5) if abs(tick) <= limit]
    bar.set_ticks(ticks, labels=list(map(_points, ticks)))
    bar.minorticks_off()
    return picture


def _short(tokens: float) -> str:
    return str(EngFormatter(sep="")(tokens))


def _points(change: float) -> str:
    return f"{100 * change:.0f}".replace("-0", "0").replace("-", "−")


def waste_panels(entries: Sequence[Waste]) -> Figure:
    """Marginal gain on the target, and mean negative spillover, by budget."""
    spans = [f"{_short(e.previous)}–{_short(e.budget)}" for e in entries]
    budgets = [float(entry.budget) for entry in entries]
    (gains, gain_errors), (drops, drop_errors) = (
        100 * np.nan_to_num([(found.mean, found.half_width) for found in column]).T
        for column in ([e.marginal_gain for e in entries], [e.negative_spillover for e in entries])
    )
    picture, [(left, _), (right, _)] = panels(range(2), 2, height=3.0)
    left.bar(spans, gains, 0.6, yerr=gain_errors, color=AFTER, ecolor=INK, capsize=3)
    left.axhline(0, color=INK, linewidth=0.8)
    left.set(title="Returns on the target", xlabel="completion tokens spent on the target")
    left.set_ylabel("marginal gain\n(points per 10k tokens)")
    right.errorbar(budgets, drops, drop_errors, fmt="o-", color=HARM, capsize=3)
    token_axis(right, max(budgets) * 1.06, "completion tokens spent on one capability")
    right.set(title="Harm to the others", ylabel="mean negative spillover\n(points of 100)")
    right.set_ylim(bottom=0)
    for axes in (left, right):
        axes.grid(axis="y")
    return picture
