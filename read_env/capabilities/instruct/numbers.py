"""Numbers in a text, however they are written: signs, separators, currencies, percent, fractions, exponents, LaTeX."""

from __future__ import annotations

import re
import unicodedata
from fractions import Fraction
from typing import NamedTuple

from read_env.capabilities.normal_form import normal_form

#: Characters of scripts that set no space between words: Thai to Khmer, kana, Han, Hangul.
UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1100-\u11ff\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u3130-\u318f\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff"

_LONGEST = 1000
_MAX_EXPONENT = 400
_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺", "0123456789-+")
_SCALES = {
    **dict.fromkeys(("hundred", "百", "백", "ร้อย"), 2), **dict.fromkeys(("thousand", "千", "천", "พัน"), 3),
    **dict.fromkeys(("万", "萬", "만", "หมื่น"), 4), **dict.fromkeys(("lakh", "แสน"), 5),
    **dict.fromkeys(("million", "ล้าน"), 6), "crore": 7, **dict.fromkeys(("億", "亿", "억"), 8), "billion": 9,
    **dict.fromkeys(("trillion", "兆", "조"), 12),
}  # fmt: skip
_CURRENCIES = {
    **dict.fromkeys(("usd", "us$", "dollar", "dollars"), "$"), **dict.fromkeys(("eur", "euro", "euros"), "€"), "gbp": "£",
    **dict.fromkeys(("jpy", "yen", "円", "元", "rmb", "cny", "cn¥", "jp¥", "¥"), "¥"), "원": "₩", "krw": "₩", "inr": "₹",
    "rs.": "₹", "rs": "₹", "rub": "₽", "บาท": "฿", "thb": "฿", "chf": "chf",
}  # fmt: skip
_SIGNS = "$€£¥₹₩₽฿₺₴₦₫₱₪"
_NAMES = sorted((name for name in _CURRENCIES if name not in _SIGNS), key=len, reverse=True)
_CURRENCY = rf"(?:(?<![a-z])[a-z]{{0,2}}[{_SIGNS}]|(?<![a-z])(?:{'|'.join(map(re.escape, _NAMES))})(?![a-z]))"

_BLOB = re.compile(
    rf"(?<![^\W{UNSPACED}])(?<!\^)(?<!\^[-+])(?P<number>\.?[0-9]+(?:[.,'_:/-]\.?[0-9]+| [0-9]{{3}}(?![0-9])| [0-9]+/[0-9]+)*)"
    r"(?:e(?P<e>[+-]?[0-9]+)(?![a-z0-9])| ?[x×*·] ?10\^(?P<ten>[+-]?[0-9]+)|\^(?P<power>[+-]?[0-9]+))?\.?"
    rf"(?P<scale> ?(?:{'|'.join(_SCALES)})s?(?![a-z])|k(?![a-z0-9]))?"
    rf"(?P<unit> ?(?:%|‰|per ?cent(?![a-z])|pct(?![a-z])|{_CURRENCY}))?"
    r"(?P<more>[xyziπ](?![a-z])|[√^\\]|\.?[²³⁻⁰¹⁴-⁹])?"  # 5x is not 5
)
_BEFORE = re.compile(
    rf"(?P<sign>(?:[-+±∓√≥≤≠<]|(?<![=-])>|(?<![a-z])(?:minus|negative|moins|menos)|マイナス|负|負|零下|마이너스|ลบ)?)"
    rf"(?P<space>[ (]*)(?:(?P<unit>{_CURRENCY}) ?(?P<inner>[-+]?))?[ (]*$"
)
_PLAIN = re.compile(r"[0-9]+(?:\.[0-9]*)?|\.[0-9]+")
_GROUPED = re.compile(
    r"[1-9][0-9]{0,2}(?P<s>[,' _])[0-9]{3}(?:(?P=s)[0-9]{3})*(?:\.[0-9]+)?|[1-9][0-9]?(?:,[0-9]{2})+,[0-9]{3}(?:\.[0-9]+)?"
)
#: Groups divided by points, or a decimal comma.
_CONTINENTAL = re.compile(r"[1-9][0-9]{0,2}(?:[.' ][0-9]{3})+,[0-9]+|[1-9][0-9]{0,2}(?:\.[0-9]{3}){2,}|[0-9]+,[0-9]+")
_LATEX = re.compile(r"\\(?:text|mathbf|mathrm|textbf|boxed|mbox|operatorname)\s?\{([^{}]*)\}")


