"""The instruct suite: every prompt has a right answer, and only right answers are accepted."""

import json
import random
import re
import unicodedata
from collections import Counter
from contextlib import suppress
from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from read_env.capabilities import get_suite, split_of
from read_env.capabilities.base import SPLITS, Prompt, normalised_hash
from read_env.capabilities.diversity import diversity
from read_env.capabilities.instruct import answers, constraints, facts
from read_env.capabilities.instruct.code import python_block
from read_env.capabilities.instruct.numerals import values
from read_env.capabilities.instruct.puzzles import knights_and_knaves, solutions
from read_env.capabilities.instruct.tables import number_words
from read_env.capabilities.instruct.tool_use import last_object
from read_env.capabilities.instruct.topics import TOPICS
from read_env.capabilities.stream import PromptStream, held_out
from read_env.errors import ReadEnvError

SUITE = get_suite("instruct")
TEMPLATES = [(c, t) for c in SUITE for t in c.templates]
with suppress(ReadEnvError):  # without the package
    MORE = [(c, t) for c in get_suite("instruct+reasoning-gym") for t in c.templates]
    TEMPLATES += [(c, t) for c, t in MORE if t not in SUITE[c.name].templates]
capability = pytest.mark.parametrize("capability", SUITE.capabilities, ids=SUITE.names)
template = pytest.mark.parametrize(
    ("capability", "template"), TEMPLATES, ids=[f"{c.name}-{t.name}" for c, t in TEMPLATES]
)


def draw(capability, template, count, seed=0):
    rng = random.Random(f"{template.name}/{seed}")
    return [capability.draw(template, rng) for _ in range(count)]


def named(capability, name):
    return next(template for template in capability.templates if template.name == name)


def test_the_suite_has_the_same_capabilities_in_the_same_order_as_micro():
    assert (*SUITE.names, "sums", "prices") == get_suite("micro").names


@capability
def test_all_templates_of_a_capability_share_their_difficulty_factors(capability):
    assert len(capability.templates) >= 3
    names = {frozenset(t.fill(random.Random(s)).factors) for t in capability.templates for s in range(20)}
    assert len(names) == 1 and names.pop()


@template
def test_a_template_has_many_prompts_whose_references_are_right(capability, template):
    prompts = draw(capability, template, 320)
    assert len({normalised_hash(p.text) for p in prompts if split_of(p.text) == "stream"}) >= 200
    assert all(0 <= p.difficulty <= 1 for p in prompts)
    for prompt in prompts:
        assert capability.verify(prompt, prompt.reference), (prompt.text[-200:], prompt.reference, prompt.check)
        json.dumps(prompt.check)


@template
def test_a_constant_answer_is_rarely_right(capability, template):
    prompts = draw(capability, template, 150, seed=1)
    often = Counter(p.reference.rpartition("Answer:")[2] for p in prompts).most_common(3)
    for answer, _ in often:
        completion = next(p.reference for p in prompts if p.reference.rpartition("Answer:")[2] == answer)
        assert sum(capability.verify(p, completion) for p in prompts) / len(prompts) <= 0.15


@template
def test_wrong_and_empty_answers_are_refused(capability, template):
    odd = ("{}", "```python\n```", "{" * 50, "9" * 5000, "=" * 400)
    for prompt in draw(capability, template, 20, seed=2):
        for wrong in ("", "   \n", "Answer:", "Answer: no idea", "I do not know.", *odd):
            assert not capability.verify(prompt, wrong), (prompt.text, wrong)


@pytest.mark.parametrize("capability", [*SUITE, *get_suite("micro")])
def test_held_out_sets_of_all_splits_can_be_filled_and_splits_are_disjoint(capability):
    stream, count = PromptStream(capability, 0), 128 if capability in SUITE.capabilities else 96
    found = {split: {normalised_hash(p.text) for p in held_out(capability, split, count)} for split in SPLITS[1:]}
    assert [len(hashes) for hashes in found.values()] == [count] * 3
    found["stream"] = {normalised_hash(p.text) for tertile in range(3) for p in stream.slice(tertile, 0, 150)}
    assert len(found["stream"]) >= 64
    assert len(set().union(*found.values())) == sum(map(len, found.values()))


