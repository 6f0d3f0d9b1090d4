"""Callbacks: objects that follow a run without changing it, such as a display or TensorBoard curves."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any


class Callback:
    """Base class of callbacks; every method does nothing unless overridden."""

    def on_run_start(self, start: Mapping[str, Any], steps: Sequence[Mapping[str, Any]]) -> None:
        """Called once before the first step.

        Args:
            start: content of ``start.json``.
            steps: records of the steps made before an interruption; empty for a new run.
        """

    def on_step(self, record: Mapping[str, Any]) -> None:
        """Called after every step with its line of ``steps.jsonl``."""

    def on_run_end(self, summary: Mapping[str, Any]) -> None:
        """Called with the content of ``summary.json`` when the budget is spent."""

    def close(self) -> None:
        """Called last, also after an error."""


class Onlookers:
    """Callbacks, displays and curves of a run, which must not end it.

    One that raises an ``Exception`` is named in a warning and no longer called. ``KeyboardInterrupt``, ``SystemExit`` and
    other exceptions that aren't an ``Exception`` end the run.

    Args:
        onlookers: objects with the methods that are called.
    """

    def __init__(self, onlookers: Iterable[Any]) -> None:
        self._onlookers = list(onlookers)

    def call(self, method: str, *args: Any, **kwargs: Any) -> None:
        """Call a method of each."""
        for onlooker in list(self._onlookers):
            try:
                getattr(onlooker, method)(*args, **kwargs)
            except Exception as error:
                self._onlookers.remove(onlooker)
                if method != "close":
                    with suppress(Exception):
                        onlooker.close()
                reason = " ".join(str(error).split())
                warnings.warn(
                    f"{type(onlooker).__name__}.{method} failed ({type(error).__name__}: {reason}); the run goes on without it",
                    RuntimeWarning,
                    stacklevel=2,
                )
