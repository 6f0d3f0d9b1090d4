"""Names inside a text: whole words, also in scripts without spaces, and neither denied nor one of several choices."""

from __future__ import annotations

import re
import sys
import unicodedata

#: Combining marks, which Python's ``\w`` leaves out; Thai vowels are among them.
MARKS = "".join(chr(c) for c in range(0x300, 0x1E000) if c <= sys.maxunicode and unicodedata.category(chr(c))[0] == "M")

_WORD = rf"[\w{MARKS}]"
_CHOICE = "or|nor|oder|ou|или|veya|또는|または|あるいは|それとも|或者|或|还是|還是|หรือ"
_NOT = "not|neither|never|nicht|не|不是|不在|并非|並非|ไม่ใช่"
_GAP = """[ "'(*:,]*"""
#: Left of a name: a letter of the same word, a denial or a choice; right of it: the same.
_BAD_LEFT = re.compile(
    rf"(?:{_WORD}[-'.:/]|-|(?:(?<!{_WORD})(?:{_CHOICE}|{_NOT})|n't|[^\x00-\u0dff](?:{_CHOICE}|{_NOT})(?<![a-zа-я])){_GAP}|か|이나 )$"
)
_BAD_RIGHT = re.compile(
    rf"[-'.:/]{_WORD}|[+#]+(?!\w)|{_GAP}(?:{_CHOICE}|不是)(?:(?!{_WORD})|(?<![a-zа-я]))| o(?!{_WORD})|이나 "
    r"|で(?:は|も|な)|じゃ|か(?!$|\W)|(?:이|가|은|는)? ?아[니닙닌]"
)
#: Words after which a name begins, and which may follow it, in text without spaces; by script.
_OPENS = {
    "hira": re.compile("[はがをにでとものやへ]$"),
    "han": re.compile("[是为為在叫到了选選即就称稱於于：]$"),
    "thai": re.compile("(?:คือ|เป็น|ชื่อ|ว่า|ใน|ที่|ได้แก่|เมือง|ประเทศ)$"),
}
_CLOSES = {
    "hira": re.compile(
        "です|でし|だ(?:$|[っよねとがけろか。\\W])|であ|でござ|は|が|を|に|で|と|も|の|や|よ|ね|へ|から|まで|より|という|って|$"
    ),
    "han": re.compile("[是的吗嗎呢吧啊也等。]|和|与|與"),
    "thai": re.compile("ครับ|ค่ะ|คะ|นะ|จ้ะ|เป็น|คือ|และ|ที่|ใน|ของ"),
}
_PARTICLES = re.compile(
    "(?:은|는|이|가|을|를|의|에|에서|에게|로|으로|와|과|도|만|랑|이랑|까지|부터|보다|처럼|께서|이라고|라고|이며|이고|"
    "입니다|이다|이에요|예요|에요|이야|야|요|였다|이었다|였습니다|이었습니다|죠|이죠){1,2}(?![\uac00-\ud7a3])"
)
_ENDING = re.compile("(?:です|でした|だ|である|でございます|입니다|이다|이에요|예요|이야|요|ครับ|ค่ะ|คะ)[\\W_]*$")


def is_mentioned(text: str, words: list[str]) -> bool:
    """True if a text in normal form contains these words in this order, as whole words and as its answer.

    A word ends at a space, a sign or another script. Where a script sets no spaces, it also ends at the words that open and
    close a name: ``答案是北京`` mentions 北京, and ``東京都`` does not mention 京都. ``not Paris`` and ``Paris or Rome`` are no
    answers.

    Example:
        >>> is_mentioned("it is paris", ["paris"]), is_mentioned("not paris", ["paris"])
        (True, False)
    """
    # 5 km and 5km are the same.
    pattern = re.sub(
        r"(?<=[0-9])(?:\[\\W_\]\+)?(?=[^\W0-9_])", lambda _: r"[\W_]*", r"[\W_]+".join(map(re.escape, words))
    )
    return bool(words) and any(_stands(text, *match.span(1)) for match in re.finditer(f"(?=({pattern}))", text))


def without_ending(text: str) -> str:
    """Text without the polite ending of a Japanese, Korean or Thai sentence.

    Example:
        >>> without_ending("東京です")
        '東京'
    """
    return _ENDING.sub("", text)


def script(character: str) -> str:
    """Script of a character, as far as word limits depend on it.

    Example:
        >>> script("京"), script("a")
        ('han', 'spaced')
    """
    for name, low, high in _SCRIPTS:
        if low <= character <= high:
            return name
    return "spaced"


_SCRIPTS = [
    ("thai", "\u0e00", "\u0eff"), ("thai", "\u1000", "\u109f"), ("thai", "\u1780", "\u17ff"), ("hira", "\u3040", "\u309f"),
    ("kata", "\u30a0", "\u30ff"), ("hangul", "\u1100", "\u11ff"), ("hangul", "\u3130", "\u318f"), ("hangul", "\uac00", "\ud7af"),
    ("han", "\u3005", "\u3007"), ("han", "\u3400", "\u9fff"), ("han", "\uf900", "\ufaff"), ("han", "\U00020000", "\U0003ffff"),
]  # fmt: skip


def _stands(text: str, start: int, end: int) -> bool:
    left, right = text[max(0, start - 24) : start], text[end : end + 24]
    if _BAD_LEFT.search(left) or _BAD_RIGHT.match(right):
        return False
    return _begins(left, script(text[start])) and _ends(right, script(text[end - 1]))


def _begins(left: str, first: str) -> bool:
    if not re.search(rf"{_WORD}$", left) or script(left[-1]) != first:
        return True
    return first in _OPENS and bool(_OPENS[first].search(left))


def _ends(right: str, last: str) -> bool:
    if not re.match(_WORD, right):
        return True
    following = script(right[0])
    if following == "hangul":
        return bool(_PARTICLES.match(right))
    if following == "hira" or (following == last and last in _CLOSES):
        return bool(_CLOSES[following].match(right))
    return following != last
