"""The micro suite: verifiable, not trivial, split cleanly, graded in difficulty."""

import gc
import weakref
from collections import Counter, defaultdict
from math import log
from random import Random

import pytest

from read_env.capabilities import get_suite, split_of
from read_env.capabilities.base import normalised_hash
from read_env.capabilities.micro import micro_suite
from read_env.capabilities.micro.composites import composites
from read_env.capabilities.micro.facts import Facts
from read_env.capabilities.stream import PromptStream, held_out
from read_env.errors import ReadEnvError

SUITE = get_suite("micro")
capability = pytest.mark.parametrize("capability", SUITE.capabilities, ids=SUITE.names)


def _training_prompts(capability, seeds=range(100, 104), per_tertile=150):
    return [p for s in seeds for t in range(3) for p in PromptStream(capability, s).slice(t, 0, per_tertile)]


@pytest.mark.parametrize("reads", [[0, 8, 16, 40, 8, 48, 0], [0, 40, 0], [24, 0, 48]])
def test_a_stream_drops_prompts_far_behind_and_draws_them_again(reads, monkeypatch):
    whole = [PromptStream(SUITE["math"], 7).slice(tertile, 0, 56) for tertile in range(3)]
    monkeypatch.setattr("read_env.capabilities.stream._KEPT", 8)
    stream = PromptStream(SUITE["math"], 7)
    for start in reads:
        for tertile in (1, 0, 2):
            assert stream.slice(tertile, start, start + 8) == whole[tertile][start : start + 8]
    stream.slice(1, 48, 56)
    forgotten = weakref.ref(stream.slice(1, 0, 1)[0])
    for start in range(0, 56, 8):
        stream.slice(1, start, start + 8)
    gc.collect()
    assert forgotten() is None


def test_the_suite_has_the_papers_capabilities_in_order_and_two_drills():
    assert SUITE.names == (
        "general_knowledge", "steerability", "reasoning", "math", "code", "tool_use", "long_context", "multilingual",
        "sums", "prices",
    )  # fmt: skip


def test_an_unknown_suite_lists_the_known_ones():
    with pytest.raises(ReadEnvError, match="unknown suite 'mirco': did you mean 'micro'"):
        get_suite("mirco")


@capability
def test_references_pass_their_own_verifier_and_other_answers_do_not(capability):
    prompts = _training_prompts(capability, seeds=[1])
    assert all(capability.verify(p, p.reference) for p in prompts)
    wrong = sum(capability.verify(p, q.reference) for p, q in zip(prompts, prompts[1:], strict=False))
    assert wrong / len(prompts) < 0.2


@capability
def test_completions_are_of_comparable_length(capability):
    lengths = [len(p.reference) + 1 for p in _training_prompts(capability, seeds=[2])]
    mean = sum(lengths) / len(lengths)
    assert (2 <= mean <= 3 if capability.name in ("sums", "prices") else 8 <= mean <= 40) and max(lengths) <= 40


@pytest.mark.parametrize("name", ["steerability", "long_context"])
def test_free_choices_are_drawn_evenly_and_each_of_them_is_right(name):
    prompts = _training_prompts(SUITE[name], seeds=[5])
    free = [p for p in prompts if len(p.completions) > 1]
    nats, tokens = (sum(f(p) for p in prompts) for f in (lambda p: log(len(p.completions)), lambda p: len(p.reference)))
    assert nats / (tokens + len(prompts)) >= 0.15, "an even choice has this entropy per token of the completions"
    assert all(p.reference in p.completions and len({*p.completions}) == len(p.completions) for p in free)
    assert all(SUITE[name].verify(p, other) for p in free for other in p.completions)
    ranks = [p.completions.index(p.reference) / (len(p.completions) - 1) for p in free]
    assert abs(sum(ranks) / len(ranks) - 0.5) < 5 * (1 / 12 / len(ranks)) ** 0.5


def test_sums_and_prices_stand_in_other_completions_as_they_stand_in_the_drills():
    """A fact is learnt from the text before it, so this text has to be the same."""
    for drill, others in (
        ("sums", ("math", "code", "tool_use", "reasoning", "multilingual")),
        ("prices", ("math", "tool_use", "reasoning", "multilingual")),
    ):
        known = {(p.text.split()[-1].removeprefix("q:"), p.reference) for p in _training_prompts(SUITE[drill])}
        facts = {text.removesuffix("=") + "=" + answer for text, answer in known}
        for name in others:
            found = {word for p in _training_prompts(SUITE[name], seeds=[6]) for word in p.reference.split()}
            assert len(facts & found) >= 20, (drill, name)


