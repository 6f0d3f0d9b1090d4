"""The report of one run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from read_env.reporting import pages
from read_env.reporting.figures_run import run_allocation, run_costs, run_profile, run_utility
from read_env.reporting.records import Run, load_run
from read_env.reporting.style import save
from read_env.reporting.tables import ABSENT, count, markdown_table, number

#: Metrics of a step by their name in the records and in TensorBoard (``distill/NAME``): what they are.
_METRICS = {
    "loss": "mean of the objective, nats a completion token",
    "fkl": "KL(teacher ‖ student), nats a token",
    "rkl": "KL(student ‖ teacher), nats a token",
    "topk_mass": "teacher's probability on the tokens that are kept",
    "overlap": "share of those among as many of the student's likeliest",
    "alpha": "share of forward KL in the mixture",
    "clip_fraction": "share of tokens without gradient, their ratio clipped",
    "ratio": "mean of that ratio",
    "reward": "share of sampled tokens whose answer the verifier accepts",
    "grad_norm": "of the gradient, before it is clipped",
}


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
            "## Objective",
            _metrics(run),
            "## Tokens and time",
            _tokens(run),
            _seconds(run),
            _cache(run),
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


def _metrics(run: Run) -> str:
    """What the objective reported: rows in the order of ``_METRICS``, then whatever else is on record."""
    recorded = list(dict.fromkeys(name for step in run.steps for name in step.metrics))
    names = [*(name for name in _METRICS if name in recorded), *(name for name in recorded if name not in _METRICS)]
    columns = {"loss": [step.loss for step in run.steps]}
    # A step too small for one completion has no updates, and so no metrics.
    columns |= {name: [step.metrics[name] for step in run.steps if name in step.metrics] for name in names}
    rows = [
        [
            f"`{name}`",
            _METRICS.get(name, ""),
            *(number(value, 4) for value in (values[0], float(np.mean(values)), values[-1])),
        ]
        for name, values in columns.items()
    ]
    return markdown_table(["metric", "what", "first step", "mean", "last step"], rows, text_columns=2)


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


def _cache(run: Run) -> str:
    """Where the teacher's answers came from; nothing for a run that asked for none."""
    names = dict.fromkeys(name for step in run.steps for name in step.cache)
    sums = {name: sum(step.cache.get(name, 0) for step in run.steps) for name in names}
    if not sums.get("blocks_asked"):
        return ""
    rows = [["blocks of prompts", count(sums["blocks_asked"])], ["of these from the cache", _of(sums, "blocks")]]
    rows += [["completion tokens", count(sums["tokens_asked"])], ["of these from the cache", _of(sums, "tokens")]]
    on_disk = sums["disk_bytes"] / sums["disk_tokens"] if sums["disk_tokens"] else None
    rows += [
        ["bytes a token on disk", number(on_disk, 1)],
        ["seconds reading from disk", number(sum(step.seconds.get("cache", 0.0) for step in run.steps), 2)],
        ["blocks evicted from disk", count(sums["evictions"])],
    ]
    return markdown_table(["teacher's cache, in the steps", ""], rows)


def _of(sums: Mapping[str, float], unit: str) -> str:
    served, asked = sums[f"{unit}_served"], sums[f"{unit}_asked"]
    return f"{count(served)} ({100 * served / asked:.1f} %)" if asked else count(served)
