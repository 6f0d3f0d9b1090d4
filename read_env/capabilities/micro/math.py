"""math: sums of single digits with the running total written out."""

from __future__ import annotations

import random

from read_env.capabilities.base import Capability, Filling, Template
from read_env.capabilities.micro.words import ITEMS, NAMES, carries, digit, filling


def _sum_of_three(rng: random.Random) -> Filling:
    a, b, c = (digit(rng) for _ in range(3))
    slots = {"a": a, "b": b, "c": c, "ab": a + b, "abc": a + b + c}
    return filling(slots, size=a + b + c, carries=carries(a, b) + carries(a + b, c))


def _difference(rng: random.Random) -> Filling:
    b, c = digit(rng), digit(rng)
    slots = {"a": b + c, "b": b, "c": c, "item": rng.choice(ITEMS)}
    return filling(slots, size=b + c, carries=carries(b, c))


def _story(rng: random.Random) -> Filling:
    a, b = digit(rng), digit(rng)
    slots = {"name": rng.choice(NAMES), "item": rng.choice(ITEMS), "a": a, "b": b, "ab": a + b}
    return filling(slots, size=a + b, carries=carries(a, b))


def _larger_sum(rng: random.Random) -> Filling:
    a, b, c, d = (digit(rng) for _ in range(4))
    slots = {"a": a, "b": b, "c": c, "d": d, "ab": a + b, "cd": c + d, "top": max(a + b, c + d)}
    return filling(slots, size=max(a + b, c + d), carries=carries(a, b) + carries(c, d))


MATH = Capability(
    "math",
    (
        Template("sum", ("{a}+{b}+{c}", "add {a},{b},{c}"), "{a}+{b}={ab}+{c}={abc} so {abc}", _sum_of_three),
        Template("difference", ("{a}-{b} {item}", "take {b} from {a} {item}"), "{a}-{b}={c} so {c}", _difference),
        Template(
            "story", ("{name} has {a} {item}, gets {b}", "{a} {item} and {b} more"), "{a}+{b}={ab} so {ab}", _story
        ),
        Template("larger", ("max {a}+{b},{c}+{d}",), "{a}+{b}={ab} {c}+{d}={cd} so {top}", _larger_sum),
    ),
)
