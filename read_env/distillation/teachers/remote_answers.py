"""Answers of OpenAI-compatible servers: their text, how they ended, and the refusal of a single prompt."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

#: Reasons for the end of an answer in the words of different servers, in lower case.
_ENDED = frozenset(
    "stop eos eos_token eos_found end end_turn end_of_turn stop_sequence stop_token complete completed finish finished done".split()
)
_CUT = frozenset(
    "length max_tokens max_output_tokens max_completion_tokens max_new_tokens max_length model_length token_limit "
    "model_context_window_exceeded incomplete truncated".split()
)
_REFUSED = frozenset(
    "content_filter content_filtered safety image_safety recitation prohibited_content blocklist spii language refusal "
    "sensitive guardrail_intervened moderation flagged blocked tool_calls function_call tool_use".split()
)
_FAILED = frozenset(
    "error network_error abort aborted failed cancelled canceled timeout insufficient_system_resource "
    "malformed_function_call".split()
)
#: Statuses that refuse one prompt, with these codes or messages: by a filter, or as too long for the model.
_REFUSING = (200, 400, 403, 422, 451)
_CODES = frozenset(
    "content_filter content_policy_violation content_policy responsibleaipolicyviolation data_inspection_failed "
    "datainspectionfailed invalid_prompt moderation_blocked sensitive context_length_exceeded string_above_max_length "
    "exceed_context_size_error".split()
)
_MESSAGES = re.compile(
    r"content[ _-](management|filter|policy|moderation)|safety (system|filter|settings)|usage polic|flagged|"
    r"(inappropriate|prohibited|sensitive) content|(maximum|available|model's) context|context (length|window)|"
    r"(input|prompt|request) (is |was )?too (long|large)|(input|prompt) tokens? count.{1,40}exceed",
    re.IGNORECASE,
)
#: Reasoning in front of an answer. Templates that open the tag themselves leave its end alone, in a line of its own.
_THOUGHT = re.compile(
    r"\A\s*<think(?:ing)?>(.*?)</think(?:ing)?>\s*|\A(.*?)(?:\A|\n)</think>[ \t]*(?:\n\s*|\Z)", re.DOTALL
)
#: Ends of turns that a server leaves in the text; </s> is also a tag of HTML.
_LEFT_END = re.compile(
    r"(\s*(<\|(im_end|eot_id|eom_id|end|endoftext|end_of_text|return)\|>|<end_of_turn>|<turn\|>|<eos>|<｜end▁of▁sentence｜>|</s>))+\s*\Z"
)
_OPEN_THOUGHT = re.compile(r"\A\s*<think(?:ing)?>")


class BrokenReply(ValueError):
    """A reply that is no chat completion; another try may bring one."""


@dataclass(frozen=True)
class Reply:
    """Answer to one prompt.

    Attributes:
        text: the answer.
        ended: True if it is complete, False if it was cut.
        skipped: reason why there is no answer; empty for an answer.
        note: remark about the server to be logged once.
    """

    text: str
    ended: bool = True
    skipped: str = ""
    note: str = ""


def read_reply(body: Mapping[str, Any], max_tokens: int | None, *, keep_reasoning: bool = False) -> Reply:
    """Answer in the body of a chat completion.

    Args:
        body: decoded JSON.
        max_tokens: tokens that were allowed; an answer without a reason for its end is cut if it has that many.
        keep_reasoning: put the reasoning in front of the answer, in ``<think>`` tags.

    Raises:
        BrokenReply: the body has no choices, or reports a failure of the server.

    >>> read_reply({"choices": [{"message": {"content": "<think>2+2</think>4"}, "finish_reason": "eos"}]}, 9).text
    '4'
    """
    choices = body.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    if not isinstance(choice, Mapping):
        if any(body.get(name) for name in ("promptFeedback", "prompt_feedback", "prompt_filter_results")):
            return Reply("", skipped="content_filter")
        raise BrokenReply("no choices")
    message = choice.get("message")
    message = message if isinstance(message, Mapping) else {"content": choice.get("text")}
    text, reasoning = _text(message.get("content")), _reasoning(message)
    reason = str(choice.get("finish_reason") or "").lower().rpartition(".")[2]
    if reason in _FAILED:
        raise BrokenReply(f"finish_reason {reason!r}")
    if reason in _REFUSED:
        return Reply("", skipped=reason)
    if not text and message.get("refusal"):
        return Reply("", skipped=f"refusal: {message['refusal']}"[:120])
    if text is None and not reasoning:
        return Reply("", skipped=f"no content, finish_reason {reason or None!r}")
    text, note = text or "", ""
    if not reasoning and (thought := _THOUGHT.match(text)):
        reasoning, text = (thought[1] or thought[2] or "").strip(), text[thought.end() :]
    elif not reasoning and (opened := _OPEN_THOUGHT.match(text)):
        reasoning, text = text[opened.end() :].strip(), ""
    elif reasoning:
        text = text.lstrip("\n")
    ended = reason in _ENDED or (reason not in _CUT and not _reaches(body.get("usage"), max_tokens))
    if reason and reason not in _ENDED | _CUT:
        note = (
            f"finish_reason {reason!r} is none that read-env knows: taken for {'complete' if ended else 'cut'} by usage"
        )
    if (left := _LEFT_END.search(text)) and ("</s>" not in left[0] or "<s>" not in text):
        text, ended, note = (
            text[: left.start()],
            True,
            f"its answers end with the text {left[0].strip()!r}, which is left out",
        )
    if reasoning and keep_reasoning and (text or not ended):
        text = f"<think>\n{reasoning}" + (f"\n</think>\n\n{text}" if text else "")
    elif reasoning:
        note = note or "it reasons before it answers: the student learns the answers alone (models.remote_reasoning)"
    if not text and (reasoning or not ended):
        # Some servers count tokens of a reasoning that they don't show.
        what = ("ended" if ended else "cut") + " before any text" + (", while reasoning" if reasoning else "")
        return Reply("", skipped=what + ("" if ended else " (models.remote_max_tokens)"))
    return Reply(text, ended, note=note)


def refusal(status: int, body: Any) -> str:
    """Reason why a server refused this prompt and would take others; empty if the refusal is about something else.

    >>> refusal(413, {"error": {"message": "the prompt is too long"}})
    'the prompt is too long'
    """
    if status == 413:
        return error_message(body)[:120] or "HTTP 413"
    if status not in _REFUSING or not isinstance(body, Mapping):
        return ""
    choices = body.get("choices")
    if isinstance(choices, list) and choices and isinstance(choices[0], Mapping):  # a filtered answer with status 400
        reason = str(choices[0].get("finish_reason")).lower()
        return reason if reason in _REFUSED else ""
    error = body.get("error")
    error = error if isinstance(error, Mapping) else body
    inner = error.get("innererror")
    codes = [error.get("code"), error.get("type"), inner.get("code") if isinstance(inner, Mapping) else None]
    known = next((str(code) for code in codes if str(code).lower() in _CODES), "")
    message = error_message(body)
    return known or (message[:120] if _MESSAGES.search(message) else "")


def error_message(body: Any) -> str:
    """Message of a server's error in any of the usual forms, in one line; empty if there is none.

    >>> error_message({"error": {"message": "no such model", "code": 404}})
    'no such model'
    """
    if isinstance(body, str):
        title = re.search(r"<title[^>]*>(.*?)</title>", body, re.DOTALL | re.IGNORECASE)
        page = re.match(r"\s*<(!doctype|html|head|body)\b", body, re.IGNORECASE)
        # Bytes that are no text may hold control sequences of terminals.
        shown = "".join(c if c.isprintable() else "\ufffd" for c in body.strip().partition("\n")[0].rstrip())
        return f"an HTML page, {' '.join(title[1].split()) if title else 'without a title'!r}" if page else shown
    if isinstance(body, Mapping):
        return next(
            (text for name in ("error", "message", "detail", "msg") if (text := error_message(body.get(name)))), ""
        )
    if isinstance(body, list) and body:
        where = body[0].get("loc") if isinstance(body[0], Mapping) else None
        field = f"{where[-1]}: " if isinstance(where, list) and where else ""
        return field + error_message(body[0])
    return ""


def decoded(content: bytes) -> Any:
    """JSON value of a body, the first of a list (errors of Google's servers); its text if it is no JSON.

    >>> decoded(b'[{"error": "no key"}]'), decoded(b"Bad Gateway")
    ({'error': 'no key'}, 'Bad Gateway')
    """
    try:
        body = json.loads(content)
    except (ValueError, RecursionError):
        return content.decode("utf-8", "replace")
    return body[0] if isinstance(body, list) and body else body


def _text(content: Any) -> str | None:
    """Text of a message's content: a string, or a list of parts; None if there is none."""
    if isinstance(content, list):
        parts = [
            part if isinstance(part, str) else part.get("text") for part in content if isinstance(part, str | Mapping)
        ]
        return "".join(part for part in parts if isinstance(part, str)) if parts else None
    if content is None or isinstance(content, str):
        return content
    raise BrokenReply(f"content is {type(content).__name__}")


def _reasoning(message: Mapping[str, Any]) -> str:
    """Reasoning that a server gives in a field of its own."""
    found = (message.get(name) for name in ("reasoning_content", "reasoning", "thinking"))
    return next((text.strip() for text in found if isinstance(text, str) and text.strip()), "")


def _reaches(usage: Any, max_tokens: int | None) -> bool:
    """True if the server reports that the answer has as many tokens as were allowed."""
    used = usage.get("completion_tokens") if isinstance(usage, Mapping) else None
    return isinstance(used, int) and max_tokens is not None and used >= max_tokens
