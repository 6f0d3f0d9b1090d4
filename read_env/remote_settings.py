"""Checks of the settings of a remote teacher, which are written beside every run and must hold no secret."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

#: Names of headers and of query parameters that hold secrets.
_SECRET = re.compile(r"auth|key|token|secret|passw|cookie|signature|^sig$", re.IGNORECASE)


def base_url(url: str) -> str:
    """The address of a server, checked.

    Raises:
        ValueError: it holds a user, a password or a query, or is not the base of an API.
    """
    if "@" in url or "?" in url:
        raise ValueError(
            "has a user, a password or a query in it ('@' or '?'), which would be written into every run's directory; "
            "right would be http(s)://HOST/v1, with the key in $READ_ENV_API_KEY and a query in models.remote_extra_query"
        )
    try:
        parts = urlsplit(url)
        fits = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # malformed brackets or port
        fits = False
    if url and not fits:
        raise ValueError(f"is {url!r}; right would be http(s)://HOST/v1")
    base = url.rstrip("/").removesuffix("/completions").removesuffix("/chat")
    if base != url.rstrip("/"):
        raise ValueError(f"is {url!r}, the address of one request; right would be {base}")
    return url


def server_of(reference: str) -> tuple[str, str]:
    """Name and address of a remote teacher's reference; the address is empty for that of ``models.remote_base_url``.

    Raises:
        ValueError: as for :func:`base_url`.

    >>> server_of("remote:org/coder@http://localhost:8001/v1")
    ('org/coder', 'http://localhost:8001/v1')
    """
    name, at, rest = reference.removeprefix("remote:").partition("@http")
    if not reference.startswith("remote:") or not at:
        return name, ""
    try:
        return name, base_url("http" + rest)
    except ValueError as error:
        raise ValueError(f"the address of the teacher remote:{name} {error}") from None


def take_default_teacher(models: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of the models with ``teachers.default`` as ``teacher``.

    >>> take_default_teacher({"teachers": {"default": "a", "math": "b"}})
    {'teachers': {'math': 'b'}, 'teacher': 'a'}
    """
    found, teachers = dict(models), models.get("teachers")
    if isinstance(teachers, Mapping) and "default" in teachers:
        found["teachers"] = {name: reference for name, reference in teachers.items() if name != "default"}
        found["teacher"] = teachers["default"]
    return found


def request_body(value: Any) -> str:
    """JSON text of a mapping or of a JSON object; empty for one without entries.

    Raises:
        ValueError: another kind of value, or a parameter that read-env itself sends.

    >>> request_body({"top_p": 0.9})
    '{"top_p": 0.9}'
    """
    try:
        found = json.loads(value or "{}") if isinstance(value, str) else value
        fits = isinstance(found, Mapping)
        text = json.dumps(found, sort_keys=True, allow_nan=False) if fits else ""
    except (TypeError, ValueError):  # malformed JSON, or a date of TOML
        fits = False
    if not fits:
        raise ValueError('is no JSON object; right would be, for example, {"top_p": 0.9}')
    taken = sorted({"messages", "model", "stream", "n"} & set(found))
    if taken:
        raise ValueError(f"sets {', '.join(taken)}, which read-env itself decides; right would be other parameters")
    return text if found else ""


def without_secrets(values: dict[str, str]) -> dict[str, str]:
    """Headers or a query, checked.

    Raises:
        ValueError: a value that looks like a secret and is no reference to a variable.
    """
    for name, value in values.items():
        if _SECRET.search(name) and not value.startswith("$"):
            raise ValueError(
                f"has a value of {name!r} that looks like a secret and would be written into every run's directory; right "
                "would be the name of a variable that holds it, such as $READ_ENV_API_KEY"
            )
    return values
