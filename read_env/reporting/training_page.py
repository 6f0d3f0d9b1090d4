"""The report of a training: an allocation policy over many episodes."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from read_env.records import RecordError
from read_env.reporting import markdown
from read_env.reporting.frames import load_runs
from read_env.reporting.markdown import count, markdown_table, number, p_value, plus_minus
from read_env.reporting.runs import load_training
from read_env.reporting.statistics import mean_interval, spearman
from read_env.reporting.style import AFTER, MUTED, look, panels, save

#: Episodes in the running mean.
WINDOW = 10


@look()
def training_report(directory: str | Path) -> Path:
    """Write ``report.md`` and the learning curve into a training directory, and return the page's path.

    Raises:
        RecordError: records that are missing or malformed, or not one finished episode.
    """
    training = load_training(directory)
    if not training.episodes:
        raise RecordError(f"{training.path / 'episodes.jsonl'}: no episode has finished yet")
    episodes = load_runs(training)
    steps, asked, width = (
        count(episodes["steps"].sum()),
        training.config.get("steps"),
        min(WINDOW, max(1, len(episodes) // 2)),
    )
    of = f" of {count(asked)}" if isinstance(asked, int) else ""
    cut = " The last record is cut off." if training.truncated else ""
    parts = {f"first {width}": slice(width), f"last {width}": slice(-width, None), "all": slice(None)}
    ends = [[name, plus_minus(mean_interval(episodes["return"][part]))] for name, part in parts.items()]
    blocks = [
        f"# Training of `{training.config.get('agent', 'an agent')}`",
        f"{len(episodes)} finished episodes, {steps} environment steps, {count(episodes['spent'].sum())} completion "
        f"tokens, {episodes['seed'].nunique()} seeds.",
        "" if training.finished else f"**Unfinished: {steps}{of} environment steps lie in finished episodes.**{cut}",
        save(learning_curve(episodes), training.path / "learning_curve.png", "return by episode"),
        "## First and last episodes",
        markdown_table(["episodes", "return (mean ± 95 % t)"], ends),
        _trend(episodes),
        "## By task",
        _by_task(episodes),
        *markdown.provenance(training.path, training.config),
    ]
    return markdown.write_page(training.path / "report.md", blocks)


def _trend(episodes: pd.DataFrame) -> str:
    rho, p, note = spearman(episodes["episode"], episodes["return"])
    if note:
        return f"No rank correlation of return and episode: {note}."
    equals = "" if p_value(p).startswith("<") else "= "
    return f"Rank correlation of return and episode number: ρ = {number(rho, 2, True)}, p {equals}{p_value(p)}."


def _by_task(episodes: pd.DataFrame) -> str:
    rows = []
    for task, own in episodes.groupby("task", sort=False):
        gain = number(own["utility_gain"].mean(), signed=True)
        rows.append([str(task), str(len(own)), number(own["return"].mean()), gain, count(own["spent"].sum())])
    return markdown_table(["task", "episodes", "mean return", "mean utility gain", "completion tokens"], rows)


def learning_curve(episodes: pd.DataFrame) -> Figure:
    """Return by episode, one mark per task, with a running mean."""
    picture, [(axes, _)] = panels(["return"], 1)
    sns.scatterplot(episodes, x="episode", y="return", style="task", color=MUTED, alpha=0.55, s=20, ax=axes)
    means = episodes["return"].rolling(WINDOW, min_periods=1).mean()
    axes.plot(episodes["episode"].to_numpy(float), means, color=AFTER, label=f"mean of the last {WINDOW}")
    axes.set(title="Return by episode", xlabel="episode", ylabel="return (sum of rewards)")
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    axes.grid(axis="y")
    picture.legend(*axes.get_legend_handles_labels(), loc="outside right upper")
    axes.get_legend().remove()
    return picture
