"""Weights of starting students with a past: made at first use, and kept on disk."""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import filelock
import numpy as np
import torch

import read_env
from read_env.capabilities import own_files
from read_env.capabilities.sources import source_digest
from read_env.distillation.models.sources import find_model
from read_env.distillation.models.weights import weights_identity
from read_env.distillation.starts import EVEN, Past
from read_env.distillation.teachers.routing import align_each
from read_env.files import whole_file
from read_env.settings import Config

if TYPE_CHECKING:
    from read_env.distillation.process import Distillation

_LOG = logging.getLogger(__name__)

#: Completion tokens per step of a past.
_STEP = 8_000


def weights_of(
    past: Past, distillation: Distillation, refused: frozenset[int] = frozenset()
) -> Mapping[str, torch.Tensor]:
    """Trained weights of the student after a past, read from disk or made; the state of ``distillation`` is undefined then.

    A folder that can't be read or written costs a warning: each process then makes the weights.

    Args:
        past: the recipe.
        distillation: owner of student and teacher, before a reset.
        refused: normalised hashes of prompts of a user's task, which the past does not train on either.
    """
    config = _config_of(past, distillation.config)
    folder, identity = distillation.config.cache.folder, _identity(config, distillation)
    identity += [sorted(refused)] if refused else []
    path = folder / "students" / f"{past.digest(identity)}.safetensors" if folder else None
    if path is None:
        return _made(past, config, distillation, refused)
    if (kept := _read(path)) is not None:
        return kept
    with _alone(path):
        kept = _read(path)  # made by the process that this one waited for
        if kept is None:
            kept = _made(past, config, distillation, refused)
            _keep(path, kept)
    return kept


def _read(path: Path) -> Mapping[str, torch.Tensor] | None:
    """Weights on disk; None if there are none that can be read. A damaged file is deleted."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        weights: Mapping[str, torch.Tensor] | None = load_file(path) if path.exists() else None
        return weights
    except SafetensorError as error:
        _LOG.warning("the starting student in %s is damaged and is made again: %s", path, error)
        with contextlib.suppress(OSError):
            path.unlink()
    except OSError as error:
        _LOG.warning("the starting student in %s can't be read and is made again: %s", path, error)
    return None


def _keep(path: Path, weights: Mapping[str, torch.Tensor]) -> None:
    """Write weights; a failure is a warning, since they took minutes to make."""
    from safetensors.torch import save

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path, shared=True) as file:
            file.write(save(dict(weights)))
    except OSError as error:
        _LOG.warning("a starting student is not kept on disk (%s): %s", path.parent, error)


def _made(
    past: Past, config: Config, distillation: Distillation, refused: frozenset[int]
) -> Mapping[str, torch.Tensor]:
    """Trained weights after the distillation of a past."""
    _LOG.info("making a starting student: %s tokens on %s", f"{past.tokens:,}", dict(past.shares))
    student, cut = distillation.student, config.distill.max_completion_tokens
    alignment = align_each(distillation.cache.teachers, student.encoder, config.distill.loss, cut)
    allocation = np.array([past.shares.get(name, 0.0) for name in distillation.suite.names])
    with student.configured(config.distill):
        run = type(distillation)(config, student, distillation.cache, alignment, past=True, refused=refused)
        while not run.exhausted:
            run.step(allocation)
        weights: Mapping[str, torch.Tensor] = student.state_dict()["model"]
    return weights


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Make one file in one process at a time: the others wait, and find it there.

    Without locks on the file system, or without the folder, each process makes the file.
    """
    lock = filelock.FileLock(path.with_suffix(".lock"), fallback_to_soft=False)
    with contextlib.suppress(OSError, NotImplementedError):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _config_of(past: Past, config: Config) -> Config:
    """Configuration of the distillation before the episode: the run's, on the teacher's text, with few probes."""
    return config.model_copy(
        update={
            "seed": past.seed,
            "models": config.models.model_copy(update={"start": EVEN}),
            "budget": config.budget.model_copy(
                update={"total_tokens": past.tokens, "step_tokens": min(past.tokens, _STEP)}
            ),
            "distill": config.distill.model_copy(update={"loss": "sft"}),
            "eval": config.eval.model_copy(update={"probes": 1, "score": "token-likelihood"}),
        }
    )


def _identity(config: Config, distillation: Distillation) -> list[object]:
    """Everything that the weights depend on beside the past."""
    student, models, memory = distillation.student, config.models, config.cache.digests
    source = find_model(models.student)
    adapters = models.model_dump(mode="json", include={"student_layers", "lora_r", "lora_alpha", "lora_target_modules"})
    return [
        read_env.__version__,
        weights_identity(source, student.model, student.placement, memory, code=models.trust_remote_code),
        distillation.cache.teachers.identity,
        list(distillation.suite.names),
        {name: source_digest(source) for name, source in own_files(config.suite).items()},
        config.suite.partition(",")[0].partition("=")[0],
        [source_digest(source) for source in config.decontamination_files],
        json.loads(config.distill.model_dump_json()),
        adapters,
    ]
