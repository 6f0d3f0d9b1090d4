"""Action and observation space, and the parts of an action."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces

from read_env.distillation.examples.allocation import normalise_allocation
from read_env.errors import ReadEnvError

#: Stop entry of an action from which the episode ends.
STOP = 0.5


def spaces_of(size: int, may_stop: bool = False, observe_utility: bool = False) -> tuple[spaces.Box, spaces.Dict]:
    """Action and observation space for |C| = ``size`` capabilities.

    Args:
        size: |C|.
        may_stop: actions have a stop entry.
        observe_utility: observations have the key ``utility``.

    Example:
        >>> spaces_of(8)[0], spaces_of(8, may_stop=True)[0]
        (Box(0.0, 1.0, (8,), float32), Box(0.0, 1.0, (9,), float32))
    """
    shares = spaces.Box(0.0, 1.0, (size,), np.float32)
    observations: dict[str, spaces.Space[Any]] = {
        "requirement": shares,
        "profile": shares,
        "budget": spaces.Box(0.0, 1.0, (1,), np.float32),
        "last_allocation": shares,
        "last_gain": spaces.Box(-1.0, 1.0, (size,), np.float32),
    }
    if observe_utility:
        observations["utility"] = spaces.Box(0.0, 1.0, (1,), np.float32)
    actions = spaces.Box(0.0, 1.0, (size + 1,), np.float32) if may_stop else shares
    return actions, spaces.Dict(observations)


def parse_action(action: Any, size: int, may_stop: bool = False) -> tuple[np.ndarray, bool]:
    """Allocation of an action, (|C|,) float64 shares that sum to 1, and True if its stop entry ends the episode.

    Args:
        action: (|C|,) weights; with ``may_stop``, (|C| + 1,): the weights and the stop entry.
        size: |C|.
        may_stop: actions have a stop entry.

    Raises:
        ReadEnvError: another shape, or an entry that is negative or not finite.

    Example:
        >>> parse_action([3, 1, 0.2], size=2, may_stop=True)
        (array([0.75, 0.25]), False)
    """
    if not may_stop:
        return normalise_allocation(action, size), False
    try:
        entries = np.asarray(action, dtype=np.float64)
    except (TypeError, ValueError):
        raise ReadEnvError(f"allocation must be {size + 1} numbers, got {action!r}") from None
    if entries.shape != (size + 1,):
        raise ReadEnvError(
            f"allocation must have shape ({size + 1},), one weight per capability and the stop entry of budget.may_stop, "
            f"got shape {entries.shape}"
        )
    if not (np.isfinite(entries[-1]) and entries[-1] >= 0):
        raise ReadEnvError(f"allocation must end with a stop entry between 0 and 1, got {entries[-1]}")
    return normalise_allocation(entries[:-1], size), bool(entries[-1] >= STOP)
