"""The report of a transfer directory: changes of every capability when one gets all the tokens (arXiv 2605.11290).

T_ij(B) = s_j(student after B tokens on i alone) − s_j(initial student): row = where the tokens went,
column = what moved. One matrix per budget and measure (exam, probe), over seeds, and two diagnostics of waste.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.cm import ScalarMappable
from matplotlib.colors import SymLogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import EngFormatter

from read_env.record_files import RecordError
from read_env.reporting import markdown
from read_env.reporting.markdown import count, interval, markdown_table, number
from read_env.reporting.runs import Run, load_many, load_scores, read_config, unfinished
from read_env.reporting.statistics import Estimate, holm, mean_interval, one_sample_p
from read_env.reporting.style import AFTER, HARM, INK, heatmap, look, panels, readable, save, token_axis
from read_env.reporting.web_page import write_report

_NAMES = {"exam": "Exam (exact match)", "probe": "Probes"}

#: An off-diagonal entry smaller than this is not counted, whatever its p-value.
SIZE = 0.02
LEVEL = 0.05
SHORT = EngFormatter(sep="")  # 24000 → 24k


@dataclass(frozen=True, eq=False)
class TransferMatrix:
    """Changes of all capabilities by source at one budget; arrays are (sources, |C|) but for ``changes``.

    Of the two diagnostics of waste, ``marginal_gain`` is what the own capability gained since the previous budget per
    10,000 completion tokens, mean over sources, and ``negative_spillover`` the mean off the diagonal of max(−T_ij, 0).
    """

    budget: int
    previous: int  # the budget before it, 0 for the first
    changes: np.ndarray  # (sources, seeds, |C|), T_ij of every seed
    own: np.ndarray  # booleans: the entries of a source on itself, the diagonal
    mean: np.ndarray  # over seeds
    sd: np.ndarray  # over seeds
    p: np.ndarray  # two-sided one-sample t test over seeds
    p_holm: np.ndarray  # all entries off the diagonal adjusted as one family; NaN on it
    marginal_gain: Estimate
    negative_spillover: Estimate
    negative_spillover_of_means: float  # from the matrix of means: noise of single seeds lifts a maximum with zero

    @property
    def significant(self) -> np.ndarray:
        """(sources, |C|) booleans: entries off the diagonal with an adjusted p of at most ``LEVEL``."""
        return np.nan_to_num(self.p_holm, nan=1.0) <= LEVEL

    def survivors(self, sign: int) -> np.ndarray:
        """(sources, |C|) booleans: the significant entries of this sign and at least ``SIZE``."""
        return (sign * self.mean >= SIZE) & self.significant


@dataclass(frozen=True, eq=False)
class Transfer:
    """A transfer directory and the numbers of its report, from the seeds that every source finished."""

    path: Path
    config: dict[str, Any]
    first: Run
    unfinished: tuple[str, ...]  # one line for each run that is not in the numbers
    suite: tuple[str, ...]  # all capabilities: the columns
    sources: tuple[str, ...]  # the capabilities that were distilled alone: the rows
    seeds: tuple[int, ...]
    excluded_seeds: tuple[int, ...]
    budgets: tuple[int, ...]  # completion tokens, rising
    matrices: dict[str, list[TransferMatrix]]  # by measure (exam, probe), one per budget


def load_transfer(directory: str | Path) -> Transfer:
    """Read a transfer directory, one-hot runs with their source in ``agent_options.capability``.

    Raises:
        RecordError: a record is missing or malformed, there is no complete seed, or a run has no exam at an asked budget.
    """
    path, config, every = Path(directory), read_config(Path(directory)), load_many(directory)
    suite = next(run.begun.suite for run in every if run.summary is not None)
    runs = dict(sorted(((_source(run, suite), run.seed), run) for run in every))
    sources = tuple(name for name in suite if name in {source for source, _ in runs})
    present = sorted({seed for _, seed in runs})
    finished = {key: run for key, run in runs.items() if run.summary is not None}
    seeds = tuple(seed for seed in present if all((name, seed) in finished for name in sources))
    if not seeds:
        done = f"{len(finished)} of {len(sources) * len(present)} runs are finished"
        raise RecordError(f"{path}: no seed has a finished run for every capability: {done}")
    examined = load_scores(finished[sources[0], seeds[0]]).dropna(subset=["allocation", "exam"])
    nominal = np.minimum(examined["step"] * examined["step_tokens"], examined["budget"])
    budgets = tuple(sorted(map(int, config.get("budgets") or set(nominal))))
    held = np.array([[_changes(finished[name, seed], budgets) for seed in seeds] for name in sources])
    exam, probe = held.transpose(2, 3, 0, 1, 4)  # (budgets, sources, seeds, |C|)
    own = np.array([[source == name for name in suite] for source in sources])
    found = {"exam": matrices(budgets, exam, own), "probe": matrices(budgets, probe, own)}
    wanted = {*(config.get("seeds") or []), *present}
    absent = [f"one-hot-{name}__seed{seed}" for name in sources for seed in wanted if (name, seed) not in runs]
    lines, excluded = unfinished(every, absent), tuple(seed for seed in present if seed not in seeds)
    return Transfer(path, config, next(iter(runs.values())), lines, suite, sources, seeds, excluded, budgets, found)


def matrices(budgets: Sequence[int], changes: np.ndarray, own: np.ndarray) -> list[TransferMatrix]:
    """The transfer matrices of (budgets, sources, seeds, |C|) changes; ``own`` marks each source's own column.

    Example:
        >>> changes = np.array([[0.3, -0.1], [0.0, 0.2]])[None, :, None]  # one budget, one seed
        >>> matrices([1000], changes, np.eye(2, dtype=bool))[0].negative_spillover_of_means
        0.05
    """
    by_seed = changes.transpose(0, 2, 1, 3)  # (budgets, seeds, sources, |C|)
    target = by_seed[..., own].mean(axis=-1)  # (budgets, seeds): mean gain on the own target
    gains = np.diff(target, axis=0, prepend=0) / np.diff(budgets, prepend=0)[:, None] * 10_000
    others = max(1, int((~own).sum()))  # none in a suite of one capability, where nothing can drop
    drops = np.maximum(-by_seed, 0.0)[..., ~own].sum(axis=-1) / others
    means = changes.mean(axis=2)
    of_means = np.maximum(-means, 0.0)[:, ~own].sum(axis=-1) / others
    sds = changes.std(axis=2, ddof=1) if changes.shape[2] > 1 else np.full_like(means, np.nan)
    p = np.apply_along_axis(lambda entry: one_sample_p(entry)[0], 2, changes)
    p_holm = np.full_like(p, np.nan)
    for adjusted, values in zip(p_holm, p, strict=True):
        adjusted[~own] = holm(values[~own])
    waste = map(mean_interval, gains), map(mean_interval, drops), map(float, of_means)
    return list(map(TransferMatrix, budgets, (0, *budgets), changes, repeat(own), means, sds, p, p_holm, *waste))


def as_json(result: Transfer) -> dict[str, Any]:
    """The content of ``transfer.json``: plain lists and numbers, None where a number does not exist."""

    def numbers(found: Any, *names: str) -> dict[str, Any]:
        values = {name: np.asarray(getattr(found, name)) for name in names}
        return {name: np.where(np.isnan(value), None, value).tolist() for name, value in values.items()}  # type: ignore[call-overload]

    def survivors(found: TransferMatrix, sign: int) -> list[list[str]]:
        return [[result.sources[i], result.suite[j]] for i, j in np.argwhere(found.survivors(sign))]

    def entry(found: TransferMatrix) -> dict[str, Any]:
        surviving = {"negative": survivors(found, -1), "positive": survivors(found, +1)}
        return {**numbers(found, "mean", "sd", "p", "p_holm"), "survivors": surviving}

    def waste(found: TransferMatrix) -> dict[str, Any]:
        gain, drop = (numbers(e, "mean", "low", "high", "n") for e in (found.marginal_gain, found.negative_spillover))
        value = {"budget": found.budget, "previous": found.previous, "marginal_gain_per_10k": gain}
        of_means = found.negative_spillover_of_means
        return {**value, "negative_spillover": drop, "negative_spillover_of_means": of_means}

    return {
        **{name: list(getattr(result, name)) for name in ("suite", "sources", "budgets", "seeds", "excluded_seeds")},
        **{"row": "capability that received all tokens", "column": "capability that moved"},
        **{"size": SIZE, "level": LEVEL},
        "matrices": {measure: {str(m.budget): entry(m) for m in found} for measure, found in result.matrices.items()},
        "waste": {measure: list(map(waste, found)) for measure, found in result.matrices.items()},
        "unfinished": list(result.unfinished),
    }


def _source(run: Run, suite: Sequence[str]) -> str:
    """The capability that received all tokens."""
    options, where = run.section("agent_options"), run.path / "config.json"
    source = options.get("capability")
    if run.config.get("agent") != "one-hot" or source is None:
        wrong = f"agent is {run.config.get('agent')!r} with options {options}"
        raise RecordError(f"{where}: {wrong}, expected 'one-hot' with a capability")
    if source not in suite:
        raise RecordError(f"{where}: '{source}' is not a capability of the suite ({', '.join(suite)})")
    return str(source)


def _changes(run: Run, budgets: Sequence[int]) -> np.ndarray:
    """Exam and probe changes of one run, (2, budgets, |C|).

    Whole examples never fill a budget to the token, so the step that stands for a budget is the
    one with an exam whose spent tokens are nearest, and it must lie within one step's tokens.
    """
    by_step = load_scores(run).pivot(index=["step", "spent"], columns="capability", values=["exam", "probe"])
    start, held = by_step.iloc[0].astype(float), by_step[1:].dropna()
    if start["exam"].isna().any():
        raise RecordError(f"{run.path / 'start.json'}: exam is null: a transfer run needs the exam of the start")
    longest = max((step.completion_tokens for step in run.steps), default=0)
    tolerance = 1.1 * (int(run.section("budget").get("step_tokens") or 0) or longest)
    changes = []
    for budget in budgets:
        distance = np.abs(held.index.get_level_values("spent").to_numpy(float) - budget)
        # The exam of a budget that no step ends at is held at the end of the step that passes it.
        if not distance.size or distance.min() > tolerance:
            raise RecordError(f"{run.path / 'steps.jsonl'}: no step near {budget:,} completion tokens has an exam")
        changes.append((held.iloc[int(distance.argmin())] - start).to_numpy(float).reshape(2, -1))
    return np.array(changes).transpose(1, 0, 2)


@look()
def transfer_report(directory: str | Path) -> Path:
    """Write ``transfer.json``, ``report.md``, ``report.html`` and the pictures into a transfer directory, and return the page's path.

    Raises:
        RecordError: records that are missing or malformed, or no seed with a finished run for every capability.
    """
    result = load_transfer(directory)
    (result.path / "transfer.json").write_text(json.dumps(as_json(result), indent=1) + "\n", encoding="utf-8")
    rows, columns, excluded = len(result.sources), len(result.suite), ", ".join(map(str, result.excluded_seeds))
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
        f"{number(LEVEL, 2)} after Holm's correction over the {rows * (columns - 1)} "
        "off-diagonal entries of the same matrix. The tests speak of training seeds; the prompts are fixed.",
        _survivors(result),
    ]
    for measure, name in _NAMES.items():
        file, alt = result.path / f"transfer_{measure}.png", f"transfer matrices, {name.lower()}"
        blocks += [f"## {name}", save(heatmaps(result, measure), file, alt)]
        for entry in result.matrices[measure]:
            means, sds = (pd.DataFrame(values, result.sources) for values in (entry.mean, entry.sd))
            cells = (
                means.map(number, signed=True) + " (" + sds.map(number) + ")" + np.where(entry.significant, " *", "")
            )
            table = markdown_table(["tokens on", *result.suite], list(map(list, cells.itertuples())))
            blocks += [f"### {name}, {count(entry.budget)} completion tokens", table]
    alt = "marginal gain on the target and negative spillover by budget"
    blocks += [
        "Mean over seeds (standard deviation); `*` p ≤ .05 after Holm (off-diagonal entries).",
        "## Waste",
        "Marginal gain: what the own capability gained between two budgets, per 10,000 completion tokens, mean over "
        "capabilities. Negative spillover: mean over all other capabilities of max(−change, 0). Noise of single runs "
        "lifts the latter (a drop counts, a rise does not); the last column takes the mean over seeds first, and the "
        "truth lies between the two. 95 % t intervals over seeds.",
        save(waste_panels(result.matrices["exam"]), result.path / "waste.png", alt),
    ]
    for measure, name in _NAMES.items():
        blocks += [f"### {name}", _waste(result.matrices[measure])]
    blocks += markdown.provenance(result.path, result.config, result.first)
    return write_report(result.path, blocks)


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


def _waste(entries: Sequence[TransferMatrix]) -> str:
    rows = []
    for entry in entries:
        gain, drop = entry.marginal_gain, entry.negative_spillover
        row = [f"{count(entry.previous)} – {count(entry.budget)}", number(gain.mean, 4, True), interval(gain, 4)]
        rows.append([*row, number(drop.mean, 4), interval(drop, 4), number(entry.negative_spillover_of_means, 4)])
    header = ["budget", "marginal gain / 10k", "95 %", "negative spillover at the end", "95 %", "of mean matrix"]
    return markdown_table(header, rows)


def heatmaps(result: Transfer, measure: str) -> Figure:
    """Transfer matrices in points of 100, one per budget, on one colour scale; the diagonal is framed."""
    matrices, rows, columns = result.matrices[measure], *map(len, (result.sources, result.suite))
    limit = 100 * max(0.05, *(float(np.abs(entry.mean).max()) for entry in matrices))
    # Off-diagonals are a tenth of the diagonal: a linear scale would leave them white.
    norm = SymLogNorm(linthresh=5, vmin=-limit, vmax=limit)
    # A cell has room for “−12*”, a label for some twenty letters.
    width = min(3, len(matrices)) * 0.37 * columns + 2.2
    picture, grid = panels(matrices, 3, width, 0.37 * rows + 1.7, sharey=True, layout="compressed")
    for axes, entry in grid:
        points = pd.DataFrame(100 * entry.mean, map(readable, result.sources), map(readable, result.suite))
        texts = (points.round() + 0.0).map("{:.0f}".format) + np.where(entry.significant, "*", "")
        heatmap(axes, points, texts, norm=norm, cbar=False, square=True)
        for i, j in np.argwhere(entry.own):
            axes.add_patch(Rectangle((j, i), 1, 1, fill=False, edgecolor=INK, linewidth=0.9, clip_on=False))
        axes.set(title=f"{SHORT(entry.budget)} completion tokens")
    grid[0][0].set_ylabel("tokens spent on")
    picture.supxlabel(f"change on the {measure} in points of 100   (* p < .05 after Holm)", fontsize=9)
    bar = picture.colorbar(
        ScalarMappable(norm, "RdBu"), format="%d", ax=[axes for axes, _ in grid], shrink=0.8, pad=0.01
    )
    bar.set_ticks([tick for tick in (-50, -20, -5, 0, 5, 20, 50) if abs(tick) <= limit])
    bar.minorticks_off()
    return picture


def waste_panels(entries: Sequence[TransferMatrix]) -> Figure:
    """Marginal gain on the target, and mean negative spillover, by budget."""
    spans = [f"{SHORT(e.previous)}–{SHORT(e.budget)}" for e in entries]
    estimates = [e.marginal_gain for e in entries], [e.negative_spillover for e in entries]
    (gains, gain_errors), (drops, drop_errors) = (
        100 * np.nan_to_num([(found.mean, found.half_width) for found in column]).T for column in estimates
    )
    picture, [(left, _), (right, _)] = panels(range(2), 2, height=3.0)
    left.bar(spans, gains, 0.6, yerr=gain_errors, color=AFTER, ecolor=INK, capsize=3)
    left.axhline(0, color=INK, linewidth=0.8)
    left.set(title="Returns on the target", xlabel="completion tokens spent on the target")
    left.set_ylabel("marginal gain\n(points per 10k tokens)")
    right.errorbar([e.budget for e in entries], drops, drop_errors, fmt="o-", color=HARM, capsize=3)
    token_axis(right, entries[-1].budget * 1.06, "completion tokens spent on one capability")
    right.set(title="Harm to the others", ylabel="mean negative spillover\n(points of 100)", ylim=(0, None))
    return picture
