"""Difficulty curriculum: from easy to hard with progress through the budget."""

from __future__ import annotations

from typing import Literal

import numpy as np

_START = np.array([0.6, 0.3, 0.1])
_UNIFORM = np.full(3, 1 / 3)


def tertile_shares(progress: float, curriculum: Literal["easy-to-hard", "uniform"]) -> np.ndarray:
    """(3,) shares of easy, medium and hard prompts at a progress in [0, 1] through B.

    Example:
        >>> tertile_shares(0.5, "easy-to-hard").round(2).tolist()
        [0.35, 0.3, 0.35]
    """
    if curriculum == "uniform":
        return _UNIFORM
    return (1 - progress) * _START + progress * _START[::-1]


def tertile_of(n: int, shares: np.ndarray) -> int:
    """Tertile (0 easy, 1 medium, 2 hard) of a capability's n-th example.

    The van der Corput sequence spreads the tertiles evenly: any run of consecutive examples has nearly the given
    (3,) shares, without randomness or state.

    Example:
        >>> [tertile_of(n, np.array([0.5, 0.25, 0.25])) for n in range(4)]
        [0, 1, 0, 2]
    """
    easy, medium, _ = shares.tolist()
    place = _van_der_corput(n)
    return (place >= easy) + (place >= easy + medium)


def _van_der_corput(n: int) -> float:
    value, step = 0.0, 0.5
    while n:
        value += step * (n & 1)
        n >>= 1
        step /= 2
    return value
