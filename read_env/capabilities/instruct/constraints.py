"""Checkable constraints on a text, in the manner of IFEval (arXiv 2311.07911): one pure function per kind.

A constraint is ``{"kind": name, **parameters}``, all of them JSON values; :func:`holds` looks the kind up.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from itertools import groupby
from typing import Any

_WORD = re.compile(r"\w+(?:['’-]\w+)*")
_SENTENCE = re.compile(r"[^.!?\s][^.!?]*(?:[.!?]+|$)")
_NUMBERED = re.compile(r"\s*([0-9]{1,4})[.)]\s+\S")


def _words(text: str) -> list[str]:
    return _WORD.findall(text.casefold())


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]


def _bullets(text: str) -> list[str]:
    return [line[2:].strip() for line in _lines(text) if line.startswith(("- ", "* "))]


def _object(text: str) -> dict[str, Any] | None:
    inner = text.strip()
    if inner.startswith("```") and inner.endswith("```") and "\n" in inner:
        inner = inner[3:-3].partition("\n")[2]
    try:
        value = json.loads(inner)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def at_least_words(text: str, count: int) -> bool:
    """``count`` words or more."""
    return len(_words(text)) >= count


def at_most_words(text: str, count: int) -> bool:
    """``count`` words or fewer, but some.

    >>> at_most_words("Tea is hot.", 3), at_most_words("", 3)
    (True, False)
    """
    return 0 < len(_words(text)) <= count


def sentences(text: str, count: int) -> bool:
    """Exactly ``count`` sentences.

    >>> sentences("Tea is hot. Is it?", 2)
    True
    """
    return sum(bool(_words(sentence)) for sentence in _SENTENCE.findall(text)) == count


def bullets(text: str, count: int) -> bool:
    r"""Exactly ``count`` lines that begin with ``-`` or ``*`` and a space, and have a text.

    >>> bullets("- tea\n- milk", 2)
    True
    """
    return len(_bullets(text)) == count and all(_words(line) for line in _bullets(text))


def short_bullets(text: str, count: int) -> bool:
    r"""At least one bullet, and no bullet has more than ``count`` words.

    >>> short_bullets("- hot tea\n- milk", 2)
    True
    """
    return bool(_bullets(text)) and all(len(_words(line)) <= count for line in _bullets(text))


def numbered(text: str, count: int) -> bool:
    r"""Exactly ``count`` lines that are numbered 1, 2, ...

    >>> numbered("1. tea\n2. milk", 2)
    True
    """
    found = [match.group(1) for line in text.splitlines() if (match := _NUMBERED.match(line))]
    return found == [str(i) for i in range(1, count + 1)]


def includes(text: str, word: str) -> bool:
    """The word occurs, in any case; its plural with s counts.

    >>> includes("Two Cups of it", "cup")
    True
    """
    return bool({word.casefold(), f"{word.casefold()}s"} & set(_words(text)))


def excludes(text: str, words: list[str]) -> bool:
    """None of the words occurs, in any case, and there is a text."""
    return bool(_words(text)) and not set(_words(text)) & {word.casefold() for word in words}


def repeats(text: str, word: str, count: int) -> bool:
    """The word occurs exactly ``count`` times, in any case.

    >>> repeats("Tea, more tea!", "tea", 2)
    True
    """
    return _words(text).count(word.casefold()) == count


def lower_case(text: str) -> bool:
    """Letters, and no capital one."""
    return text.islower()


def upper_case(text: str) -> bool:
    """Letters, and only capital ones."""
    return text.isupper()


def starts_with(text: str, phrase: str) -> bool:
    """Begins with the phrase, in any case."""
    return text.strip().casefold().startswith(phrase.casefold())


def ends_with(text: str, phrase: str) -> bool:
    """Ends with the phrase, in any case."""
    return text.strip().casefold().endswith(phrase.casefold())


def quoted(text: str) -> bool:
    """All of it stands in one pair of double quotation marks.

    >>> quoted('"Tea is hot."')
    True
    """
    inner = text.strip()
    return len(inner) > 2 and inner[0] in '"“' and inner[-1] in '"”'


def no_commas(text: str) -> bool:
    """A text without a comma."""
    return bool(text.strip()) and "," not in text


def separated(text: str, mark: str, count: int) -> bool:
    r"""Exactly ``count`` parts with words in them, with a line that is the mark between them and the mark nowhere else.

    >>> separated("tea\n***\nmilk", "***", 2)
    True
    """
    lines = [line.strip() for line in text.splitlines()]
    parts = ["\n".join(part) for is_mark, part in groupby(lines, mark.__eq__) if not is_mark]
    between = lines.count(mark) == count - 1 and len(parts) == count
    return between and all(_words(part) and mark not in part for part in parts)


def paragraphs(text: str, count: int) -> bool:
    r"""Exactly ``count`` paragraphs with a blank line between them.

    >>> paragraphs("Tea.\n\nMilk.", 2)
    True
    """
    blank = [not line.strip() for line in text.strip().splitlines()]
    # A blank line begins a paragraph unless another blank one follows.
    return bool(text.strip()) and 1 + sum(a and not b for a, b in zip(blank, blank[1:], strict=False)) == count


def title(text: str) -> bool:
    r"""The first line is a title in double angle brackets, and text follows.

    >>> title("<<Tea>>\nIt is hot.")
    True
    """
    lines = _lines(text)
    return len(lines) > 1 and lines[0].startswith("<<") and lines[0].endswith(">>") and len(lines[0]) > 4


def postscript(text: str) -> bool:
    r"""The last line begins with ``P.S.`` and goes on.

    >>> postscript("Tea is hot.\nP.S. Milk is not.")
    True
    """
    lines = _lines(text)
    return len(lines) > 1 and lines[-1].startswith("P.S.") and len(lines[-1]) > 5


def json_keys(text: str, keys: list[str]) -> bool:
    """A JSON object (fenced or not) and nothing else, with exactly these keys and no empty value.

    >>> json_keys('{"drink": "tea"}', ["drink"])
    True
    """
    value = _object(text)
    return value is not None and set(value) == set(keys) and not any(v in ("", None, [], {}) for v in value.values())


def json_list(text: str, key: str, count: int) -> bool:
    """In the JSON object, the key has a list of ``count`` texts.

    >>> json_list('{"drinks": ["tea", "milk"]}', "drinks", 2)
    True
    """
    value = (_object(text) or {}).get(key)
    return isinstance(value, list) and len(value) == count and all(isinstance(item, str) and item for item in value)


KINDS: Mapping[str, Callable[..., bool]] = {
    check.__name__: check
    for check in (
        at_least_words, at_most_words, sentences, bullets, short_bullets, numbered, includes, excludes, repeats,
        lower_case, upper_case, starts_with, ends_with, quoted, no_commas, separated, paragraphs, title, postscript,
        json_keys, json_list,
    )
}  # fmt: skip


def holds(constraint: Mapping[str, Any], text: str) -> bool:
    """True if a text satisfies a constraint.

    >>> holds({"kind": "no_commas"}, "Plain words.")
    True
    """
    parameters = {name: value for name, value in constraint.items() if name != "kind"}
    return KINDS[constraint["kind"]](text, **parameters)
