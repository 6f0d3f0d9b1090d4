"""TensorBoard curves of runs and trainings, continued after a resume.

The x axis is the number of environment steps. Tags of SB3 are used where SB3 has one, so that the curves of bandits and SB3
agents can be compared.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from read_env import files
from read_env.records import RunStart
from read_env.running.callbacks import Callback
from read_env.tasks import utility_name

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


def open_writer(folder: Path, first_step: int) -> SummaryWriter:
    """Writer whose first point is at ``first_step``; TensorBoard drops the points that an interrupted run wrote from there."""
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder), purge_step=first_step)


def write_pictures(folder: Path, pictures: Mapping[str, Path]) -> None:
    """Write PNG files as TensorBoard images, in place of those in the folder.

    Args:
        folder: folder of this writer alone.
        pictures: tag -> file.
    """
    import matplotlib.image

    files.remove(folder)
    with open_writer(folder, 0) as writer:
        for tag, path in pictures.items():
            writer.add_image(tag, matplotlib.image.imread(path), dataformats="HWC")


class Curves:
    """Curves in a folder; the first point is at ``first_step``.

    Args:
        folder: folder of the event files.
        first_step: see :func:`open_writer`.
    """

    def __init__(self, folder: Path, first_step: int) -> None:
        self._folder, self._first_step = folder, first_step
        self._writer: SummaryWriter | None = None

    @property
    def writer(self) -> SummaryWriter:
        """The open writer."""
        if self._writer is None:
            self._writer = open_writer(self._folder, self._first_step)
        return self._writer

    def write(self, scalars: Mapping[str, float], step: int) -> None:
        """Write one point per curve, and flush: a kill may come at any time, and recorded steps should be in the curves."""
        for tag, value in scalars.items():
            self.writer.add_scalar(tag, value, step)
        self.writer.flush()

    def close(self) -> None:
        """Close the file."""
        if self._writer is not None:
            self._writer.close()


class TensorBoardCallback(Callback):
    """Curves of a run.

    Args:
        folder: the run's ``tensorboard/``.
        budget: B, completion tokens.
    """

    def __init__(self, folder: Path, budget: int) -> None:
        self._folder, self._budget = folder, budget
        self._reward = 0.0
        self._names: Sequence[str] = ()
        self._curves = Curves(folder, 0)

    def on_run_start(self, start: Mapping[str, Any], steps: Sequence[Mapping[str, Any]]) -> None:
        """Open the writer; the initial student is step 0."""
        self._names = start["suite"]
        self._reward = sum(record["reward"] for record in steps)
        first = len(steps) + 1 if steps else 0
        self._curves = Curves(self._folder, first)
        if not steps:
            self._curves.writer.add_text("figures", _figures(start), 0)
            for scores in ("profile", "exam"):
                ceiling = zip(self._names, start.get(f"teacher_{scores}") or (), strict=False)
                self._curves.write({f"teacher/{scores}/{name}": value for name, value in ceiling}, 0)
        self._curves.write({} if steps else profile_scalars(self._names, start["profile"], start["utility"]), 0)

    def on_step(self, record: Mapping[str, Any]) -> None:
        """Write one point per curve."""
        self._reward += record["reward"]
        self._curves.write(step_scalars(self._names, record, self._budget), record["step"])

    def on_run_end(self, summary: Mapping[str, Any]) -> None:
        """Write return and length of the episode, under SB3's tags, and the exam."""
        scalars = {"rollout/ep_rew_mean": self._reward, "rollout/ep_len_mean": summary["steps"]}
        if summary["exam"] is not None:
            scalars["exam/utility"] = summary["exam_utility"]
            scalars |= {f"exam/{name}": score for name, score in zip(self._names, summary["exam"], strict=True)}
        left = {
            "left_tokens": "budget/left_tokens",
            "left_utility": "utility/left",
            "left_exam_utility": "exam/left_utility",
        }
        scalars |= {tag: summary[name] for name, tag in left.items() if name in summary}
        self._curves.write(scalars, summary["steps"])

    def close(self) -> None:
        self._curves.close()


