"""Text of types, default values, limits and descriptions of fields, and small pieces of MyST."""

from __future__ import annotations

import ast
import functools
import inspect
import json
import re
import textwrap
import types
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo

_UNION = (Union, types.UnionType)
_LIMITS = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}


def type_text(annotation: Any) -> str:
    """Type as it is written in a configuration.

    >>> type_text(tuple[int, ...]), type_text(Literal["a", "b"]), type_text(Path | None)
    ('list of int', '"a" | "b"', 'path | none')
    """
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return type_text(arguments[0])
    if origin is Literal:
        return " | ".join(json.dumps(value) for value in arguments)
    if origin in _UNION:
        return " | ".join(dict.fromkeys(type_text(argument) for argument in arguments))
    if origin is tuple or origin is list:
        return f"list of {type_text(arguments[0])}"
    if origin is dict:
        return f"table of {type_text(arguments[1])}"
    if annotation is type(None):
        return "none"
    if isinstance(annotation, type) and issubclass(annotation, Path):
        return "path"
    if isinstance(annotation, type):
        return {"ndarray": "vector", "Any": "any"}.get(annotation.__name__, annotation.__name__)
    return str(annotation)


def value_text(value: Any) -> str:
    """Default value as it is written in a TOML file."""
    if value is None:
        return "none"
    return json.dumps(value if not isinstance(value, tuple) else list(value), default=str, ensure_ascii=False)


def bounds_text(field: FieldInfo) -> str:
    """Limits of a number, such as ``at least 0, below 1``."""
    found = ((words, getattr(one, name, None)) for one in field.metadata for name, words in _LIMITS.items())
    return ", ".join(f"{words} {value}" for words, value in found if value is not None)


@functools.cache
def texts_of(kind: type) -> Mapping[str, str]:
    """Descriptions of the fields of a class: the string below each, its bases' included."""
    found: dict[str, str] = {}
    for base in reversed(kind.__mro__[:-1]):
        if not base.__module__.startswith("read_env"):
            continue
        body = ast.parse(textwrap.dedent(inspect.getsource(base))).body[0].body  # type: ignore[attr-defined]
        for field, below in zip(body, body[1:], strict=False):
            if (
                isinstance(field, ast.AnnAssign)
                and isinstance(below, ast.Expr)
                and isinstance(below.value, ast.Constant)
            ):
                found[field.target.id] = inspect.cleandoc(str(below.value.value))  # type: ignore[union-attr]
    return found


def markdown(text: str) -> str:
    """Docstring text with reStructuredText's double backticks and roles as Markdown's code."""
    text = re.sub(r":\w+:`~?([^`]+)`", r"`\1`", text)
    return re.sub(r"``([^`]+)``", r"`\1`", text)


def cell(text: str) -> str:
    """Text of a table's cell."""
    return markdown(" ".join(text.split())).replace("|", "\\|")


def code(text: str) -> str:
    """Code in a table's cell."""
    return f"`{text}`".replace("|", "\\|")


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def block(name: str, argument: str, body: str, options: Mapping[str, str] | None = None) -> str:
    """A MyST directive."""
    lines = [f":{key}: {value}" for key, value in (options or {}).items() if value]
    return "\n".join([f"::::{{{name}}} {argument}".rstrip(), *lines, "", body.strip(), "::::", ""])
