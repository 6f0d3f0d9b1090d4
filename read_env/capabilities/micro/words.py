"""Word lists and small helpers shared by the micro capabilities."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

from read_env.capabilities.base import COMPLETIONS, Filling
from read_env.capabilities.micro.facts import FOOD, GOODS

#: Capitals occur nowhere else, so each is a name of its own for a model that reads characters.
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
NAMES = ("al", "bo", "ty", "ann", "tim", "ida", "max", "eva", "leo", "zoe", "kim", "ben", "sam", "lia", "pia", "tom")
ITEMS = (*FOOD, *GOODS)
#: Words before a question, so that one fact is asked in many prompts.
OPENERS = ("", "hey, ", "now: ", "quick: ", "ok, ", "tell me, ", "q: ", "say, ", "and ", "so, ", "hm, ", "please, ")
SEPARATORS = ("-", ".", "/", "_")
CITIES = (
    "oslo rome lima cairo paris delhi tokyo quito kyiv bern doha riga baku male suva apia dili lome nice bonn".split()
)


def digit(rng: random.Random, low: int = 2, high: int = 9) -> int:
    """A single digit."""
    return rng.randint(low, high)


def addend(rng: random.Random) -> int:
    """A number to add, 2 to 12."""
    return rng.randint(2, 12)


def filling(slots: Mapping[str, object], completions: Sequence[str] = (), **factors: float) -> Filling:
    """A :class:`Filling` with every slot turned into text.

    Args:
        slots: values of the slots.
        completions: all right completions, where there are several.
        factors: control factors of the difficulty.

    Example:
        >>> filling({"n": 3}, steps=2).slots
        {'n': '3'}
    """
    check = {COMPLETIONS: list(completions)} if completions else {}
    return Filling({name: str(value) for name, value in slots.items()}, factors, check)


def carries(a: int, b: int) -> int:
    """1 if the last digits of a and b carry when added, else 0.

    Example:
        >>> carries(17, 5), carries(12, 5)
        (1, 0)
    """
    return int(a % 10 + b % 10 >= 10)
