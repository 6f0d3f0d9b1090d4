"""Replies of vLLM and SGLang, right and wrong ones: read in full, or refused as broken."""

import copy
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from read_env.distillation.teachers.remote_answers import BrokenReply
from read_env.distillation.teachers.remote_scores import part, whole_number
from read_env.distillation.teachers.remote_sglang import SglangProtocol
from read_env.distillation.teachers.remote_vllm import VllmProtocol
from read_env.distillation.teachers.top_k import targets_of
from read_env.errors import ReadEnvError

VLLM, SGLANG = VllmProtocol(), SglangProtocol()
IDS = [7, 3, 5]
VLLM_SCORES = {
    "system_fingerprint": "vllm-1",
    "choices": [{
        "prompt_token_ids": IDS,
        "prompt_logprobs": [
            None,
            {"3": {"logprob": -4.0, "rank": 9, "decoded_token": "c"}, "8": {"logprob": -0.2, "rank": 1, "decoded_token": "h"},
             "2": {"logprob": -2.0, "rank": 2, "decoded_token": "b"}},
            {"5": {"logprob": -0.1, "rank": 1, "decoded_token": "e"}, "6": {"logprob": -9999.0, "rank": 2, "decoded_token": "f"}},
        ],
    }],
}  # fmt: skip
VLLM_ANSWER = {
    "choices": [{
        "finish_reason": "stop", "token_ids": [4, 1], "prompt_token_ids": None,
        "logprobs": {"top_logprobs": [{"token_id:2": -3.0, "token_id:4": -0.1}, {"token_id:1": -0.3, "token_id:0": -1.5}]},
    }],
}  # fmt: skip
SGLANG_SCORES = {
    "meta_info": {
        "input_token_logprobs": [[None, 7, "g"], [-4.0, 3, "c"], [-0.1, 5, None]],
        "input_top_logprobs": [None, [[-0.2, 8, "h"], [-2.0, 2, "b"]], [[-0.1, 5, None], [-9999.0, 6, None]]],
        "weight_version": "default",
    },
}  # fmt: skip
SGLANG_ANSWER = {
    "meta_info": {
        "finish_reason": {"type": "stop", "matched": 1},
        "output_token_logprobs": [[-0.1, 4, None], [-0.3, 1, None]],
        "output_top_logprobs": [[[-0.1, 4, None], [-3.0, 2, None]], [[-0.3, 1, None], [-1.5, 0, None]]],
    },
}  # fmt: skip
READERS = {
    "vllm scores": (VLLM_SCORES, lambda body: VLLM.read_scores(body, IDS)),
    "vllm answer": (VLLM_ANSWER, VLLM.read_answer),
    "sglang scores": (SGLANG_SCORES, lambda body: SGLANG.read_scores(body, IDS)),
    "sglang answer": (SGLANG_ANSWER, SGLANG.read_answer),
}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12) | st.sampled_from(["token_id:5", "-9999", "7"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)  # fmt: skip


@pytest.mark.parametrize(("protocol", "body"), [(VLLM, VLLM_SCORES), (SGLANG, SGLANG_SCORES)])
def test_scores_are_ordered_and_without_the_token_that_is_not_among_the_most_likely(protocol, body):
    scores = protocol.read_scores(body, IDS)
    assert scores.echoed == tuple(IDS) and scores.log_probs[1:] == (-4.0, -0.1) and math.isnan(scores.log_probs[0])
    assert [list(one) for one in scores.positions] == [[], [(8, -0.2), (2, -2.0)], [(5, -0.1), (6, -9999.0)]]
    assert scores.texts[1] == "c" and scores.fingerprint in ("vllm-1", "default")


@pytest.mark.parametrize(("protocol", "body"), [(VLLM, VLLM_ANSWER), (SGLANG, SGLANG_ANSWER)])
def test_answers_are_ordered_too(protocol, body):
    answer = protocol.read_answer(body)
    assert (answer.token_ids, answer.ended, answer.echoed) == ((4, 1), True, None)
    assert [list(one) for one in answer.positions] == [[(4, -0.1), (2, -3.0)], [(1, -0.3), (0, -1.5)]]


@given(data=st.data())
def test_vllm_positions_of_k_or_one_more_entries_come_back_by_rank(data):
    """In any order; the prompt's own token is left out where it is the extra one, also among equal probabilities."""
    tokens = data.draw(st.lists(st.integers(0, 10**6), min_size=2, max_size=20, unique=True), "tokens")
    log_probs = data.draw(
        st.lists(st.sampled_from([-0.5, -1.0, -2.5, -9999.0]), min_size=len(tokens), max_size=len(tokens))
    )
    ranked = list(zip(tokens, sorted(log_probs, reverse=True), strict=True))
    extra, own = data.draw(st.booleans(), "extra"), data.draw(st.integers(0, len(tokens) - 2), "own")
    token = tokens[-1] if extra else tokens[own]
    kept = ranked[:-1]
    entries = {t: {"logprob": p, "rank": rank} for rank, (t, p) in enumerate(kept, 1)}
    if extra:  # its rank counts all tokens of at least its probability; the next one of all is none too many
        more = data.draw(st.integers(0, 50), "more")
        entries[token] = {"logprob": ranked[-1][1], "rank": len(ranked) + more}
        kept = kept if more else ranked
    shuffled = data.draw(st.permutations(list(entries)))
    body = {"choices": [{"prompt_logprobs": [None, {str(t): entries[t] for t in shuffled}]}]}
    scores = VLLM.read_scores(json.loads(json.dumps(body)), [0, token])
    assert list(scores.positions[1]) == kept
    assert scores.log_probs[1] == dict(ranked)[token] and scores.echoed == ()


def places(value, path=()):
    yield path
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for step, one in inner:
        yield from places(one, (*path, step))


@pytest.mark.parametrize("name", READERS)
@given(data=st.data())
def test_a_reply_with_anything_in_the_place_of_a_part_is_read_or_broken(name, data):
    body, read = READERS[name]
    path = data.draw(st.sampled_from(list(places(body))), "place")
    other = data.draw(JSON, "value")
    body = {"": copy.deepcopy(body)}
    inner = body
    for step in ("", *path)[:-1]:
        inner = inner[step]
    inner[("", *path)[-1]] = other
    try:
        found = read(body[""])
    except BrokenReply as error:
        assert len(str(error)) < 200
        return
    for position in found.positions:
        ids = [token for token, _ in position]
        assert len(set(ids)) == len(ids) and all(isinstance(one, int) and one >= 0 for one in ids)
        assert all(isinstance(value, float) and value < math.inf for _, value in position)
    for log_prob in getattr(found, "log_probs", ())[1:]:
        assert log_prob < math.inf


@pytest.mark.parametrize("name", READERS)
@given(data=st.data())
def test_a_reply_without_a_part_is_read_or_broken(name, data):
    body, read = READERS[name]
    path = data.draw(st.sampled_from([path for path in places(body) if path]), "place")
    body = copy.deepcopy(body)
    inner = body
    for step in path[:-1]:
        inner = inner[step]
    del inner[path[-1]]
    try:
        read(body)
    except BrokenReply as error:
        assert str(error)


@pytest.mark.parametrize(
    "bad",
    [math.nan, math.inf, None, True, "-0.5", [], 10**400],
    ids=["nan", "inf", "null", "true", "text", "list", "huge"],
)
def test_what_is_no_log_probability_breaks_a_reply(bad):
    body = copy.deepcopy(SGLANG_SCORES)
    body["meta_info"]["input_token_logprobs"][1][0] = bad
    with pytest.raises(BrokenReply, match="in place of a log-probability"):
        SGLANG.read_scores(body, IDS)


@pytest.mark.parametrize("bad", [-1, 1.0, True, "x", "٣", "", "1" * 30, 2**70, None])
def test_what_is_no_token_id_breaks_a_reply(bad):
    with pytest.raises(BrokenReply, match="whole number"):
        whole_number(bad)


def test_a_token_that_stands_twice_among_the_most_likely_breaks_a_reply():
    body = copy.deepcopy(SGLANG_ANSWER)
    body["meta_info"]["output_top_logprobs"][0].append([-0.1, 4, None])
    with pytest.raises(BrokenReply, match="a token twice"):
        SGLANG.read_answer(body)
    named = {"choices": [{**VLLM_ANSWER["choices"][0], "token_ids": [4]}]}
    named["choices"][0]["logprobs"] = {"top_logprobs": [{"token_id:4": -0.1, "token_id:04": -0.1}]}
    with pytest.raises(BrokenReply, match="a token twice"):
        VLLM.read_answer(named)
    with pytest.raises(BrokenReply, match="no token ids in"):
        named["choices"][0]["logprobs"] = {"top_logprobs": [{"so": -0.1}]}
        VLLM.read_answer(named)


def test_parts_are_found_by_names_in_objects_and_by_numbers_in_lists():
    for body, path in (("text", (0,)), ([1], (1,)), ({"a": None}, ("a",)), ({"a": "text"}, ("a", 0)), ([{}], ("a",))):
        with pytest.raises(BrokenReply, match="no "):
            part(body, *path)


def test_minus_infinity_is_the_logarithm_of_no_probability_and_more_than_1_is_none():
    common = {"top_k": 2, "vocabulary": 9, "server": "a server"}
    for least in (-9999.0, -math.inf):
        targets = targets_of([3], [[(3, -0.5), (1, least)]], **common)
        assert targets.log_tail.exp().item() == pytest.approx(1 - math.exp(-0.5))
    for position in ([(3, 0.3), (1, -1.0)], [(3, math.nan), (1, -1.0)], [(3, 1e6), (1, -1.0)]):
        with pytest.raises(ReadEnvError, match="no log-probabilities"):
            targets_of([3], [position], **common)
    with pytest.raises(ReadEnvError, match="gave 1 of the 2 most likely tokens"):
        targets_of([3], [[(3, -0.5), (9, -1.0)]], **common)
    assert targets_of([3], [[(3, -0.5), (1, -1.0), (2, -2.0)]], **common).top_ids.tolist() == [[3, 1]]
