"""What the small interpreter counts: steps, the sizes of values, the width of formats.

Steps are paid as they are done, containers by their length; integers, strings and repetitions are
checked before they are made.
"""

from __future__ import annotations

import ast
import operator
import re
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from types import NoneType
from typing import Any

from read_env.capabilities.execution.library import EXCEPTIONS, Refused
from read_env.capabilities.execution.values import Unsuitable, text_of

STEPS = 5_000_000  #: steps of a program and its calls together
ITEMS = 1_000_000  #: longest string or container
BITS = 14_000  #: longest integer; Python writes those of up to 4300 digits
FORMAT_WIDTH = 1000

SIZED = frozenset({str, list, tuple, dict, set, frozenset, Counter, OrderedDict, defaultdict, deque})
_VIEWS = frozenset({type({}.keys()), type({}.values()), type({}.items())})
_PLAIN = frozenset({NoneType, bool, int, float, complex, str})

_BINARY: dict[type[ast.operator], tuple[Callable[..., Any], Callable[..., Any]]] = {
    ast.Add: (operator.add, operator.iadd),
    ast.Sub: (operator.sub, operator.isub),
    ast.Mult: (operator.mul, operator.imul),
    ast.Div: (operator.truediv, operator.itruediv),
    ast.FloorDiv: (operator.floordiv, operator.ifloordiv),
    ast.Mod: (operator.mod, operator.imod),
    ast.Pow: (operator.pow, operator.ipow),
    ast.LShift: (operator.lshift, operator.ilshift),
    ast.RShift: (operator.rshift, operator.irshift),
    ast.BitOr: (operator.or_, operator.ior),
    ast.BitXor: (operator.xor, operator.ixor),
    ast.BitAnd: (operator.and_, operator.iand),
}
_NUMBER = re.compile(r"\d+")  # in a format: Python reads all of Unicode's digits


class Meter:
    """The steps that a program has left, and the operations whose results could be too large."""

    def __init__(self) -> None:
        self.steps = STEPS

    def spend(self, steps: int = 1) -> None:
        """Count steps; refuse to go on when they are used up."""
        self.steps -= steps
        if self.steps < 0:
            raise Refused(f"time-out: more than {STEPS} steps")

    def room(self, size: int) -> None:
        """Refuse to make a string or container of more than the largest size."""
        if size > ITEMS:
            raise Refused(f"memory: more than {ITEMS} characters or items")
        self.spend(size // 8)

    def bits(self, size: int) -> None:
        """Refuse to make an integer with more bits than the largest one."""
        if size > BITS:
            raise Refused(f"memory: an integer of more than {BITS} bits")

    def metered(self, value: Any) -> Any:
        """An argument as a function of the library may get it: whoever walks through it pays."""
        kind = type(value)
        if kind in SIZED or kind in _VIEWS:
            self.spend(len(value) // 8)
            return value
        if kind is range or hasattr(kind, "__next__"):
            return self.walk(value)
        return value

    def counts(self, values: Any) -> None:
        """Refuse counters of anything but numbers: adding them up would make unbounded values."""
        self.spend(len(values) // 8)
        if any(type(value) not in (int, float) for value in values.values()):
            raise Refused("unsupported: a Counter of other things than numbers")

    def walk(self, values: Iterable[Any]) -> Iterator[Any]:
        """The items of ``values``, a step for each."""
        for item in values:
            self.spend(1 + len(item) // 8 if type(item) is tuple else 1)
            yield item

    def charge(self, made: Any) -> None:
        """Count the size of what a function of the library made, the strings of a tuple or list included."""
        kind = type(made)
        if kind in SIZED:
            self.spend(len(made) // 8)
        if kind is tuple or kind is list:
            self.spend(sum(len(item) for item in made if type(item) is str) // 8)

    def listed(self, values: Any) -> list[Any]:
        return list(self.metered(values))

    def text(self, value: Any, quoted: bool = False) -> str:
        """``str(value)``, or ``repr(value)`` if ``quoted``."""
        kind = type(value)
        self.spend()
        if kind is str and not quoted:
            return str(value)
        if kind in EXCEPTIONS and not quoted:
            arguments = value.args
            if len(arguments) > 1:
                return self.text(arguments)
            return self.text(arguments[0], kind is KeyError) if arguments else ""
        try:
            text = text_of(value)
        except Unsuitable as error:
            raise Refused(f"unsupported: text of a value: {error}") from None
        self.room(len(text))
        return text

    def formatted(self, value: Any, form: str) -> str:
        """``format(value, form)``."""
        if not form:
            return self.text(value)
        if type(value) not in _PLAIN or _wide(form):
            raise Refused("unsupported: format of a container, or a wide one")
        return format(value, form)

    def percent(self, form: str, values: Any) -> str:
        """``form % values``."""
        given = values if type(values) is tuple else tuple(values.values()) if type(values) is dict else (values,)
        if any(type(value) not in _PLAIN for value in given) or "*" in form or _wide(form):
            raise Refused("unsupported: % with a container, * or a wide format")
        sizes = [_longest(value) for value in given]
        # A tuple's values are written once each, a dict's as often as the form names them.
        written = form.count("%") * max(sizes, default=0) if type(values) is dict else sum(sizes)
        self.room(len(form) + sum(map(int, _NUMBER.findall(form))) + written)
        return form % values

    def binary(self, kind: type[ast.operator], left: Any, right: Any, in_place: bool = False) -> Any:
        """An arithmetic operator, after a look at the size of what it makes."""
        self.spend()
        for counter in (left, right):
            if type(counter) is Counter:
                self.counts(counter)
        if isinstance(left, int) and isinstance(right, int):
            if kind is ast.Add or kind is ast.Sub:
                self.bits(max(left.bit_length(), right.bit_length()) + 1)
            elif kind is ast.Mult:
                self.bits(left.bit_length() + right.bit_length())
            elif kind is ast.LShift and left:
                self.bits(left.bit_length() + max(right, 0))
            elif kind is ast.Pow and abs(left) > 1:
                self.bits(left.bit_length() * max(right, 0))
        elif kind is ast.Mult:
            for items, times in ((left, right), (right, left)):
                if type(items) in SIZED and isinstance(times, int):
                    self.room(len(items) * max(times, 0))
        elif kind is ast.Mod and type(left) is str:
            return self.percent(left, right)
        elif type(left) in SIZED:
            if in_place:  # these take any iterable, also one without end
                right = self.listed(right) if kind is ast.Add and type(left) is list else self.metered(right)
            sizes = len(left) + (len(right) if type(right) in SIZED or type(right) in _VIEWS else 0)
            self.room(sizes if not in_place else sizes - len(left))
        return _BINARY[kind][in_place](left, right)


def _wide(form: str) -> bool:
    """Whether a format asks for more than the largest width."""
    return any(len(width) > 4 or int(width) > FORMAT_WIDTH for width in _NUMBER.findall(form))


def _longest(value: Any) -> int:
    """Most characters that ``%`` makes of a plain value, widths and precisions aside."""
    if type(value) is str:
        return len(value)
    # Octal digits and a sign; a float may have 309 digits before its point, a complex number has few.
    return value.bit_length() // 3 + 4 if isinstance(value, int) else 320
