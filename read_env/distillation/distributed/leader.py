"""The student on several devices as the process of the environment sees it: rank 0, which sends its calls to the others."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from read_env.config import Config, DistillConfig
from read_env.distillation.distributed.ranks import RankError, RankOutOfMemory, Ranks, under_torchrun
from read_env.distillation.distributed.student import ShardedStudent
from read_env.distillation.student.evaluation import ProbeSet
from read_env.distillation.student.student import UpdateStats
from read_env.distillation.text.completion import Example
from read_env.errors import ReadEnvError

_LOG = logging.getLogger(__name__)


class LeadingStudent(ShardedStudent):
    """Student of ``models.gpus`` ranks with the methods of :class:`~read_env.distillation.student.student.Student`. It starts the other ranks.

    The ranks are started again after one of them has failed: at the next call, with the last state that was given or taken and
    the updates since then.

    Args:
        config: the resolved configuration.

    Raises:
        ReadEnvError: the devices don't exist, or the model can't be loaded.
    """

    def __init__(self, config: Config) -> None:
        self._all = config
        self._state: Mapping[str, Any] | None = None
        self._start_of: tuple[int, Mapping[str, torch.Tensor] | None] = (0, None)
        self._since: list[tuple[Sequence[Example], float]] = []
        self._link: Ranks | None = None
        self._start()

    def _start(self) -> None:
        """Start the ranks, and build the student on each."""
        self._link = None  # of ranks that have failed
        self._link = link = Ranks(self._all.models.gpus, device_type(self._all))
        link.call("build", (self._all,), {}, partial(ShardedStudent.__init__, self, self._all, link.mesh))

    def _together(self, name: str, *arguments: Any, **settings: Any) -> Any:
        """Make a call on every rank."""
        link = self._link
        if link is None or link.closed:
            link = self._again()
        return link.call(
            name, arguments, settings, partial(getattr(ShardedStudent, name), self, *arguments, **settings)
        )

    def _again(self) -> Ranks:
        """Start the ranks again, and bring them to where they were."""
        if under_torchrun():
            raise RankError(
                "the ranks that torchrun started are gone; the same command goes on from the last checkpoint"
            )
        config, validation, micro_batch = self.config, self.validation, self.micro_batch_tokens
        _LOG.warning("starting the ranks of the student again")
        self._start()
        assert self._link is not None
        self._together("configure", config)
        if validation:
            self._together("take_validation", validation)
        if self._state is not None:
            self._give(self._state)
        else:
            self._give_start()
        self._together("take_micro_batch", min(micro_batch, self.micro_batch_tokens))
        for examples, progress in self._since:
            self._together("update", examples, progress, observe=False)
        return self._link

    # --- the methods of a student, each on every rank -------------------------------------------

    def configure(self, config: DistillConfig) -> None:
        self._together("configure", config)

    def take_validation(self, examples: Sequence[Example]) -> None:
        self._together("take_validation", examples)

    def update(self, examples: Sequence[Example], progress: float = 0.0, *, observe: bool = True) -> UpdateStats:
        """One optimizer step, see ``Student.update``. On out-of-memory on any rank, the ranks are started again, go to where
        they were, and all repeat it with half the micro-batch size.
        """
        while True:
            try:
                stats: UpdateStats = self._together("update", examples, progress, observe=observe)
                break
            except RankOutOfMemory as error:
                self._halve_micro_batches(examples, str(error))
                if under_torchrun():
                    raise ReadEnvError(
                        f"{error}; set distill.micro_batch_tokens to {self.micro_batch_tokens}: the same command goes on from the "
                        "last checkpoint"
                    ) from None
        self._since.append((examples if isinstance(examples, tuple) else tuple(examples), progress))
        return stats

    def profile(self, probes: ProbeSet, *, per_token: bool = False, averaged: bool = False) -> np.ndarray:
        found: np.ndarray = self._together("profile", probes, per_token=per_token, averaged=averaged)
        return found

    def answer(self, texts: Sequence[str], max_new_tokens: int, *, averaged: bool = False) -> list[list[int]]:
        found: list[list[int]] = self._together("answer", list(texts), max_new_tokens, averaged=averaged)
        return found

    def sample(self, prompt_ids: Sequence[Sequence[int]], max_new_tokens: int, seed: int) -> list[list[int]]:
        found: list[list[int]] = self._together("sample", prompt_ids, max_new_tokens, seed)
        return found

    # --- state -------------------------------------------------------------------------------------

    def reset(self, seed: int = 0, weights: Mapping[str, torch.Tensor] | None = None) -> None:
        self._state, self._start_of, self._since = None, (seed, weights), []
        self.micro_batch_tokens = self.config.micro_batch_tokens
        if self._link is not None and not self._link.closed:
            self._give_start()

    def state_dict(self) -> dict[str, Any]:
        if self._state is None or self._since or (self._link is not None and not self._link.closed):
            self._state, self._since = self._together("state_dict"), []
        return dict(self._state)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._state, self._since = state, []
        self.micro_batch_tokens = max(1, int(state["micro_batch_tokens"]))
        if self._link is not None and not self._link.closed:  # else at the next call
            self._give(state)

    def weights(self) -> Mapping[str, torch.Tensor]:
        found: Mapping[str, torch.Tensor] = self._together("weights")
        return found

    def load_weights(self, weights: Mapping[str, torch.Tensor]) -> None:
        self.load_state_dict({**self.state_dict(), "model": weights, "average": {}})

    def save(self, path: Path | str) -> None:
        """Save the whole student as one folder in Hugging Face form, adapters merged into the weights."""
        from read_env.distillation.loading import load_student

        one = self._all.models.model_copy(update={"gpus": 1, "device": "cpu", "offload_optimizer": False})
        student = load_student(self._all.model_copy(update={"models": one}), dtype=self.placement.weights)
        student.load_weights(self.weights())
        student.save(path)

    def close(self) -> None:
        """End the other ranks; the next call starts them again."""
        if self._link is not None:
            self._link.close()

    def _give(self, state: Mapping[str, Any]) -> None:
        link = self._link
        assert link is not None
        link.call("load_state_dict", (_outline(state),), {}, partial(ShardedStudent.load_state_dict, self, state))

    def _give_start(self) -> None:
        seed, weights = self._start_of
        link = self._link
        assert link is not None
        outline = None if weights is None else _outline(weights)
        link.call("reset", (seed, outline), {}, partial(ShardedStudent.reset, self, seed, weights))


def device_type(config: Config) -> str:
    """Type of the devices of the ranks, ``cuda`` or ``cpu``.

    Raises:
        ReadEnvError: there are fewer GPUs than ranks, or ``torchrun`` started another number of them.
    """
    ranks, asked, there = config.models.gpus, config.models.device, torch.cuda.device_count()
    started = int(os.environ.get("WORLD_SIZE", "1"))
    if under_torchrun() and started != ranks:
        raise ReadEnvError(
            f"models.gpus is {ranks}, and torchrun started {started} processes; right would be models.gpus {started}"
        )
    if asked == "cpu" or (asked == "auto" and not torch.cuda.is_available()):
        return "cpu"
    if there < ranks and not under_torchrun():
        raise ReadEnvError(
            f"models.gpus is {ranks}, and this machine has {there}; right would be at most that, or models.device cpu"
        )
    return "cuda"


def _outline(value: Any) -> Any:
    """Nested value without its tensors, for ranks that get these from rank 0 one by one."""
    if isinstance(value, torch.Tensor):
        return None
    if isinstance(value, Mapping):
        return {key: _outline(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_outline(item) for item in value]
    return value