class Number(NamedTuple):
    """Number in a text.

    Attributes:
        value: None for digits that can't be read as one number, such as ``1.2.3``, ``12:30``, ``5x`` or ``>5``.
        unit: sign of the currency, ``%``, or empty.
        start, end: span in the line that :func:`read_numbers` returns, sign and unit included.

    >>> (_, [half]), (_, [percent]) = read_numbers("0.5"), read_numbers("50 %")
    >>> half.equals(percent)
    True
    """

    value: Fraction | None
    unit: str
    start: int
    end: int

    def equals(self, other: Number) -> bool:
        """True if both are the same number; a unit counts where both have one, and 50 % is 50 and 0.5."""
        if self.value is None or other.value is None:
            return False
        if self.unit and other.unit:
            return self.value == other.value and (self.unit.endswith(other.unit) or other.unit.endswith(self.unit))
        hundredths = {"%": 100, "‰": 1000}.get(self.unit or other.unit)
        with_unit, bare = (self.value, other.value) if self.unit else (other.value, self.value)
        return with_unit == bare or (hundredths is not None and with_unit / hundredths == bare)


def read_numbers(line: str) -> tuple[str, list[Number]]:
    """Numbers of one line, and the line in the form that their spans refer to.

    >>> [float(number.value) for number in read_numbers("5 km, or 1,200.5 m")[1]]
    [5.0, 1200.5]
    """
    line = plain_line(line)
    found: list[Number] = []
    for match in _BLOB.finditer(line):
        pieces = [(match["number"], match.start())]
        if " " in match["number"] and _value(match["number"]) is None:  # a list of numbers
            starts = [m.start() + match.start() for m in re.finditer(r"\S+", match["number"])]
            pieces = list(zip(match["number"].split(), starts, strict=True))
        for number, start in pieces:
            found.append(_number(line, number, start, match if number is pieces[-1][0] else None))
    return line, found


def as_number(text: str) -> Number | None:
    """Number that a whole text is; None for any other text.

    >>> as_number("(−$1,250.50)").value, as_number("1250.50 apples")
    (Fraction(-2501, 2), None)
    """
    line, found = read_numbers(text)
    if len(found) != 1 or found[0].value is None:
        return None
    around = line[: found[0].start] + line[found[0].end :]
    return None if re.search(r"""[^\s.,;:?"'()。、]""", around) else found[0]  # 5! is 120


def plain_line(text: str) -> str:
    r"""Normal form of a line, its LaTeX, HTML and Markdown turned into plain text.

    >>> plain_line("**\\frac{1}{2}**").strip()
    '1/2'
    """
    text = normal_form(text).replace("{,}", ",")
    if "\\" in text or "$" in text:
        for _ in range(3):  # \boxed{\text{...}}
            text = _LATEX.sub(r" \1 ", text)
        text = text.replace(r"\,", "").replace(r"\!", "").replace(r"\%", "%").replace(r"\$", "$")
        text = re.sub(r"\\(?:times|cdot)(?![a-z])", "×", text)
        text = re.sub(r"(?<=[0-9]) ?\\[dt]?frac", r" \\frac", text)
        text = re.sub(r"\\[dt]?frac ?(?:\{([^{}]*)\} ?\{([^{}]*)\}|([0-9])([0-9]))", r"\1\3/\2\4", text)
        text = re.sub(r"\\[()\[\]]|\\(?:left|right|;|:|quad|circ|approx)(?![a-z])", " ", text)
        text = re.sub(r"\$\$?([^$]+)\$\$?", r" \1 ", text)
    text = re.sub(r"</?[a-z][a-z0-9_]*>", " ", text)
    text = re.sub(r"\*\*(?=[-+]?[0-9])(?<=[0-9]\*\*)", "^", text)  # 2**10; other stars are emphasis
    text = re.sub(r"(?<![0-9)] )(?<![0-9)])\*|\*(?! ?[0-9])|[`]|(?<![^\W_])__?|__?(?![^\W_])", " ", text)
    text = re.sub(r"[¼-¾⅐-⅞↉]", lambda m: " " + unicodedata.normalize("NFKC", m[0]).replace("⁄", "/"), text)
    text = re.sub(r"(?<![a-z])(usd|eur|gbp|jpy|cny|krw|inr|chf|thb|rub)(?=[0-9.])", r"\1 ", plain_powers(text))
    return " ".join(re.sub(r"(?<=[0-9]) ?/ ?(?=[0-9])", "/", text).split())


