"""The text of a value, for values that can't lie about it."""

from __future__ import annotations

from types import NoneType
from typing import Any

#: Longest text of a value, in characters.
TEXT_CHARACTERS = 20_000
_DEPTH = 50

# Saved here: the program that runs in the same process may replace the builtins.
_type, _repr, _len, _sorted = type, repr, len, sorted
_name_of = type.__dict__["__name__"].__get__
_SCALARS = frozenset({NoneType, bool, int, float, complex, type(...)})
_TEXTS = frozenset({str, bytes})
_ORDERED = _TEXTS | {int, float, bool}


class Unsuitable(Exception):
    """A value that has no text: not made of builtin types, too long, or nested too deep."""


def text_of(value: Any, limit: int = TEXT_CHARACTERS, depth: int = 0) -> str:
    """What ``repr(value)`` gives, for builtin types only, in bounded time and memory.

    Sets are written in ascending order, where Python's order differs from process to process.

    Args:
        value: a value of exactly a builtin type, and so on for what it contains. Subclasses don't
            count: they may have a ``__repr__`` of their own.
        limit: longest text, in characters.
        depth: levels of containers around it.

    Raises:
        Unsuitable: if there is no such text.
    """
    writer = _Writer(limit)
    writer.write(value, depth)
    return "".join(writer.pieces)


class _Writer:
    def __init__(self, limit: int) -> None:
        self.left = limit
        self.pieces: list[str] = []

    def put(self, text: str) -> None:
        self.reserve(_len(text))
        self.left -= _len(text)
        self.pieces.append(text)

    def reserve(self, size: int) -> None:
        if size > self.left:
            raise Unsuitable("the text of the value is too long")

    def write(self, value: Any, depth: int) -> None:
        kind = _type(value)
        if depth > _DEPTH:
            raise Unsuitable(f"the value is nested deeper than {_DEPTH} levels")
        if kind in _SCALARS:
            self.put(_repr(value))
        elif kind in _TEXTS:
            self.reserve(_len(value))
            self.put(_repr(value))
        elif kind is list:
            self.sequence("[", value, "]", depth)
        elif kind is tuple:
            self.sequence("(", value, ",)" if _len(value) == 1 else ")", depth)
        elif kind is set or kind is frozenset:
            self.set(value, "" if kind is set else "frozenset(", depth)
        elif kind is dict:
            self.dict(value, depth)
        else:
            raise Unsuitable(f"the value is or contains a {_name_of(kind)!s}, not only builtin types")

    def sequence(self, opening: str, items: Any, closing: str, depth: int) -> None:
        self.put(opening)
        for place, item in enumerate(items):
            if place:
                self.put(", ")
            self.write(item, depth + 1)
        self.put(closing)

    def set(self, items: Any, prefix: str, depth: int) -> None:
        if not items:
            self.put("set()" if not prefix else "frozenset()")
            return
        self.reserve(_len(items))
        kinds = {_type(item) for item in items}
        if _len(kinds) == 1 and kinds <= _ORDERED:
            texts = [text_of(item, self.left) for item in _sorted(items)]
        else:
            texts = _sorted(text_of(item, self.left, depth + 1) for item in items)
        self.put(prefix + "{" + ", ".join(texts) + ("})" if prefix else "}"))

    def dict(self, items: Any, depth: int) -> None:
        self.put("{")
        for place, (key, value) in enumerate(items.items()):
            if place:
                self.put(", ")
            self.write(key, depth + 1)
            self.put(": ")
            self.write(value, depth + 1)
        self.put("}")
