"""SGLang's protocol: ``POST /generate`` with token ids, beside the OpenAI-compatible addresses (read in SGLang 0.5.23).

``meta_info`` has ``input_token_logprobs`` and ``output_token_logprobs``, lists of [log-probability, token id, text or null], and
``input_top_logprobs`` and ``output_top_logprobs``, one such list per position, the most likely first. With
``logprob_start_len: 0`` the input's lists begin with the first token, which has no probability (null). The id of the
vocabulary's last token is echoed as 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from read_env.distillation.teachers.remote_answers import BrokenReply
from read_env.distillation.teachers.remote_scores import (
    GREEDY,
    Generated,
    Scores,
    by_probability,
    ended_by,
    listed,
    log_probability,
    optional_text,
    part,
    whole_number,
)
from read_env.distillation.teachers.top_k import Position


class SglangProtocol:
    """Requests and replies of SGLang's server.

    Example:
        >>> SglangProtocol().address("http://localhost:30000/v1/")
        'http://localhost:30000/generate'
    """

    name = "sglang"
    title = "SGLang"

    def address(self, base_url: str) -> str:
        return base_url.rstrip("/").removesuffix("/v1") + "/generate"

    def scoring(self, model: str, ids: Sequence[int], top_k: int, *, texts: bool = False) -> dict[str, Any]:
        return {
            "input_ids": list(ids), "sampling_params": {**GREEDY, "max_new_tokens": 1}, "return_logprob": True,
            "logprob_start_len": 0, "top_logprobs_num": top_k, "return_text_in_logprobs": texts,
        }  # fmt: skip

    def generation(
        self, model: str, ids: Sequence[int], top_k: int, max_tokens: int, stop_ids: Sequence[int]
    ) -> dict[str, Any]:
        # Not with ignore_eos, after which SGLang takes no notice of stop_token_ids either.
        sampling = {**GREEDY, "max_new_tokens": max_tokens, "stop_token_ids": list(stop_ids)}
        return {
            "input_ids": list(ids), "sampling_params": sampling, "return_logprob": True, "top_logprobs_num": top_k,
        }  # fmt: skip

    def read_scores(self, body: Any, ids: Sequence[int]) -> Scores:
        given, top = (
            listed(body, "meta_info", name, length=len(ids)) for name in ("input_token_logprobs", "input_top_logprobs")
        )
        read = [_entry(one) for one in given]
        # The last token of the vocabulary comes back as 0, with its own probability.
        clipped = [got == 0 and sent == max(ids) for (_, got, _), sent in zip(read, ids, strict=True)]
        echoed = [sent if lost else got for lost, (_, got, _), sent in zip(clipped, read, ids, strict=True)]
        texts = (None if lost else optional_text(text) for lost, (_, _, text) in zip(clipped, read, strict=True))
        log_probs = (math.nan, *(log_probability(value) for value, _, _ in read[1:]))
        positions: tuple[Position, ...] = ((), *map(_position, top[1:]))
        said = () if None in echoed else tuple(map(whole_number, echoed))
        return Scores(said, log_probs, positions, tuple(texts), _weights(body))

    def read_answer(self, body: Any) -> Generated:
        info = part(body, "meta_info")
        given = listed(info, "output_token_logprobs")
        top = listed(info, "output_top_logprobs", length=len(given))
        ended = ended_by(part(info, "finish_reason", "type"))
        made = tuple(whole_number(token) for _, token, _ in map(_entry, given))
        if not made:
            raise BrokenReply("an answer without tokens")
        return Generated(None, made, tuple(map(_position, top)), ended)


def _entry(value: Any) -> tuple[Any, Any, Any]:
    """Log-probability, token id and text of an entry."""
    if not isinstance(value, list) or len(value) not in (2, 3):
        raise BrokenReply("no log-probability, token id and text in an entry")
    return value[0], value[1], value[2] if len(value) == 3 else None


def _position(entries: Any) -> Position:
    if not isinstance(entries, list):
        raise BrokenReply("no list of most likely tokens")
    return by_probability((token, value) for value, token, _ in map(_entry, entries))


def _weights(body: Any) -> str:
    """The server's name for its weights, which an update over its API changes."""
    return optional_text(part(body, "meta_info").get("weight_version")) or ""
