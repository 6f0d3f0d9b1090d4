r"""Find the final answer in a completion and compare it with the answers that a prompt's ``check`` accepts.

The final answer is the first line with a word in it after the last ``Answer:`` (any case, also in other languages), or the
content of the last ``\boxed{}``. A completion without either is an answer as a whole, or, where a number is asked for, its
last number is. Texts are compared in their normal form (:func:`read_env.capabilities.normal_form.normal_form`).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterable, Mapping
from fractions import Fraction
from typing import Any

from read_env.capabilities.base import Prompt
from read_env.capabilities.instruct.mentions import MARKS, is_mentioned, script, without_ending
from read_env.capabilities.instruct.numbers import UNSPACED, Number, as_number, plain_powers, read_numbers
from read_env.capabilities.normal_form import normal_form

#: Maximum words of a reply without a marker; a longer one may be a list of guesses and is not graded.
LONGEST_REPLY = 30
#: Characters of a line in which a number is looked for, from its end.
_LONGEST_LINE = 2000

_MARKER = re.compile(
    r"(?:\b(?:answer(?: is)?|antwort|respuesta|réponse|risposta|resposta|ответ)|答案[是为為]?|答えは?|回答|答|정답|답|คำตอบ)[\s*_`]{0,8}[:：]",
    re.IGNORECASE,
)
_LATEX = re.compile(r"\\(?:boxed|text|mathbf|mathrm|textbf)\s?\{([^{}]*)\}")
_WORD = re.compile(rf"-?[\w{MARKS}]+(?:[-'.:/][\w{MARKS}]+)*(?:[+#]+(?!\w))?")  # C++ is not C
_EMPHASIS = str.maketrans({"*": " ", "`": " "})
# Punctuation without meaning; a hyphen before a space is a minus sign, one at the end may be a charge.
_PUNCTUATION = re.compile(rf"""[\w{MARKS}\s.,;:!?¿¡'"%$€£¥₹₩。、「」『』・،؛؟।]|-(?!\s|$)""")
#: Between two numbers of which neither is the answer: a list, a choice, a range or an operation that is not carried out.
_LIST = re.compile(
    r"[\s,;/|&~()+×*÷:-]*(?:or|and|to|oder|und|bis|ou|et|y|e|または|か|から|或|到|至|또는|หรือ)?[\s,;/|&~()+×*÷:-]*"
)
_CHOICE = re.compile(r"\b(?:or|oder|ou)\b|または|或|또는|หรือ|か(?=[0-9])")
#: A second unknown, as in "x = 5, y = 6".
_SECOND = re.compile(r"[0-9]\s*(?:[,;]|\band\b)\s*(?:and )?[a-z]\w?\s*=[^=]*$")
_DENIED = re.compile(r"""(?:(?<!\w)(?:not|never|nicht)|n't|不是|ไม่ใช่)[ "'(*]*$""")
_DENIED_AFTER = re.compile(r"[^\s0-9]{0,3}?(?:では|じゃ|でな)|\S{0,3}? ?아[니닙닌]")
_OPPOSITES = {"true": ("false", "no"), "yes": ("no", "false"), "false": ("true", "yes"), "no": ("yes", "true")}


def marked(completion: str) -> str | None:
    """Text after the last answer marker, or in the last LaTeX box; None without either.

    >>> marked("2 + 3 is 5. Answer: 5")
    '5'
    """
    # NFC first: an accent of the marker may be a character of its own.
    text = unicodedata.normalize("NFC", completion)
    *before, tail = _MARKER.split(text)
    if before:
        return next((line.strip() for line in tail.splitlines() if any(map(str.isalnum, line))), "")
    start = text.rfind("\\boxed{") + len("\\boxed{")
    if start < len("\\boxed{"):
        return None
    depth = 1
    for end in range(start, len(text)):
        depth += (text[end] == "{") - (text[end] == "}")
        if not depth:
            return text[start:end]
    return None


def reply(completion: str) -> str:
    """Text that is graded: the final answer, or a whole short reply; empty for a long reply without a marker.

    >>> reply("Answer: Paris"), reply("I do not know. " * 20)
    ('Paris', '')
    """
    answer = marked(completion)
    text = completion if answer is None else answer
    return text if len(words(text)) + len(re.findall(f"[{UNSPACED}]", text)) // 2 <= LONGEST_REPLY else ""


def numbers(text: str) -> list[Fraction | None]:
    """All numbers in a text, without separators and units; None for digits that can't be read as one number.

    >>> numbers("from .5 to 1,250 €, at 12:30")
    [Fraction(1, 2), Fraction(1250, 1), None]
    """
    return [number.value for line in text.splitlines() for number in read_numbers(line)[1]]


def words(text: str, articles: Collection[str] = ()) -> list[str]:
    """Words of a text in its normal form, without surrounding punctuation and articles.

    >>> words("**The** Nile!", articles=["the"])
    ['nile']
    """
    found = (word.strip("_") for word in _WORD.findall(_folded(text)))
    return [word for word in found if word and word not in articles]


def is_number(completion: str, value: object) -> bool:
    """True if the final answer is this number; several numbers, a choice, a range or a bare operation are no answer.

    >>> is_number("It is $1,250.", 1250), is_number("Answer: 12 or 13", 12)
    (True, False)
    """
    wanted = as_number(str(value))
    if wanted is None:
        raise ValueError(f"value must be a number, got {value!r}")
    answer = marked(completion)
    lines = (line[-_LONGEST_LINE:] for line in reversed((completion if answer is None else answer).splitlines()))
    line, found = next((read for read in map(read_numbers, lines) if read[1]), ("", []))
    if not found or _SECOND.search(line) or _is_denied(line, found[-1]):
        return False
    if any(_divides(choice, line, found) for choice in _CHOICE.finditer(line)):
        return False
    if answer is not None:
        result = [number for number in found if number.start > line.rfind("=")]
        return bool(result) and all(number.equals(wanted) for number in result)
    listed = len(found) > 1 and _LIST.fullmatch(line[found[-2].end : found[-1].start])
    return found[-1].equals(wanted) and not (listed and not found[-2].equals(wanted))


def is_text(completion: str, accepted: Iterable[str], articles: Collection[str] = ()) -> bool:
    """True if the final answer is one of the accepted texts, word for word.

    >>> is_text("Answer: the Nile", ["Nile"], articles=["the"])
    True
    """
    answer = marked(completion)
    given = _folded(completion if answer is None else answer)
    found = [_joined(words(text, articles)) for text in (given, without_ending(given))]
    return bool(found[0]) and any(_joined(words(text, articles)) in found for text in accepted)


def has_signs(text: str) -> bool:
    """True if signs are part of a text's meaning.

    >>> has_signs("C++"), has_signs("Paris.")
    (True, False)
    """
    return bool(_PUNCTUATION.sub("", _folded(text, emphasis=True)))


def is_written(completion: str, text: str) -> bool:
    """True if the final answer is this text sign for sign, up to case, emphasis and space beside a sign.

    >>> is_written("Answer: `x<3`", "x < 3")
    True
    """
    answer = marked(completion)
    given = _close(completion if answer is None else answer)
    return _close(text) in (given, given.strip("*`$."))


def is_set(completion: str, names: Iterable[str]) -> bool:
    """True if the final answer lists exactly these one-word names, in any order.

    >>> is_set("Answer: Ben and Ada", ["Ada", "Ben"])
    True
    """
    answer = marked(completion)
    given = words(completion if answer is None else answer, ("and", "&"))
    wanted = sorted(word for name in names for word in words(name))
    return bool(given) and sorted(given) == wanted


def mentions(completion: str, accepted: Iterable[str], rivals: Iterable[str] = ()) -> bool:
    """True if the final answer, or a short reply, contains an accepted text as whole words and no rival.

    >>> mentions("It is Paris.", ["Paris"], rivals=["Rome"]), mentions("Paris or Rome", ["Paris"], rivals=["Rome"])
    (True, False)
    """
    text = _folded(reply(completion))
    given, hits = words(text), [hit for hit in map(words, accepted) if is_mentioned(text, hit)]
    return bool(hits) and not any(
        _holds(given, words(r)) and not any(_holds(h, words(r)) for h in hits) for r in rivals
    )


def is_answer(completion: str, text: str) -> bool:
    """True if the final answer is this text, which is compared by its kind: a number, a text with signs, or words.

    >>> is_answer("It is 1,250 €.", "1250"), is_answer("首都は京都です。", "京都"), is_answer("東京都です。", "京都")
    (True, True, False)
    """
    number = as_number(text)
    if number is not None and is_number(completion, text):
        return True
    if number is not None and not ("," in text and number.value is not None and number.value.denominator > 1):
        return False  # "1,5" may be a pair
    if number is None and has_signs(text):
        return is_written(completion, text)
    # After the marker the answer must stand alone; a short reply may contain it in a sentence, unless it is one letter.
    letters = "".join(words(text))
    alone = marked(completion) is not None or (len(letters) == 1 and script(letters) not in ("han", "hangul"))
    return is_text(completion, [text]) if alone or number else mentions(completion, [text], _OPPOSITES.get(letters, ()))


def grade(check: Mapping[str, Any], completion: str) -> bool:
    """Grade by the kind of answer in ``check``: ``number``, ``set`` or ``answers`` (with ``articles``).

    >>> grade({"number": 5}, "Answer: 5"), grade({"answers": ["Nile"]}, "Answer: Rhine")
    (True, False)
    """
    if "number" in check:
        return is_number(completion, check["number"])
    if "set" in check:
        return is_set(completion, check["set"])
    return is_text(completion, check["answers"], check.get("articles", ()))


def verify(prompt: Prompt, completion: str) -> bool:
    """Verifier of capabilities whose prompts have one final answer."""
    return grade(prompt.check, completion)


def _divides(choice: re.Match[str], line: str, found: list[Number]) -> bool:
    """True for a choice between numbers, or beside the last one: 12 or thirteen."""
    if found[0].end <= choice.start() < found[-1].start:
        return True
    last = found[-1]
    beside = line[last.end : choice.start()] if choice.start() >= last.end else line[choice.end() : last.start]
    return not re.search(r"\w", beside)


def _is_denied(line: str, number: Number) -> bool:
    return bool(_DENIED.search(line[: number.start]) or _DENIED_AFTER.match(line[number.end :]))


def _joined(found: list[str]) -> str:
    """Words with one blank between; none between digits and a unit."""
    return re.sub(r"(?<=[0-9]) (?=[^\W0-9_])", "", " ".join(found))


def _close(text: str) -> str:
    """Normal form without space beside signs, powers written with ``^``."""
    text = re.sub(r"\\[()]", " ", re.sub(r"(?<=\w)\*\*(?=\w)", "^", _folded(text, emphasis=True)))
    return re.sub(r" ?([^\w\s]) ?", r"\1", plain_powers(text)).strip()


def _folded(text: str, emphasis: bool = False) -> str:
    """Normal form without LaTeX's boxes and, unless ``emphasis``, Markdown's marks."""
    for _ in range(3):  # \boxed{\text{...}}
        text = _LATEX.sub(r" \1 ", text)
    return normal_form(text if emphasis else text.translate(_EMPHASIS))


def _holds(given: list[str], part: list[str]) -> bool:
    return bool(part) and any(given[i : i + len(part)] == part for i in range(len(given) - len(part) + 1))