def test_other_facts_give_other_references_to_the_same_prompts():
    class Wrong(Facts):
        def plus(self, a, b, rng):
            return a + b + 1

    for name in ("sums", "math"):
        for seed in range(20):
            right, wrong = (
                suite[name].draw(suite[name].templates[0], Random(seed)) for suite in (SUITE, micro_suite(Wrong()))
            )
            assert right.text == wrong.text and right.reference != wrong.reference


def test_composite_prompts_contain_facts_of_several_capabilities():
    for capability in composites(Facts()):
        prompts = held_out(capability, "exam", 32)
        assert all(capability.verify(p, p.reference) and not capability.verify(p, "1") for p in prompts)
        assert not {p.text for p in prompts} & {p.text for other in SUITE for p in held_out(other, "exam", 128)}


@capability
def test_no_constant_answer_is_worth_knowing(capability):
    """Best constant answer and per-template majority, chosen on training prompts, scored on the exam."""
    answers = Counter(capability.final_answer(p.reference) for p in _training_prompts(capability))
    by_template = defaultdict(Counter)
    for p in _training_prompts(capability):
        by_template[p.template][capability.final_answer(p.reference)] += 1
    exam = held_out(capability, "exam", 128)
    constant = answers.most_common(1)[0][0]
    assert sum(capability.final_answer(p.reference) == constant for p in exam) / 128 <= 0.15
    majority = {t: c.most_common(1)[0][0] for t, c in by_template.items()}
    assert sum(capability.final_answer(p.reference) == majority[p.template] for p in exam) / 128 <= 0.15


def test_the_hash_folds_case_and_space_but_keeps_digits():
    assert normalised_hash("Add  4,7 ") == normalised_hash("add 4,7")
    assert normalised_hash("add 4,7") != normalised_hash("add 4,8")
    assert split_of("ADD 4,7,5") == split_of("add  4,7,5")


@capability
def test_difficulty_lies_in_the_unit_interval_and_tertiles_differ(capability):
    means = []
    for tertile in range(3):
        prompts = PromptStream(capability, 3).slice(tertile, 0, 100)
        assert all(0.0 <= p.difficulty <= 1.0 and capability.tertile(p.difficulty) == tertile for p in prompts)
        assert max(Counter(p.template for p in prompts).values()) <= 65, "one scaffold dominates a tertile"
        means.append(sum(p.difficulty for p in prompts) / 100)
    assert means == sorted(means)


@capability
def test_the_nth_prompt_does_not_depend_on_what_was_read_before(capability):
    plain = PromptStream(capability, 7)
    wild = PromptStream(capability, 7)
    wild.slice(2, 0, 90)
    wild.slice(0, 5, 6)
    for tertile in range(3):
        assert plain.slice(tertile, 0, 40) == wild.slice(tertile, 0, 40)
    assert PromptStream(capability, 8).slice(0, 0, 40) != plain.slice(0, 0, 40)


@capability
def test_a_held_out_set_is_fixed_and_has_no_doubles(capability):
    exam = held_out(capability, "exam", 128)
    assert len({p.text for p in exam}) == 128
    assert all(split_of(p.text) == "exam" for p in exam)
    held_out.cache_clear()
    assert held_out(capability, "exam", 128) == exam


@pytest.mark.parametrize("count", range(1, 10))
def test_small_held_out_sets_can_be_filled(count):
    for capability in SUITE:
        assert len(held_out(capability, "probes", count)) == count


def test_a_held_out_set_that_is_too_large_is_refused(monkeypatch):
    monkeypatch.setattr("read_env.capabilities.stream._DRAWS_PER_PROMPT", 0.05)
    with pytest.raises(ReadEnvError, match=r"eval.probes is 100000, but math has only \d+ distinct prompts"):
        held_out(SUITE["math"], "probes", 100_000)


def test_the_stream_is_no_held_out_set():
    with pytest.raises(ValueError, match="streams have no fixed size"):
        held_out(SUITE["math"], "stream", 8)
