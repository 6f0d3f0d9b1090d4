"""The report of one run: a page and its pictures."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from read_env.reporting import markdown, style
from read_env.reporting.frames import scores_frame, steps_frame
from read_env.reporting.markdown import ABSENT, count, markdown_table, number, plural
from read_env.reporting.runs import Run, load_run
from read_env.reporting.style import AFTER, HARM, INK, MUTED, NEED, figure, look, save, token_axis

#: Metrics of a step by their name in the records and in TensorBoard (``distill/NAME``).
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

#: Skipped prompts that a report names.
_SHOWN = 20


def run_report(directory: str | Path) -> Path:
    """Write ``report.md`` and its pictures into a run directory, unfinished or not, and return the page's path.

    Raises:
        RecordError: names file, line and field of what is missing or malformed.
    """
    run = load_run(directory)
    status = f"This run is **{run.status}**." if run.summary is not None else f"**This run is {run.status}.**"
    blocks, page = [f"# `{run.agent}` on {run.task}, seed {run.seed}"], run.path / "report.md"
    origin = markdown.provenance(run.path, run.config)
    if run.start is None:
        return markdown.write_page(page, [*blocks, status, *origin[1:]])
    steps, scores = steps_frame([run]), scores_frame([run])
    before_after = _before_after(run, scores)
    pictures = {"profile": profile_picture(before_after)}
    blocks += [f"{status} One seed; {markdown.settings(run) or 'no configuration recorded'}."]
    blocks += ["## Result", _result(run, steps)]
    if (run.path / "student").is_dir():
        blocks.append("The distilled student is in [`student/`](student/).")
    blocks += ["## Capabilities", _capabilities(before_after, scores)]
    blocks.append(markdown.picture("profile.png", "profile before and after"))
    if run.steps:
        pictures["utility"] = utility_picture(run, steps)
        pictures["allocation"] = allocation_picture(run, steps, scores)
        pictures["costs"] = costs_picture(run, steps)
        blocks += [
            "## Over the run",
            markdown.picture("utility.png", "utility over tokens"),
            markdown.picture("allocation.png", "allocation over time"),
            markdown.picture("costs.png", "spillover and forgetting over tokens"),
            "## Objective",
            _metrics(steps),
            "## Tokens and time",
            _tokens(run, steps),
            _seconds(steps),
            _cache(steps),
            _skipped(run),
        ]
    for name, drawn in pictures.items():
        save(drawn, run.path / f"{name}.png")
    return markdown.write_page(page, [*blocks, *origin])


def _before_after(run: Run, scores: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """By split, ``requirement``, ``before`` and ``after`` of the capabilities; the exam where a finished run held it."""
    first, last = (scores[scores["step"] == step].set_index("capability") for step in (0, len(run.steps)))
    tables = {
        split: pd.DataFrame({"requirement": first["requirement"], "before": first[split], "after": last[split]})
        for split in ("probe", "exam")
    }
    if run.summary is None or tables["exam"].isna().any(axis=None):
        del tables["exam"]
    return tables


def _result(run: Run, steps: pd.DataFrame) -> str:
    end, utility, dev = run.summary, steps["utility"], steps["dev_utility"]
    rows = [["utility, probes", *_change(utility.iloc[0], end.utility if end else utility.iloc[-1])]]
    if dev[1:].notna().any():
        rows.append(["utility, dev (last measurement)", *_change(dev.iloc[0], dev.dropna().iloc[-1])])
    if end and end.exam_utility is not None and end.exam_utility_start is not None:
        rows.append(["utility, exam", *_change(end.exam_utility_start, end.exam_utility)])
    harms = {"spillover, summed over steps": end.spillover if end else steps["spillover_sum"].iloc[-1]}
    if end:
        harms |= {"forgetting, probes": end.forgetting, "forgetting, exam": end.exam_forgetting}
    rows += [[name, ABSENT, number(value), ABSENT] for name, value in harms.items() if value is not None]
    return markdown_table(["", "start", "end", "change"], rows)


def _change(before: float, after: float) -> list[str]:
    return [number(before), number(after), number(after - before, signed=True)]


def _capabilities(before_after: dict[str, pd.DataFrame], scores: pd.DataFrame) -> str:
    tokens = scores.groupby("capability", observed=True)["tokens"].sum()
    rows = [
        [name, number(need, 2) if need > 0 else ABSENT, count(tokens[name])]
        + [cell for table in before_after.values() for cell in _change(table["before"][name], table["after"][name])]
        for name, need in before_after["probe"]["requirement"].items()
    ]
    header = ["capability", "needed", "completion tokens", "probes before", "probes after", "change"]
    return markdown_table(header + (["exam before", "exam after", "change"] if "exam" in before_after else []), rows)


def _metrics(steps: pd.DataFrame) -> str:
    """Reports of the objective: rows in the order of ``_METRICS``, then all others on record."""
    values = steps.filter(regex="^(loss$|metrics/)")[1:].dropna(axis=1, how="all")
    values = values.rename(columns=lambda name: name.removeprefix("metrics/"))
    rows = []
    for name in dict.fromkeys([*(name for name in _METRICS if name in values), *values]):
        # A step too small for one completion has no updates, and so no metrics.
        column = values[name].dropna()
        ends = (column.iloc[0], column.mean(), column.iloc[-1])
        rows.append([f"`{name}`", _METRICS.get(name, ""), *(number(value, 4) for value in ends)])
    return markdown_table(["metric", "what", "first step", "mean", "last step"], rows, text_columns=2)


def _tokens(run: Run, steps: pd.DataFrame) -> str:
    end = run.summary
    counts = {
        "completion tokens (counted in B)": run.spent,
        "budget B": run.budget,
        "residue (shorter than an example)": end.residue if end else None,
        "prompt tokens": steps["prompt_tokens"].sum(),
        "trained tokens (prompt + completion)": steps["trained_tokens"].sum(),
    }
    if end:
        counts["probe tokens"], counts["dev tokens"] = end.probe_tokens, end.dev_tokens
        counts["tokens that the agent spent before the run"] = end.tokens_before_run
    rows = [[name, ABSENT if value is None else count(value)] for name, value in counts.items()]
    return markdown_table(["tokens", "count"], rows)


def _sums(steps: pd.DataFrame, section: str) -> dict[str, float]:
    sums = steps.filter(regex=f"^{section}/").sum()
    return {str(name).partition("/")[2]: float(total) for name, total in sums.items()}


def _seconds(steps: pd.DataFrame) -> str:
    """Seconds by stage as recorded: they differ between two runs of the same bits."""
    sums = _sums(steps, "seconds")
    total = sum(sums.values())
    shares = {name: f"{100 * value / total:.1f} %" if total else ABSENT for name, value in sums.items()}
    rows = [[name, number(value, 1), shares[name]] for name, value in sums.items()]
    return markdown_table(["stage", "seconds", "share"], [*rows, ["all", number(total, 1), "100 %"]]) if rows else ""


def _cache(steps: pd.DataFrame) -> str:
    """Sources of the teacher's answers; empty for a run that asked for none."""
    sums = _sums(steps, "cache")
    if not sums.get("blocks_asked"):
        return ""
    rows = []
    for unit, name in (("blocks", "blocks of prompts"), ("tokens", "completion tokens")):
        served, asked = sums[f"{unit}_served"], sums[f"{unit}_asked"]
        share = f" ({100 * served / asked:.1f} %)" if asked else ""
        rows += [[name, count(asked)], ["of these from the cache", count(served) + share]]
    on_disk = sums["disk_bytes"] / sums["disk_tokens"] if sums["disk_tokens"] else None
    rows.append(["bytes a token on disk", number(on_disk, 1)])
    rows.append(["seconds reading from disk", number(_sums(steps, "seconds").get("cache", 0.0), 2)])
    rows.append(["blocks evicted from disk", count(sums["evictions"])])
    return markdown_table(["teacher's cache, in the steps", ""], rows)


