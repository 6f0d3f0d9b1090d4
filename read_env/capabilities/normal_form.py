"""Normal form of a text: the grader, the contamination check and the splits compare texts by it alone."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

#: Compatibility forms that are another way to write the same characters; superscripts and fractions are not among them.
_SAME = ("<wide>", "<narrow>", "<font>", "<compat>", "<square>", "<vertical>", "<small>", "<noBreak>",
         "<isolated>", "<initial>", "<medial>", "<final>")  # fmt: skip
#: Of these, the forms whose digits are digits: ``⒈`` or ``㏠`` beside a digit would make another number.
_DIGITS = ("<wide>", "<font>")
_TYPOGRAPHY = {
    **dict.fromkeys("‘’‚‛′ʹʻʼ´＇", "'"), **dict.fromkeys("“”„‟″«»＂", '"'), **dict.fromkeys("‐‑‒–—―−﹣－", "-"),
    "⁄": "/", "∕": "/", "∶": ":", "٫": ".", "٬": ",", "٪": "%", "ı": "i",
}  # fmt: skip
#: Characters without width: joiners, direction marks, soft hyphen, byte order mark, variation selectors.
_INVISIBLE = re.compile(
    "[\u00ad\u034f\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u206f\ufe00-\ufe0f\ufeff]"
)


def normal_form(text: str) -> str:
    """Normal form of a text: equal for two texts that differ in their encoding, case or typography only.

    Case is folded (``ß`` is ``ss``; the Turkish ``İ``, ``ı`` and ``I`` are ``i``), accents are composed (NFC), full-width,
    half-width and styled characters, ligatures and the digits of all scripts become plain ones, quotes and dashes straight,
    every space one blank, and characters without width are left out. Superscripts and fractions keep their meaning.

    >>> normal_form("Ｗｈａｔ  is\u00a0２−１？")
    'what is 2-1?'
    """
    if not text.isascii():
        plain = "".join(map(_plain, unicodedata.normalize("NFC", _INVISIBLE.sub("", text))))
        # Case is folded between decomposition and composition, as Unicode's canonical caseless match does.
        folded = unicodedata.normalize("NFD", unicodedata.normalize("NFD", plain).casefold())
        text = unicodedata.normalize("NFC", folded.replace("i\u0307", "i"))
    return " ".join(text.casefold().split())


@lru_cache(maxsize=4096)
def _plain(character: str) -> str:
    if character in _TYPOGRAPHY:
        return _TYPOGRAPHY[character]
    digit = unicodedata.decimal(character, None)
    if digit is not None:
        return str(digit)
    tag = unicodedata.decomposition(character).partition(" ")[0]
    if tag not in _SAME:
        return character
    same = unicodedata.normalize("NFKC", character)
    # A lone accent decomposes into a blank with an accent on it.
    if (len(same) > 1 and same[0] == " ") or (tag not in _DIGITS and any(map(str.isdigit, same))):
        return character
    return "".join(_TYPOGRAPHY.get(c, c) for c in same)
