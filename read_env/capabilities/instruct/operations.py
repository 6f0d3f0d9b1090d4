"""Single operations that programming tasks consist of: in words, as Python source, and as a function.

The function gives the expected results and the source goes into the reference; the tests run every reference on its
own cases, which reveals a mistake in either.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

LETTERS = "abcdefghiklmnoprstuw"
SAMPLE_WORDS = (
    "apple banana cherry Delta echo forest Garden hotel island jungle Kiwi lemon mango needle Orange piano Quartz river "
    "silver tomato umbrella violet window yellow zebra ant bee cat dog eel fox gnu hen ibis"
).split()


@dataclass(frozen=True)
class Operation:
    """One step of a task.

    Attributes:
        text: how the task describes it.
        source: a Python expression of ``n``, ``values`` or ``text``.
        run: the same as a function of that variable.
    """

    text: str
    source: str
    run: Callable[[Any], Any]


def number_test(rng: random.Random) -> Operation:
    """A condition on an integer ``n``; reads after "that".

    Example:
        >>> number_test(random.Random(1)).text
        'are divisible by 4'
    """
    k = rng.randint(2, 9)
    r = rng.randrange(1, k)
    bound = rng.randint(-5, 25)
    return rng.choice(
        (
            Operation(f"are divisible by {k}", f"n % {k} == 0", lambda n: n % k == 0),
            Operation(f"are not divisible by {k}", f"n % {k} != 0", lambda n: n % k != 0),
            Operation(f"leave remainder {r} when divided by {k}", f"n % {k} == {r}", lambda n: n % k == r),
            Operation(f"are greater than {bound}", f"n > {bound}", lambda n: n > bound),
            Operation(f"are less than {bound}", f"n < {bound}", lambda n: n < bound),
        )
    )


def number_change(rng: random.Random) -> Operation:
    """A new value for an integer ``n``; reads after "each number".

    Example:
        >>> number_change(random.Random(1)).text
        'multiplied by 4'
    """
    k = rng.randint(2, 12)
    return rng.choice(
        (
            Operation(f"multiplied by {k}", f"n * {k}", lambda n: n * k),
            Operation(f"increased by {k}", f"n + {k}", lambda n: n + k),
            Operation(f"decreased by {k}", f"n - {k}", lambda n: n - k),
            Operation(f"squared and then increased by {k}", f"n * n + {k}", lambda n: n * n + k),
        )
    )


def list_summary(rng: random.Random) -> Operation:
    """A result from a list ``values`` of integers.

    Example:
        >>> list_summary(random.Random(1)).source
        'values[:3]'
    """
    k = rng.randint(2, 6)
    return rng.choice(
        (
            Operation("the sum of the numbers", "sum(values)", sum),
            Operation(
                f"the largest number, or {k} if there is none",
                f"max(values, default={k})",
                lambda values: max(values, default=k),
            ),
            Operation(
                f"the smallest number, or {k} if there is none",
                f"min(values, default={k})",
                lambda values: min(values, default=k),
            ),
            Operation("a list of the numbers in ascending order", "sorted(values)", sorted),
            Operation(
                f"a list of the first {k} numbers (all of them if there are fewer)",
                f"values[:{k}]",
                lambda values: values[:k],
            ),
            Operation(
                f"{k} times the number of different numbers",
                f"{k} * len(set(values))",
                lambda values: k * len(set(values)),
            ),
        )
    )


def text_change(rng: random.Random) -> Operation:
    """A change of a string ``text``; reads as an instruction about it.

    Example:
        >>> text_change(random.Random(1)).text
        'convert it to upper case'
    """
    k = rng.randint(2, 5)
    a, b = rng.sample(LETTERS, 2)
    mark = rng.choice("!?#*+")
    return rng.choice(
        (
            Operation("reverse it", "text[::-1]", lambda text: text[::-1]),
            Operation("convert it to upper case", "text.upper()", str.upper),
            Operation(f"remove every '{a}'", f"text.replace('{a}', '')", lambda text: text.replace(a, "")),
            Operation(
                f"replace every '{a}' with '{b}'", f"text.replace('{a}', '{b}')", lambda text: text.replace(a, b)
            ),
            Operation(f"keep only its first {k + 2} characters", f"text[:{k + 2}]", lambda text: text[: k + 2]),
            Operation(f"keep only its last {k + 2} characters", f"text[-{k + 2}:]", lambda text: text[-(k + 2) :]),
            Operation(f"repeat it {k} times", f"text * {k}", lambda text: text * k),
            Operation(f"append '{mark}{a}'", f"text + '{mark}{a}'", lambda text: text + mark + a),
            Operation(f"put '{b}{mark}' in front", f"'{b}{mark}' + text", lambda text: b + mark + text),
            Operation("swap upper and lower case", "text.swapcase()", str.swapcase),
        )
    )


def word_key(rng: random.Random) -> Operation:
    """A property of a word ``text`` to group by.

    Example:
        >>> word_key(random.Random(1)).source
        'len(text) % 2'
    """
    k = rng.randint(2, 3)
    return rng.choice(
        (
            Operation("first letter", "text[0]", lambda text: text[0]),
            Operation("last letter", "text[-1]", lambda text: text[-1]),
            Operation("length", "len(text)", len),
            Operation(f"first {k} letters", f"text[:{k}]", lambda text: text[:k]),
            Operation(f"length modulo {k}", f"len(text) % {k}", lambda text: len(text) % k),
        )
    )


def group_summary(rng: random.Random) -> Operation:
    """A result from a list ``values`` of words.

    Example:
        >>> group_summary(random.Random(1)).text
        'how many there are'
    """
    mark = rng.choice("-+/ ")
    return rng.choice(
        (
            Operation("how many there are", "len(values)", len),
            Operation("the list of them in alphabetical order (as sorted() gives it)", "sorted(values)", sorted),
            Operation("their total length", "sum(map(len, values))", lambda values: sum(map(len, values))),
            Operation(
                f"a string that joins them, in the given order, with '{mark}'", f"'{mark}'.join(values)", mark.join
            ),
        )
    )
