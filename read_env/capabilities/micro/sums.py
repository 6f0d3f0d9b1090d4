"""sums: add two numbers, with nothing but the sum as the completion.

Five other capabilities contain such sums in the middle of longer completions, so a token spent here can teach more about
them than a token spent on them.
"""

from __future__ import annotations

import random
from functools import partial

from read_env.capabilities.base import Capability, Filling, Template
from read_env.capabilities.micro.facts import Facts
from read_env.capabilities.micro.words import OPENERS, addend, carries, filling


def _sum(facts: Facts, rng: random.Random, terms: int) -> Filling:
    a, b = sum(addend(rng) for _ in range(terms)), addend(rng)
    slots = {"opener": rng.choice(OPENERS), "a": a, "b": b, "ab": facts.plus(a, b, rng)}
    return filling(slots, size=a + b, carries=carries(a, b))


def sums(facts: Facts) -> Capability:
    """The capability ``sums``."""
    patterns = ("{opener}{a}+{b}=", "{opener}sum {a}+{b}=")
    return Capability(
        "sums",
        (
            Template("two", patterns, "{ab}", partial(_sum, facts, terms=1)),
            Template("total", patterns, "{ab}", partial(_sum, facts, terms=2)),
        ),
    )
