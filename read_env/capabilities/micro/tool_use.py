"""tool_use: turn a request into a call, working out its arguments first."""

from __future__ import annotations

import random
from functools import partial

from read_env.capabilities.base import Capability, Filling, Template
from read_env.capabilities.micro.facts import PRICES, Facts
from read_env.capabilities.micro.words import CITIES, ITEMS, NAMES, addend, carries, filling

DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_TOPICS = "lunch rent work golf tax yoga cake bus dance trip gift key".split()


def _flight(facts: Facts, rng: random.Random) -> Filling:
    a, b = addend(rng), addend(rng)
    slots = {"a": a, "b": b, "ab": facts.plus(a, b, rng), "city": rng.choice(CITIES)}
    return filling(slots, arguments=2, carries=carries(a, b))


def _order(facts: Facts, rng: random.Random) -> Filling:
    x, y = rng.sample(ITEMS, 2)
    p, q = facts.price(x, rng), facts.price(y, rng)
    slots = {"x": x, "y": y, "p": p, "q": q, "pq": facts.plus(p, q, rng)}
    return filling(slots, arguments=1, carries=carries(PRICES[x], PRICES[y]))


def _weather(rng: random.Random) -> Filling:
    day = rng.choice(DAYS)
    return filling({"city": rng.choice(CITIES), "day": day, "d": day[:3]}, arguments=2, carries=0)


def _mail(rng: random.Random) -> Filling:
    return filling({"name": rng.choice(NAMES), "topic": rng.choice(_TOPICS)}, arguments=2, carries=0)


def tool_use(facts: Facts) -> Capability:
    """The capability ``tool_use``."""
    return Capability(
        "tool_use",
        (
            Template(
                "flight", ("book {a}+{b} seats to {city}", "fly {a} and {b} to {city}"),
                "seats {a}+{b}={ab} so fly({city},{ab})", partial(_flight, facts),
            ),
            Template(
                "order", ("order {x} and {y}", "buy me {x} with {y}"), "{x}={p} {y}={q} {p}+{q}={pq} so buy({pq})",
                partial(_order, facts),
            ),
            Template(
                "weather", ("weather in {city} on {day}", "rain on {day}, {city}?"), "{day} so rain({city},{d})",
                _weather,
            ),
            Template("mail", ("mail {name} about {topic}", "write {name}: {topic}"), "mail({name},{topic})", _mail),
        ),
    )  # fmt: skip
