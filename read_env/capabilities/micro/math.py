"""math: sums with the running total written out, differences, and bills of two items whose prices are known by heart."""

from __future__ import annotations

import random
from functools import partial

from read_env.capabilities.base import Capability, Filling, Template
from read_env.capabilities.micro.facts import PRICES, Facts
from read_env.capabilities.micro.words import ITEMS, NAMES, addend, carries, filling


def _sum_of_three(facts: Facts, rng: random.Random) -> Filling:
    a, b, c = (addend(rng) for _ in range(3))
    ab = facts.plus(a, b, rng)
    slots = {"a": a, "b": b, "c": c, "ab": ab, "abc": facts.plus(ab, c, rng)}
    return filling(slots, size=a + b + c, carries=carries(a, b) + carries(a + b, c))


def _difference(facts: Facts, rng: random.Random) -> Filling:
    b, c = addend(rng), addend(rng)
    slots = {"a": b + c, "b": b, "c": facts.minus(b + c, b, rng), "item": rng.choice(ITEMS)}
    return filling(slots, size=b + c, carries=carries(b, c))


def _story(facts: Facts, rng: random.Random) -> Filling:
    a, b = addend(rng), addend(rng)
    slots = {"name": rng.choice(NAMES), "item": rng.choice(ITEMS), "a": a, "b": b, "ab": facts.plus(a, b, rng)}
    return filling(slots, size=a + b, carries=carries(a, b))


def _larger_sum(facts: Facts, rng: random.Random) -> Filling:
    a, b, c, d = (addend(rng) for _ in range(4))
    ab, cd = facts.plus(a, b, rng), facts.plus(c, d, rng)
    slots = {"a": a, "b": b, "c": c, "d": d, "ab": ab, "cd": cd, "top": max(ab, cd)}
    return filling(slots, size=max(a + b, c + d), carries=carries(a, b) + carries(c, d))


def bill(facts: Facts, rng: random.Random) -> Filling:
    """Two items, their prices and the sum of these."""
    x, y = rng.sample(ITEMS, 2)
    p, q = facts.price(x, rng), facts.price(y, rng)
    slots = {"x": x, "y": y, "p": p, "q": q, "pq": facts.plus(p, q, rng)}
    return filling(slots, size=PRICES[x] + PRICES[y], carries=carries(PRICES[x], PRICES[y]))


def math(facts: Facts) -> Capability:
    """The capability ``math``."""
    return Capability(
        "math",
        (
            Template(
                "sum", ("{a}+{b}+{c}", "add {a},{b},{c}"), "{a}+{b}={ab} then {ab}+{c}={abc} so {abc}",
                partial(_sum_of_three, facts),
            ),
            Template(
                "difference", ("{a}-{b} {item}", "take {b} from {a} {item}"), "{a}-{b}={c} so {c}",
                partial(_difference, facts),
            ),
            Template(
                "story", ("{name} has {a} {item}, gets {b}", "{a} {item} and {b} more"),
                "{a} {item} and {b}: {a}+{b}={ab} so {ab}", partial(_story, facts),
            ),
            Template(
                "larger", ("max {a}+{b},{c}+{d}",), "{a}+{b}={ab} and {c}+{d}={cd} so {top}",
                partial(_larger_sum, facts),
            ),
            Template(
                "bill", ("pay for {x} and {y}", "{x} with {y}, what to pay?"), "{x}={p} {y}={q} {p}+{q}={pq} so {pq}",
                partial(bill, facts),
            ),
        ),
    )  # fmt: skip
