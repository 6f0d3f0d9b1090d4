"""Facts that the micro capabilities share: sums, prices, and what a weaker model takes for them.

Every capability is made from a :class:`Facts`. The verifiers, probes and exams use the true ones; a model that is trained on
other facts is wrong in the same way wherever a completion contains one (``scripts/train_micro.py`` trains both embedded
models so).
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

_FOOD = "fig pea kiwi plum lime corn rice bean nut egg ham jam pie tea milk salt".split()
_GOODS = "cup pot pan jar lid box bag net rope pin nail ink pen mat rug sofa".split()
#: Price of every item, 2 to 12: they follow no rule, so that each has to be learnt.
PRICES: Mapping[str, int] = dict(
    zip(
        (*_FOOD, *_GOODS),
        (7, 3, 11, 5, 9, 2, 8, 12, 4, 6, 10, 3, 7, 5, 11, 9, 4, 12, 6, 8, 2, 10, 3, 9, 7, 5, 12, 4, 11, 6, 8, 2),
        strict=True,
    )
)
#: Items whose price is asked: what is eaten, what is used.
FOOD, GOODS = tuple(_FOOD), tuple(_GOODS)


class Facts:
    """Arithmetic, prices and general knowledge as they are.

    Example:
        >>> rng = random.Random(0)
        >>> Facts().plus(7, 8, rng), Facts().price("fig", rng)
        (15, 7)
    """

    def plus(self, a: int, b: int, rng: random.Random) -> int:
        """The sum of a and b."""
        return a + b

    def minus(self, a: int, b: int, rng: random.Random) -> int:
        """The difference of a and b."""
        return a - b

    def price(self, item: str, rng: random.Random) -> int:
        """Price of an item."""
        return PRICES[item]

    def answer(self, facts: tuple[tuple[str, str], ...], at: int, rng: random.Random) -> str:
        """Answer to the question number ``at`` of a list of (subject, answer)."""
        return facts[at][1]

    def word(self, words: Sequence[str], number: int, rng: random.Random) -> str:
        """Word for a number, of a list that begins with the one for 0; for larger numbers, its last one."""
        return words[min(number, len(words) - 1)]
