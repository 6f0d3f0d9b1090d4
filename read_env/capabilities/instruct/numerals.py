"""Numbers in English text, in digits or in words."""

from __future__ import annotations

import re
from fractions import Fraction
from functools import cache

from read_env.capabilities.instruct.answers import numbers

_SMALL = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
).split()
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
_WORD = f"(?:{'|'.join((*_SMALL, *_TENS, 'hundred', 'thousand'))})"
_RUN = re.compile(rf"\b{_WORD}(?:[\s-]+(?:and\s+)?{_WORD})*\b", re.IGNORECASE)


def values(text: str) -> set[Fraction | None]:
    """All numbers of a text, those in words up to 9999; None for what can't be read as one number.

    Example:
        >>> sorted(map(int, values("twenty-one of 36")))
        [21, 36]
    """
    runs = (tuple(re.findall(r"\b(?!and\b)\w+", run.group().casefold())) for run in _RUN.finditer(text))
    return {*numbers(text), *map(_spelled().get, runs)}


@cache
def _spelled() -> dict[tuple[str, ...], Fraction]:
    """Words to number; "hundred" is "one hundred" too."""
    known = {_words(n): Fraction(n) for n in range(10_000)}
    return known | {words[1:]: n for words, n in known.items() if words[0] == "one" and len(words) > 1}


def _words(n: int) -> tuple[str, ...]:
    if n < 20:
        return (_SMALL[n],)
    if n < 100:
        return (_TENS[n // 10 - 2], *(_words(n % 10) if n % 10 else ()))
    scale, name = (1000, "thousand") if n >= 1000 else (100, "hundred")
    return (*_words(n // scale), name, *(_words(n % scale) if n % scale else ()))
