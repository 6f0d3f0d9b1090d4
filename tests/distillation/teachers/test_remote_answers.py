"""Replies of servers in the forms of public bug reports: the text, the end of an answer, refusals, errors."""

import json

import pytest
from chat_server import answer
from hypothesis import given, settings
from hypothesis import strategies as st

from read_env.distillation.teachers.remote_answers import (
    BrokenReply,
    Reply,
    decoded,
    error_message,
    read_reply,
    refusal,
)

THOUGHT = "Let me see: 2+2.\nYes."


def reply(content="so 4", finish="stop", used=None, keep=False, **message):
    body = answer(content, finish)
    body["choices"][0]["message"].update(message)
    return read_reply(body | ({} if used is None else {"usage": {"completion_tokens": used}}), 24, keep_reasoning=keep)


@pytest.mark.parametrize(
    "word",
    ["stop", "STOP", "eos", "eos_token", "end", "end_turn", "stop_sequence", "completed", "FinishReason.STOP", "done"],
)
def test_words_for_a_complete_answer(word):
    found = reply(finish=word, used=24)
    assert (found.text, found.ended, found.skipped, found.note) == ("so 4", True, "", "")


@pytest.mark.parametrize("word", ["length", "max_tokens", "MAX_TOKENS", "max_output_tokens", "model_length"])
def test_words_for_a_cut_answer(word):
    found = reply(finish=word, used=3)
    assert (found.text, found.ended, found.note) == ("so 4", False, "")


@pytest.mark.parametrize(("used", "ended"), [(None, True), (23, True), (24, False), (25, False), ("24", True)])
def test_without_a_known_reason_the_usage_tells(used, ended):
    assert reply(finish=None, used=used).ended is ended and not reply(finish=None, used=used).note
    found = reply(finish="<|eot|>", used=used)
    assert found.ended is ended and "finish_reason '<|eot|>' is none that read-env knows" in found.note


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"content": "half", "finish": "content_filter"}, "content_filter"),
        ({"content": None, "finish": "SAFETY"}, "safety"),
        ({"content": None, "finish": "tool_calls"}, "tool_calls"),
        ({"content": None, "refusal": "I can't help with that"}, "refusal: I can't help with that"),
        ({"content": None}, "no content, finish_reason 'stop'"),
        ({"content": "", "finish": "length"}, "cut before any text (models.remote_max_tokens)"),
        (
            {"content": None, "finish": "length", "reasoning_content": THOUGHT},
            "cut before any text, while reasoning (models.remote_max_tokens)",
        ),
        (
            {"content": f"<think>\n{THOUGHT}", "finish": "length"},
            "cut before any text, while reasoning (models.remote_max_tokens)",
        ),
    ],
)
def test_prompts_without_an_answer_are_skipped(changes, reason):
    found = reply(**changes)
    assert (found.text, found.skipped) == ("", reason)


def test_a_refusal_beside_an_answer_is_none():
    assert reply(refusal=None).text == reply(refusal="").text == "so 4"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (f"<think>\n{THOUGHT}\n</think>\n\nso 4", {}),
        (f"{THOUGHT}\n</think>\n\nso 4", {}),
        (f"<thinking>{THOUGHT}</thinking>so 4", {}),
        ("\n\nso 4", {"reasoning_content": THOUGHT}),
        ("so 4", {"reasoning": THOUGHT}),
        ([{"type": "text", "text": "so "}, {"type": "text", "text": "4"}], {"thinking": THOUGHT}),
    ],
)
def test_reasoning_is_dropped_or_kept_whatever_its_form(content, message):
    found = reply(content, **message)
    assert found.text == "so 4" and "the student learns the answers alone" in found.note
    kept = reply(content, keep=True, **message)
    assert kept.text == f"<think>\n{THOUGHT}\n</think>\n\nso 4" and not kept.note


def test_an_answer_cut_while_reasoning_is_kept_open():
    for message in ({"content": None, "reasoning": THOUGHT}, {"content": f"<think>{THOUGHT}"}):
        found = reply(finish="length", keep=True, **message)
        assert (found.text, found.ended, found.skipped) == (f"<think>\n{THOUGHT}", False, "")


@pytest.mark.parametrize("end", ["<|im_end|>", "\n<|eot_id|>\n", "<end_of_turn>", "</s>", "<|im_end|><|endoftext|>"])
def test_an_end_of_turn_that_a_server_leaves_in_the_text_is_no_text(end):
    found = reply(f"so 4{end}", finish="length")
    assert (found.text, found.ended) == ("so 4", True) and "is left out" in found.note


