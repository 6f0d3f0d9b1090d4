"""TensorBoard curves of a run: tags that never change, and curves that go on after a resume.

The x axis is the number of environment steps. SB3's tags are used for what SB3 has, so that the
curves of bandit and SB3 runs lie over each other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


def open_writer(folder: Path, first_step: int) -> SummaryWriter:
    """A writer whose first point is at ``first_step``.

    What an interrupted run had written from there on, beyond its last checkpoint, is taken out of
    the curves by TensorBoard.
    """
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder), purge_step=first_step)


def write_pictures(folder: Path, pictures: Mapping[str, Path]) -> None:
    """PNG files as TensorBoard images, in place of those that the folder held.

    Args:
        folder: of this writer alone.
        pictures: tag -> file.
    """
    import matplotlib.image
    from torch.utils.tensorboard import SummaryWriter

    from read_env import files

    files.remove(folder)
    with SummaryWriter(str(folder)) as writer:
        for tag, path in pictures.items():
            writer.add_image(tag, matplotlib.image.imread(path), dataformats="HWC")


class TensorBoardWatcher:
    """Writes a run's curves.

    Args:
        folder: the run's ``tensorboard/``.
        budget: B, completion tokens.
    """

    def __init__(self, folder: Path, budget: int) -> None:
        self._folder = folder
        self._budget = budget
        self._reward = 0.0
        self._names: Sequence[str] = ()
        self._writer: SummaryWriter | None = None

    def started(self, start: Mapping[str, Any], steps: Sequence[Mapping[str, Any]]) -> None:
        """Opens the writer; the initial student is step 0."""
        self._names = start["suite"]
        self._reward = sum(record["reward"] for record in steps)
        self._writer = open_writer(self._folder, len(steps) + 1 if steps else 0)
        if not steps:
            self._add(profile_scalars(self._names, start["profile"], start["utility"]), 0)
        self._writer.flush()

    def stepped(self, record: Mapping[str, Any]) -> None:
        """One point a curve."""
        self._reward += record["reward"]
        self._add(step_scalars(self._names, record, self._budget), record["step"])
        # A kill may come at any time; what is on record should be in the curves.
        if self._writer is not None:
            self._writer.flush()

    def finished(self, summary: Mapping[str, Any]) -> None:
        """The whole episode, under SB3's tags, and the exam."""
        scalars = {"rollout/ep_rew_mean": self._reward, "rollout/ep_len_mean": summary["steps"]}
        if summary["exam"] is not None:
            scalars["exam/utility"] = summary["exam_utility"]
            scalars |= {f"exam/{name}": score for name, score in zip(self._names, summary["exam"], strict=True)}
        self._add(scalars, summary["steps"])

    def close(self) -> None:
        """Closes the file."""
        if self._writer is not None:
            self._writer.close()

    def _add(self, scalars: Mapping[str, float], step: int) -> None:
        if self._writer is not None:
            for tag, value in scalars.items():
                self._writer.add_scalar(tag, value, step)


def profile_scalars(names: Sequence[str], profile: Sequence[float], utility: float) -> dict[str, float]:
    """``profile/<capability>`` and ``utility/probes``."""
    return {"utility/probes": utility, **{f"profile/{name}": score for name, score in zip(names, profile, strict=True)}}


def reward_scalars(names: Sequence[str], step: Mapping[str, Any], reward: float) -> dict[str, float]:
    """``allocation/<capability>`` and ``reward/*`` of a step, from its record or its ``info``."""
    return {
        **{f"allocation/{name}": share for name, share in zip(names, step["allocation"], strict=True)},
        **{f"reward/{part}": step[part] for part in ("gain", "spillover", "cost", "forgetting")},
        "reward/total": reward,
    }


def cache_scalars(counts: Mapping[str, int]) -> dict[str, float]:
    """``cache/*`` of a step: hit rates in blocks and tokens, evictions, and bytes a token where a disk was used.

    Args:
        counts: as in ``CacheUse``; empty in the records of a run from before they were kept.
    """
    if not counts.get("blocks_asked"):
        return {}  # an objective on the student's own samples asks for no answers
    scalars = {
        "cache/block_hit_rate": counts["blocks_served"] / counts["blocks_asked"],
        "cache/token_hit_rate": counts["tokens_served"] / max(1, counts["tokens_asked"]),
        "cache/evictions": float(counts["evictions"]),
    }
    if counts["disk_tokens"]:
        scalars["cache/bytes_per_token"] = counts["disk_bytes"] / counts["disk_tokens"]
    return scalars


def step_scalars(names: Sequence[str], record: Mapping[str, Any], budget: int) -> dict[str, float]:
    """Every tag of one step and its value.

    Args:
        names: |C| capability names.
        record: the step's record.
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
        **{(name if "/" in name else f"bandit/{name}"): value for name, value in record["agent"].items()},
        **{f"time/{stage}_seconds": value for stage, value in record["seconds"].items()},
        **cache_scalars(record.get("cache", {})),
    }
    if seconds > 0:
        scalars["distill/tokens_per_second"] = record["trained_tokens"] / seconds
    if "dev_utility" in record:
        scalars["utility/dev"] = record["dev_utility"]
    return scalars
