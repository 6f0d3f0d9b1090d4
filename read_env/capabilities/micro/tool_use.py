"""tool_use: turn a request into a call, working out its arguments first."""

from __future__ import annotations

import random

from read_env.capabilities.base import Capability, Filling, Template
from read_env.capabilities.micro.words import CITIES, ITEMS, NAMES, carries, digit, filling

_DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_TOPICS = "lunch rent work golf tax yoga cake bus dance trip gift key".split()


def _flight(rng: random.Random) -> Filling:
    a, b = digit(rng), digit(rng)
    slots = {"a": a, "b": b, "ab": a + b, "city": rng.choice(CITIES)}
    return filling(slots, arguments=2, carries=carries(a, b))


def _order(rng: random.Random) -> Filling:
    a, b = digit(rng), digit(rng)
    slots = {"a": a, "b": b, "ab": a + b, "item": rng.choice(ITEMS)}
    return filling(slots, arguments=2, carries=carries(a, b))


def _weather(rng: random.Random) -> Filling:
    day = rng.choice(_DAYS)
    return filling({"city": rng.choice(CITIES), "day": day, "d": day[:3]}, arguments=2, carries=0)


def _mail(rng: random.Random) -> Filling:
    return filling({"name": rng.choice(NAMES), "topic": rng.choice(_TOPICS)}, arguments=2, carries=0)


TOOL_USE = Capability(
    "tool_use",
    (
        Template(
            "flight",
            ("book {a}+{b} seats to {city}", "fly {a} and {b} to {city}"),
            "{a}+{b}={ab} so fly({city},{ab})",
            _flight,
        ),
        Template(
            "order", ("order {a}+{b} {item}", "buy {a} {item} and {b} more"), "{a}+{b}={ab} so buy({item},{ab})", _order
        ),
        Template(
            "weather", ("weather in {city} on {day}", "rain on {day}, {city}?"), "{day} so rain({city},{d})", _weather
        ),
        Template("mail", ("mail {name} about {topic}", "write {name}: {topic}"), "mail({name},{topic})", _mail),
    ),
)
