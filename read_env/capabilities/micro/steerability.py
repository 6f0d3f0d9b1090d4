"""steerability: do exactly what the instruction says to the given words, and choose freely where it leaves the choice."""

from __future__ import annotations

import itertools
import random

from read_env.capabilities.base import Capability, Filling, Template
from read_env.capabilities.micro.words import ITEMS, LETTERS, SEPARATORS, filling

_BRACKETS = (("(", ")"), ("[", "]"), ("<", ">"), ("{", "}"))


def _repeat(rng: random.Random) -> Filling:
    word, mark, times = rng.choice(ITEMS), rng.choice(SEPARATORS), rng.randint(2, 4)
    slots = {"word": word, "times": times, "mark": mark, "out": mark.join([word] * times)}
    return filling(slots, operations=times - 1)


def _spell(rng: random.Random) -> Filling:
    words, mark = rng.sample(ITEMS, rng.randint(1, 2)), rng.choice(SEPARATORS)
    text = "".join(words)
    return filling({"word": text, "mark": mark, "out": mark.join(text)}, operations=len(words))


def _backwards(rng: random.Random) -> Filling:
    words = rng.sample(ITEMS, rng.randint(2, 4))
    return filling({"words": " ".join(words), "out": " ".join(reversed(words))}, operations=len(words) - 1)


def _wrap(rng: random.Random) -> Filling:
    words = rng.sample(ITEMS, rng.randint(2, 3))
    choices = itertools.product(_BRACKETS, repeat=len(words))
    outs = [
        " ".join(f"{left}{word}{right}" for word, (left, right) in zip(words, marks, strict=True)) for marks in choices
    ]
    return filling({"words": " ".join(words), "out": rng.choice(outs)}, outs, operations=len(words) - 1)


def _pick(rng: random.Random) -> Filling:
    letters, count = rng.sample(LETTERS, rng.randint(5, 6)), rng.randint(2, 3)
    outs = ["".join(chosen) for chosen in itertools.permutations(letters, count)]
    slots = {"letters": " ".join(letters), "count": count, "out": rng.choice(outs)}
    return filling(slots, outs, operations=count - 1)


def _mix(rng: random.Random) -> Filling:
    letters = rng.sample(LETTERS, rng.randint(3, 5))
    outs = ["".join(order) for order in itertools.permutations(letters)]
    return filling({"letters": " ".join(letters), "out": rng.choice(outs)}, outs, operations=len(letters) - 3)


STEERABILITY = Capability(
    "steerability",
    (
        Template(
            "repeat", ("say {word} {times} times with {mark}", "{times} {word} joined by {mark}"), "{out}", _repeat
        ),
        Template("spell", ("spell {word} with {mark}",), "{out}", _spell),
        Template("backwards", ("last word first: {words}", "turn round: {words}"), "{out}", _backwards),
        Template("wrap", ("put {words} in brackets", "brackets for {words}"), "{out}", _wrap),
        Template("pick", ("any {count} of {letters}", "{count} letters from {letters}"), "{out}", _pick),
        Template("mix", ("{letters} in any order", "mix {letters}"), "{out}", _mix),
    ),
)
