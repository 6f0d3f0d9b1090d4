"""Word lists and small helpers shared by the micro capabilities."""

from __future__ import annotations

import random
from collections.abc import Mapping

from read_env.capabilities.base import Filling

#: Capitals occur nowhere else, so each is a name of its own for a model that reads characters.
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
NAMES = ("al", "bo", "ty", "ann", "tim", "ida", "max", "eva", "leo", "zoe", "kim", "ben", "sam", "lia", "pia", "tom")
ITEMS = (
    "fig pea kiwi plum lime corn rice bean nut egg ham jam pie tea milk salt "
    "cup pot pan jar lid box bag net rope pin nail ink pen mat rug sofa"
).split()
CITIES = (
    "oslo rome lima cairo paris delhi tokyo quito kyiv bern doha riga baku male suva apia dili lome nice bonn".split()
)


def digit(rng: random.Random, low: int = 2, high: int = 9) -> int:
    """A single digit."""
    return rng.randint(low, high)


def filling(slots: Mapping[str, object], **factors: float) -> Filling:
    """A :class:`Filling` with every slot turned into text.

    Example:
        >>> filling({"n": 3}, steps=2).slots
        {'n': '3'}
    """
    return Filling({name: str(value) for name, value in slots.items()}, factors)


def carries(a: int, b: int) -> int:
    """1 if the last digits of a and b carry when added, else 0.

    Example:
        >>> carries(17, 5), carries(12, 5)
        (1, 0)
    """
    return int(a % 10 + b % 10 >= 10)
