"""code: predict what a short program prints, tracing it first."""

from __future__ import annotations

import random
from functools import partial

from read_env.capabilities.base import Capability, Filling, Template
from read_env.capabilities.micro.facts import Facts
from read_env.capabilities.micro.words import addend, carries, digit, filling

_VARIABLES = "abcdnstwxyz"
_LETTERS = "bcdfgklmnprst"


def _assign(facts: Facts, rng: random.Random) -> Filling:
    x, y = rng.sample(_VARIABLES, 2)
    a, b = addend(rng), addend(rng)
    slots = {"x": x, "y": y, "a": a, "b": b, "ab": facts.plus(a, b, rng)}
    return filling(slots, steps=1, size=a + b, carries=carries(a, b))


def _print_sum(facts: Facts, rng: random.Random) -> Filling:
    a, b, c = (addend(rng) for _ in range(3))
    ab = facts.plus(a, b, rng)
    slots = {"a": a, "b": b, "c": c, "ab": ab, "abc": facts.plus(ab, c, rng)}
    return filling(slots, steps=2, size=a + b + c, carries=carries(a, b) + carries(a + b, c))


def _index(rng: random.Random) -> Filling:
    values = [digit(rng) for _ in range(rng.randint(3, 5))]
    at = rng.randrange(len(values))
    walk = " ".join(f"{i}:{v}" for i, v in enumerate(values[: at + 1]))
    slots = {"list": ",".join(map(str, values)), "at": at, "walk": walk, "value": values[at]}
    return filling(slots, steps=at, size=len(values), carries=0)


def _repeat(rng: random.Random) -> Filling:
    text = "".join(rng.sample(_LETTERS, 2))
    times = rng.randint(2, 4)
    slots = {"text": text, "times": times, "steps": " ".join([text] * times), "out": text * times}
    return filling(slots, steps=times - 2, size=2 * times, carries=0)


def code(facts: Facts) -> Capability:
    """The capability ``code``."""
    return Capability(
        "code",
        (
            Template(
                "assign", ("{x}={a};{y}={x}+{b};print({y})", "{x}={a};print({x}+{b})"),
                "{x} is {a}: {a}+{b}={ab} so {ab}", partial(_assign, facts),
            ),
            Template(
                "print_sum", ("print({a}+{b}+{c})", "x={a}+{b}+{c};print(x)"),
                "{a}+{b}={ab} then {ab}+{c}={abc} so {abc}", partial(_print_sum, facts),
            ),
            Template("index", ("v=[{list}];print(v[{at}])",), "{walk} so {value}", _index),
            Template("repeat", ("print('{text}'*{times})",), "{steps} so {out}", _repeat),
        ),
    )  # fmt: skip
