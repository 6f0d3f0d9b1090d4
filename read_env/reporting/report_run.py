"""The report of one run."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from read_env.reporting import pages
from read_env.reporting.figures_run import run_allocation, run_costs, run_profile, run_utility
from read_env.reporting.records import Run, load_run
from read_env.reporting.style import save
from read_env.reporting.tables import ABSENT, count, markdown_table, number


def run_report(directory: str | Path) -> Path:
    """Write ``report.md`` and its pictures into a run directory and return the page's path.

    A run that is unfinished gets a report of what there is, with that said in the first lines.

    Raises:
        RecordError: records that are missing or malformed (file, line and field are named).
    """
    run = load_run(directory)
    page = run.path / "report.md"
    title = f"# `{run.agent}` on {run.task}, seed {run.seed}"
    if run.start is None:
        return pages.write_page(
            page, [title, f"**This run is {run.status}.**", *pages.provenance(run.path, run.config)]
        )
    status = f"This run is **{run.status}**." if run.finished else f"**This run is {run.status}.**"
    blocks = [title, f"{status} One seed; {pages.settings(run) or 'no configuration recorded'}."]
    blocks += ["## Result", _result(run), _student(run)]
    blocks += ["## Capabilities", _capabilities(run), pages.picture("profile.png", "profile before and after")]
    save(run_profile(run), run.path / "profile.png")
    if run.steps:
        for name, draw in (("utility", run_utility), ("allocation", run_allocation), ("costs", run_costs)):
            save(draw(run), run.path / f"{name}.png")
        blocks += [
            "## Over the run",
            pages.picture("utility.png", "utility over tokens"),
            pages.picture("allocation.png", "allocation over time"),
            pages.picture("costs.png", "spillover and forgetting over tokens"),
            "## Tokens and time",
            _tokens(run),
            _seconds(run),
        ]
    blocks += ["## Where this comes from", *pages.provenance(run.path, run.config)]
    return pages.write_page(page, blocks)


def _result(run: Run) -> str:
    start, summary = run.begun, run.summary
    utility = summary.utility if summary else run.steps[-1].utility if run.steps else start.utility
    rows = [["utility, probes", *_change(start.utility, utility)]]
    dev = [step.dev_utility for step in run.steps if step.dev_utility is not None]
    if dev:
        first = float(np.nan) if start.dev_utility is None else start.dev_utility
        rows.append(["utility, dev (last measurement)", *_change(first, dev[-1])])
    if summary and summary.exam_utility is not None and summary.exam_utility_start is not None:
        rows.append(["utility, exam", *_change(summary.exam_utility_start, summary.exam_utility)])
    spillover = summary.spillover if summary else float(sum(step.spillover for step in run.steps))
    rows.append(["spillover, summed over steps", ABSENT, number(spillover), ABSENT])
    if summary:
        rows.append(["forgetting, probes", ABSENT, number(summary.forgetting), ABSENT])
        if summary.exam_forgetting is not None:
            rows.append(["forgetting, exam", ABSENT, number(summary.exam_forgetting), ABSENT])
    return markdown_table(["", "start", "end", "change"], rows)


def _change(before: float, after: float) -> list[str]:
    return [number(before), number(after), number(after - before, signed=True)]


def _student(run: Run) -> str:
    return "The distilled student is in [`student/`](student/)." if (run.path / "student").is_dir() else ""


def _capabilities(run: Run) -> str:
    start = run.begun
    profile = run.steps[-1].profile if run.steps else start.profile
    tokens = np.sum([step.tokens_by_capability for step in run.steps], axis=0) if run.steps else np.zeros(len(profile))
    exam = run.summary.exam if run.summary else None
    header = ["capability", "needed", "completion tokens", "probes before", "probes after", "change"]
    with_exam = start.exam is not None and exam is not None
    rows = []
    for c, name in enumerate(start.suite):
        need = number(start.requirement[c], 2) if start.requirement[c] > 0 else ABSENT
        row = [name, need, count(tokens[c]), *_change(start.profile[c], profile[c])]
        if start.exam is not None and exam is not None:
            row += _change(start.exam[c], exam[c])
        rows.append(row)
    return markdown_table(header + (["exam before", "exam after", "change"] if with_exam else []), rows)


def _tokens(run: Run) -> str:
    summary, last = run.summary, run.steps[-1]
    trained = sum(step.trained_tokens for step in run.steps)
    rows = [
        ["completion tokens (counted in B)", count(last.budget_spent)],
        ["budget B", count(run.budget) if run.budget is not None else ABSENT],
        ["residue (shorter than an example)", count(summary.residue) if summary else ABSENT],
        ["prompt tokens", count(sum(step.prompt_tokens for step in run.steps))],
        ["trained tokens (prompt + completion)", count(trained)],
    ]
    if summary:
        rows += [
            ["probe tokens", count(summary.probe_tokens)],
            ["dev tokens", count(summary.dev_tokens)],
            ["tokens that the agent spent before the run", count(summary.tokens_before_run)],
        ]
    return markdown_table(["tokens", "count"], rows)


def _seconds(run: Run) -> str:
    """Seconds by stage as recorded: they differ between two runs of the same bits."""
    stages = list(dict.fromkeys(stage for step in run.steps for stage in step.seconds))
    if not stages:
        return ""
    sums = {stage: sum(step.seconds.get(stage, 0.0) for step in run.steps) for stage in stages}
    total = sum(sums.values())
    rows = [
        [stage, number(value, 1), f"{100 * value / total:.1f} %" if total else ABSENT] for stage, value in sums.items()
    ]
    return markdown_table(["stage", "seconds", "share"], [*rows, ["all", number(total, 1), "100 %"]])
