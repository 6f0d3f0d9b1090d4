"""Callbacks: objects that follow a run without changing it, such as a display or TensorBoard curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