@capability
def test_every_tertile_of_a_stream_draws_on_several_templates(capability):
    stream = PromptStream(capability, 3)
    for tertile in range(3):
        assert max(Counter(p.template for p in stream.slice(tertile, 0, 80)).values()) <= 50


@template
@given(text=st.text(max_size=300))
@settings(max_examples=60, deadline=None)
def test_no_text_makes_a_verifier_raise(capability, template, text):
    (prompt,) = draw(capability, template, 1)
    assert capability.verify(prompt, text) in (True, False)
    assert capability.verify(prompt, f"Answer: {text}") in (True, False)


@capability
@pytest.mark.parametrize(
    "text", ["{" * 30_000, '{"a":' * 20_000, "```" * 20_000, "9" * 60_000, "\\boxed{" * 10_000, "a " * 40_000, "- " * 30_000,
             "```python\n" * 10_000, "[" * 30_000, "1,111" * 12_000, ". " * 30_000, "\ud800", "a\0b", "Answer:" * 8000],
    ids=range(14),
)  # fmt: skip
@pytest.mark.filterwarnings("error")
def test_long_and_odd_texts_are_graded_quickly(capability, text):
    for template in capability.templates:
        assert not capability.verify(draw(capability, template, 1)[0], text)


# --- answers -----------------------------------------------------------------------------------


@pytest.mark.parametrize("text", [
    "42", "42.0", "$42", "42.", "\\boxed{42}", "$\\boxed{\\text{42}}$", "**Answer:** 42", "answer: 42", "Answer: **$42.00**",
    "12 + 30 = 42", "7\nAnswer: x = 42", "Answer: 13\nAnswer: 42", "Answer:\n\n42 apples", "So it is 40 + 2, that is 42.",
])  # fmt: skip
def test_a_number_is_found_however_it_is_written(text):
    assert answers.is_number(text, "42")


@pytest.mark.parametrize(
    "text", ["43", "Answer: 42 or 43", "42 then 43", "-42", "4 2", "Answer: forty-two", "", "420", "42.5"]
)
def test_another_number_or_a_choice_of_numbers_is_refused(text):
    assert not answers.is_number(text, "42")


def test_thousands_and_signs_are_read():
    assert answers.is_number("Answer: 1,234", 1234) and answers.is_number("$1{,}234$", 1234)
    assert answers.is_number("Answer: −7", -7) and not answers.is_number("10-7", -7)


def test_accents_count_but_not_how_they_are_encoded():
    assert answers.is_text(unicodedata.normalize("NFD", "Answer: Fünf."), ["fünf"])
    assert not answers.is_text("Answer: funf", ["fünf"])
    assert answers.is_text("Réponse : le mardi", ["mardi"], ["le"]) and not answers.is_text("le mardi", ["mardi"])


def test_a_set_of_names_may_come_in_any_order_but_must_be_complete():
    assert answers.is_set("Answer: Ben and Ada.", ["Ada", "Ben"]) and answers.is_set("ada, ben", ["Ada", "Ben"])
    assert not answers.is_set("Answer: Ada", ["Ada", "Ben"]) and not answers.is_set("Ada, Ben, Leo", ["Ada", "Ben"])


def test_a_fact_is_accepted_in_a_short_reply_that_names_no_other_answer():
    check = {"answers": ["Paris"], "relation": "capital", "subject": "France"}
    prompt = Prompt("general_knowledge", "capital", "?", "Answer: Paris", 0.5, check)
    verify = SUITE["general_knowledge"].verify
    assert verify(prompt, "The capital of France is Paris.") and verify(prompt, "ANSWER: paris")
    assert not any(verify(prompt, text) for text in ("Paris or Rome", "Parisian", "paris " + "so " * 30))