def _figures(start: Mapping[str, Any]) -> str:
    """Table of what each curve shows."""
    begun = RunStart.model_validate(start)
    figures = {
        "utility/probes, utility/dev": utility_name(begun.utility_form, begun.utility_score),
        "exam/utility": utility_name(begun.utility_form, begun.exam_score),
        "profile/*": f"score of the probes: {begun.score or 'likelihood'}",
        "exam/*": "exact match of greedily decoded answers"
        + (f"; of {', '.join(start['ungraded'])}, the likelihood per token" if start.get("ungraded") else ""),
        "teacher/profile/*, teacher/exam/*": "the same scores of the teacher",
    }
    lines = (f"| `{tag}` | {text} |" for tag, text in figures.items())
    return "\n".join(["| tag | figure |", "|---|---|", *lines])


def agent_scalars(scalars: Mapping[str, float]) -> dict[str, float]:
    """Tags of an agent's metrics: a name with a slash is the whole tag.

    >>> agent_scalars({"kappa": 0.5, "train/loss": 0.1})
    {'bandit/kappa': 0.5, 'train/loss': 0.1}
    """
    return {(name if "/" in name else f"bandit/{name}"): value for name, value in scalars.items()}


def profile_scalars(names: Sequence[str], profile: Sequence[float], utility: float) -> dict[str, float]:
    """Values of ``profile/<capability>`` and ``utility/probes``.

    >>> profile_scalars(["math"], [0.5], utility=0.5)
    {'utility/probes': 0.5, 'profile/math': 0.5}
    """
    return {"utility/probes": utility, **{f"profile/{name}": score for name, score in zip(names, profile, strict=True)}}


def reward_scalars(names: Sequence[str], step: Mapping[str, Any], reward: float) -> dict[str, float]:
    """Values of ``allocation/<capability>`` and ``reward/*`` of a step, from its record or its ``info``."""
    return {
        **{f"allocation/{name}": share for name, share in zip(names, step["allocation"], strict=True)},
        **{f"reward/{part}": step[part] for part in ("gain", "spillover", "cost", "forgetting")},
        "reward/total": reward,
    }


def cache_scalars(counts: Mapping[str, int]) -> dict[str, float]:
    """Values of ``cache/*`` of a step: hit rates in blocks and tokens, evictions, and bytes per token on disk.

    Args:
        counts: counts of ``CacheUse``; empty in records of early versions.

    >>> counts = dict(blocks_asked=4, blocks_served=1, tokens_asked=90, tokens_served=45, evictions=0, disk_tokens=0)
    >>> cache_scalars(counts)
    {'cache/block_hit_rate': 0.25, 'cache/token_hit_rate': 0.5, 'cache/evictions': 0.0}
    """
    if not counts.get("blocks_asked"):
        return {}  # on-policy losses ask for no answers
    scalars = {
        "cache/block_hit_rate": counts["blocks_served"] / counts["blocks_asked"],
        "cache/token_hit_rate": counts["tokens_served"] / max(1, counts["tokens_asked"]),
        "cache/evictions": float(counts["evictions"]),
    }
    if counts["disk_tokens"]:
        scalars["cache/bytes_per_token"] = counts["disk_bytes"] / counts["disk_tokens"]
    return scalars


def step_scalars(names: Sequence[str], record: Mapping[str, Any], budget: int) -> dict[str, float]:
    """Tags and values of one step.

    Args:
        names: |C| capability names.
        record: record of the step.
        budget: B, completion tokens.
    """
    seconds = sum(record["seconds"].values())
    scalars = {
        **profile_scalars(names, record["profile"], record["utility"]),
        **reward_scalars(names, record, record["reward"]),
        "budget/spent_tokens": record["budget_spent"],
        "budget/spent_share": record["budget_spent"] / budget,
        "distill/loss": record["loss"],
        **{f"distill/{name}": value for name, value in record["metrics"].items()},
        **agent_scalars(record["agent"]),
        **{f"time/{stage}_seconds": value for stage, value in record["seconds"].items()},
        **cache_scalars(record.get("cache", {})),
    }
    if seconds > 0:
        scalars["distill/tokens_per_second"] = record["trained_tokens"] / seconds
    if sum(record.get("examples_by_capability") or ()):
        scalars["distill/cut_share"] = sum(record["cut_by_capability"]) / sum(record["examples_by_capability"])
    if "dev_utility" in record:
        scalars["utility/dev"] = record["dev_utility"]
    return scalars
