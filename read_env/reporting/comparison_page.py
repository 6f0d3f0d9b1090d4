"""The report of a comparison, agents × tasks × seeds at one budget: a page and its pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from read_env.reporting import markdown
from read_env.reporting.comparison import Comparison, Measure, contrast, contrasts, load_comparison
from read_env.reporting.comparison_pictures import (
    MOST_CURVES,
    allocations_figure,
    allocations_picture,
    curves,
    curves_figure,
    dots,
    overview,
    profile_changes,
)
from read_env.reporting.markdown import ABSENT, count, interval, markdown_table, number, p_value, plural, plus_minus
from read_env.reporting.runs import ENDS, load_run
from read_env.reporting.statistics import PairedTest, mean_interval, seed_bootstrap
from read_env.reporting.style import look, save
from read_env.reporting.web_page import write_report
from read_env.tasks import utility_name

#: The agents of the primary contrasts and their references, named before any run was made.
PRIMARY: Mapping[str, Sequence[str]] = {
    "pretrained-micro": ("task-static", "water-filling"),
    "read-bandit": ("task-static", "water-filling", "random-candidate"),
}

_CURVES = {"utility": "utility (probes)", "spillover_sum": "spillover, summed", "forgetting_so_far": "forgetting"}
_COLUMNS = "agent task seed status budget spent residue prompt_tokens probe_tokens dev_tokens tokens_before_run steps"

Contrasts = Mapping[tuple[str, str], PairedTest]


@look()
def comparison_report(
    directory: str | Path, *, reference: str = "task-static", primary: Mapping[str, Sequence[str]] = PRIMARY
) -> Path:
    """Write ``report.md``, ``report.html``, ``runs.csv`` and the pictures into a comparison directory.

    Returns the path of ``report.md``.

    Args:
        directory: a comparison directory; unfinished runs are named and left out.
        reference: the agent that all others are compared with in the exploratory part.
        primary: agent → references: the contrasts named beforehand, Holm-adjusted over all of them together;
            those with an agent that the comparison was not asked for are left out.

    Raises:
        RecordError: records that are missing or malformed, or not one finished run.
    """
    comparison = load_comparison(directory)
    path, agents, tasks, seeds = comparison.path, comparison.agents, comparison.tasks, comparison.seeds
    shown, *_ = tasks
    write_csv(comparison, path / "runs.csv")
    asked = set(comparison.config.get("agents") or agents)
    primary = {name: [r for r in names if r in asked] for name, names in primary.items() if name in asked}
    pairs = [(agent, name) for agent, names in primary.items() for name in names]
    present = set(comparison.runs[comparison.runs["task"] == shown]["agent"])
    star = next(name for name in [*primary, *agents] if name in present)
    wanted = [*primary.get(star, ()), reference, *agents]
    others = [name for name in dict.fromkeys(wanted) if name != star and name in agents]
    picture, alt = overview(comparison, shown, star, others), f"profile, utility over tokens and allocation on {shown}"
    firsts = comparison.runs.groupby("task", sort=False)["path"].first().map(load_run)
    utilities = [
        f"{task}, {utility_name(run.begun.utility_form, run.begun.exam_score)}" for task, run in firsts.items()
    ]
    blocks = [
        "# Comparison of allocation agents",
        f"{len(agents)} agents, {plural(len(tasks), 'task')}, {plural(len(seeds), 'seed')} ({', '.join(map(str, seeds))}), "
        f"{plural(len(comparison.runs), 'finished run')}; {markdown.settings(comparison.first)}.",
        markdown.missing(comparison.unfinished),
        _skipped(comparison),
        save(picture, path / "comparison.png", alt),
        f"Task {shown}. Left: probe profile before and after `{star}`, mean over seeds, with 95 % intervals. "
        "Middle: mean utility over seeds with a 95 % t band. "
        f"Right: how `{star}` spent its tokens over time, and the shares the others spent.",
        f"Utilities of the exam: {'; '.join(utilities)}.",
        *_results(comparison),
        *_primary(comparison, pairs),
        *_exploratory(comparison, reference, pairs),
        *_curves(comparison, [star, *others]),
        *markdown.provenance(path, comparison.config, comparison.first),
        "Every run: [`runs.csv`](runs.csv).",
    ]
    return write_report(path, blocks, _figures(comparison, [star, *others]))


def _skipped(comparison: Comparison) -> str:
    """Number of skipped prompts; empty for none."""
    by_run = comparison.steps.groupby("path")["skipped"].sum()
    runs = by_run[by_run > 0]
    if runs.empty:
        return ""
    where = f"{plural(len(runs), 'run')}; `steps.jsonl` of each, and `read-env report` of its directory, name them"
    return f"{plural(int(runs.sum()), 'prompt')} without an example for the student, skipped without cost, in {where}."


def write_csv(comparison: Comparison, path: Path) -> None:
    """One line per run, unfinished ones included with their status; scores of every capability at the end."""
    gains = [measure.key for measure in comparison.measures if measure.signed]
    table = comparison.table[["path", *_COLUMNS.split(), *ENDS, *gains]].copy()
    table.loc[~comparison.table["finished"], table.columns[5:]] = pd.NA
    last = comparison.scores.drop_duplicates(["path", "capability"], keep="last")
    for part in ("probe", "exam"):
        scores = last.pivot(index="path", columns="capability", values=part).reindex(table["path"])
        table[[f"{part}_{name}" for name in scores]] = scores.to_numpy()
    table.drop(columns="path").to_csv(path, index=False, lineterminator="\n")


def measure_table(comparison: Comparison, measure: Measure) -> str:
    """Means over seeds ± half a 95 % t interval, agents × tasks, and over tasks of the seeds that finished them all."""
    rows = []
    for agent in comparison.agents:
        table = comparison.by_seed(measure, agent)
        columns = [*(table[task].dropna() for task in comparison.tasks), table.dropna().mean(axis=1)]
        cells = [plus_minus(mean_interval(c), signed=measure.signed) if len(c) else ABSENT for c in columns]
        rows.append([f"`{agent}`", *cells, str(int(table.count().sum()))])
    return markdown_table(["agent", *comparison.tasks, "mean over tasks", "runs"], rows)


def contrast_table(found: Contrasts, adjusted: bool) -> str:
    """One contrast per row; with the Holm column only where the p-values were adjusted as a family."""
    header = "contrast|mean difference|95 % (t)|95 % (bootstrap)|p (t)|p (Holm)|p (Wilcoxon)|above / below / equal|seeds|pairs"
    rows = [header.split("|")]
    for pair, test in found.items():
        row = [_name(pair), number(test.difference.mean, signed=True), interval(test.difference)]
        row += [interval(test.bootstrap), *map(p_value, (test.p_t, test.p_holm, test.p_wilcoxon))]
        row += [f"{test.wins} / {test.losses} / {test.ties}", str(test.difference.n)]
        rows.append([*row, str(test.wins + test.losses + test.ties)])
    head, *body = rows if adjusted else [row[:5] + row[6:] for row in rows]
    return markdown_table(head, body)


def _results(comparison: Comparison) -> list[str]:
    blocks = ["## Results"]
    for measure in comparison.measures:
        blocks += [f"### {measure.title}", measure.explanation, measure_table(comparison, measure)]
        if measure.key in ("utility_gain", "exam_utility_gain"):
            file = comparison.path / f"{measure.key}.png"
            blocks.append(save(dots(comparison, measure), file, f"{measure.title} by agent"))
    if len(comparison.tasks) > 1:
        measure = comparison.measures[0]
        rows = []
        for agent in comparison.agents:
            values = comparison.by_seed(measure, agent).dropna().to_numpy().T
            found = [seed_bootstrap(values, "mean"), seed_bootstrap(values, "iqm")] if values.size else []
            cells = [cell for e in found for cell in (number(e.mean, signed=measure.signed), interval(e))]
            rows.append([f"`{agent}`", *(cells or [ABSENT] * 4)])
        blocks += [f"### Aggregates: {measure.title}", "Over all tasks and seeds; 95 % bootstrap over seeds."]
        blocks.append(markdown_table(["agent", "mean", "95 %", "interquartile mean", "95 %"], rows))
    columns = "tokens_before_run spent residue prompt_tokens probe_tokens dev_tokens".split()
    means = comparison.runs.groupby("agent")[columns].mean()
    titles = ["agent", "before the run", "completion (B)", "residue", "prompt", "probe", "dev"]
    return [
        *blocks,
        "Cells are means over seeds ± half a 95 % t interval; the mean over tasks is taken within a seed first. "
        "The intervals speak of training seeds; tasks, exam and probe prompts are fixed.",
        "### Tokens",
        "Means over runs. Only completion tokens count against B; what an agent's search or training "
        "had spent before the run stands in its own column.",
        markdown_table(titles, [[f"`{agent}`", *map(count, means.loc[agent])] for agent in comparison.agents]),
    ]


def _primary(comparison: Comparison, pairs: Sequence[tuple[str, str]]) -> list[str]:
    if not pairs:
        return []
    measure = comparison.measures[0]
    found = contrasts(comparison, measure, pairs)
    absent = ", ".join(_name(pair) for pair in pairs if pair not in found)
    return [
        "## Primary contrasts",
        f"Named beforehand: {', '.join(map(_name, pairs))}, on {measure.title.lower()}; "
        f"p-values Holm-adjusted over these {len(pairs)}.",
        contrast_table(found, adjusted=True) if found else "",
        "Differences are paired by task and seed. Runs of one seed share their prompts across tasks, so the "
        "differences are averaged over the tasks of a seed, and the t test and both intervals are over seeds; "
        "Wilcoxon's test and the counts are over all pairs. Positive: the first is ahead.",
        f"Not made, for want of a seed that both finished on every task: {absent}." if absent else "",
        _notes(found),
    ]


def _exploratory(comparison: Comparison, reference: str, primary: Sequence[tuple[str, str]]) -> list[str]:
    heading = "## Exploratory contrasts"
    if reference not in comparison.agents:
        return [heading, f"`{reference}` has no finished run: nothing to compare with."]
    measure = comparison.measures[0]
    pairs = [(agent, reference) for agent in comparison.agents if agent != reference]
    found = contrasts(comparison, measure, [pair for pair in pairs if pair not in primary])
    blocks = [
        heading,
        "Not named beforehand and not adjusted: leads, not findings.",
        f"### {measure.title}, against `{reference}`",
        contrast_table(found, adjusted=False) if found else "No further agent.",
        _notes(found),
    ]
    for harm in comparison.measures:
        if rows := {} if harm.signed else contrasts(comparison, harm, pairs):
            blocks += [
                f"### {harm.title}, against `{reference}` (less is better)",
                contrast_table(rows, adjusted=False),
            ]
    if len(comparison.tasks) > 1:
        table = []
        for task in comparison.tasks:
            tests = [contrast(comparison, measure, *pair, [task]) for pair in sorted(primary)]
            table.append([task, *(_difference(test) if test else ABSENT for test in tests)])
        blocks += ["### By task", f"{measure.title}: mean paired difference, 95 % t interval, p."]
        blocks.append(markdown_table(["task", *map(_name, sorted(primary))], table))
    return blocks


def _curves(comparison: Comparison, agents: Sequence[str]) -> list[str]:
    blocks = ["## Over the runs"]
    for column, label in _CURVES.items():
        picture, name = curves(comparison, agents, column, label), column.partition("_")[0]
        blocks.append(save(picture, comparison.path / f"{name}.png", f"{name} over tokens by agent"))
    drawn = f" Drawn: {', '.join(agents[:MOST_CURVES])}." if len(agents) > MOST_CURVES else ""
    blocks.append(f"Bands are 95 % t intervals over seeds.{drawn}")
    for task in comparison.tasks:
        picture, file = profile_changes(comparison, task), comparison.path / f"profile_{task}.png"
        blocks.append(save(picture, file, f"change of the profile on {task}"))
        picture, file = allocations_picture(comparison, task), comparison.path / f"allocation_{task}.png"
        blocks.append(save(picture, file, f"allocation over time of every agent on {task}"))
    return blocks


def _figures(comparison: Comparison, agents: Sequence[str]) -> dict[str, str]:
    """Pictures over tokens for the web page, with the values of every step."""
    lines = {
        f"{column.partition('_')[0]}.png": curves_figure(comparison, agents, column, label)
        for column, label in _CURVES.items()
    }
    return lines | {f"allocation_{task}.png": allocations_figure(comparison, task) for task in comparison.tasks}


def _notes(found: Contrasts) -> str:
    return "\n".join(f"- {_name(pair)}: {test.note}." for pair, test in found.items() if test.note)


def _difference(test: PairedTest) -> str:
    return f"{number(test.difference.mean, signed=True)} {interval(test.difference)}, {p_value(test.p_t)}"


def _name(pair: tuple[str, str]) -> str:
    return f"`{pair[0]}` − `{pair[1]}`"
