"""From allocation weights to whole examples: deterministic quotas that carry their remainder."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from read_env.errors import ReadEnvError


def normalise_allocation(weights: Sequence[float] | np.ndarray, size: int) -> np.ndarray:
    """Weights scaled onto the simplex.

    Args:
        weights: (|C|,) non-negative weights, not all zero.
        size: |C|.

    Returns:
        (|C|,) float64 shares that sum to 1.

    Raises:
        ReadEnvError: wrong length, negative, not finite, or all zero; the message shows the weights.
    """
    try:
        array = np.asarray(weights, dtype=np.float64)
    except (TypeError, ValueError):
        raise ReadEnvError(f"allocation must be {size} numbers, got {weights!r}") from None
    shown = np.array2string(array, precision=4, threshold=32)
    if array.shape != (size,):
        raise ReadEnvError(
            f"allocation must have shape ({size},), one weight a capability, got shape {array.shape}: {shown}"
        )
    if not np.isfinite(array).all():
        raise ReadEnvError(f"allocation weights must be finite, got {shown}")
    if (array < 0).any():
        raise ReadEnvError(f"allocation weights must not be negative, got {shown}")
    if not array.any():
        raise ReadEnvError(f"allocation weights must not all be zero, got {shown}")
    array = array / array.max()  # the sum of large weights may overflow
    return array / array.sum()


class Quotas:
    """Completion tokens that each capability is still owed.

    What a step could not give in whole examples, or gave too much, is carried to the next one, so
    the tokens of a capability never stray from its shares by more than about one completion.
    """

    def __init__(self, size: int) -> None:
        self.owed = np.zeros(size)

    def grant(self, shares: np.ndarray, tokens: int) -> None:
        """Adds a step's tokens in the given shares."""
        self.owed += shares * tokens

    def choose(self, open_: np.ndarray, next_lengths: Sequence[int], *, fill: bool) -> int | None:
        """The capability that takes the next example, or None when every quota is met.

        Args:
            open_: (|C|,) which capabilities may still take examples in this step.
            next_lengths: (|C|,) tokens of the next completion of each open capability.
            fill: take examples even when quotas are met (the last step spends what fits).
        """
        # Half a completion: the error stays centred on zero.
        # Plain numbers: this is asked for every example, and arrays of eight cost more than they save.
        owed = self.owed.tolist()
        unmet = [c for c, one in enumerate(owed) if open_[c] and (fill or one >= next_lengths[c] / 2)]
        return max(unmet, key=owed.__getitem__, default=None)

    def take(self, capability: int, tokens: int) -> None:
        """Books an example."""
        self.owed[capability] -= tokens