def test_empty_reasoning_is_none():
    found = reply("<think>\n\n</think>\n\nso 4", keep=True)
    assert (found.text, found.note) == ("so 4", "")


@pytest.mark.parametrize(
    "text",
    [
        "<s>so 4</s>",
        "<|im_end|> ends a turn",
        "a tag </think> in a text",
        "say <think> and </think>",
        "  so 4\n",
        "<think",
    ],
)
def test_an_answer_about_tags_is_left_as_it_is(text):
    assert reply(text).text == text


@pytest.mark.parametrize(
    "body",
    [{"choices": []}, {"choices": None}, answer("half", "error"), answer("", "network_error"), answer({"a": 1}), {"choices": ["a"]}],
)  # fmt: skip
def test_broken_replies(body):
    with pytest.raises(BrokenReply):
        read_reply(body, 24)


AZURE = "The response was filtered due to the prompt triggering Azure OpenAI's content management policy."


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        (400, {"error": {"message": AZURE, "param": "prompt", "code": "content_filter"}}, "content_filter"),
        (400, {"error": {"code": "x", "message": "x", "innererror": {"code": "ResponsibleAIPolicyViolation"}}}, "ResponsibleAI"),
        (400, {"error": {"message": f"litellm: {AZURE}", "code": "400"}}, "litellm: The response was filtered"),
        (400, {"error": {"code": "content_policy_violation", "message": "no"}}, "content_policy_violation"),
        (400, {"error": {"code": "invalid_prompt", "message": "flagged as potentially violating"}}, "invalid_prompt"),
        (403, {"error": {"code": 403, "message": "the input was flagged"}}, "the input was flagged"),
        (400, {"code": "data_inspection_failed", "message": "Input data may be bad"}, "data_inspection_failed"),
        (400, answer("", "content_filter"), "content_filter"),
        (400, {"object": "error", "message": "This model's maximum context length is 40 tokens"}, "This model's maximum"),
        (400, {"error": {"message": "temperature is unknown"}}, ""),
        (400, {"message": "Input is too long for requested model."}, "Input is too long"),
        (413, "<html><title>413 Request Entity Too Large</title>", "an HTML page, '413"),
        (401, {"error": {"message": "content_filter"}}, ""),
        (500, {"error": {"code": "content_filter"}}, ""),
        (200, answer("fine"), ""),
        (400, "<html>", ""),
    ],
)  # fmt: skip
def test_refusals_of_one_prompt(status, body, reason):
    found = refusal(status, body)
    assert found.startswith(reason) and bool(found) == bool(reason)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"error": {"message": "a\nb"}}, "a"),
        ({"error": "no such model"}, "no such model"),
        ({"detail": [{"loc": ["body", "max_tokens"], "msg": "Extra inputs are not permitted"}]}, "max_tokens: Extra inputs"),
        ({"object": "error", "message": "bad"}, "bad"),
        ("<!DOCTYPE html><html><head><title>502\n Bad Gateway</title>", "an HTML page, '502 Bad Gateway'"),
        ("\x1b[31mbad\x07", "\ufffd[31mbad\ufffd"),
        ("", ""),
        ([], ""),
        (None, ""),
    ],
)  # fmt: skip
def test_messages_of_errors(body, message):
    found = error_message(body)
    assert found.startswith(message) and bool(found) == bool(message)


NAMES = "choices message content finish_reason error code innererror usage completion_tokens reasoning refusal detail loc msg text type"
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from(["stop", "length", "safety", "<think>a", "", "429"])
)
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES.split()), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip
CHOICE = st.fixed_dictionaries(
    {"message": VALUES | st.fixed_dictionaries({"content": VALUES}), "finish_reason": VALUES}
)
BODIES = VALUES | st.fixed_dictionaries(
    {"choices": st.lists(CHOICE | VALUES, max_size=2)}, optional={"usage": VALUES, "error": VALUES}
)


@settings(max_examples=400, deadline=None)
@given(BODIES, st.sampled_from([200, 400, 403, 404, 422, 500]))
def test_any_json_is_an_answer_or_a_broken_reply(body, status):
    body = decoded(json.dumps(body).encode())
    assert isinstance(refusal(status, body), str) and "\n" not in error_message(body)
    if not isinstance(body, dict):
        return
    try:
        found = read_reply(body, 5, keep_reasoning=True)
    except BrokenReply:
        return
    assert isinstance(found, Reply) and isinstance(found.text, str) and bool(found.text) <= (not found.skipped)
