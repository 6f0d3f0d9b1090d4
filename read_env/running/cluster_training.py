"""Training as one task of a Ray cluster, whose records come to the directory of this machine."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

from rich.console import Console

from read_env.running.agents import TRAINING_RECORD
from read_env.running.pool import Ended, Report, map_jobs
from read_env.running.requests import TrainingRequest
from read_env.running.training import TrainingResult, train
from read_env.running.worker import EnvFactory


def train_on_cluster(
    request: TrainingRequest, console: Console, env_factory: EnvFactory, checkpoint_share: float
) -> TrainingResult:
    """Train on a node of ``request.cluster``; arguments and errors as in :func:`read_env.running.training.train`."""
    here = replace(request, cluster="")
    if not request.overwrite and (request.directory / TRAINING_RECORD).exists():
        return train(here, console)

    def report(name: str, event: Any) -> None:
        if isinstance(event, Ended):
            event.value(name)
        else:
            console.print(event, highlight=False, soft_wrap=True)

    work = partial(_train_reporting, env_factory=env_factory, checkpoint_share=checkpoint_share)
    map_jobs(work, {request.directory.name: request}, report, cluster=request.cluster)
    return replace(train(replace(here, overwrite=False), console), already_finished=False)


def _train_reporting(
    request: TrainingRequest, report: Report, *, env_factory: EnvFactory, checkpoint_share: float
) -> None:
    """Job of a node: a training whose console reports the lines."""
    train(request, _Reporting(report), env_factory=env_factory, checkpoint_share=checkpoint_share)


class _Reporting(Console):
    """Console that reports the lines in place of printing them."""

    def __init__(self, report: Report) -> None:
        super().__init__(quiet=True)
        self._report = report

    def print(self, *texts: Any, **style: Any) -> None:
        self._report(" ".join(map(str, texts)))
