"""Spans of two tokenizations of one text: the shortest runs of tokens that have the same bytes on both sides."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple


class Span(NamedTuple):
    """Tokens ``teacher[0]:teacher[1]`` on one side and ``student[0]:student[1]`` on the other.

    Example:
        >>> Span((0, 1), (0, 1)).one_to_one, Span((0, 1), (0, 2)).one_to_one
        (True, False)
    """

    teacher: tuple[int, int]
    student: tuple[int, int]

    @property
    def one_to_one(self) -> bool:
        """True for one token on either side."""
        return self.teacher[1] - self.teacher[0] == 1 == self.student[1] - self.student[0]


def spans_of(text: str, teacher: Sequence[bytes], student: Sequence[bytes]) -> list[Span]:
    """Spans of a text, in order; each side's tokens are covered without gaps up to the last common boundary.

    A span ends where a token of either side does. A token without bytes belongs to the span after it. Bytes around the text,
    such as the first space of SentencePiece or a line break that the chat template adds, belong to the tokens that have
    them and move no boundary.

    Args:
        text: text that both sides spell; a side may spell more after it.
        teacher: bytes of each of the teacher's tokens.
        student: bytes of each of the student's tokens.

    Example:
        >>> spans_of("ab cd", [b"ab", b" c", b"d"], [b"a", b"b", b" cd"])
        [Span(teacher=(0, 1), student=(0, 2)), Span(teacher=(1, 3), student=(2, 3))]
    """
    (from_teacher, from_student), length = _common(text, b"".join(teacher), b"".join(student))
    theirs, ours = (
        [max(0, end - start) for end in accumulate(map(len, tokens))]
        for tokens, start in ((teacher, from_teacher), (student, from_student))
    )
    spans: list[Span] = []
    begun, there, here = (0, 0), 0, 0
    while there < len(theirs) and here < len(ours) and max(theirs[there], ours[here]) <= length:
        behind, ahead = theirs[there] < ours[here], theirs[there] > ours[here]
        there += not ahead
        here += not behind
        if not behind and not ahead:
            spans.append(Span((begun[0], there), (begun[1], here)))
            begun = there, here
    return spans


def _common(text: str, teacher: bytes, student: bytes) -> tuple[tuple[int, int], int]:
    """Position of the text in the bytes of either side, and its length in bytes.

    A chat template may trim the text. Bytes that a tokenizer has normalised end what is common.
    """
    for common in (text.encode("utf-8", "surrogatepass"), text.strip().encode("utf-8", "surrogatepass")):
        found = _position(common, teacher), _position(common, student)
        if min(found) >= 0:
            return found, len(common)
    differ = (i for i, (a, b) in enumerate(zip(teacher, student, strict=False)) if a != b)
    return (0, 0), next(differ, min(len(teacher), len(student)))


def _position(text: bytes, whole: bytes) -> int:
    return len(whole) - len(text) if whole.endswith(text) else whole.find(text)
