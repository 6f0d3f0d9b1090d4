"""reasoning: follow links and comparisons that are given out of order, or whose terms have to be worked out."""

from __future__ import annotations

import random
from functools import partial

from read_env.capabilities.base import Capability, Filling, Template
from read_env.capabilities.micro.facts import PRICES, Facts
from read_env.capabilities.micro.words import ITEMS, LETTERS, NAMES, addend, carries, filling


def _chain(rng: random.Random) -> Filling:
    hops, strays = rng.randint(2, 3), rng.randint(1, 2)
    nodes = rng.sample(LETTERS, hops + 1 + 2 * strays)
    path, others = nodes[: hops + 1], nodes[hops + 1 :]
    links = [f"{a}>{b}" for a, b in zip(path, path[1:], strict=False)]
    links += [f"{a}>{b}" for a, b in zip(others[::2], others[1::2], strict=True)]
    rng.shuffle(links)
    slots = {"links": " ".join(links), "start": path[0], "walk": ">".join(path), "end": path[-1]}
    return filling(slots, hops=hops, facts=len(links), carries=0)


def _oldest(rng: random.Random) -> Filling:
    people = rng.sample(LETTERS, rng.randint(3, 4))
    pairs = [f"{a} over {b}" for a, b in zip(people, people[1:], strict=False)]
    rng.shuffle(pairs)
    slots = {"pairs": ", ".join(pairs), "walk": ">".join(people), "first": people[0]}
    return filling(slots, hops=len(people) - 1, facts=len(pairs), carries=0)


def _amounts(facts: Facts, rng: random.Random) -> Filling:
    x, y = rng.sample(NAMES, 2)
    a, b = addend(rng), addend(rng)
    slots = {"x": x, "y": y, "a": a, "b": b, "ab": facts.plus(a, b, rng), "item": rng.choice(ITEMS)}
    return filling(slots, hops=1, facts=2, carries=carries(a, b))


def _dearer(facts: Facts, rng: random.Random) -> Filling:
    x, y = rng.sample(NAMES, 2)
    a, b = rng.sample(ITEMS, 2)
    while PRICES[a] == PRICES[b]:
        b = rng.choice(ITEMS)
    p, q = facts.price(a, rng), facts.price(b, rng)
    slots = {"x": x, "y": y, "a": a, "b": b, "p": p, "q": q, "out": x if p > q else y}
    return filling(slots, hops=1, facts=2, carries=0)


def reasoning(facts: Facts) -> Capability:
    """The capability ``reasoning``."""
    return Capability(
        "reasoning",
        (
            Template("chain", ("{links}; from {start}?",), "{walk} so {end}", _chain),
            Template("oldest", ("{pairs}; top?",), "{walk} so {first}", _oldest),
            Template(
                "amounts", ("{x} has {a} {item}, {y} {b} more; {y}?",), "{x} {a} {y} {a}+{b}={ab} so {ab}",
                partial(_amounts, facts),
            ),
            Template(
                "dearer", ("{x} buys {a}, {y} {b}; who pays more?",), "{a}={p} {b}={q} so {out}",
                partial(_dearer, facts),
            ),
        ),
    )  # fmt: skip
