"""The picture of a training: returns of episodes, as they came."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from read_env.reporting.records import Training
from read_env.reporting.style import AFTER, MUTED, WIDTH, figure, look

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Episodes in the running mean.
WINDOW = 10


def running_mean(values: np.ndarray, window: int = WINDOW) -> np.ndarray:
    """Mean of each value and up to ``window`` − 1 before it, (n,)."""
    sums = np.cumsum(np.concatenate([[0.0], values]))
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(ends - window, 0)
    return (sums[ends] - sums[starts]) / (ends - starts)


def learning_curve(training: Training) -> Figure:
    """Return by episode, one mark a task, with a running mean."""
    from matplotlib.ticker import MaxNLocator

    returns = np.array([episode.episode_return for episode in training.episodes])
    numbers = np.array([episode.episode for episode in training.episodes])
    tasks = list(dict.fromkeys(episode.task for episode in training.episodes))
    with look():
        picture = figure(WIDTH * 0.85, 3.2)
        ax = picture.subplots()
        for task, marker in zip(tasks, "osD^vPX*<>" * len(tasks), strict=False):
            mask = np.array([episode.task == task for episode in training.episodes])
            ax.plot(
                numbers[mask],
                returns[mask],
                marker,
                color=MUTED,
                alpha=0.55,
                markersize=4.5,
                markeredgewidth=0,
                label=task,
            )
        ax.plot(numbers, running_mean(returns), color=AFTER, linewidth=1.9, label=f"mean of the last {WINDOW}")
        ax.set(title="Return by episode", xlabel="episode", ylabel="return (sum of rewards)")
        ax.set_xlim(numbers[0] - 0.5, numbers[-1] + 0.5)
        ax.xaxis.set_major_locator(MaxNLocator(8, integer=True))
        ax.grid(axis="y")
        picture.legend(*ax.get_legend_handles_labels(), loc="outside right upper")
    return picture