def plain_powers(text: str) -> str:
    """Text with superscripts and LaTeX's exponents after ``^``.

    >>> plain_powers("10⁻³ and x^{2}")
    '10^-3 and x^2'
    """
    text = re.sub(r"(?<=[^\W_⁰¹²³⁴-⁹]|\))[⁻⁺]?[⁰¹²³⁴-⁹]+", lambda m: "^" + m[0].translate(_SUPERSCRIPTS), text)
    return re.sub(r"\^ ?\{ ?([^{}]*?) ?\}", r"^\1", text)


def _number(line: str, number: str, start: int, blob: re.Match[str] | None) -> Number:
    """Number at a place of the line; ``blob`` has its exponent, scale and unit."""
    before = _BEFORE.search(line, max(0, start - 24), start)
    value, unit, end = _value(number), "", start + len(number)
    negative = False
    if blob is not None:
        last = "unit" if blob["unit"] else "scale"
        end = blob.end(last) if blob[last] else blob.start() + len(blob[0].rstrip("."))
        value = None if blob["more"] is not None else _scaled(value, blob)
        unit = _unit(blob["unit"])
    if before is not None:
        sign, at = before["sign"], before.start()
        previous = line[:at].rstrip()
        operand = re.search(rf"[^\W{UNSPACED}]$|[)\]}}]$", previous)
        if sign in ("-", "+") and not before["space"] and re.search(r"[a-z]$", line[:at]):
            value = None  # covid-19
        elif sign in ("-", "+") and operand and (before["space"] or previous == line[:at]):
            at += 1  # a - 5, 10-5: a dash or an operation
        elif sign and sign not in "-+":
            value, negative = (value, True) if sign.isalpha() else (None, False)
        else:
            negative = sign == "-"
        negative ^= before["inner"] == "-"
        unit = unit or _unit(before["unit"])
        start = at if sign or before["unit"] or before["inner"] else start
    return Number(-value if negative and value is not None else value, unit, start, end)


def _unit(text: str | None) -> str:
    name = (text or "").strip()
    return "%" if name.startswith(("per", "pct")) else _CURRENCIES.get(name, name)


def _scaled(value: Fraction | None, blob: re.Match[str]) -> Fraction | None:
    scale = (blob["scale"] or "").strip()
    exponents = [int(e) for e in (blob["e"], blob["ten"]) if e and len(e) < 6]
    power = int(blob["power"]) if blob["power"] and len(blob["power"]) < 6 else None
    if value is None or len(exponents) != bool(blob["e"] or blob["ten"]) or (power is None) != (blob["power"] is None):
        return None
    exponents.append(3 if scale == "k" else _SCALES.get(scale, _SCALES.get(scale.removesuffix("s"), 0)))
    if abs(sum(exponents)) > _MAX_EXPONENT or abs(power or 0) > _MAX_EXPONENT or (power is not None and value == 0):
        return None
    if power is not None:
        if len(str(value)) * abs(power) > _LONGEST * 2:
            return None
        value = value**power
    return value * Fraction(10) ** sum(exponents)


def _value(number: str) -> Fraction | None:
    """Value of digits with separators; None if they are not one number."""
    if len(number) > _LONGEST:
        return None
    whole, slash, below = number.partition("/")
    if slash:
        mixed, _, above = whole.rpartition(" ")
        numerator, denominator = _value(above), _value(below)
        if "/" in below or numerator is None or not denominator:
            return None
        if mixed and not (mixed.isdigit() and 0 < numerator < denominator):
            return None
        return int(mixed or 0) + numerator / denominator
    if _PLAIN.fullmatch(number):
        return Fraction(number.rstrip(".") if number != "." else "0")
    if _GROUPED.fullmatch(number):
        return Fraction(re.sub("[,' _]", "", number))
    if _CONTINENTAL.fullmatch(number):
        return Fraction(re.sub("[.' ]", "", number).replace(",", "."))
    return None
