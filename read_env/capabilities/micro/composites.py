"""Prompts that need two or three capabilities of the micro suite at once.

No capability of the suite draws them, so no run trains on them. The embedded models have seen them: the teacher solves them,
the student knows their formats.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from functools import partial

from read_env.capabilities.base import Capability, Filling, Template
from read_env.capabilities.micro.facts import PRICES, Facts
from read_env.capabilities.micro.general_knowledge import CAPITALS
from read_env.capabilities.micro.multilingual import LANGUAGES, NUMBERS
from read_env.capabilities.micro.tool_use import DAYS
from read_env.capabilities.micro.words import ITEMS, LETTERS, OPENERS, SEPARATORS, addend, digit, filling

_VARIABLES = "abcdnstwxyz"


def _capital(facts: Facts, rng: random.Random) -> dict[str, object]:
    at = rng.randrange(len(CAPITALS))
    return {"opener": rng.choice(OPENERS), "country": CAPITALS[at][0], "capital": facts.answer(CAPITALS, at, rng)}


def _capital_flight(facts: Facts, rng: random.Random) -> Filling:
    a, b = addend(rng), addend(rng)
    return filling({**_capital(facts, rng), "a": a, "b": b, "ab": facts.plus(a, b, rng)}, size=a + b)


def _capital_weather(facts: Facts, rng: random.Random) -> Filling:
    day = rng.choice(DAYS)
    return filling({**_capital(facts, rng), "day": day, "d": day[:3]})


def _capital_spelt(facts: Facts, rng: random.Random) -> Filling:
    slots, mark = _capital(facts, rng), rng.choice(SEPARATORS)
    return filling({**slots, "mark": mark, "out": mark.join(str(slots["capital"]))})


def _bill_abroad(facts: Facts, rng: random.Random) -> Filling:
    at, (x, y) = rng.randrange(3), rng.sample(ITEMS, 2)
    while PRICES[x] + PRICES[y] >= len(NUMBERS[at]):
        x, y = rng.sample(ITEMS, 2)
    p, q = facts.price(x, rng), facts.price(y, rng)
    pq = facts.plus(p, q, rng)
    out = facts.word(NUMBERS[at], pq, rng)
    return filling({"lang": LANGUAGES[at], "x": x, "y": y, "p": p, "q": q, "pq": pq, "out": out})


def _script_abroad(facts: Facts, rng: random.Random) -> Filling:
    at, a, b = rng.randrange(3), digit(rng), digit(rng)
    ab = facts.plus(a, b, rng)
    slots = {"lang": LANGUAGES[at], "x": rng.choice(_VARIABLES), "a": a, "b": b, "ab": ab}
    return filling({**slots, "out": facts.word(NUMBERS[at], ab, rng)})


def _notes_added(facts: Facts, rng: random.Random) -> Filling:
    keys = rng.sample(LETTERS, rng.randint(3, 5))
    values = [addend(rng) for _ in keys]
    i, j = rng.sample(range(len(keys)), 2)
    a, b = values[i], values[j]
    context = " ".join(f"{key}{value}" for key, value in zip(keys, values, strict=True))
    slots = {"context": context, "k": keys[i], "l": keys[j], "a": a, "b": b, "ab": facts.plus(a, b, rng)}
    return filling(slots, facts=len(keys))


def _chain_to_price(facts: Facts, rng: random.Random) -> Filling:
    a, b, c, d = rng.sample(LETTERS, 4)
    x, y = rng.sample(ITEMS, 2)
    links = [f"{a}>{b}", f"{b}>{x}", f"{c}>{d}", f"{d}>{y}"]
    rng.shuffle(links)
    return filling({"links": " ".join(links), "a": a, "b": b, "x": x, "price": facts.price(x, rng)})


def _dearer_repeated(facts: Facts, rng: random.Random) -> Filling:
    (x, y), mark = rng.sample(ITEMS, 2), rng.choice(SEPARATORS)
    while PRICES[x] == PRICES[y]:
        y = rng.choice(ITEMS)
    p, q = facts.price(x, rng), facts.price(y, rng)
    return filling({"x": x, "y": y, "p": p, "q": q, "mark": mark, "out": mark.join([x if p > q else y] * 2)})


#: Name -> (phrasings, completion, maker of the slots).
_KINDS: dict[str, tuple[tuple[str, ...], str, Callable[[Facts, random.Random], Filling]]] = {
    "capital_flight": (
        ("fly {a} and {b} to the capital of {country}", "book {a}+{b} seats to {country}, main city"),
        "{country}: {capital} {a}+{b}={ab} so fly({ab})", _capital_flight,
    ),
    "capital_weather": (
        ("{opener}weather on {day} in the capital of {country}", "{opener}rain on {day}, main city of {country}?"),
        "{country}: {capital} so rain({capital},{d})", _capital_weather,
    ),
    "capital_spelt": (("{opener}spell the capital of {country} with {mark}", "{opener}{country}: its capital with {mark}", "{opener}main city of {country} with {mark}"), "{country}: {capital} so {out}", _capital_spelt),
    "bill_abroad": (
        ("{lang}: pay for {x} and {y}", "{x} with {y} in {lang}, what to pay?"),
        "{x}={p} {y}={q} {p}+{q}={pq} so {out}", _bill_abroad,
    ),
    "script_abroad": (("{x}={a};print({x}+{b}) in {lang}",), "{x} is {a}: {a}+{b}={ab} so {out}", _script_abroad),
    "notes_added": (("{context}; {k}+{l}?",), "{k}{a} {l}{b} {a}+{b}={ab} so {ab}", _notes_added),
    "chain_to_price": (("{links}; price from {a}?",), "{a}>{b}>{x}={price} so {price}", _chain_to_price),
    "dearer_repeated": (
        ("say the dearer of {x} and {y} 2 times with {mark}",), "{x}={p} {y}={q} so {out}", _dearer_repeated,
    ),
}  # fmt: skip


#: Kinds that are graded from another marker on, so that every part counts.
_MARKERS = {"capital_flight": ": "}


def composites(facts: Facts) -> tuple[Capability, ...]:
    """Eight kinds of prompts that need several capabilities; each is a :class:`Capability` of its own."""
    return tuple(
        Capability(name, (Template(name, patterns, reference, partial(fill, facts)),), _MARKERS.get(name, " so "))
        for name, (patterns, reference, fill) in _KINDS.items()
    )


#: Kinds with the facts of the world, by name: prompts of the tasks whose cards name ``embedded:micro/NAME``.
COMPOSITES: Mapping[str, Capability] = {capability.name: capability for capability in composites(Facts())}
