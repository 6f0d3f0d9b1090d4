"""The report of a training: an allocation policy over many episodes."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from read_env.reporting import pages
from read_env.reporting.figures_training import WINDOW, learning_curve
from read_env.reporting.records import RecordError, Training, load_training
from read_env.reporting.statistics import mean_interval, spearman
from read_env.reporting.style import save
from read_env.reporting.tables import count, markdown_table, number, p_value, plus_minus


def training_report(directory: str | Path) -> Path:
    """Write ``report.md`` and the learning curve into a training directory; return the page's path.

    Raises:
        RecordError: records that are missing or malformed, or not one finished episode.
    """
    training = load_training(directory)
    if not training.episodes:
        raise RecordError(f"{training.path / 'episodes.jsonl'}: no episode has finished yet")
    save(learning_curve(training), training.path / "learning_curve.png")
    episodes = training.episodes
    spent = sum(episode.completion_tokens for episode in episodes)
    head = (
        f"{len(episodes)} finished episodes, {count(sum(episode.steps for episode in episodes))} environment steps, "
        f"{count(spent)} completion tokens, {len({episode.seed for episode in episodes})} seeds."
    )
    blocks = [
        f"# Training of `{training.config.get('agent', 'an agent')}`",
        head,
        _unfinished(training),
        pages.picture("learning_curve.png", "return by episode"),
        "## First and last episodes",
        _ends(training),
        _trend(training),
        "## By task",
        _by_task(training),
        "## Where this comes from",
        *pages.provenance(training.path, training.config),
    ]
    return pages.write_page(training.path / "report.md", blocks)


def _unfinished(training: Training) -> str:
    if training.finished:
        return ""
    asked, made = training.config.get("steps"), sum(episode.steps for episode in training.episodes)
    of = f" of {count(asked)}" if isinstance(asked, int) else ""
    cut = " The last record is cut off." if training.truncated else ""
    return f"**Unfinished: {count(made)}{of} environment steps lie in finished episodes.**{cut}"


def _ends(training: Training) -> str:
    returns = [episode.episode_return for episode in training.episodes]
    width = min(WINDOW, max(1, len(returns) // 2))
    rows = [
        [f"first {width}", plus_minus(mean_interval(returns[:width]))],
        [f"last {width}", plus_minus(mean_interval(returns[-width:]))],
        ["all", plus_minus(mean_interval(returns))],
    ]
    return markdown_table(["episodes", "return (mean ± 95 % t)"], rows)


def _trend(training: Training) -> str:
    found = spearman(
        [episode.episode for episode in training.episodes], [episode.episode_return for episode in training.episodes]
    )
    if found.note:
        return f"No rank correlation of return and episode: {found.note}."
    return f"Rank correlation of return and episode number: ρ = {number(found.rho, 2, True)}, p {_p(found.p)}."


def _p(p: float) -> str:
    text = p_value(p)
    return text if text.startswith("<") else f"= {text}"


def _by_task(training: Training) -> str:
    rows = []
    for task in dict.fromkeys(episode.task for episode in training.episodes):
        chosen = [episode for episode in training.episodes if episode.task == task]
        gains = [e.utility - e.utility_start for e in chosen if e.utility is not None and e.utility_start is not None]
        rows.append(
            [
                task,
                str(len(chosen)),
                number(float(np.mean([episode.episode_return for episode in chosen]))),
                number(float(np.mean(gains)) if gains else None, signed=True),
                count(sum(episode.completion_tokens for episode in chosen)),
            ]
        )
    header = ["task", "episodes", "mean return", "mean utility gain", "completion tokens"]
    return markdown_table(header, rows)
