"""What a user sees when something asked for can't be done."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class ReadEnvError(ValueError):
    """A mistake that the user can mend: the message names the field, the value and what would be right."""


class DivergedError(ReadEnvError):
    """A student update exploded; the step was refused and the student restored."""


def unknown(kind: str, value: str, known: Iterable[str]) -> ReadEnvError:
    """An error for a name that isn't known, listing the known ones, the closest first."""
    names = list(known)
    similarity = {name: difflib.SequenceMatcher(None, value.casefold(), name.casefold()).ratio() for name in names}
    names.sort(key=lambda name: (-similarity[name], name))
    hint = f"did you mean {names[0]!r}? " if names and similarity[names[0]] >= 0.5 else ""
    return ReadEnvError(f"unknown {kind} {value!r}: {hint}known: {', '.join(names) or 'none'}")
