"""The report of a comparison: agents × tasks × seeds at one budget."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

from read_env.reporting import pages
from read_env.reporting.contrasts import Contrast, against, contrast, family
from read_env.reporting.figures_comparison import (
    MOST_CURVES,
    comparison_dots,
    harm_bands,
    overview,
    profile_changes,
    utility_bands,
)
from read_env.reporting.measures import EXAM_FORGETTING, FORGETTING, SPILLOVER, Measure, main_measure, measures
from read_env.reporting.records import Comparison, Run, load_comparison
from read_env.reporting.style import save
from read_env.reporting.tables import (
    ABSENT,
    aggregate_table,
    contrast_table,
    count,
    interval,
    markdown_table,
    measure_table,
    number,
    p_value,
    token_table,
)

#: The agent of the primary contrasts, and what it is held against: named before any run was made.
PRIMARY: Mapping[str, Sequence[str]] = {"read-bandit": ("task-static", "water-filling", "random-candidate")}


def comparison_report(
    directory: str | Path,
    *,
    reference: str = "task-static",
    primary: Mapping[str, Sequence[str]] = PRIMARY,
    task: str | None = None,
) -> Path:
    """Write ``report.md``, ``runs.csv`` and the pictures into a comparison directory; return the page's path.

    Args:
        directory: a comparison directory; unfinished runs are named and left out.
        reference: the agent that all others are compared with in the exploratory part.
        primary: agent → references: the contrasts named beforehand, Holm-adjusted over all of them together;
            those with an agent that the comparison was not asked for are left out.
        task: the task of the overview picture; the first one if None.

    Raises:
        RecordError: records that are missing or malformed, or not one finished run.
    """
    comparison = load_comparison(directory)
    measure = main_measure(comparison)
    write_csv(comparison, comparison.path / "runs.csv")
    agents, tasks, seeds = comparison.agents, comparison.tasks, comparison.seeds
    first = comparison.finished[0]
    shown = task if task in tasks else tasks[0]
    asked = set(comparison.config.get("agents") or agents)
    primary = {name: [r for r in names if r in asked] for name, names in primary.items() if name in asked}
    star = next(name for name in [*primary, *agents] if comparison.of(name, shown))
    wanted = [*primary.get(star, ()), reference, *agents]
    others = [name for name in dict.fromkeys(wanted) if name != star and name in agents]
    save(overview(comparison, shown, star, others), comparison.path / "comparison.png")
    head = (
        f"{len(agents)} agents, {_plural(len(tasks), 'task')}, {_plural(len(seeds), 'seed')} "
        f"({', '.join(map(str, seeds))}), {_plural(len(comparison.finished), 'finished run')}; {pages.settings(first)}."
    )
    blocks = ["# Comparison of allocation agents", head, pages.missing(comparison.unfinished)]
    blocks += [
        pages.picture("comparison.png", f"profile, utility over tokens and allocation on {shown}"),
        f"Task {shown}. Left: probe profile before and after `{star}`, mean over seeds, with 95 % intervals. "
        "Middle: mean utility over seeds with a 95 % t band. "
        f"Right: how `{star}` spent its tokens over time, and the shares the others spent.",
    ]
    blocks += _results(comparison)
    if any(primary.values()):
        blocks += ["## Primary contrasts", *_primary(comparison, measure, primary)]
    blocks += ["## Exploratory contrasts", *_exploratory(comparison, measure, reference, primary)]
    blocks += ["## Over the runs", *_curves(comparison, [star, *others])]
    blocks += [
        "## Where this comes from",
        *pages.provenance(comparison.path, comparison.config, first),
        "Every run: [`runs.csv`](runs.csv).",
    ]
    return pages.write_page(comparison.path / "report.md", blocks)


def write_csv(comparison: Comparison, path: Path) -> Path:
    """One line a run, unfinished ones included with their status; scores of every capability at the end."""
    suite = comparison.suite
    columns = (
        "agent task seed status budget spent residue prompt_tokens probe_tokens dev_tokens tokens_before_run steps"
    )
    ends = "utility_start utility exam_utility_start exam_utility spillover forgetting exam_forgetting"
    chosen = [entry for entry in measures(comparison) if entry.key.endswith("gain")]
    header = [*columns.split(), *ends.split(), *(entry.key for entry in chosen)]
    header += [f"{part}_{name}" for part in ("probe", "exam") for name in suite]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        for run in comparison.runs:
            writer.writerow(_csv_row(run, columns.split(), ends.split(), chosen, len(suite)))
    return path


def _csv_row(run: Run, columns: list[str], ends: list[str], chosen: list[Measure], size: int) -> list[object]:
    known: dict[str, object] = {"agent": run.agent, "task": run.task, "seed": run.seed, "status": run.status}
    summary = run.summary
    if summary is None:
        return [known.get(name, "") for name in columns] + [""] * (len(ends) + len(chosen) + 2 * size)
    row = [known.get(name, getattr(summary, name, "")) for name in columns]
    row += ["" if getattr(summary, name) is None else getattr(summary, name) for name in ends]
    row += [entry.value(run) for entry in chosen]
    exam = [""] * size if summary.exam is None else summary.exam.tolist()
    return [*row, *summary.profile.tolist(), *exam]


def _results(comparison: Comparison) -> list[str]:
    blocks = ["## Results"]
    files = {"utility_gain": "utility_gain.png", "exam_utility_gain": "exam_utility_gain.png"}
    for measure in measures(comparison):
        blocks += [f"### {measure.title}", measure.explanation, measure_table(comparison, measure)]
        if measure.key in files:
            save(comparison_dots(comparison, measure), comparison.path / files[measure.key])
            blocks.append(pages.picture(files[measure.key], f"{measure.title} by agent"))
    if len(comparison.tasks) > 1:
        measure = main_measure(comparison)
        blocks += [f"### Aggregates: {measure.title}", "Over all tasks and seeds; 95 % bootstrap over seeds."]
        blocks.append(aggregate_table(comparison, measure))
    blocks += [
        "Cells are means over seeds ± half a 95 % t interval; the mean over tasks is taken within a seed first. "
        "The intervals speak of training seeds; tasks, exam and probe prompts are fixed.",
        "### Tokens",
        "Means over runs. Only completion tokens count against B; what an agent's search or training "
        "had spent before the run stands in its own column.",
        token_table(comparison),
    ]
    return blocks


def _primary(comparison: Comparison, measure: Measure, primary: Mapping[str, Sequence[str]]) -> list[str]:
    pairs = [(agent, name) for agent, names in primary.items() for name in names]
    found = family(comparison, measure, pairs)
    listed = ", ".join(f"`{agent}` − `{name}`" for agent, name in pairs)
    made = {(entry.agent, entry.reference) for entry in found}
    absent = [f"`{agent}` − `{name}`" for agent, name in pairs if (agent, name) not in made]
    blocks = [
        f"Named beforehand: {listed}, on {measure.title.lower()}; p-values Holm-adjusted over these {len(pairs)}.",
        contrast_table(found, adjusted=True) if found else "",
        "Differences are paired by task and seed. Runs of one seed share their prompts across tasks, so the "
        "differences are averaged over the tasks of a seed, and the t test and both intervals are over seeds; "
        "Wilcoxon's test and the counts are over all pairs. Positive: the first is ahead.",
    ]
    if absent:
        blocks.append(f"Not made, for want of a seed that both finished on every task: {', '.join(absent)}.")
    return [*blocks, _notes(found)]


def _exploratory(
    comparison: Comparison, measure: Measure, reference: str, primary: Mapping[str, Sequence[str]]
) -> list[str]:
    if reference not in comparison.agents:
        return [f"`{reference}` has no finished run: nothing to compare with."]
    pairs = {(agent, name) for agent, names in primary.items() for name in names}
    found = against(comparison, measure, reference, pairs)
    blocks = [
        "Not named beforehand and not adjusted: leads, not findings.",
        f"### {measure.title}, against `{reference}`",
    ]
    blocks += [contrast_table(found, adjusted=False) if found else "No further agent.", _notes(found)]
    harms = [entry for entry in measures(comparison) if entry in (SPILLOVER, EXAM_FORGETTING, FORGETTING)]
    for harm in harms:
        rows = against(comparison, harm, reference)
        if rows:
            blocks += [
                f"### {harm.title}, against `{reference}` (less is better)",
                contrast_table(rows, adjusted=False),
            ]
    if len(comparison.tasks) > 1:
        blocks += ["### By task", f"{measure.title}: mean paired difference, 95 % t interval, p."]
        blocks.append(_by_task(comparison, measure, sorted(pairs)))
    return blocks


def _by_task(comparison: Comparison, measure: Measure, pairs: Sequence[tuple[str, str]]) -> str:
    rows = []
    for task in comparison.tasks:
        cells = []
        for agent, name in pairs:
            found = contrast(comparison, measure, agent, name, tasks=[task])
            if found is None:
                cells.append(ABSENT)
                continue
            bounds = interval(found.difference.low, found.difference.high)
            cells.append(f"{number(found.difference.mean, signed=True)} {bounds}, {p_value(found.p)}")
        rows.append([task, *cells])
    return markdown_table(["task", *(f"`{agent}` − `{name}`" for agent, name in pairs)], rows)


def _curves(comparison: Comparison, drawn: Sequence[str]) -> list[str]:
    save(utility_bands(comparison, drawn), comparison.path / "utility.png")
    spillover, forgetting = harm_bands(comparison, drawn)
    save(spillover, comparison.path / "spillover.png")
    save(forgetting, comparison.path / "forgetting.png")
    blocks = [
        pages.picture("utility.png", "utility over tokens by agent"),
        pages.picture("spillover.png", "spillover over tokens by agent"),
        pages.picture("forgetting.png", "forgetting over tokens by agent"),
        "Bands are 95 % t intervals over seeds."
        + (f" Drawn: {', '.join(drawn[:MOST_CURVES])}." if len(drawn) > MOST_CURVES else ""),
    ]
    for task in comparison.tasks:
        save(profile_changes(comparison, task), comparison.path / f"profile_{task}.png")
        blocks.append(pages.picture(f"profile_{task}.png", f"change of the profile on {task}"))
    return blocks


def _notes(found: Sequence[Contrast]) -> str:
    return "\n".join(f"- `{entry.agent}` − `{entry.reference}`: {entry.note}." for entry in found if entry.note)


def _plural(amount: int, noun: str) -> str:
    return f"{count(amount)} {noun}{'' if amount == 1 else 's'}"
