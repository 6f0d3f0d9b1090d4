"""The report of a transfer directory: who moves when one capability gets all the tokens."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from read_env.reporting import pages
from read_env.reporting.figures_transfer import transfer_heatmaps, waste_panels
from read_env.reporting.records import load_transfer
from read_env.reporting.style import readable, save
from read_env.reporting.tables import count, interval, markdown_table, number
from read_env.reporting.transfer import LEVEL, SIZE, TransferMatrix, TransferResult, analyse, as_json

_NAMES = {"exam": "Exam (exact match)", "probe": "Probes"}


def transfer_report(directory: str | Path) -> Path:
    """Write ``transfer.json``, ``report.md`` and the pictures into a transfer directory; return the page's path.

    Raises:
        RecordError: records that are missing or malformed, or no seed with a finished run for every capability.
    """
    transfer = load_transfer(directory)
    result = analyse(transfer)
    (transfer.path / "transfer.json").write_text(
        json.dumps({**as_json(result), "unfinished": list(transfer.unfinished)}, indent=1) + "\n", encoding="utf-8"
    )
    head = (
        f"One-hot runs on {_sources(result)} capabilities, {len(result.seeds)} seeds "
        f"({', '.join(map(str, result.seeds))}), budgets {', '.join(map(count, result.budgets))} completion tokens."
    )
    blocks = ["# Transfer between capabilities", head, pages.missing(transfer.unfinished)]
    if result.excluded_seeds:
        listed = ", ".join(map(str, result.excluded_seeds))
        blocks.append(f"Left out, since not every capability's run is finished: seeds {listed}.")
    blocks += [
        "Rows: the capability that received all tokens. Columns: the capability that moved. Cells: mean change of "
        "the score from the initial student, over seeds.",
        "## Entries that survive",
        f"Off-diagonal entries of size at least {number(SIZE, 2)} whose one-sample t test over seeds has p ≤ "
        f"{number(LEVEL, 2)} after Holm's correction over the {int((~result.matrices['exam'][0].own).sum())} "
        "off-diagonal entries of the same matrix. The tests speak of training seeds; the prompts are fixed.",
        _survivors(result),
    ]
    for measure, name in _NAMES.items():
        save(transfer_heatmaps(result, measure), transfer.path / f"transfer_{measure}.png")
        blocks += [f"## {name}", pages.picture(f"transfer_{measure}.png", f"transfer matrices, {name.lower()}")]
        for entry in result.matrices[measure]:
            blocks += [f"### {name}, {count(entry.budget)} completion tokens", _matrix(result, entry)]
    blocks.append("Mean over seeds (standard deviation); `*` p ≤ .05 after Holm (off-diagonal entries).")
    save(waste_panels(result, "exam"), transfer.path / "waste.png")
    blocks += [
        "## Waste",
        "Marginal gain: what the own capability gained between two budgets, per 10,000 completion tokens, mean over "
        "capabilities. Negative spillover: mean over all other capabilities of max(−change, 0). Noise of single runs "
        "lifts the latter (a drop counts, a rise does not); the last column takes the mean over seeds first, and the "
        "truth lies between the two. 95 % t intervals over seeds.",
        pages.picture("waste.png", "marginal gain on the target and negative spillover by budget"),
    ]
    for measure, name in _NAMES.items():
        blocks += [f"### {name}", _waste(result, measure)]
    blocks += [
        "## Where this comes from",
        *pages.provenance(transfer.path, transfer.config, next(iter(transfer.runs.values()))),
    ]
    return pages.write_page(transfer.path / "report.md", blocks)


def _sources(result: TransferResult) -> str:
    if len(result.sources) == len(result.suite):
        return str(len(result.suite))
    return f"{len(result.sources)} of {len(result.suite)}"


def _survivors(result: TransferResult) -> str:
    rows, listed = [], []
    for measure, entries in result.matrices.items():
        for entry in entries:
            negative, positive = entry.survivors(-1), entry.survivors(+1)
            rows.append([measure, count(entry.budget), str(int(negative.sum())), str(int(positive.sum()))])
            if measure == "exam" and positive.any():
                names = [
                    f"{readable(result.sources[i])} → {readable(result.suite[j])} {number(entry.mean[i, j], signed=True)}"
                    for i, j in np.argwhere(positive)
                ]
                listed.append(f"- {count(entry.budget)} tokens: {'; '.join(names)}")
    table = markdown_table(["measure", "budget", "negative", "positive"], rows)
    return "\n".join([table, "", "The positive ones on the exam:", "", *listed]) if listed else table


def _matrix(result: TransferResult, entry: TransferMatrix) -> str:
    rows = []
    for i, source in enumerate(result.sources):
        cells = []
        for j in range(len(result.suite)):
            star = " *" if entry.significant[i, j] else ""
            cells.append(f"{number(entry.mean[i, j], signed=True)} ({number(entry.sd[i, j])}){star}")
        rows.append([source, *cells])
    return markdown_table(["tokens on", *result.suite], rows)


def _waste(result: TransferResult, measure: str) -> str:
    rows = [
        [
            f"{count(entry.previous)} – {count(entry.budget)}",
            number(entry.marginal_gain.mean, 4, True),
            interval(entry.marginal_gain.low, entry.marginal_gain.high, 4),
            number(entry.negative_spillover.mean, 4),
            interval(entry.negative_spillover.low, entry.negative_spillover.high, 4),
            number(entry.of_means, 4),
        ]
        for entry in result.waste[measure]
    ]
    header = ["budget", "marginal gain / 10k", "95 %", "negative spillover at the end", "95 %", "of mean matrix"]
    return markdown_table(header, rows)
