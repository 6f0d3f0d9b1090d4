"""The report of a comparison: agents × tasks × seeds at one budget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from read_env.reporting import comparison_pictures as pictures
from read_env.reporting import markdown
from read_env.reporting.comparison import Comparison, Contrast, Measure, contrast, contrasts, load_comparison
from read_env.reporting.frames import ENDS
from read_env.reporting.markdown import ABSENT, count, interval, markdown_table, number, p_value, plural, plus_minus
from read_env.reporting.statistics import mean_interval, seed_bootstrap
from read_env.reporting.style import look, save

#: The agent of the primary contrasts and its references, named before any run was made.
PRIMARY: Mapping[str, Sequence[str]] = {"read-bandit": ("task-static", "water-filling", "random-candidate")}

_COLUMNS = "agent task seed status budget spent residue prompt_tokens probe_tokens dev_tokens tokens_before_run steps"


@look()
def comparison_report(
    directory: str | Path,
    *,
    reference: str = "task-static",
    primary: Mapping[str, Sequence[str]] = PRIMARY,
    task: str | None = None,
) -> Path:
    """Write ``report.md``, ``runs.csv`` and the pictures into a comparison directory.

    Args:
        directory: a comparison directory; unfinished runs are named and left out.
        reference: the agent that all others are compared with in the exploratory part.
        primary: agent → references: the contrasts named beforehand, Holm-adjusted over all of them together;
            those with an agent that the comparison was not asked for are left out.
        task: the task of the overview picture; the first one if None.

    Returns:
        The page's path.

    Raises:
        RecordError: records that are missing or malformed, or not one finished run.
    """
    comparison = load_comparison(directory)
    path, agents, tasks, seeds = comparison.path, comparison.agents, comparison.tasks, comparison.seeds
    write_csv(comparison, path / "runs.csv")
    shown = task if task in tasks else tasks[0]
    asked = set(comparison.config.get("agents") or agents)
    primary = {name: [r for r in names if r in asked] for name, names in primary.items() if name in asked}
    pairs = [(agent, name) for agent, names in primary.items() for name in names]
    present = set(comparison.runs[comparison.runs["task"] == shown]["agent"])
    star = next(name for name in [*primary, *agents] if name in present)
    wanted = [*primary.get(star, ()), reference, *agents]
    others = [name for name in dict.fromkeys(wanted) if name != star and name in agents]
    picture = pictures.overview(comparison, shown, star, others)
    blocks = [
        "# Comparison of allocation agents",
        f"{len(agents)} agents, {plural(len(tasks), 'task')}, {plural(len(seeds), 'seed')} ({', '.join(map(str, seeds))}), "
        f"{plural(len(comparison.runs), 'finished run')}; {markdown.settings(comparison.first)}.",
        markdown.missing(comparison.unfinished),
        save(picture, path / "comparison.png", f"profile, utility over tokens and allocation on {shown}"),
        f"Task {shown}. Left: probe profile before and after `{star}`, mean over seeds, with 95 % intervals. "
        "Middle: mean utility over seeds with a 95 % t band. "
        f"Right: how `{star}` spent its tokens over time, and the shares the others spent.",
        *_results(comparison),
        *_primary(comparison, pairs),
        *_exploratory(comparison, reference, pairs),
        *_curves(comparison, [star, *others]),
        *markdown.provenance(path, comparison.config, comparison.first),
        "Every run: [`runs.csv`](runs.csv).",
    ]
    return markdown.write_page(path / "report.md", blocks)


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
    """Means over seeds ± half a 95 % t interval, agents × tasks, and the mean over tasks.

    The mean over tasks is taken within a seed first, since runs of one seed share their prompts, and only over
    the seeds with a finished run on every task.
    """
    rows = []
    for agent in comparison.agents:
        table = comparison.by_seed(measure, agent)
        columns = [*(table[task].dropna() for task in comparison.tasks), table.dropna().mean(axis=1)]
        cells = [plus_minus(mean_interval(c), signed=measure.signed) if len(c) else ABSENT for c in columns]
        rows.append([f"`{agent}`", *cells, str(int(table.count().sum()))])
    return markdown_table(["agent", *comparison.tasks, "mean over tasks", "runs"], rows)


def aggregate_table(comparison: Comparison, measure: Measure) -> str:
    """Mean and interquartile mean over all tasks and the seeds that finished every task; seeds are resampled."""
    rows = []
    for agent in comparison.agents:
        values = comparison.by_seed(measure, agent).dropna().to_numpy().T
        found = [seed_bootstrap(values, "mean"), seed_bootstrap(values, "iqm")] if values.size else []
        cells = [cell for e in found for cell in (number(e.mean, signed=measure.signed), interval(e))]
        rows.append([f"`{agent}`", *(cells or [ABSENT] * 4)])
    return markdown_table(["agent", "mean", "95 %", "interquartile mean", "95 %"], rows)


def token_table(comparison: Comparison) -> str:
    """Tokens of every agent, in the run and before it: means over its runs."""
    columns = "tokens_before_run spent residue prompt_tokens probe_tokens dev_tokens".split()
    means = comparison.runs.groupby("agent")[columns].mean()
    rows = [[f"`{agent}`", *map(count, means.loc[agent])] for agent in comparison.agents]
    return markdown_table(["agent", "before the run", "completion (B)", "residue", "prompt", "probe", "dev"], rows)


def contrast_table(found: Sequence[Contrast], adjusted: bool) -> str:
    """One contrast per row; with the Holm column only where the p-values were adjusted as a family."""
    header = "contrast|mean difference|95 % (t)|95 % (bootstrap)|p (t)|p (Holm)|p (Wilcoxon)|above / below / equal|seeds|pairs"
    rows = [header.split("|")]
    for entry in found:
        seeds, pairs = entry.by_seed, entry.by_pair
        row = [entry.name, number(seeds.difference.mean, signed=True)]
        row += [interval(seeds.difference), interval(seeds.bootstrap), p_value(seeds.p_t), p_value(entry.p_holm)]
        row += [p_value(pairs.p_wilcoxon), f"{pairs.wins} / {pairs.losses} / {pairs.ties}"]
        rows.append([*row, str(seeds.difference.n), str(pairs.difference.n)])
    head, *body = rows if adjusted else [row[:5] + row[6:] for row in rows]
    return markdown_table(head, body)


def _results(comparison: Comparison) -> list[str]:
    blocks = ["## Results"]
    for measure in comparison.measures:
        blocks += [f"### {measure.title}", measure.explanation, measure_table(comparison, measure)]
        if measure.key in ("utility_gain", "exam_utility_gain"):
            file = comparison.path / f"{measure.key}.png"
            blocks.append(save(pictures.dots(comparison, measure), file, f"{measure.title} by agent"))
    if len(comparison.tasks) > 1:
        measure = comparison.measures[0]
        blocks += [f"### Aggregates: {measure.title}", "Over all tasks and seeds; 95 % bootstrap over seeds."]
        blocks.append(aggregate_table(comparison, measure))
    return [
        *blocks,
        "Cells are means over seeds ± half a 95 % t interval; the mean over tasks is taken within a seed first. "
        "The intervals speak of training seeds; tasks, exam and probe prompts are fixed.",
        "### Tokens",
        "Means over runs. Only completion tokens count against B; what an agent's search or training "
        "had spent before the run stands in its own column.",
        token_table(comparison),
    ]


def _primary(comparison: Comparison, pairs: Sequence[tuple[str, str]]) -> list[str]:
    if not pairs:
        return []
    measure = comparison.measures[0]
    found = contrasts(comparison, measure, pairs)
    named = [f"`{agent}` − `{reference}`" for agent, reference in pairs]
    absent = ", ".join(name for name in named if name not in {entry.name for entry in found})
    return [
        "## Primary contrasts",
        f"Named beforehand: {', '.join(named)}, on {measure.title.lower()}; "
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
        if rows := () if harm.signed else contrasts(comparison, harm, pairs):
            blocks.append(f"### {harm.title}, against `{reference}` (less is better)")
            blocks.append(contrast_table(rows, adjusted=False))
    if len(comparison.tasks) > 1:
        blocks += ["### By task", f"{measure.title}: mean paired difference, 95 % t interval, p."]
        blocks.append(_by_task(comparison, measure, sorted(primary)))
    return blocks


def _by_task(comparison: Comparison, measure: Measure, pairs: Sequence[tuple[str, str]]) -> str:
    def cell(found: Contrast | None) -> str:
        if found is None:
            return ABSENT
        mean, p = found.by_seed.difference, found.by_seed.p_t
        return f"{number(mean.mean, signed=True)} {interval(mean)}, {p_value(p)}"

    rows = [
        [task, *(cell(contrast(comparison, measure, *pair, [task])) for pair in pairs)] for task in comparison.tasks
    ]
    return markdown_table(["task", *(f"`{agent}` − `{name}`" for agent, name in pairs)], rows)


def _curves(comparison: Comparison, agents: Sequence[str]) -> list[str]:
    blocks = ["## Over the runs"]
    labels = {"utility": "utility (probes)", "spillover_sum": "spillover, summed", "forgetting_so_far": "forgetting"}
    for column, label in labels.items():
        name = column.partition("_")[0]
        picture, file = pictures.curves(comparison, agents, column, label), comparison.path / f"{name}.png"
        blocks.append(save(picture, file, f"{name} over tokens by agent"))
    most = pictures.MOST_CURVES
    drawn = f" Drawn: {', '.join(agents[:most])}." if len(agents) > most else ""
    blocks.append(f"Bands are 95 % t intervals over seeds.{drawn}")
    for task in comparison.tasks:
        picture, file = pictures.profile_changes(comparison, task), comparison.path / f"profile_{task}.png"
        blocks.append(save(picture, file, f"change of the profile on {task}"))
    return blocks


def _notes(found: Sequence[Contrast]) -> str:
    return "\n".join(f"- {entry.name}: {entry.note}." for entry in found if entry.note)