def _skipped(run: Run) -> str:
    """Prompts to which the teacher gave no answer; empty for none."""
    rows = [
        [count(step.step), one["capability"], one["prompt"], one["reason"]]
        for step in run.steps
        for one in step.skipped or ()
    ]
    if not rows:
        return ""
    more = f", the first {_SHOWN} of them here and all in `steps.jsonl`" if len(rows) > _SHOWN else ""
    table = markdown_table(["step", "capability", "prompt", "reason"], rows[:_SHOWN], text_columns=4)
    return f"The teacher gave no answer to {plural(len(rows), 'prompt')}, skipped without cost{more}:\n\n{table}"


@look()
def profile_picture(before_after: dict[str, pd.DataFrame]) -> Figure:
    """Profile before and after, on the probes and, where the run held it, on the exam."""
    titles = {"probe": ("Probe profile", "probe score"), "exam": ("Exam", "exact match")}
    picture = figure(height=3.5)
    panels = picture.subplots(1, len(before_after), sharey=True, squeeze=False)[0]
    for axes, (split, table) in zip(panels, before_after.items(), strict=True):
        style.dumbbells(axes, table)
        axes.set(title=titles[split][0], xlabel=titles[split][1])
    handles = [*style.dumbbell_handles(), Patch(color=NEED, alpha=0.2, label="needed by the task (weight)")]
    picture.legend(handles=handles, loc="outside lower right", ncols=3)
    return picture