KNOWN = {
    "years": ("year", "did the Second World War end", ["1945", "It ended in 1945.", "Answer: September 2, 1945"],
              ["1945 or 1946", "1939-1945", "Answer: 1939", "45", "19450"]),
    "thousands": ("count", "seconds are there in an hour",
                  ["3600", "3,600", "Answer: 60 × 60 = 3,600 seconds", "Three thousand six hundred",
                   "There are 3600 seconds in one hour.", "An hour has 3,600 seconds (60 × 60 = 3600)"],
                  ["3,600 or 360", "3", "600", "3 6 00", "60 × 60"]),
    "small": ("count", "letters are there in the English alphabet",
              ["26", "twenty six", "Twenty-six.", "Answer: 26 (twenty-six)"], ["26 or 24", "twenty or six", "twenty", "6"]),
    "words": ("count", "bones does an adult human have", ["two hundred and six", "206 bones", "Two hundred six"],
              ["two hundred", "six", "206, two or six", "two hundred and sixty"]),
    "one": ("count", "years are there in a century", ["a hundred", "one hundred years", "Hundred"],
            ["a thousand", "one hundred or two hundred", "one"]),
    "asked": ("count", "months have 31 days", ["Seven months have 31 days.", "7"], ["31", "7 or 8", "Seven or eight"]),
    "moons": ("count", "moons does Mars have", ["2", "two", "Mars has two moons."], ["2 or 1", "two or one", "1"]),
    "units": ("unit", "force", ["newton", "Newtons", "It is measured in newtons."], ["newtons or joules", "joules", "newtonss"]),
    "same": ("unit", "frequency", ["hertz"], ["hertzs", "hertz or lux"]),
    "young": ("young", "a dog", ["puppy", "Puppies.", "pups"], ["kittens", "puppys", "puppies, kittens"]),
}  # fmt: skip


@pytest.mark.parametrize(("relation", "subject", "right", "wrong"), KNOWN.values(), ids=KNOWN)
def test_a_fact_is_accepted_in_the_ways_it_is_said_but_not_as_one_of_several(relation, subject, right, wrong):
    knowledge = SUITE["general_knowledge"]
    prompt = next(p for p in draw(knowledge, named(knowledge, relation), 2000) if p.check["subject"] == subject)
    assert [text for text in right if not knowledge.verify(prompt, text)] == []
    assert [text for text in wrong if knowledge.verify(prompt, text)] == []


@pytest.mark.parametrize(("text", "found"), [
    ("one thousand and one", {1001}), ("Nine Thousand nine hundred ninety-nine", {9999}), ("two three", {None}), ("no one", {1}),
    ("five, 1,440 and 2.5", {5, 1440, Decimal("2.5")}), ("someone often listens", set()), ("forty\ntwo", {42}),
])  # fmt: skip
def test_english_numbers_are_read_in_digits_and_words(text, found):
    assert values(text) == found


def test_there_are_enough_facts_and_none_twice():
    names = "CAPITALS SYMBOLS ATOMIC_NUMBERS AUTHORS YEARS YOUNG UNITS COUNTS"
    tables = [getattr(facts, name) for name in names.split()]
    assert sum(map(len, tables)) >= 250
    assert all(len({subject for subject, _ in table}) == len(table) for table in tables)


def test_knights_and_knaves_have_one_solution():
    for seed in range(60):
        statements, knights = knights_and_knaves(random.Random(seed), 2 + seed % 4)
        assert solutions(statements) == [knights] and any(knights)


@pytest.mark.parametrize(("n", "language", "word"), [
    (21, "German", "einundzwanzig"), (97, "French", "quatre-vingt-dix-sept"), (71, "French", "soixante et onze"),
    (80, "French", "quatre-vingts"), (81, "French", "quatre-vingt-un"), (28, "Italian", "ventotto"), (43, "Italian", "quarantatré"),
    (22, "Spanish", "veintidós"), (35, "Spanish", "treinta y cinco"), (99, "Portuguese", "noventa e nove"), (60, "French", "soixante"),
    (70, "French", "soixante-dix"), (91, "French", "quatre-vingt-onze"), (30, "German", "dreißig"),
])  # fmt: skip
def test_number_words_follow_the_rules_of_their_language(n, language, word):
    assert number_words(n, language)[0] == word


