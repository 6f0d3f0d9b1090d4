"""Grading: every way to write the same answer is accepted, and every other answer is refused."""

import re
import unicodedata
from fractions import Fraction

import pytest
from documents import ROOT
from hypothesis import example, given, settings
from hypothesis import strategies as st

from read_env.capabilities.base import normalised_hash
from read_env.capabilities.instruct.answers import is_answer, is_number, words
from read_env.capabilities.instruct.numbers import as_number
from read_env.capabilities.normal_form import normal_form

SAME = [
    ["5", "+5", "5.", "5.0", "(5)", "５", "٥", "५", "๕", "5,0", "10/2", "$5$", r"\(5\)", r"\boxed{5}", "**5**", "`5`", "<b>5</b>",
     "\u200b5", "5\u00a0", "5\ufeff", "𝟓", "5e0", "0.5×10^1"],
    ["-5", "−5", "–5", "- 5", "-5.00", "－５", "minus 5", "Negative 5", r"-\frac{10}{2}", "−\u00a05", "-(5)"],
    ["$5", "US$5", "5 USD", "$5.00", "5 $", r"\$5", "＄5", "5 dollars"],
    ["-$5", "$-5", "−$5.00", "-5 USD"],
    ["5 €", "€5", "5,00 €", "EUR 5", "EUR5", "5\u00a0€", "5 euros"],
    ["¥500", "500円", "￥500", "500 yen", "500 JPY"],
    ["£5", "5 GBP", "￡5"],
    [".5", "0.5", "0,5", "1/2", "½", "5e-1", "50%", r"\frac{1}{2}", r"\dfrac12", "٠٫٥", "５０％", "1 / 2", "2/4"],
    ["1000", "1,000", "1 000", "1'000", "1’000", "1\u202f000", "1_000", "1000.0", "1e3", "10^3", "10³", "1 thousand", "1,000.00", "1k",
     "１，０００", "1×10^{3}", r"1 \times 10^{3}", "1{,}000", "10**3", "1٬000"],
    ["1234567", "1,234,567", "12,34,567", "1.234.567", "1 234 567", "1'234'567", "1,234,567.0"],
    ["1234.56", "1,234.56", "1.234,56", "1 234,56", "1'234.56"],
    ["5%", "5 %", "5 percent", "0.05", r"5\%", "5 per cent"],
    ["120000", "12万", "120,000", "１２万", "12만"],
    ["5000000", "5 million", "5,000,000", "500万"],
    ["1 1/2", "1½", "1.5", "3/2", r"1\frac{1}{2}", "1,5"],
]  # fmt: skip
SENTENCES = ["{}", "Answer: {}", "Answer: {}.", "It is {}.", "First 2 and 3.\nSo it is {}", "答えは{}です。", "答案：{}", "정답은 {}입니다", "คำตอบคือ {} ครับ",
             r"\boxed{{{}}}", "ANSWER : **{}**", "x = {}", "2 + 3 is {}"]  # fmt: skip


@pytest.mark.parametrize("forms", SAME, ids=lambda forms: forms[0])
def test_every_way_to_write_a_number_accepts_every_other(forms):
    assert [(a, b) for a in forms for b in forms if not is_answer(f"Answer: {b}", a)] == []
    assert [(a, b) for a in forms for b in forms if not is_answer(b, a)] == []
    plain = [f for f in forms if f[0].isalnum() and "\\" not in f]
    assert [text for b in plain for text in (s.format(b) for s in SENTENCES) if not is_answer(text, forms[0])] == []


def test_different_numbers_are_refused_however_they_are_written():
    alike = {
        frozenset(pair) for pair in [("5", "$5"), ("5", "5 €"), ("5", "£5"), ("5", "5%"), ("-5", "-$5")]
    }  # a unit is left out
    wrong = [
        (a, b) for mine in SAME for theirs in SAME if mine is not theirs and frozenset((mine[0], theirs[0])) not in alike
        for a in mine for b in theirs if is_answer(f"Answer: {b}", a) or is_answer(b, a)
    ]  # fmt: skip
    assert wrong == []


