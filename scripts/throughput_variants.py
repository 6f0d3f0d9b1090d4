"""Variants that scripts/benchmark_throughput.py compares, by row of the table, and the result of a pass."""

from __future__ import annotations

from dataclasses import dataclass

COLD, WARM = "this engine, cold", "this engine, warm"
SHUFFLED, GROUPED = "TRL GKD, shuffled", "TRL GKD, length-grouped"
GIVEN = "TRL DistillationTrainer, completions given"
VARIANTS = (COLD, WARM, SHUFFLED, GROUPED, GIVEN)


@dataclass(frozen=True)
class Run:
    """One pass over the examples.

    Attributes:
        seconds: set-up excluded.
        tokens: prompt and completion tokens that were trained on.
        updates: optimizer steps.
        losses: of every batch, nats per completion token of its step, where requested.
    """

    seconds: float
    tokens: int
    updates: int
    losses: tuple[float, ...] = ()

    @property
    def speed(self) -> float:
        """Trained tokens per second."""
        return self.tokens / self.seconds
