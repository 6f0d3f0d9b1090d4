"""A capability from a user's file: a stream that goes round, held-out sets by hash, errors that help."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from read_env.capabilities.base import Suite, split_of
from read_env.capabilities.from_file import _is_right, capability_from_file
from read_env.capabilities.instruct.answers import marked, words
from read_env.capabilities.stream import PromptStream, held_out
from read_env.errors import ReadEnvError


def write(path, rows):
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def capability(tmp_path):
    rows = [
        {"prompt": f"What is {i} + {{1}}?", "answer": [str(i + 1), f"<{i + 1}>"], "difficulty": i % 3 / 2}
        for i in range(200)
    ]
    return capability_from_file(write(tmp_path / "sums.jsonl", rows), "sums")


def test_the_training_stream_goes_round_through_all_its_prompts_before_any_comes_again(capability):
    mine = [p for p in capability.prompts if split_of(p.text) == "stream"]
    for tertile in range(3):
        own = {p.text for p in mine if capability.tertile(p.difficulty) == tertile}
        assert len(own) == pytest.approx(len(mine) / 3, abs=1)
        drawn = [p.text for p in PromptStream(capability, 1).slice(tertile, 0, 2 * len(own))]
        assert set(drawn[: len(own)]) == set(drawn[len(own) :]) == own and drawn[: len(own)] != drawn[len(own) :]


def test_streams_are_seeded(capability):
    assert PromptStream(capability, 1).slice(0, 0, 30) == PromptStream(capability, 1).slice(0, 0, 30)
    assert PromptStream(capability, 1).slice(0, 0, 30) != PromptStream(capability, 2).slice(0, 0, 30)


def test_held_out_sets_are_the_prompts_of_their_split(capability):
    for split in ("probes", "dev", "exam"):
        own = {p.text for p in capability.prompts if split_of(p.text) == split}
        assert {p.text for p in held_out(capability, split, len(own))} == own
        refusal = rf"is {len(own) + 1}, but of the 200 prompts in the file of sums, {len(own)} fall into the {split} split .*add lines"
        with pytest.raises(ReadEnvError, match=refusal):
            held_out(capability, split, len(own) + 1)


def test_a_small_file_loads_and_every_tertile_has_a_prompt(tmp_path):
    rows = [{"prompt": f"Question {i}", "answer": "x", "difficulty": 0.5} for i in range(8)]
    capability = capability_from_file(write(tmp_path / "few.jsonl", rows), "few")
    assert all(len(PromptStream(capability, 0).slice(t, 0, 10)) == 10 for t in range(3))


def test_it_takes_its_place_in_a_suite(capability):
    assert Suite("mine", (capability,))["sums"].templates[0].name == "sums"


def test_answers_are_numbers_lines_or_mentions(tmp_path):
    rows = [{"prompt": f"Question number {i}", "answer": ["New York", "NYC"]} for i in range(20)]
    rows += [{"prompt": f"How many {i}?", "answer": "$1,250"} for i in range(20)]
    capability = capability_from_file(write(tmp_path / "a.jsonl", rows), "a")
    city = next(p for p in capability.prompts if "number" in p.text)
    price = next(p for p in capability.prompts if "many" in p.text)
    assert all(capability.verify(p, p.reference) for p in capability.prompts)
    assert capability.verify(city, "It is new york.") and capability.verify(city, "Some thoughts.\nAnswer: NYC")
    assert not capability.verify(city, "Answer: York") and not capability.verify(city, "")
    assert capability.verify(price, "1000 + 250 = 1250") and not capability.verify(price, "Answer: 1251")


def graded(tmp_path, *accepted):
    """Verdict of ``accepted``, as a function of the completion."""
    rows = [{"prompt": f"Question {i}", "answer": list(accepted)} for i in range(8)]
    capability = capability_from_file(write(tmp_path / "graded.jsonl", rows), "graded")
    return lambda completion: capability.verify(capability.prompts[0], completion)


@pytest.mark.parametrize(("answer", "right", "wrong"), [
    # A number that is mentioned on the way, or as one of several, is no answer.
    ("12", ["12", "It is 12.", "6 + 6 = 12", "Answer: 12 apples"],
     ["2 4 6 8 10 12 14", "It could be 12 or 13", "12 - 1 = 11", "Answer: 12 or 13"]),
    ("5", ["10 - 5 = 5", "x = 5"], ["10 - 5 = 6", "5 of them are gone, so 4"]),
    # Nor is a letter that is a word of the language.
    ("A", ["A", "a.", "(A)", "Answer: A", "Answer: **A**"], ["It is a good question", "A or B", "Answer: B", "Answer: A bee"]),
    # Signs are a part of what an answer says.
    ("x < 3", ["x < 3", "Answer: x<3", "Answer: $x < 3$.", "Answer: **X < 3**", "\\boxed{x < 3}"],
     ["x > 3", "x = 3", "Answer: x 3", "Answer: x < 3 or x > 5", "Answer: x < 4"]),
    ("3x + 2", ["3x+2", "Answer: 3x + 2."], ["3x / 2", "3x - 2", "Answer: 3x 2"]),
    ("3x - 2", ["Answer: 3x - 2", "3x − 2"], ["3x + 2", "3x 2"]),
    ("C++", ["c++", "Answer: C++", "`C++`"], ["C#", "C", "Answer: C+"]),
    ("C", ["c", "Answer: **C**"], ["C++", "Answer: C++", "Answer: C#", "C+"]),
    ("<5", ["Answer: <5", "< 5"], ["5", "Answer: 5", ">5"]),
    ("5½", ["5½", "Answer: 5½"], ["5", "Answer: 5"]),
    ("1 2/3", ["Answer: 1 2/3", "1 2 / 3"], ["12/3", "1 2"]),
    # Punctuation is not.
    ("L’Île-d'Yeu, France", ["Answer: l'île-d'yeu (France)", "It is L'Île-d’Yeu, France."], ["Answer: France"]),
], ids=lambda value: value if isinstance(value, str) else "")  # fmt: skip
def test_what_an_answer_accepts(tmp_path, answer, right, wrong):
    accepts = graded(tmp_path, answer)
    assert [text for text in right if not accepts(text)] == []
    assert [text for text in wrong if accepts(text)] == []


def test_each_of_several_accepted_answers_is_compared_in_its_own_way(tmp_path):
    accepts = graded(tmp_path, "3", "three", "x = 3")
    assert accepts("There are three.") and accepts("Answer: 3.0") and accepts("Answer: x = 3")
    assert not accepts("3 4") and not accepts("Answer: x = 4")


@given(st.text(st.characters(exclude_categories=("Cs", "Cc", "Zl", "Zp")), min_size=1, max_size=30))
@settings(max_examples=200, deadline=None)
def test_an_answer_on_one_line_accepts_itself(answer):
    if words(answer) and marked(answer) is None:
        assert _is_right([answer], f"Answer: {answer}")


def test_a_byte_order_mark_is_no_part_of_the_first_line(tmp_path):
    rows = [json.dumps({"prompt": f"Question {i}", "answer": "x"}) for i in range(8)]
    path = tmp_path / "windows.jsonl"
    path.write_text("\r\n".join(rows), encoding="utf-8-sig")
    assert len(capability_from_file(path, "windows").prompts) == 8


def test_prompts_with_braces_are_taken_as_they_are(capability):
    assert all("{1}" in p.text for p in capability.prompts)


@pytest.mark.parametrize(("row", "message"), [
    ("{oops", r"line 2: '\{oops' is no JSON .*; write one object per line"),
    ("[1]", r"line 2: \[1\] is no JSON object"),
    ({"answer": "x"}, r"line 2: field 'prompt' is missing"),
    ({"prompt": "x"}, r"line 2: field 'answer' is missing"),
    ({"prompt": " ", "answer": "x"}, r"line 2: prompt = ' ' must be a text that is not empty"),
    ({"prompt": 3, "answer": "x"}, r"line 2: prompt = 3 must be a text"),
    ({"prompt": "x", "answer": []}, r"line 2: answer = \[\] must be a text"),
    ({"prompt": "x", "answer": ["y", None]}, r"line 2: answer = \['y', None\] must be a text"),
    ({"prompt": "x", "answer": "?"}, r"line 2: answer = '\?' must be a text with a letter or digit"),
    ({"prompt": "x", "answer": ["y", "3 + 4 = 7\n#### 7"]}, r"line 2: answer = '3 \+ 4.* must fit on one line without"),
    ({"prompt": "x", "answer": "So. Answer: 7"}, r"line 2: answer = 'So\. Answer: 7' must fit on one line without 'Answer:'"),
    ('{"prompt": "x \\ud800", "answer": "y"}', r"line 2: prompt = 'x \\ud800' has half a character"),
    ('{"prompt": "x", "answer": ["y", "\\udc00z"]}', r"line 2: answer = '\\udc00z' has half a character"),
    ({"prompt": "x", "answer": "y", "difficulty": 2}, r"line 2: difficulty = 2 must be a number from 0 to 1"),
    ({"prompt": "x", "answer": "y", "difficulty": True}, r"line 2: difficulty = True must be"),
    ({"prompt": "x", "answer": "y", "difficulty": None}, r"line 2: difficulty = None must be"),
    ('{"prompt": "x", "answer": "y", "difficulty": NaN}', r"line 2: difficulty = nan must be"),
])  # fmt: skip
def test_a_malformed_line_is_named_with_its_value_and_what_would_be_right(tmp_path, row, message):
    path = write(tmp_path / "bad.jsonl", [{"prompt": "fine", "answer": "yes"}, row])
    with pytest.raises(ReadEnvError, match=r"bad\.jsonl, " + message):
        capability_from_file(path, "bad")


def test_a_prompt_that_occurs_twice_is_refused_with_both_lines(tmp_path):
    path = write(
        tmp_path / "two.jsonl", [{"prompt": "Who is it?", "answer": "a"}, "", {"prompt": "who  is IT?", "answer": "b"}]
    )
    with pytest.raises(ReadEnvError, match=r"two\.jsonl, lines 1 and 3: prompt 'who  is IT\?' occurs twice"):
        capability_from_file(path, "two")


def test_a_file_that_is_missing_empty_or_no_text_is_refused(tmp_path):
    with pytest.raises(ReadEnvError, match=r"none\.jsonl: can't be read"):
        capability_from_file(tmp_path / "none.jsonl", "x")
    with pytest.raises(ReadEnvError, match=r"0 prompts, of which 0 fall into the training stream; at least 3"):
        capability_from_file(write(tmp_path / "empty.jsonl", []), "x")
    (tmp_path / "bytes.jsonl").write_bytes(b"ab\xff")
    with pytest.raises(ReadEnvError, match=r"line 1: byte 2 \(0xff\) is not UTF-8"):
        capability_from_file(tmp_path / "bytes.jsonl", "x")
