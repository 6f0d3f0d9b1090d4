"""prices: look up the price of an item in memory, with nothing but the price as the completion.

Four other capabilities contain such prices in the middle of longer completions.
"""

from __future__ import annotations

import random
from functools import partial

from read_env.capabilities.base import Capability, Filling, Template
from read_env.capabilities.micro.facts import FOOD, GOODS, Facts
from read_env.capabilities.micro.words import OPENERS, filling

_PATTERNS = (
    "{opener}{item}=", "{opener}price {item}=", "{opener}cost {item}=", "{opener}pay {item}=", "{opener}one {item}=",
    "{opener}a {item}=", "{opener}get {item}=", "{opener}this {item}=",
)  # fmt: skip


def _price(facts: Facts, items: tuple[str, ...], rng: random.Random) -> Filling:
    at = rng.randrange(len(items))
    opener = rng.choice(OPENERS)
    slots = {"opener": opener, "item": items[at], "price": facts.price(items[at], rng)}
    return filling(slots, rank=at / len(items), phrasing=len(opener))


def prices(facts: Facts) -> Capability:
    """The capability ``prices``."""
    return Capability(
        "prices",
        (
            Template("food", _PATTERNS, "{price}", partial(_price, facts, FOOD)),
            Template("goods", _PATTERNS, "{price}", partial(_price, facts, GOODS)),
        ),
    )
