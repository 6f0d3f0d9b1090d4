"""Markdown pages: numbers with fixed digits, aligned tables, and the parts that all pages share.

Equal records give equal pages, to the byte: nothing here looks at a clock or a random state.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from read_env.files import write_atomic
from read_env.reporting.runs import Run
from read_env.reporting.statistics import Estimate

#: The cell of a value that does not exist.
ABSENT = "–"


def number(value: float | None, digits: int = 3, signed: bool = False) -> str:
    """A number with fixed digits; ``–`` for None and NaN. Rounded zeros carry no minus sign.

    >>> number(-0.0001, signed=True), number(None)
    ('+0.000', '–')
    """
    if value is None or math.isnan(value):
        return ABSENT
    rounded = round(float(value), digits) + 0.0
    return f"{rounded:+.{digits}f}" if signed else f"{rounded:.{digits}f}"


def plus_minus(estimate: Estimate, digits: int = 3, signed: bool = False) -> str:
    """Mean with half the interval's width; the mean alone where there is no interval.

    >>> plus_minus(Estimate(0.5, 0.25, 0.75, n=4))
    '0.500 ± 0.250'
    """
    mean = number(estimate.mean, digits, signed)
    return mean if math.isnan(estimate.half_width) else f"{mean} ± {number(estimate.half_width, digits)}"


def interval(estimate: Estimate, digits: int = 3) -> str:
    """Ends of the interval, or ``–`` where there is none.

    >>> interval(Estimate(0.5, 0.25, 0.75, n=4), digits=2)
    '[+0.25, +0.75]'
    """
    if math.isnan(estimate.low):
        return ABSENT
    return f"[{number(estimate.low, digits, True)}, {number(estimate.high, digits, True)}]"


def p_value(p: float) -> str:
    """Three digits; ``< .001`` below that.

    >>> p_value(0.0312), p_value(0.0004), p_value(1.0)
    ('.031', '< .001', '1')
    """
    if math.isnan(p):
        return ABSENT
    return "< .001" if p < 0.001 else f"{p:.3f}".lstrip("0") if p < 1 else "1"


def count(value: float) -> str:
    """A number of tokens, with thousands separated.

    >>> count(120000)
    '120,000'
    """
    return f"{round(value):,}"


def plural(amount: int, noun: str) -> str:
    """Number and noun, in the plural with an s.

    >>> plural(1, "seed"), plural(2000, "seed")
    ('1 seed', '2,000 seeds')
    """
    return f"{count(amount)} {noun}{'' if amount == 1 else 's'}"


def literal(text: str) -> str:
    r"""Text from outside, such as a completion, as Markdown that shows it character by character.

    Pipes are left to :func:`markdown_table`.

    >>> print(literal("<b> 2 * 3 * `x`"))
    \<b\> 2 \* 3 \* \`x\`
    """
    return re.sub(r"([\\`*~\[\]<>&]|(?<![^\W_])_|_(?![^\W_]))", r"\\\1", text)


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]], text_columns: int = 1) -> str:
    """An aligned Markdown table of one cell per column; pipes in cells are escaped.

    The first ``text_columns`` are text, left aligned; the others are numbers.

    Raises:
        ValueError: a row with another number of cells than the header.

    >>> print(markdown_table(["agent", "gain"], [["uniform", "0.12"]]))
    | agent   | gain |
    |:--------|-----:|
    | uniform | 0.12 |
    """
    cells = [[cell.replace("|", "\\|").replace("\n", " ") for cell in row] for row in [header, *rows]]
    if wrong := next((row for row in cells if len(row) != len(header)), None):
        raise ValueError(f"a row has {len(wrong)} cells, the header {len(header)}: {wrong}")
    widths = [max(3, *map(len, column)) for column in zip(*cells, strict=True)]
    pads = [str.ljust] * text_columns + [str.rjust] * (len(header) - text_columns)
    head, *body = ([pad(c, w) for pad, c, w in zip(pads, row, widths, strict=True)] for row in cells)
    rule = [pad(":", w + 2, "-") for pad, w in zip(pads, widths, strict=True)]
    return "\n".join([f"| {' | '.join(head)} |", f"|{'|'.join(rule)}|", *(f"| {' | '.join(row)} |" for row in body)])


def write_page(path: Path, blocks: Sequence[str]) -> Path:
    """Join blocks with blank lines and write them, replacing the page in one move."""
    write_atomic(
        path, ("\n\n".join(block.strip("\n") for block in blocks if block) + "\n").encode("utf-8", "backslashreplace")
    )
    return path


def provenance(directory: Path, config: Mapping[str, Any], first: Run | None = None) -> list[str]:
    """The commands (``commands.txt``) and the configuration that a page came from, under their heading.

    ``first`` is a run to take the configuration from where the directory has none of its own.
    """
    heading, commands, where = "## Where this comes from", directory / "commands.txt", "config.json"
    if not config and first is not None:
        config, where = first.config, f"runs/{first.path.name}/config.json"
    if not config:
        return [heading, "No `config.json` was recorded."]
    made = f"Made by\n\n```\n{commands.read_text('utf-8', 'surrogateescape').strip()}\n```" if commands.exists() else ""
    content = json.dumps(config, indent=2, sort_keys=True, ensure_ascii=False)
    return [
        heading,
        made,
        f"<details><summary>Configuration (`{where}`)</summary>\n\n```json\n{content}\n```\n\n</details>",
    ]


def settings(run: Run) -> str:
    """One sentence: preset, budget, step size."""
    step_tokens = run.section("budget").get("step_tokens")
    parts = [
        f"preset `{run.config['preset']}`" if "preset" in run.config else "",
        f"budget {count(run.budget)} completion tokens" if run.budget is not None else "",
        f"{count(step_tokens)} a step" if step_tokens else "",
    ]
    return ", ".join(filter(None, parts))


def missing(lines: Sequence[str]) -> str:
    """The paragraph on runs that are not in the numbers; empty when there are none."""
    head = f"**Unfinished: {plural(len(lines), 'run')}, not in the numbers below.**"
    return "\n".join([head, "", *(f"- {line}" for line in lines)]) if lines else ""
