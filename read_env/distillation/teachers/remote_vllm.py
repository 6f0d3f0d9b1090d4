"""vLLM's protocol: ``POST /v1/completions`` with token ids (read in vLLM 0.32; ``return_token_ids`` is there since 0.10.2).

``prompt_logprobs: K`` gives one mapping per token of the prompt, from token id to ``logprob``, ``rank`` and ``decoded_token``; the
first is null. A mapping has K entries, or K + 1 where the token itself is not among the K most likely, in no promised order: they
are sorted by rank. ``logprobs: K`` gives the same for generated tokens without ranks, under names such as ``token_id:17``.
``K`` above the server's ``--max-logprobs`` (20 by default) is refused with HTTP 400; -inf is sent as -9999.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
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
    token_ids,
    whole_number,
)
from read_env.distillation.teachers.top_k import Position

_TOKEN = "token_id:"


class VllmProtocol:
    """Requests and replies of vLLM's server.

    Example:
        >>> VllmProtocol().address("http://localhost:8000/v1")
        '/completions'
    """

    name = "vllm"
    title = "vLLM"

    def address(self, base_url: str) -> str:
        return "/completions"

    def scoring(self, model: str, ids: Sequence[int], top_k: int, *, texts: bool = False) -> dict[str, Any]:
        # At least one token is generated; it is not used. The texts come in any case.
        return {
            "model": model, "prompt": list(ids), **GREEDY, "max_tokens": 1, "prompt_logprobs": top_k,
            "return_token_ids": True,
        }  # fmt: skip

    def generation(
        self, model: str, ids: Sequence[int], top_k: int, max_tokens: int, stop_ids: Sequence[int]
    ) -> dict[str, Any]:
        # The same tokens end an answer as with a teacher in this process, and no others of the server's own.
        return {
            "model": model, "prompt": list(ids), **GREEDY, "max_tokens": max_tokens, "logprobs": top_k,
            "return_tokens_as_token_ids": True, "return_token_ids": True, "ignore_eos": True, "stop_token_ids": list(stop_ids),
        }  # fmt: skip

    def read_scores(self, body: Any, ids: Sequence[int]) -> Scores:
        choice = part(body, "choices", 0)
        given = listed(choice, "prompt_logprobs", length=len(ids))
        log_probs: list[float] = [math.nan]
        positions: list[Position] = [()]
        texts: list[str | None] = [None]
        for token, entries in zip(ids[1:], given[1:], strict=True):
            log_probs.append(log_probability(part(entries, str(token), "logprob")))
            texts.append(optional_text(entries[str(token)].get("decoded_token")))
            positions.append(_by_rank(entries))
        fingerprint = optional_text(body.get("system_fingerprint")) or ""
        return Scores(_echoed(choice) or (), tuple(log_probs), tuple(positions), tuple(texts), fingerprint)

    def read_answer(self, body: Any) -> Generated:
        choice = part(body, "choices", 0)
        made = token_ids(part(choice, "token_ids"))
        given = listed(choice, "logprobs", "top_logprobs", length=len(made))
        ended = ended_by(choice.get("finish_reason"))
        if not made:
            raise BrokenReply("an answer without tokens")
        return Generated(_echoed(choice), made, tuple(map(_named, given)), ended)


def _echoed(choice: Mapping[str, Any]) -> tuple[int, ...] | None:
    found = choice.get("prompt_token_ids")
    return None if found is None else token_ids(found)


def _by_rank(entries: Mapping[str, Any]) -> Position:
    """Most likely tokens of a position of the prompt, without the prompt's own where it is not among them."""
    ranked = sorted(
        (whole_number(part(entry, "rank")), log_probability(part(entry, "logprob")), whole_number(token))
        for token, entry in entries.items()
    )
    return [(token, log_prob) for rank, log_prob, token in ranked if rank <= len(ranked)]


def _named(entries: Any) -> Position:
    """Most likely tokens of a generated position, under names such as ``token_id:17``."""
    if not isinstance(entries, Mapping) or not all(name.startswith(_TOKEN) for name in entries):
        raise BrokenReply("no token ids in logprobs.top_logprobs")
    return by_probability((name.removeprefix(_TOKEN), value) for name, value in entries.items())
