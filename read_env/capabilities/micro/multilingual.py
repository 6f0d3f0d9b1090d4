"""multilingual: phrases, counts, sums and prices in German, Spanish and French (plain ASCII)."""

from __future__ import annotations

import random
from functools import partial

from read_env.capabilities.base import Capability, Filling, Template
from read_env.capabilities.micro.facts import Facts
from read_env.capabilities.micro.words import ITEMS, carries, digit, filling

LANGUAGES = ("german", "spanish", "french")
_NOUNS = {
    "cat": ("katze", "gato", "chat"), "dog": ("hund", "perro", "chien"), "house": ("haus", "casa", "maison"),
    "sun": ("sonne", "sol", "soleil"), "moon": ("mond", "luna", "lune"), "tree": ("baum", "arbol", "arbre"),
    "water": ("wasser", "agua", "eau"), "bread": ("brot", "pan", "pain"), "book": ("buch", "libro", "livre"),
    "fish": ("fisch", "pez", "poisson"), "bird": ("vogel", "pajaro", "oiseau"), "hand": ("hand", "mano", "main"),
}  # fmt: skip
_ADJECTIVES = {
    "red": ("rot", "rojo", "rouge"), "big": ("gross", "grande", "grand"), "old": ("alt", "viejo", "vieux"),
    "new": ("neu", "nuevo", "neuf"), "good": ("gut", "bueno", "bon"), "small": ("klein", "chico", "petit"),
}  # fmt: skip
NUMBERS = (
    "null eins zwei drei vier funf sechs sieben acht neun zehn elf zwolf dreizehn vierzehn funfzehn sechzehn siebzehn achtzehn".split(),
    "cero uno dos tres cuatro cinco seis siete ocho nueve diez once doce trece catorce quince dieciseis diecisiete dieciocho".split(),
    "zero un deux trois quatre cinq six sept huit neuf dix onze douze treize quatorze quinze seize dixsept dixhuit".split(),
)


def _phrase(rng: random.Random) -> Filling:
    at = rng.randrange(3)
    noun, adjective = rng.choice(list(_NOUNS)), rng.choice(list(_ADJECTIVES))
    n, a = _NOUNS[noun][at], _ADJECTIVES[adjective][at]
    # German puts the adjective first, Spanish and French (here, always) last.
    out = f"{a} {n}" if at == 0 else f"{n} {a}"
    slots = {"lang": LANGUAGES[at], "phrase": f"{adjective} {noun}", "out": out}
    return filling(slots, words=2, carries=0)


def _sum(facts: Facts, rng: random.Random) -> Filling:
    at, a, b = rng.randrange(3), digit(rng), digit(rng)
    number, ab = NUMBERS[at], facts.plus(a, b, rng)
    slots = {"x": number[a], "y": number[b], "a": a, "b": b, "ab": ab, "out": facts.word(number, ab, rng)}
    return filling(slots, words=1, carries=carries(a, b))


def _count(facts: Facts, rng: random.Random) -> Filling:
    at, n, noun = rng.randrange(3), digit(rng), rng.choice(list(_NOUNS))
    slots = {
        "lang": LANGUAGES[at],
        "n": n,
        "noun": noun,
        "out": f"{facts.word(NUMBERS[at], n, rng)} {_NOUNS[noun][at]}",
    }
    return filling(slots, words=2, carries=0)


def _price(facts: Facts, rng: random.Random) -> Filling:
    at, item = rng.randrange(3), rng.choice(ITEMS)
    price = facts.price(item, rng)
    slots = {"lang": LANGUAGES[at], "item": item, "price": price, "out": facts.word(NUMBERS[at], price, rng)}
    return filling(slots, words=1, carries=0)


def multilingual(facts: Facts) -> Capability:
    """The capability ``multilingual``."""
    return Capability(
        "multilingual",
        (
            Template(
                "phrase",
                ("{phrase} in {lang}", "{lang} for {phrase}", "say {phrase} in {lang}", "{lang}: {phrase}"),
                "{lang} {out}",
                _phrase,
            ),
            Template(
                "sum", ("{x}+{y}", "{x} and {y} are", "add {x}, {y}", "{x} with {y}"), "{a}+{b}={ab} so {out}",
                partial(_sum, facts),
            ),
            Template(
                "count",
                ("{n} {noun} in {lang}", "{lang} for {n} {noun}", "say {n} {noun} in {lang}", "{lang}: {n} {noun}"),
                "{lang} {out}",
                partial(_count, facts),
            ),
            Template(
                "price", ("{lang} price of {item}", "{item} costs in {lang}", "{lang}: what is {item}"),
                "{item}={price} so {out}", partial(_price, facts),
            ),
        ),
    )  # fmt: skip
