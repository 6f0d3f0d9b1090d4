"""History of an episode, for rendering and snapshots."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Point:
    """State after one step, or at the start.

    Attributes:
        spent: completion tokens of the budget spent so far.
        allocation: |C| shares of the step; zeros at the start.
        profile: |C| scores after it.
        utility: U_τ after it.
    """

    spent: int
    allocation: tuple[float, ...]
    profile: tuple[float, ...]
    utility: float
