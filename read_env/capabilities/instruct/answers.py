"""Find the final answer in a completion and compare it with the answers that a prompt's ``check`` accepts.

The final answer is the first line with a word in it after the last ``Answer:`` (any case, also in
the languages of the multilingual capability). A completion without that marker is an answer as a
whole, or, where a number is asked for, its last number is.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterable, Mapping
from decimal import Decimal
from typing import Any

from read_env.capabilities.base import Prompt

#: Maximum words of a reply without a marker; a longer one may be a list of guesses and is not graded.
LONGEST_REPLY = 30

_MARKER = re.compile(r"\b(?:answer|antwort|respuesta|réponse|risposta|resposta)[\s*_`]{0,8}:", re.IGNORECASE)
_LATEX = re.compile(r"\\(?:boxed|text|mathbf|mathrm|textbf)\s?\{([^{}]*)\}")
_NUMBER = re.compile(r"(?<![\w)])-?(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)(?:\.[0-9]+)?")
_WORD = re.compile(r"-?\w+(?:[-'.:/]\w+)*(?:[+#]+(?!\w))?")  # C++ is not C
_TYPOGRAPHY = str.maketrans({"−": "-", "–": "-", "’": "'", "\u00a0": " "})
_EMPHASIS = str.maketrans({"*": " ", "`": " "})
# Punctuation without meaning; a hyphen before a space is a minus sign, one at the end may be a charge.
_PUNCTUATION = re.compile(r"""[\w\s.,;:!?¿¡'"‘“”„«»%$€£]|-(?!\s|$)""")
_LONGEST_NUMBER = 40


def marked(completion: str) -> str | None:
    """Text after the last answer marker; None without a marker."""
    # NFC first: an accent of the marker may be a character of its own.
    *before, tail = _MARKER.split(unicodedata.normalize("NFC", completion))
    if not before:
        return None
    return next((line.strip() for line in tail.splitlines() if any(map(str.isalnum, line))), "")


def reply(completion: str) -> str:
    """Text that is graded: the final answer, or a whole short reply; empty for a long reply without a marker."""
    answer = marked(completion)
    text = completion if answer is None else answer
    return text if len(words(text)) <= LONGEST_REPLY else ""


def numbers(text: str) -> list[Decimal]:
    """All numbers in a text; thousands separators and LaTeX boxes are removed.

    >>> numbers("from 3 to 1,250")
    [Decimal('3'), Decimal('1250')]
    """
    plain = _undressed(text.translate(_EMPHASIS)).replace("{,}", ",").replace(r"\,", "")
    found = (match.group().replace(",", "") for match in _NUMBER.finditer(plain))
    return [Decimal(number) for number in found if len(number) <= _LONGEST_NUMBER]


def words(text: str, articles: Collection[str] = ()) -> list[str]:
    """Words of a text: case folded, NFC, without surrounding punctuation and articles."""
    found = (word.strip("_") for word in _WORD.findall(_folded(text.translate(_EMPHASIS))))
    return [word for word in found if word and word not in articles]


def is_number(completion: str, value: object) -> bool:
    """True if the final answer is this number; two different numbers after the marker are not an answer."""
    answer, wanted = marked(completion), Decimal(str(value))
    if answer is None:
        return numbers(completion)[-1:] == [wanted]
    return set(numbers(answer.rpartition("=")[2])) == {wanted}


def is_text(completion: str, accepted: Iterable[str], articles: Collection[str] = ()) -> bool:
    """True if the final answer is one of the accepted texts, word for word."""
    answer = marked(completion)
    given = words(completion if answer is None else answer, articles)
    return bool(given) and any(given == words(text, articles) for text in accepted)


def has_signs(text: str) -> bool:
    """True if signs are part of the meaning, as in ``x < 3``, ``a - b`` or ``C++``."""
    return bool(_PUNCTUATION.sub("", _folded(text).strip()))


def is_written(completion: str, text: str) -> bool:
    """True if the final answer is this text sign for sign, up to case, emphasis and space beside a sign."""
    answer = marked(completion)
    given = _close(completion if answer is None else answer)
    return _close(text) in (given, given.strip("*`$."))


def is_set(completion: str, names: Iterable[str]) -> bool:
    """True if the final answer lists exactly these one-word names, in any order."""
    answer = marked(completion)
    given = words(completion if answer is None else answer, ("and", "&"))
    wanted = sorted(word for name in names for word in words(name))
    return bool(given) and sorted(given) == wanted


def mentions(completion: str, accepted: Iterable[str], rivals: Iterable[str] = ()) -> bool:
    """True if the final answer, or a short reply, contains an accepted text as whole words and no rival."""
    given = words(reply(completion))
    hits = [words(text) for text in accepted if _holds(given, words(text))]
    return bool(hits) and not any(
        _holds(given, words(r)) and not any(_holds(h, words(r)) for h in hits) for r in rivals
    )


def grade(check: Mapping[str, Any], completion: str) -> bool:
    """Grade by the kind of answer in ``check``: ``number``, ``set`` or ``answers`` (with ``articles``)."""
    if "number" in check:
        return is_number(completion, check["number"])
    if "set" in check:
        return is_set(completion, check["set"])
    return is_text(completion, check["answers"], check.get("articles", ()))


def verify(prompt: Prompt, completion: str) -> bool:
    """Verifier of capabilities whose prompts have one final answer."""
    return grade(prompt.check, completion)


def _close(text: str) -> str:
    """Case-folded text without space beside signs."""
    return re.sub(r" ?([^\w\s]) ?", r"\1", " ".join(_folded(text).split()))


def _folded(text: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", _undressed(text)).casefold())


def _undressed(text: str) -> str:
    text = text.translate(_TYPOGRAPHY)
    for _ in range(3):  # \boxed{\text{...}}
        text = _LATEX.sub(r" \1 ", text)
    return text


def _holds(given: list[str], part: list[str]) -> bool:
    return bool(part) and any(given[i : i + len(part)] == part for i in range(len(given) - len(part) + 1))