@pytest.mark.parametrize(("answer", "wrong"), [
    ("12", ["12 or 13", "13 or 12", "12 / 13", "12-13", "13, 12", "12, 13", "12–14", "between 11 and 12", "11 to 12", "not 12", "It isn't 12.",
            "12万", "12兆", "12 million", "12k", "12x", "12π", "12²", "12^2", "2^12", "√12", "±12", ">12", "≥ 12", "<12", "12:30", "30:12", "1.2.12",
            "2024-05-12", "B12", "covid-12", "1.2", "120", "0.12", "-12", "−12", "12.5", "12,5", "1,2", "12/5", "x = 3 or x = 12",
            "x = 3, y = 12", "11 12", "6 × 12", "24 - 12", "24/12", "12では​ない", "12가 아닙니다", "不是12", "11か12", "11或12", "minus 12",
            "negative 12", "12e1", "1 2", "twelve or 12", "12 or thirteen", "12 hundred"]),
    ("15", ["1.5", "1,5", "1 5", "1'5", "15%5", "0.15", "150"]),
    ("1.5", ["15", "1,05", "1.05", "-1.5", "1.5.2", "1:5", "1.5e1"]),
    ("1000", ["1.000", "1,00", "10,00", "1,0000", "1 00", "1,000,00", "1000 or 2000"]),
    ("$5", ["€5", "£5", "5 EUR", "$50", "-$5", "$5 or $6", "5%", "500円"]),
    ("50%", ["0.5%", "5%", "500", "$50", "-50%", "50‰", "0.05"]),
    ("1/2", ["2", "1", "12", "2/1", "1/2/3", "-1/2", "1 or 2", "1 2"]),
])  # fmt: skip
def test_another_number_a_choice_or_a_part_of_a_number_is_refused(answer, wrong):
    for marker in ("", "Answer: "):
        assert [text for text in wrong if is_answer(f"{marker}{text}", answer)] == []


@pytest.mark.parametrize(("answer", "right", "wrong"), [
    ("北京", ["北京", "北京。", "答案是北京。", "中国的首都是北京", "首都为北京。", "答案：北京", "北京是首都", "「北京」", "答案是：北京"],
     ["南北京路", "不是北京", "北京或南京", "南京还是北京", "南京", "京", "北京不是首都"]),
    ("京都", ["答えは京都です。", "京都だと思います", "京都に行きました", "Answer: 京都です", "古都は京都"], ["東京都です", "京都ではありません", "京都じゃない", "東京か京都です", "大阪または京都", "京都府"]),
    ("ロンドン", ["ロンドンです", "首都はロンドンです", "ﾛﾝﾄﾞﾝ", "英国のロンドン", unicodedata.normalize("NFD", "ロンドン")], ["ニューロンドン", "ロンドンでは", "ロンドンっ子"]),
    ("さくら", ["答えはさくらです", "さくらだ"], ["みさくら", "さくらんぼ"]),
    ("猫", ["猫です", "答えは猫です", "答案是猫"], ["猫舌です", "山猫", "熊猫"]),
    ("서울", ["서울입니다", "서울은 수도입니다.", "정답: 서울", "정답: 서울입니다.", "답은 서울이에요", "수도는 서울이다", "서울에서는", unicodedata.normalize("NFD", "서울")],
     ["남서울", "서울대", "서울이 아닙니다", "서울 또는 부산", "부산", "서울특별시", "서울이나 부산", "부산이나 서울"]),
    ("กรุงเทพ", ["กรุงเทพ", "คำตอบคือกรุงเทพ", "คำตอบคือกรุงเทพครับ", "คำตอบ: กรุงเทพ"], ["กรุงเทพมหานคร", "ไม่ใช่กรุงเทพ", "กรุงเทพหรือเชียงใหม่", "กรุง"]),
    ("Paris", ["答えはParisです", "Paris입니다", "答案是Paris。", "It is “Paris”.", "pa\u200bris", "Ｐａｒｉｓ", "Paris, not Rome"],
     ["Parisian", "Paris or Rome", "Rome or Paris", "not Paris", "neither Paris nor Rome", "It isn't Paris", "Paris-Roubaix", "Paris ou Rome", "París o Roma"]),
    ("Straße", ["STRASSE", "strasse", "die Straße."], ["Strase", "Strassen"]),
    ("İstanbul", ["istanbul", "ISTANBUL", "Istanbul", "i̇stanbul", "It is İSTANBUL."], ["stanbul"]),
    ("Diyarbakır", ["DİYARBAKIR", "DIYARBAKIR", "diyarbakır"], ["Diyarbaker"]),
    ("café", [unicodedata.normalize("NFD", "Café"), "CAFÉ", "The café."], ["cafe", "cafés"]),
    ("rock 'n' roll", ["rock ’n’ roll", "Rock ‘n’ Roll"], ["rock roll"]),
    ("Jean-Paul", ["Jean‑Paul", "jean–paul", "jean\u00adpaul"[:4] + "-paul"], ["Jean Paul Sartre or Jean", "Paul"]),
    ("ﬁre", ["fire", "FIRE"], ["fre"]),
    ("5 km", ["5km", "It is 5 km.", "５\u00a0ｋｍ"], ["5 m", "15 km", "5", "50 km"]),
    ("x^2", ["x²", "x**2", "$x^{2}$", r"\(x^2\)"], ["x^3", "x2", "x", "2"]),
    ("yes", ["Yes.", "Yes, it is.", "Answer: YES"], ["No", "yes or no", "No, yes", "not yes"]),
    ("false", ["False", "It is false."], ["true", "not false", "true or false", "yes, false"]),
])  # fmt: skip
def test_names_are_found_in_every_script_and_not_in_parts_denials_or_choices(answer, right, wrong):
    assert [text for text in right if not is_answer(text, answer)] == []
    assert [text for text in wrong if is_answer(text, answer)] == []
    assert all(normal_form(unicodedata.normalize(form, answer)) == normal_form(answer) for form in ("NFC", "NFD"))


