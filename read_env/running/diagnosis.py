"""Warnings of a run about itself, one for each kind of problem."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from read_env.diagnosis import diagnose
from read_env.running.callbacks import Callback

_LOG = logging.getLogger(__name__)


class DiagnosisCallback(Callback):
    """Warns once of each problem that the records show, when it shows.

    Args:
        title: name of the run in the warnings.
        config: content of ``config.json``.
    """

    def __init__(self, title: str, config: Mapping[str, Any]) -> None:
        self._title, self._config = title, config
        self._told: set[str] = set()

    def on_run_start(self, start: Mapping[str, Any], steps: Sequence[Mapping[str, Any]]) -> None:
        self._start, self._steps = start, list(steps)
        if steps:  # the interrupted call has told
            self._told = set(diagnose(start, steps, self._config))
        self._tell()

    def on_step(self, record: Mapping[str, Any]) -> None:
        self._steps.append(record)
        self._tell()

    def on_run_end(self, summary: Mapping[str, Any]) -> None:
        self._tell(finished=True)

    def _tell(self, finished: bool = False) -> None:
        for kind, text in diagnose(self._start, self._steps, self._config, finished=finished).items():
            if kind not in self._told:
                self._told.add(kind)
                _LOG.warning("%s: %s", self._title, text)