@look()
def allocation_picture(run: Run, steps: pd.DataFrame, scores: pd.DataFrame) -> Figure:
    """Allocation over time as stacked areas."""
    shares = scores[scores["step"] > 0].pivot(index="step", columns="capability", values="allocation")
    picture = figure(height=3.2)
    axes = picture.subplots()
    style.stacked_allocation(axes, steps["spent"].to_numpy(float), shares, _budget(run, steps))
    axes.set(title="Allocation over time", ylabel="share of the step's tokens")
    picture.legend(handles=style.capability_handles(run.begun.suite), loc="outside right upper")
    return picture


@look()
def utility_picture(run: Run, steps: pd.DataFrame) -> Figure:
    """Utility over tokens on the probes, with the dev measurements and the exam at both ends."""
    spent, dev, end = steps["spent"].to_numpy(float), steps[1:].dropna(subset="dev_utility"), run.summary
    picture = figure(height=3.2)
    axes = picture.subplots()
    axes.plot(spent, steps["utility"], color=AFTER, linewidth=1.8, label="probes")
    if len(dev):
        tokens = dev["spent"].to_numpy(float)
        axes.plot(tokens, dev["dev_utility"], "D", color=NEED, markersize=5, label="dev", clip_on=False)
    if end is not None and end.exam_utility is not None and end.exam_utility_start is not None:
        exam = [end.exam_utility_start, end.exam_utility]
        axes.plot(spent[[0, -1]], exam, "o", ms=6, mfc="white", mec=INK, label="exam", clip_on=False, zorder=5)
    token_axis(axes, _budget(run, steps))
    axes.set(title=f"Utility of {run.task} over tokens", ylabel="utility")
    axes.grid(axis="y")
    axes.margins(y=0.12)
    axes.legend(loc="best")
    return picture


@look()
def costs_picture(run: Run, steps: pd.DataFrame) -> Figure:
    """Spillover (summed) and forgetting (against the start) over tokens."""
    picture, spent = figure(height=2.9), steps["spent"].to_numpy(float)
    spillover, forgetting = picture.subplots(1, 2)
    spillover.set(title="Spillover", ylabel="weighted drops on needed\ncapabilities, summed")
    forgetting.set(title="Forgetting", ylabel="mean drop on the other\ncapabilities since the start")
    for axes, name, colour in ((spillover, "spillover_sum", HARM), (forgetting, "forgetting_so_far", MUTED)):
        axes.plot(spent, steps[name], color=colour, linewidth=1.8)
        axes.fill_between(spent, 0, steps[name], color=colour, alpha=0.12, linewidth=0)
        token_axis(axes, _budget(run, steps))
        axes.set_ylim(0, max(0.01, 1.15 * float(steps[name].max())))
        axes.grid(axis="y")
    return picture


def _budget(run: Run, steps: pd.DataFrame) -> float:
    return float(run.budget or steps["spent"].max())
