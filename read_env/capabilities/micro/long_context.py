"""long_context: find one statement among many, or any few of them."""

from __future__ import annotations

import itertools
import random

from read_env.capabilities.base import Capability, Filling, Template
from read_env.capabilities.micro.words import LETTERS, filling

_CODE = "bcdfghjklmnpqrstvwxz"


def _notes(rng: random.Random) -> Filling:
    n = rng.randint(3, 7)
    asked = rng.randint(1, 3)
    keys = rng.sample(LETTERS, n)
    codes = ["".join(rng.choices(_CODE, k=2)) for _ in keys]
    at = rng.sample(range(n), asked)
    slots = {
        "context": " ".join(f"{key}{code}" for key, code in zip(keys, codes, strict=True)),
        "asked": ",".join(keys[i] for i in at),
        "steps": " ".join(f"{keys[i]}{codes[i]}" for i in at),
        "out": ",".join(codes[i] for i in at),
    }
    return filling(slots, facts=n, distance=n - min(at), asked=asked)


def _link(rng: random.Random) -> Filling:
    n = rng.randint(3, 7)
    nodes = rng.sample(LETTERS, 2 * n)
    asked = rng.randint(1, 2)
    at = rng.sample(range(n), asked)
    links = [f"{a}>{b}" for a, b in zip(nodes[::2], nodes[1::2], strict=True)]
    slots = {
        "links": " ".join(links),
        "asked": ",".join(nodes[2 * i] for i in at),
        "steps": " ".join(links[i] for i in at),
        "out": ",".join(nodes[2 * i + 1] for i in at),
    }
    return filling(slots, facts=n, distance=n - min(at), asked=asked)


def _copy(rng: random.Random) -> Filling:
    n = rng.randint(3, 6)
    codes = ["".join(rng.choices(_CODE, k=2)) for _ in range(n)]
    at = rng.randrange(1, n)
    slots = {"context": " ".join(codes), "first": codes[at], "out": " ".join(codes[at:])}
    return filling(slots, facts=n, distance=n - at, asked=n - at)


def _some_keys(rng: random.Random) -> Filling:
    n, count = rng.randint(5, 6), rng.randint(2, 3)
    keys = rng.sample(LETTERS, n)
    context = " ".join(key + "".join(rng.choices(_CODE, k=2)) for key in keys)
    return _some(context, n, count, ["".join(chosen) for chosen in itertools.permutations(keys, count)], rng)


def _some_starts(rng: random.Random) -> Filling:
    n, count = rng.randint(4, 6), rng.randint(2, 3)
    nodes = rng.sample(LETTERS, 2 * n)
    context = " ".join(f"{a}>{b}" for a, b in zip(nodes[::2], nodes[1::2], strict=True))
    return _some(context, n, count, ["".join(chosen) for chosen in itertools.permutations(nodes[::2], count)], rng)


def _some_notes(rng: random.Random) -> Filling:
    n, count = rng.randint(5, 7), 2
    notes = [key + "".join(rng.choices(_CODE, k=2)) for key in rng.sample(LETTERS, n)]
    return _some(" ".join(notes), n, count, [" ".join(chosen) for chosen in itertools.permutations(notes, count)], rng)


def _some(context: str, n: int, count: int, outs: list[str], rng: random.Random) -> Filling:
    slots = {"context": context, "count": count, "out": rng.choice(outs)}
    return filling(slots, outs, facts=n, distance=0, asked=count)


LONG_CONTEXT = Capability(
    "long_context",
    (
        Template("notes", ("{context}; {asked}?",), "{steps} so {out}", _notes),
        Template("link", ("{links}; from {asked}?",), "{steps} so {out}", _link),
        Template("copy", ("{context}; on from {first}?",), "from {out}", _copy),
        Template("some_keys", ("{context}; any {count} keys?",), "{out}", _some_keys),
        Template("some_starts", ("{context}; any {count} starts?",), "{out}", _some_starts),
        Template("some_notes", ("{context}; any {count} notes?",), "{out}", _some_notes),
    ),
)
