"""The reports of a run and of a training: pages and their pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from read_env.diagnosis import diagnose
from read_env.record_files import RecordError
from read_env.records import METRICS
from read_env.reporting import markdown, style, web_pictures
from read_env.reporting.external import external_blocks
from read_env.reporting.markdown import ABSENT, count, literal, markdown_table, number, p_value, plural, plus_minus
from read_env.reporting.runs import Run, load_run, load_runs, load_scores, load_steps, load_training
from read_env.reporting.statistics import mean_interval, spearman
from read_env.reporting.style import look, panels, save, token_axis
from read_env.reporting.web_page import write_report
from read_env.samples import HEADER, sample_rows
from read_env.tasks import utility_name

#: Skipped prompts that a report names.
_SHOWN = 20


#: Episodes in the running mean.
WINDOW = 10


@look()
def run_report(directory: str | Path) -> Path:
    """Write ``report.md``, ``report.html`` and pictures into a run directory, unfinished or not.

    Returns the path of ``report.md``.

    Raises:
        RecordError: names file, line and field of what is missing or malformed.
    """
    run = load_run(directory)
    status = f"This run is **{run.status}**." if run.summary is not None else f"**This run is {run.status}.**"
    blocks = [f"# `{run.agent}` on {run.task}, seed {run.seed}"]
    origin = markdown.provenance(run.path, run.config)
    if run.start is None:
        return write_report(run.path, [*blocks, status, *origin[1:]])
    steps, scores = load_steps(run), load_scores(run)
    ends = scores[scores["step"].isin([0, len(run.steps)])]
    splits = ["probe", "exam"] if run.summary is not None and ends["exam"].notna().all() else ["probe"]
    records = [step.to_json() for step in run.steps]
    problems = diagnose(run.begun.to_json(), records, run.config, finished=run.summary is not None)
    rows = [list(map(literal, row)) for row in sample_rows(run.begun, run.summary.samples if run.summary else None)]
    blocks += [
        f"{status} One seed; {markdown.settings(run) or 'no configuration recorded'}.",
        *(f"**Warning:** {text}." for text in problems.values()),
        "\n".join(f"- `{field}`: auto is {value}" for field, value in (run.begun.auto or {}).items()),
        "## Result",
        _result(run, steps),
        "The distilled student is in [`student/`](student/)." if (run.path / "student").is_dir() else "",
        "## Capabilities",
        _capabilities(scores, splits),
        save(profile_picture(scores, splits, run.begun.ungraded), run.path / "profile.png", "profile before and after"),
        f"Sample answers:\n\n{markdown_table(HEADER, rows, text_columns=len(HEADER))}" if rows else "",
    ]
    if run.steps:
        blocks += [
            "## Over the run",
            save(utility_picture(run, steps), run.path / "utility.png", "utility over tokens"),
            save(allocation_picture(run, steps, scores), run.path / "allocation.png", "allocation over time"),
            save(costs_picture(run, steps), run.path / "costs.png", "spillover and forgetting over tokens"),
            "## Objective",
            _metrics(steps),
            "## Tokens and time",
            _tokens(run, steps),
            _seconds(steps),
            _cache(steps),
            _skipped(run),
        ]
    blocks += external_blocks(run)
    return write_report(run.path, [*blocks, *origin], _figures(run, steps, scores) if run.steps else None)


def _figures(run: Run, steps: pd.DataFrame, scores: pd.DataFrame) -> dict[str, str]:
    """Pictures over tokens for the web page, with the values of every step."""
    budget, agents = float(run.budget or steps["spent"].max()), web_pictures.agent_entries([run.agent])
    shares = scores[scores["step"] > 0].pivot(index="step", columns="capability", values="allocation")
    allocation = web_pictures.allocation_panel(run.agent, steps["spent"].to_numpy(float), shares, budget)

    def lines(caption: str, columns: dict[str, str], from_zero: bool = False) -> str:
        drawn = [
            web_pictures.line_panel(title, steps, column, agents, budget, from_zero=from_zero)
            for column, title in columns.items()
            if steps[column].notna().any()
        ]
        return web_pictures.figure(caption, agents, drawn)

    utilities = {"utility": "probes", "dev_utility": "dev"}
    harms = {"spillover_sum": "spillover, summed", "forgetting_so_far": "forgetting"}
    return {
        "utility.png": lines(f"Utility of {run.task}, by completion tokens", utilities),
        "allocation.png": web_pictures.figure(
            "Allocation, by completion tokens", web_pictures.capability_entries(run.begun.suite), [allocation]
        ),
        "costs.png": lines("Spillover and forgetting, by completion tokens", harms, from_zero=True),
    }


def _result(run: Run, steps: pd.DataFrame) -> str:
    end, utility, dev, form = run.summary, steps["utility"], steps["dev_utility"], run.begun.utility_form
    name = utility_name(form, run.begun.utility_score)
    rows = [[f"utility, probes ({name})", *_change(utility.iloc[0], utility.iloc[-1])]]
    if dev[1:].notna().any():
        rows.append([f"utility, dev, last measurement ({name})", *_change(dev.iloc[0], dev.dropna().iloc[-1])])
    if end and end.exam_utility is not None and end.exam_utility_start is not None:
        name = utility_name(form, run.begun.exam_score)
        rows.append([f"utility, exam ({name})", *_change(end.exam_utility_start, end.exam_utility)])
        if run.begun.teacher_task_exam is not None:
            rows.append(["utility, exam, of the teacher", number(run.begun.teacher_task_exam), ABSENT, ABSENT])
    if end and end.left_tokens and end.left_utility is not None:
        spent = f"had the {count(end.left_tokens)} tokens left been spent as the requirement"
        rows.append([f"utility, probes, {spent}", *_change(end.utility, end.left_utility)])
        if end.exam_utility is not None and end.left_exam_utility is not None:
            rows.append([f"utility, exam, {spent}", *_change(end.exam_utility, end.left_exam_utility)])
    harms = {"spillover, summed over steps": steps["spillover_sum"].iloc[-1]}
    if run.section("reward").get("forgetting_beta"):
        harms["forgetting, summed over steps"] = steps["forgetting"].sum()
    if end:
        harms |= {"forgetting, probes": end.forgetting, "forgetting, exam": end.exam_forgetting}
    rows += [[name, ABSENT, number(value), ABSENT] for name, value in harms.items() if value is not None]
    return markdown_table(["", "start", "end", "change"], rows)


def _change(before: float, after: float) -> list[str]:
    return [number(before), number(after), number(after - before, signed=True)]


def _capabilities(scores: pd.DataFrame, splits: Sequence[str]) -> str:
    first, last = (scores[scores["step"] == step].set_index("capability") for step in (0, scores["step"].max()))
    sums = scores.groupby("capability", observed=True)[["tokens", "completions", "cut"]].sum()
    rows = [
        [name, number(need, 2) if need > 0 else ABSENT, *map(count, sums.loc[name])]
        + [
            cell
            for s in splits
            for cell in (*_change(first[s][name], last[s][name]), number(first[f"teacher_{s}"][name]))
        ]
        for name, need in first["requirement"].items()
    ]
    header = ["capability", "needed", "completion tokens", "completions", "of these cut"]
    parts = ("before", "after", "change", "of the teacher")
    return markdown_table(header + [f"{split} {part}" for split in splits for part in parts], rows)


def _metrics(steps: pd.DataFrame) -> str:
    """Reports of the objective: rows in the order of ``METRICS``, then all others on record."""
    values = steps.filter(regex="^(loss$|metrics/)")[1:].dropna(axis=1, how="all")
    values = values.rename(columns=lambda name: name.removeprefix("metrics/"))
    rows = []
    for name in dict.fromkeys([*(name for name in METRICS if name in values), *values]):
        column = values[name].dropna()  # a step too small for one completion has no updates, and so no metrics
        ends = (number(value, 4) for value in (column.iloc[0], column.mean(), column.iloc[-1]))
        rows.append([f"`{name}`", METRICS.get(name, ""), *ends])
    return markdown_table(["metric", "what", "first step", "mean", "last step"], rows, text_columns=2)


def _tokens(run: Run, steps: pd.DataFrame) -> str:
    end, (prompt, trained) = run.summary, steps[["prompt_tokens", "trained_tokens"]].sum()
    counts = {
        "completion tokens (counted in B)": run.spent,
        "budget B": run.budget,
        "residue (shorter than an example)": end.residue if end and not end.left_tokens else None,
        **({"left by stopping": end.left_tokens} if end and end.left_tokens is not None else {}),
        **{"prompt tokens": prompt, "trained tokens (prompt + completion)": trained},
    }
    counts["tokens of the teacher's evaluation"] = run.begun.teacher_tokens
    if end:
        counts |= {"probe tokens": end.probe_tokens, "dev tokens": end.dev_tokens}
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
    rows = [[n, number(s, 1), f"{100 * s / total:.1f} %" if total else ABSENT] for n, s in sums.items()]
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
    rows += [
        ["bytes a token on disk", number(sums["disk_bytes"] / sums["disk_tokens"] if sums["disk_tokens"] else None, 1)],
        ["blocks evicted from disk", count(sums["evictions"])],
    ]
    return markdown_table(["teacher's cache, in the steps", ""], rows)


def _skipped(run: Run) -> str:
    """Prompts that were skipped, and the reasons; empty for none."""
    rows = [
        [count(step.step), *(literal(one[name]) for name in ("capability", "prompt", "reason"))]
        for step in run.steps
        for one in step.skipped or ()
    ]
    lines = [f"{count(n)} of {name}" for name, n in ((run.start and run.start.overlong) or {}).items()]
    left_out = f"Lines left out as too long for a model: {', '.join(lines)}.\n\n" if lines else ""
    if not rows:
        return left_out
    more = f", the first {_SHOWN} of them here and all in `steps.jsonl`" if len(rows) > _SHOWN else ""
    table = markdown_table(["step", "capability", "prompt", "reason"], rows[:_SHOWN], text_columns=4)
    skipped = f"{plural(len(rows), 'prompt')} without an example for the student, skipped without cost{more}"
    return f"{left_out}{skipped}:\n\n{table}"


def profile_picture(scores: pd.DataFrame, splits: Sequence[str], ungraded: Sequence[str] | None = None) -> Figure:
    """Profile before and after, on the probes and, where the run held it, on the exam."""
    titles = {
        "probe": ("Probe profile", "probe score"),
        "exam": ("Exam", "exact match or likelihood per token" if ungraded else "exact match"),
    }
    picture, grid = panels(splits, 2, height=3.5, sharey=True)
    for axes, split in grid:
        handles = style.before_after(axes, scores, split, style.AFTER)
        axes.set(title=titles[split][0], xlabel=titles[split][1])
    picture.legend(handles=handles, loc="outside lower right", ncols=3)
    return picture


def utility_picture(run: Run, steps: pd.DataFrame) -> Figure:
    """Utility over tokens on the probes, with the dev measurements and the exam at both ends."""
    spent, end = steps["spent"].to_numpy(float), run.summary
    picture, [(axes, _)] = panels([run.task], 1)
    axes.plot(spent, steps["utility"], color=style.AFTER, label="probes")
    if steps["dev_utility"][1:].notna().any():
        axes.plot(spent[1:], steps["dev_utility"][1:], "D", color=style.NEED, markersize=5, label="dev", clip_on=False)
    if end is not None and end.exam_utility is not None and end.exam_utility_start is not None:
        exam = [end.exam_utility_start, end.exam_utility]
        axes.plot(spent[[0, -1]], exam, "o", ms=6, mfc="white", mec=style.INK, label="exam", clip_on=False, zorder=5)
    token_axis(axes, run.budget or steps["spent"].max())
    axes.set(title=f"Utility of {run.task} over tokens", ylabel="utility")
    axes.legend()
    return picture


def allocation_picture(run: Run, steps: pd.DataFrame, scores: pd.DataFrame) -> Figure:
    """Allocation over time as stacked areas."""
    shares = scores[scores["step"] > 0].pivot(index="step", columns="capability", values="allocation")
    picture, [(axes, _)] = panels([run.task], 1)
    style.stacked_allocation(axes, steps["spent"].to_numpy(float), shares, run.budget or steps["spent"].max())
    axes.set(title="Allocation over time", ylabel="share of the step's tokens")
    picture.legend(handles=style.capability_handles(run.begun.suite)[::-1], loc="outside right upper")
    return picture


def costs_picture(run: Run, steps: pd.DataFrame) -> Figure:
    """Spillover (summed) and forgetting (against the start) over tokens."""
    columns = {
        "spillover_sum": ("Spillover", "weighted drops on needed\ncapabilities, summed", style.HARM),
        "forgetting_so_far": ("Forgetting", "mean drop on the other\ncapabilities since the start", style.MUTED),
    }
    picture, grid = panels(columns, 2, height=2.9)
    for axes, column in grid:
        title, label, colour = columns[column]
        axes.plot(steps["spent"].to_numpy(float), steps[column], color=colour, clip_on=False)
        token_axis(axes, run.budget or steps["spent"].max())
        axes.set(title=title, ylabel=label, ylim=(0, max(0.01, 1.15 * float(steps[column].max()))))
    return picture


@look()
def training_report(directory: str | Path) -> Path:
    """Write ``report.md``, ``report.html`` and the learning curve into a training directory.

    Returns the path of ``report.md``.

    Raises:
        RecordError: records that are missing or malformed, or not one finished episode.
    """
    training = load_training(directory)
    if not training.episodes:
        raise RecordError(f"{training.path / 'episodes.jsonl'}: no episode has finished yet")
    episodes = load_runs(training)
    steps, asked = count(episodes["steps"].sum()), training.config.get("steps")
    of = f" of {count(asked)}" if isinstance(asked, int) else ""
    cut = " The last record is cut off." if training.truncated else ""
    width = min(WINDOW, max(1, len(episodes) // 2))
    parts = {f"first {width}": slice(width), f"last {width}": slice(-width, None), "all": slice(None)}
    rho, p, note = spearman(episodes["episode"], episodes["return"])
    equals = p_value(p) if p < 0.001 else f"= {p_value(p)}"
    trend = f"Rank correlation of return and episode number: ρ = {number(rho, 2, True)}, p {equals}."
    if note:
        trend = f"No rank correlation of return and episode: {note}."
    tasks = []
    for task, own in episodes.groupby("task", sort=False):
        gain = number(own["utility_gain"].mean(), signed=True)
        tasks.append([str(task), str(len(own)), number(own["return"].mean()), gain, count(own["spent"].sum())])
    ends = [[name, plus_minus(mean_interval(episodes["return"][part]))] for name, part in parts.items()]
    blocks = [
        f"# Training of `{training.agent}`",
        f"{len(episodes)} finished episodes, {steps} environment steps, {count(episodes['spent'].sum())} completion "
        f"tokens, {episodes['seed'].nunique()} seeds.",
        "" if training.finished else f"**Unfinished: {steps}{of} environment steps lie in finished episodes.**{cut}",
        save(learning_curve(episodes), training.path / "learning_curve.png", "return by episode"),
        "## First and last episodes",
        markdown_table(["episodes", "return (mean ± 95 % t)"], ends),
        trend,
        "## By task",
        markdown_table(["task", "episodes", "mean return", "mean utility gain", "completion tokens"], tasks),
        *markdown.provenance(training.path, training.config),
    ]
    return write_report(training.path, blocks)


def learning_curve(episodes: pd.DataFrame) -> Figure:
    """Return by episode, one mark per task, with a running mean."""
    picture, [(axes, _)] = panels(["return"], 1)
    sns.scatterplot(episodes, x="episode", y="return", style="task", color=style.MUTED, alpha=0.55, s=20, ax=axes)
    means = episodes["return"].rolling(WINDOW, min_periods=1).mean()
    axes.plot(episodes["episode"].to_numpy(float), means, color=style.AFTER, label=f"mean of the last {WINDOW}")
    axes.set(title="Return by episode", xlabel="episode", ylabel="return (sum of rewards)")
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    picture.legend(*axes.get_legend_handles_labels(), loc="outside right upper")
    axes.get_legend().remove()  # type: ignore[union-attr]
    return picture
