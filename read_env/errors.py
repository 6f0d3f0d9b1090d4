"""Errors that are shown to the user."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class ReadEnvError(ValueError):
    """Error that the user can correct: the message names the field, the value and what would be right."""


class DivergedError(ReadEnvError):
    """A student update diverged; the step was refused and the student restored."""


def unknown(kind: str, value: str, known: Iterable[str]) -> ReadEnvError:
    """Error for an unknown name; the message lists the known names, the closest first.

    >>> print(unknown("agent", "unifrom", ["uniform", "greedy"]))
    unknown agent 'unifrom': did you mean 'uniform'? known: uniform, greedy
    """
    names = list(known)
    similarity = {name: difflib.SequenceMatcher(None, value.casefold(), name.casefold()).ratio() for name in names}
    names.sort(key=lambda name: (-similarity[name], name))
    hint = f"did you mean {names[0]!r}? " if names and similarity[names[0]] >= 0.5 else ""
    return ReadEnvError(f"unknown {kind} {value!r}: {hint}known: {', '.join(names) or 'none'}")
