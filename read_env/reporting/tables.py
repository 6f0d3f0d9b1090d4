"""Markdown tables: aligned, fixed digits, the same numbers always the same bytes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal

from read_env.reporting.contrasts import Contrast
from read_env.reporting.measures import Measure, over_tasks
from read_env.reporting.records import Comparison, Run
from read_env.reporting.statistics import Estimate, mean_interval, seed_bootstrap

#: What stands in a cell that has no value.
ABSENT = "–"


def number(value: float | None, digits: int = 3, signed: bool = False) -> str:
    """A number with fixed digits; ``–`` for None and NaN. Rounded zeros carry no minus sign."""
    if value is None or math.isnan(value):
        return ABSENT
    rounded = round(value, digits) + 0.0
    return f"{rounded:+.{digits}f}" if signed else f"{rounded:.{digits}f}"


def plus_minus(estimate: Estimate, digits: int = 3, signed: bool = False) -> str:
    """``mean ± half width``; the mean alone where there is no interval."""
    mean = number(estimate.mean, digits, signed)
    return mean if math.isnan(estimate.half_width) else f"{mean} ± {number(estimate.half_width, digits)}"


def interval(low: float, high: float, digits: int = 3) -> str:
    """``[low, high]``, or ``–`` where there is none."""
    return ABSENT if math.isnan(low) else f"[{number(low, digits, True)}, {number(high, digits, True)}]"


def p_value(p: float) -> str:
    """Three digits; ``< .001`` below that."""
    if math.isnan(p):
        return ABSENT
    return "< .001" if p < 0.001 else f"{p:.3f}".lstrip("0") if p < 1 else "1"


def count(value: float | int) -> str:
    """A number of tokens, with thousands separated."""
    return f"{round(value):,}"


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]], text_columns: int = 1) -> str:
    """An aligned Markdown table.

    Args:
        header: one title a column.
        rows: one cell a column; pipes are escaped.
        text_columns: how many columns from the left are text (left aligned); the others are numbers.

    Raises:
        ValueError: a row with another number of cells than the header.
    """
    cells = [[_escape(cell) for cell in row] for row in [list(header), *rows]]
    for row in cells:
        if len(row) != len(header):
            raise ValueError(f"a row has {len(row)} cells, the header {len(header)}: {row}")
    widths = [max(3, *(len(row[column]) for row in cells)) for column in range(len(header))]
    left = [column < text_columns for column in range(len(header))]
    lines = [
        "| "
        + " | ".join(c.ljust(w) if is_left else c.rjust(w) for c, w, is_left in zip(row, widths, left, strict=True))
        + " |"
        for row in cells
    ]
    rule = "|" + "|".join(
        ":" + "-" * (w + 1) if is_left else "-" * (w + 1) + ":" for w, is_left in zip(widths, left, strict=True)
    )
    return "\n".join([lines[0], rule + "|", *lines[1:]])


def measure_table(comparison: Comparison, measure: Measure) -> str:
    """Rows = agents, columns = tasks and the mean over tasks.

    Cells are means over seeds ± half a 95 % t interval. The mean over tasks is taken within a seed
    first (see :func:`read_env.reporting.measures.over_tasks`); it stands only for agents that have
    seeds with a finished run on every task, since means over different tasks don't compare.
    """
    rows = []
    for agent in comparison.agents:
        by_task = [[measure.value(run) for run in comparison.of(agent, task)] for task in comparison.tasks]
        cells = [plus_minus(mean_interval(values), signed=measure.signed) if values else ABSENT for values in by_task]
        overall = over_tasks(comparison, measure, agent)
        cells.append(plus_minus(overall, signed=measure.signed) if overall is not None else ABSENT)
        rows.append([f"`{agent}`", *cells, _seeds(comparison, agent)])
    return markdown_table(["agent", *comparison.tasks, "mean over tasks", "runs"], rows)


def aggregate_table(comparison: Comparison, measure: Measure) -> str:
    """Mean and interquartile mean over all tasks and the seeds that finished every task; seeds are resampled."""
    rows = []
    for agent in comparison.agents:
        by_task = [{run.seed: measure.value(run) for run in comparison.of(agent, task)} for task in comparison.tasks]
        seeds = sorted(set.intersection(*(set(by_seed) for by_seed in by_task)))
        values = [[by_seed[seed] for seed in seeds] for by_seed in by_task]
        row = [f"`{agent}`"]
        statistics: tuple[Literal["mean", "iqm"], ...] = ("mean", "iqm")
        for statistic in statistics:
            found = seed_bootstrap(values, statistic) if seeds else None
            row.append(number(found.mean, signed=measure.signed) if found else ABSENT)
            row.append(interval(found.low, found.high) if found else ABSENT)
        rows.append(row)
    return markdown_table(["agent", "mean", "95 %", "interquartile mean", "95 %"], rows)


def token_table(comparison: Comparison) -> str:
    """What every agent spent, in the run and before it: means over its runs, in tokens."""
    columns: dict[str, Callable[[Run], int]] = {
        "before the run": lambda run: run.ended.tokens_before_run,
        "completion (B)": lambda run: run.ended.spent,
        "residue": lambda run: run.ended.residue,
        "prompt": lambda run: run.ended.prompt_tokens,
        "probe": lambda run: run.ended.probe_tokens,
        "dev": lambda run: run.ended.dev_tokens,
    }
    rows = []
    for agent in comparison.agents:
        runs = [run for run in comparison.finished if run.agent == agent]
        rows.append([f"`{agent}`", *(count(sum(map(take, runs)) / len(runs)) for take in columns.values())])
    return markdown_table(["agent", *columns], rows)


def contrast_table(contrasts: Sequence[Contrast], adjusted: bool) -> str:
    """One contrast a row; with the Holm column only where the p-values were adjusted as a family."""
    header = ["contrast", "mean difference", "95 % (t)", "95 % (bootstrap)", "p (t)"]
    header += ["p (Holm)"] if adjusted else []
    header += ["p (Wilcoxon)", "above / below / equal", "seeds", "pairs"]
    rows = []
    for contrast in contrasts:
        row = [
            f"`{contrast.agent}` − `{contrast.reference}`",
            number(contrast.difference.mean, signed=True),
            interval(contrast.difference.low, contrast.difference.high),
            interval(contrast.bootstrap.low, contrast.bootstrap.high),
            p_value(contrast.p),
        ]
        row += [p_value(contrast.p_holm)] if adjusted else []
        row += [
            p_value(contrast.p_wilcoxon),
            f"{contrast.wins} / {contrast.losses} / {contrast.ties}",
            str(contrast.difference.n),
            str(contrast.pairs),
        ]
        rows.append(row)
    return markdown_table(header, rows)


def _seeds(comparison: Comparison, agent: str) -> str:
    return str(sum(run.agent == agent for run in comparison.finished))


def _escape(cell: str) -> str:
    return cell.replace("|", "\\|").replace("\n", " ")
