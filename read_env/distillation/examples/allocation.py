"""Allocation weights realised in whole examples: deterministic quotas that carry their remainder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from read_env.errors import ReadEnvError


def normalise_allocation(weights: Sequence[float] | np.ndarray, size: int) -> np.ndarray:
    """Scale weights onto the simplex; all zeros mean the uniform allocation.

    Args:
        weights: (|C|,) non-negative weights.
        size: |C|.

    Returns:
        (|C|,) float64 shares that sum to 1.

    Raises:
        ReadEnvError: wrong length, negative or not finite; the message shows the weights.

    Example:
        >>> normalise_allocation([3, 1], size=2).tolist()
        [0.75, 0.25]
        >>> normalise_allocation([0, 0], size=2).tolist()
        [0.5, 0.5]
    """
    try:
        array = np.asarray(weights, dtype=np.float64)
    except (TypeError, ValueError):
        raise ReadEnvError(f"allocation must be {size} numbers, got {weights!r}") from None
    if array.shape == (size,):
        values = array.tolist()  # for a few numbers, Python's max and min are faster than numpy's
        if (largest := max(values)) == 0 and not array.any():
            return np.full(size, 1 / size)
        if 0 < largest < np.inf and min(values) >= 0:
            shares = array / largest  # the sum of large weights may overflow
            total = np.add.reduce(shares)  # the sum of shares.sum(), sooner
            if total < np.inf:  # not so with a NaN, which max and min may have passed over
                return shares / total
    raise ReadEnvError(_refused(array, size))


def _refused(array: np.ndarray, size: int) -> str:
    """Reason for which weights are no allocation."""
    shown = np.array2string(array, precision=4, threshold=32)
    if array.shape != (size,):
        return f"allocation must have shape ({size},), one weight per capability, got shape {array.shape}: {shown}"
    if not np.isfinite(array).all():
        return f"allocation weights must be finite, got {shown}"
    return f"allocation weights must not be negative, got {shown}"


class Quotas:
    """Completion tokens that each capability is still owed.

    The difference between a step's tokens and its whole examples is carried to the next step, so the tokens of a
    capability never stray from its shares by more than about one completion.

    Args:
        size: |C|.

    Attributes:
        owed: (|C|,) float64 completion tokens; negative after an example that was longer than its quota.

    Example:
        >>> quotas = Quotas(2)
        >>> quotas.grant(np.array([0.75, 0.25]), tokens=100)
        >>> quotas.choose(np.array([True, True]), next_lengths=[40, 40], fill=False)
        0
    """

    def __init__(self, size: int) -> None:
        self.owed = np.zeros(size)

    def grant(self, shares: np.ndarray, tokens: int) -> None:
        """Add the tokens of a step in (|C|,) shares that sum to 1."""
        self.owed += shares * tokens

    def choose(self, eligible: np.ndarray, next_lengths: Sequence[int], *, fill: bool) -> int | None:
        """Capability index of the next example, or None when every quota is met.

        Args:
            eligible: (|C|,) bool, capabilities that may still take examples in this step.
            next_lengths: (|C|,) tokens of the next completion of each eligible capability.
            fill: take examples even when quotas are met (the last step spends what fits).
        """
        # Half a completion keeps the error centred on zero. Called per example, where lists are faster than arrays.
        owed = self.owed.tolist()
        unmet = [c for c, tokens in enumerate(owed) if eligible[c] and (fill or tokens >= next_lengths[c] / 2)]
        return max(unmet, key=owed.__getitem__, default=None)

    def take(self, capability: int, tokens: int) -> None:
        """Book an example of that many completion tokens."""
        self.owed[capability] -= tokens

    def state_dict(self) -> dict[str, list[float]]:
        """Owed tokens as plain numbers."""
        return {"owed": self.owed.tolist()}

    def load_state_dict(self, state: Mapping[str, list[float]]) -> None:
        """Restore a ``state_dict``."""
        owed = np.array(state["owed"], dtype=np.float64)
        if owed.shape != self.owed.shape:
            raise ValueError(f"owed has shape {owed.shape}, not {self.owed.shape}")
        self.owed = owed
