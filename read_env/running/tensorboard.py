"""TensorBoard curves of runs and trainings, continued after a resume.

The x axis is the number of environment steps. Tags of SB3 are used where SB3 has one, so that the curves of bandits and SB3
agents can be compared.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from read_env import files
from read_env.running.callbacks import Callback
from read_env.running.curve_summaries import write_configuration, write_figures, write_hparams, write_layout
from read_env.running.curve_tags import profile_scalars, step_scalars
from read_env.running.directory import RunDirectory

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

    from read_env.running.requests import RunRequest

#: Curves whose last values the HPARAMS tab shows.
METRICS = ("exam/utility", "exam/utility_gain", "utility/probes", "rollout/ep_rew_mean")


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

    def add(self, write: Callable[..., None], *values: Any) -> None:
        """Call a function of :mod:`read_env.running.curve_summaries` with the writer."""
        write(self.writer, *values)

    def close(self) -> None:
        """Close the file."""
        if self._writer is not None:
            self._writer.close()


class TensorBoardCallback(Callback):
    """Curves of a run.

    Args:
        request: the run.
    """

    def __init__(self, request: RunRequest) -> None:
        self._folder = RunDirectory(request.directory).tensorboard
        self._config, self._label = request.config, request.agent.label
        self._reward = 0.0
        self._names: Sequence[str] = ()
        self._curves = Curves(self._folder, 0)

    def on_run_start(self, start: Mapping[str, Any], steps: Sequence[Mapping[str, Any]]) -> None:
        """Open the writer; the initial student is step 0."""
        self._names = start["suite"]
        self._reward = sum(record["reward"] for record in steps)
        first = len(steps) + 1 if steps else 0
        self._curves = Curves(self._folder, first)
        if not steps:
            self._curves.add(write_configuration, self._config.model_dump(mode="json"))
            self._curves.add(write_figures, start)
            self._curves.add(write_layout, self._names)
            for scores in ("profile", "exam"):
                ceiling = zip(self._names, start.get(f"teacher_{scores}") or (), strict=False)
                self._curves.write({f"teacher/{scores}/{name}": value for name, value in ceiling}, 0)
        self._curves.write({} if steps else profile_scalars(self._names, start["profile"], start["utility"]), 0)

    def on_step(self, record: Mapping[str, Any]) -> None:
        """Write one point per curve."""
        self._reward += record["reward"]
        self._curves.write(step_scalars(self._names, record, self._config.budget.total_tokens), record["step"])

    def on_run_end(self, summary: Mapping[str, Any]) -> None:
        """Write return and length of the episode, under SB3's tags, and the exam."""
        scalars = {"rollout/ep_rew_mean": self._reward, "rollout/ep_len_mean": summary["steps"]}
        if summary["exam"] is not None:
            scalars["exam/utility"] = summary["exam_utility"]
            scalars["exam/utility_gain"] = summary["exam_utility"] - summary["exam_utility_start"]
            scalars |= {f"exam/{name}": score for name, score in zip(self._names, summary["exam"], strict=True)}
        left = {
            "left_tokens": "budget/left_tokens",
            "left_utility": "utility/left",
            "left_exam_utility": "exam/left_utility",
        }
        scalars |= {tag: summary[name] for name, tag in left.items() if name in summary}
        self._curves.write(scalars, summary["steps"])
        named = {"agent": self._label, "task": summary["task"]}
        self._curves.add(write_hparams, self._config.model_dump(mode="json"), named, METRICS)

    def close(self) -> None:
        self._curves.close()