def test_a_number_is_not_asked_for_as_one_word():
    multilingual = SUITE["multilingual"]
    for prompt in draw(multilingual, named(multilingual, "arithmetic"), 300):
        assert not re.search(r"\b(Wort|palabra|mot|parola|palavra)\b", prompt.text), prompt.text


def test_either_or_both_of_two_words_may_be_synonyms():
    multilingual, sentence = SUITE["multilingual"], "Answer: The {} is {} and {}."
    prompts = draw(multilingual, named(multilingual, "translate"), 2000)
    prompt = next(p for p in prompts if p.reference.endswith("is small and beautiful."))
    noun = prompt.reference.split()[2]
    for size in ("small", "little"):
        assert all(multilingual.verify(prompt, sentence.format(noun, size, look)) for look in ("beautiful", "pretty"))
    assert not multilingual.verify(prompt, sentence.format(noun, "big", "pretty"))


def test_things_have_the_right_article():
    reasoning = SUITE["reasoning"]
    prompts = draw(reasoning, named(reasoning, "swaps"), 300)
    assert any(" an orange " in p.text for p in prompts)
    for prompt in prompts:
        assert not re.search(r"\ba [aeiou]|\ban [^aeiou]", prompt.text), prompt.text
        colour, thing = prompt.reference.rpartition(" ")[2], prompt.check["answers"][-1].split()[1]
        article = "an" if colour == "orange" else "a"
        assert reasoning.verify(prompt, f"Answer: {article} {colour} {thing}")


def test_long_contexts_come_at_set_lengths():
    long_context = SUITE["long_context"]
    for template in long_context.templates:
        fillings = [template.fill(random.Random(seed)) for seed in range(200)]
        found = Counter(len(f.slots["records"].splitlines()) for f in fillings)
        assert set(found) == {10, 20, 40, 80, 120} and min(found.values()) >= 20
        assert all(f.factors["records"] == len(f.slots["records"].splitlines()) for f in fillings)


# --- code and tools ----------------------------------------------------------------------------


def test_the_last_python_block_is_graded():
    assert python_block("a\n```python\nx = 1\n```\nor\n```python\nx = 2\n```\n```text\nno\n```") == "x = 2"
    assert python_block("```python\nx = 1\n```\nIt prints\n```\n42\n```") == "x = 1"
    assert python_block("```\nx = 1\n```\nor\n```\nx = 2\n```\n```text\nno\n```") == "x = 2"
    assert python_block("x = 1") == "x = 1" and python_block("```py\nx = 1") == "x = 1"


def test_a_function_that_returns_a_constant_is_wrong():
    code = SUITE["code"]
    for template in code.templates[:-1]:
        for prompt in draw(code, template, 20):
            name = prompt.check["cases"][0][0].removeprefix("sorted(").partition("(")[0]
            for _, expected in prompt.check["cases"]:
                assert not code.verify(prompt, f"def {name}(*args):\n    return {expected}")


def test_calls_are_compared_as_structures():
    call = {"name": "book", "arguments": {"city": "Rome", "seats": 3}}
    prompt = Prompt("tool_use", "travel", "?", json.dumps(call), 0.5, {"call": call})
    verify = SUITE["tool_use"].verify
    right = ['{"arguments": {"seats": 3.0, "city": " rome"}, "name": "Book"}', f"```json\n{json.dumps(call, indent=2)}\n```",
             f"First {{x}}. {{}} {json.dumps(call)} done"]  # fmt: skip
    assert all(verify(prompt, text) for text in right)
    for wrong in ({}, {"seats": 3, "x": 1}, {"seats": True}, {"seats": "3"}):
        assert not verify(prompt, json.dumps({"name": "book", "arguments": {"city": "Rome", **wrong}}))
    assert not verify(prompt, f"{json.dumps(call)} {{}}") and last_object("[1, 2") is None


# --- constraints -------------------------------------------------------------------------------

