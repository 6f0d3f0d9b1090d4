"""steerability: do exactly what the instruction says to the given words."""

from __future__ import annotations

import random

from read_env.capabilities.base import Capability, Filling, Template
from read_env.capabilities.micro.words import ITEMS, filling

_SEPARATORS = ("-", ".", "/", "_")
_BRACKETS = ("()", "[]", "<>", "{}")


def _repeat(rng: random.Random) -> Filling:
    word, mark, times = rng.choice(ITEMS), rng.choice(_SEPARATORS), rng.randint(2, 4)
    slots = {"word": word, "times": times, "mark": mark, "out": mark.join([word] * times)}
    return filling(slots, operations=times - 1)


def _spell(rng: random.Random) -> Filling:
    words, mark = rng.sample(ITEMS, rng.randint(1, 2)), rng.choice(_SEPARATORS)
    text = "".join(words)
    return filling({"word": text, "mark": mark, "out": mark.join(text)}, operations=len(words))


def _wrap(rng: random.Random) -> Filling:
    words, marks = rng.sample(ITEMS, rng.randint(2, 3)), rng.choice(_BRACKETS)
    left, right = marks[0], marks[1]
    slots = {"words": " ".join(words), "marks": marks, "out": " ".join(f"{left}{w}{right}" for w in words)}
    return filling(slots, operations=len(words) - 1)


def _backwards(rng: random.Random) -> Filling:
    words = rng.sample(ITEMS, rng.randint(2, 4))
    return filling({"words": " ".join(words), "out": " ".join(reversed(words))}, operations=len(words) - 1)


STEERABILITY = Capability(
    "steerability",
    (
        Template(
            "repeat", ("say {word} {times} times with {mark}", "{times} {word} joined by {mark}"), "{out}", _repeat
        ),
        Template("spell", ("spell {word} with {mark}",), "{out}", _spell),
        Template("wrap", ("put {words} in {marks}",), "{out}", _wrap),
        Template("backwards", ("last word first: {words}", "turn round: {words}"), "{out}", _backwards),
    ),
)