VALUES = st.fractions(-(10**9), 10**9, max_denominator=1000).map(lambda f: Fraction(round(f * 1000), 1000))


def written(value, grouping, decimal, sign, digits, around):
    """One of the ways to write a number."""
    whole, _, part = f"{abs(value).numerator * 1000 // abs(value).denominator / 1000:.3f}".partition(".")
    part = part.rstrip("0")
    if grouping:
        whole = f"{int(whole):,}".replace(",", grouping)
    text = f"{sign if value < 0 else ''}{whole}{decimal + part if part else ''}"
    return around.format(text.translate({48 + i: ord(digits) + i for i in range(10)}))


FORMS = st.tuples(
    st.sampled_from([("", "."), (",", "."), (" ", "."), ("'", "."), ("_", "."), ("\u202f", ".")]), st.sampled_from("-−–－"),
    st.sampled_from("0０٠०๐"), st.sampled_from(["{}", "{}.", "({})", "${}$", "**{}**", r"\boxed{{{}}}", "\u200b{}", "it is {}", "= {}", "答えは{}です"]),
)  # fmt: skip


@given(VALUES, FORMS, FORMS)
@settings(max_examples=300, deadline=None)
def test_a_number_is_accepted_in_all_its_forms(value, mine, theirs):
    a, b = (written(value, *form[0], *form[1:]) for form in ((*mine[:3], "{}"), theirs))
    assert as_number(a).value == value and is_answer(b, a), (a, b)


@given(VALUES, VALUES, FORMS)
@example(Fraction(3, 2), Fraction(15), ((",", "."), "-", "0", "{}"))
@example(Fraction(-5), Fraction(5), ((",", "."), "−", "0", "{}"))
@settings(max_examples=300, deadline=None)
def test_another_number_is_refused_in_all_its_forms(value, other, form):
    text = written(other, *form[0], *form[1:])
    assert is_number(text, str(float(value))) == (value == other), text


@given(st.text(max_size=40))
@settings(max_examples=500, deadline=None)
def test_the_normal_form_does_not_depend_on_case_or_encoding(text):
    same = normal_form(text)
    assert normal_form(same) == same and normal_form(text.upper()) == normal_form(text.upper().lower())
    for form in ("NFC", "NFD"):
        assert normal_form(unicodedata.normalize(form, text)) == same


@given(st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=30))
@settings(max_examples=300, deadline=None)
def test_prompts_that_are_equal_share_a_split(text):
    variant = unicodedata.normalize("NFD", f" {text}\u00a0").replace(" ", "\u3000")
    assert normalised_hash(variant) == normalised_hash(text)


def test_plain_prompts_keep_the_split_that_they_had():
    assert normal_form("What  IS\t2+2? 'a' \"b\" - c_d") == "what is 2+2? 'a' \"b\" - c_d"
    assert normalised_hash("say, main city of chile") == 15719561420409084610


@given(st.text(max_size=60), st.sampled_from(["5", "北京", "x < 3", "Paris", "½", "yes"]))
@settings(max_examples=300, deadline=None)
def test_any_completion_is_graded(text, answer):
    assert is_answer(text, answer) in (True, False) and is_answer(f"Answer: {text}", answer) in (True, False)
    assert isinstance(words(text), list)


def test_the_table_of_the_guide_holds():
    table = (ROOT / "docs/your_own.md").read_text(encoding="utf-8").partition("| answer |")[2].partition("\n\n")[0]
    rows = [
        [re.findall("`([^`]+)`", cell) for cell in line.strip("|").split(" | ")] for line in table.splitlines()[2:-1]
    ]
    assert len(rows) >= 10
    for answers, right, wrong in rows:
        for i, answer in enumerate(answers):
            mine = slice(i, i + 1) if len(answers) > 1 else slice(None)
            twelve = {"120000", "12万"}
            assert [text for text in right[mine] if text not in twelve and not is_answer(text, answer)] == []
            assert [text for text in wrong[mine] if text != "Answer:" and is_answer(text, answer)] == []