KEPT_AND_BROKEN = {
    "at_least_words": ({"count": 3}, "one two three", "one two"),
    "at_most_words": ({"count": 2}, "one two", "one two three"),
    "sentences": ({"count": 2}, '"Yes. It is!"', "Yes, it is."),
    "bullets": ({"count": 2}, "- a\n* b", "- a\n- b\n- c"),
    "short_bullets": ({"count": 2}, "- a b\n- c", "- a b c\n- c"),
    "numbered": ({"count": 2}, "1. a\n2. b", "1. a\n3. b"),
    "includes": ({"word": "tea"}, "Two teas.", "A team."),
    "excludes": ({"words": ["tea", "milk"]}, "A team.", "No Milk."),
    "repeats": ({"word": "echo", "count": 2}, "Echo echo", "echo echo echo"),
    "lower_case": ({}, "all low.", "Not low."),
    "upper_case": ({}, "ALL 1 UP", "ALL uP"),
    "starts_with": ({"phrase": "In short:"}, "in short: yes", "Yes, in short: yes"),
    "ends_with": ({"phrase": "That is all."}, "Yes. That is all.", "That is all. Yes"),
    "quoted": ({}, '"yes"', '"yes'),
    "no_commas": ({}, "a b", "a, b"),
    "separated": (
        {"mark": "---", "count": 2}, "a\n --- \nb", "a\n---\nb\n---\nc", "a --- b", "a\n-----\nb", "a\n---\nb --- c",
        "---\na\n---\nb", "a\n---\n---\nb",
    ),
    "paragraphs": ({"count": 2}, "a\n\n\nb", "a\nb"),
    "title": ({}, "<<A>>\nb", "A\nb"),
    "postscript": ({}, "a\nP.S. b", "P.S. b\na"),
    "json_keys": ({"keys": ["a", "b"]}, '```json\n{"b": 1, "a": "x"}\n```', '{"a": 1}'),
    "json_list": ({"key": "a", "count": 2}, '{"a": ["x", "y"]}', '{"a": ["x"]}'),
}  # fmt: skip


@pytest.mark.parametrize("kind", constraints.KINDS)
def test_a_constraint_tells_kept_from_broken(kind):
    parameters, kept, *broken = KEPT_AND_BROKEN[kind]
    assert constraints.holds({"kind": kind, **parameters}, kept)
    # A prompt with this one constraint is graded by it.
    prompt = Prompt("steerability", "x", "?", kept, 0.5, {"constraints": [{"kind": kind, **parameters}]})
    assert SUITE["steerability"].verify(prompt, kept)
    for text in broken:
        assert not constraints.holds({"kind": kind, **parameters}, text), text
        assert not SUITE["steerability"].verify(prompt, text), text


def test_every_kind_of_constraint_is_asked_for_and_breaking_one_of_several_fails():
    steerability = SUITE["steerability"]
    prompts = [p for t in steerability.templates for p in draw(steerability, t, 200)]
    assert {c["kind"] for p in prompts for c in p.check["constraints"]} == set(constraints.KINDS)
    unkept = {"kind": "includes", "word": "xylophone"}
    for prompt in prompts:
        asked = prompt.check["constraints"]
        assert 2 <= len(asked) <= 4 and steerability.verify(prompt, prompt.reference)
        for at in range(len(asked) + 1):
            one_more = replace(prompt, check={"constraints": [*asked[:at], unkept, *asked[at:]]})
            assert not steerability.verify(one_more, prompt.reference), at


def test_no_topic_tempts_with_a_word_of_its_own_sentences():
    for topic in TOPICS:
        assert constraints.includes(topic.sentences[0], topic.word) and len(topic.sentences) == 6
        assert all(constraints.excludes(s, list(topic.tempting)) and "," not in s for s in topic.sentences)


# --- diversity ---------------------------------------------------------------------------------


@capability
def test_the_diversity_report_counts_what_was_drawn(capability):
    report = diversity(capability, 60 * len(capability.templates))
    assert list(report.templates) == [t.name for t in capability.templates]
    for found in report.templates.values():
        assert found.drawn == 60 and found.distinct_share > 0.8
        assert sum(found.tertiles) == pytest.approx(1) and found.mean_length > 20


def test_a_diversity_report_of_nothing_is_refused():
    with pytest.raises(ValueError, match="prompts must be at least 1, got 0"):
        diversity(SUITE["math"], 0)
