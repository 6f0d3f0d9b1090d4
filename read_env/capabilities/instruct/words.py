"""Word lists and small helpers shared by the instruct capabilities."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

from read_env.capabilities.base import Filling

NAMES = (
    "Ada Amir Anna Ben Carla Chloe Dana David Elena Emil Farah Felix Grace Hugo Ida Ivan Jonas Julia Karim Lena "
    "Leo Lucia Marta Maya Milan Nadia Noah Nora Omar Oscar Paula Petra Rosa Samir Sofia Tara Theo Vera Viktor Zoe"
).split()
CITIES = (
    "Amsterdam Athens Barcelona Berlin Boston Cairo Chicago Dublin Hamburg Helsinki Istanbul Kyoto Lagos Lima Lisbon "
    "London Madrid Melbourne Milan Montreal Mumbai Munich Nairobi Oslo Paris Porto Prague Rome Seattle Seoul Stockholm "
    "Sydney Tokyo Toronto Vienna Warsaw Zurich"
).split()
#: Things that are counted and sold, plural.
ITEMS = (
    "apples badges balloons baskets books bottles bowls boxes brushes buttons candles cups envelopes erasers folders "
    "glasses jars lamps lemons magnets markers mugs notebooks oranges pencils pens plates postcards puzzles ribbons "
    "scarves spoons stamps stickers tickets towels toys vases"
).split()
COLOURS = "red blue green yellow orange purple white black brown pink grey golden silver".split()
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")

_ENDINGS = (
    'End with a line "Answer: " followed by {what}.',
    'Give {what} on the last line, in the form "Answer: ...".',
    'Finish with "Answer:" and then {what}, nothing else.',
    'Explain briefly, then write "Answer:" and {what}.',
    'Put {what} after "Answer:" on the last line.',
)


def ending(rng: random.Random, what: str = "the number") -> str:
    """A sentence that asks for a last line ``Answer: ...``.

    Example:
        >>> ending(random.Random(0), "the name")
        'Explain briefly, then write "Answer:" and the name.'
    """
    return rng.choice(_ENDINGS).format(what=what)


def filling(slots: Mapping[str, object], check: Mapping[str, Any], **factors: float) -> Filling:
    """A :class:`Filling` with every slot turned into text.

    Example:
        >>> filling({"n": 3}, {"number": 3}, steps=2)
        Filling(slots={'n': '3'}, factors={'steps': 2}, check={'number': 3})
    """
    return Filling({name: str(value) for name, value in slots.items()}, factors, check)


def an(noun: str) -> str:
    """The noun with ``a`` or ``an`` before it.

    Example:
        >>> an("apple"), an("pear")
        ('an apple', 'a pear')
    """
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def listing(words: list[str], conjunction: str = "and") -> str:
    """Join words with commas and a conjunction.

    Example:
        >>> listing(["tea", "milk", "bread"])
        'tea, milk and bread'
    """
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} {conjunction} {words[-1]}"


def ordinal(n: int) -> str:
    """Ordinal number in digits.

    Example:
        >>> [ordinal(n) for n in (1, 2, 3, 11, 22)]
        ['1st', '2nd', '3rd', '11th', '22nd']
    """
    suffix = "th" if 10 <= n % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(n % 10, "th")
    return f"{n}{suffix}"
