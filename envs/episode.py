"""History of an episode, for rendering and snapshots."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


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

    def to_state(self) -> dict[str, Any]:
        """Plain lists and numbers of the point."""
        return {**asdict(self), "allocation": list(self.allocation), "profile": list(self.profile)}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Point:
        """Point from the result of :meth:`to_state`."""
        return cls(state["spent"], tuple(state["allocation"]), tuple(state["profile"]), state["utility"])
