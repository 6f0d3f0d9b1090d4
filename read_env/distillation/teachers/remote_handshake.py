"""Handshake with a server that may give probabilities: one short sequence is scored twice."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from read_env.config import ModelConfig
from read_env.distillation.teachers.remote_answers import BrokenReply
from read_env.distillation.teachers.remote_endpoint import redacted
from read_env.distillation.teachers.remote_json import JsonClient, Refused
from read_env.distillation.teachers.remote_scores import ScoreProtocol, Scores
from read_env.distillation.teachers.remote_sglang import SglangProtocol
from read_env.distillation.teachers.remote_vllm import VllmProtocol
from read_env.distillation.teachers.top_k import targets_of
from read_env.distillation.text.encoding import Encoder
from read_env.errors import ReadEnvError

PROTOCOLS: Mapping[str, ScoreProtocol] = {"vllm": VllmProtocol(), "sglang": SglangProtocol()}

#: Text of the sequence, and number of token ids from all over the vocabulary that follow it.
_TEXT, _SPREAD = "2+3=5, a word", 24
_GRANTED = re.compile(r"max(?:imum)? allowed:? *(\d+)")
_SPACES = " \t\n▁Ġ"


@dataclass(frozen=True)
class Handshake:
    """Result of a handshake.

    Attributes:
        protocol: protocol that the server speaks.
        asked: K that is needed.
        granted: K that the server grants.
        echoed: the server read the ids that it was sent.
        compared: number of tokens whose text was compared with the local tokenizer's.
        difference: first token that differs; empty if all agree.
        apart: largest difference between two answers to the same request, nats.
        context: maximum length of a sequence, tokens; None if the server's list of models doesn't have it.
        fingerprint: the server's version of model and configuration; empty if it gives none.
        invalid: reason why the numbers are no log-probabilities of the K most likely tokens; empty if they are.
    """

    protocol: ScoreProtocol
    asked: int
    granted: int
    echoed: bool
    compared: int
    difference: str
    apart: float
    context: int | None
    fingerprint: str
    invalid: str = ""

    @property
    def problem(self) -> str:
        """Reason why the server's probabilities can't be used, and what would be right; empty if they can."""
        if not self.echoed:
            return "it doesn't echo the token ids that it was sent: right would be vLLM from 0.10.2 on, or SGLang"
        if self.difference:
            return f"its tokenizer differs from the local one ({self.difference}): right would be its own in models.remote_tokenizer"
        if self.granted < self.asked:
            return (
                f"it grants {self.granted} of the {self.asked} most likely tokens: right would be a server with --max-logprobs "
                f"{self.asked}, or --distill.teacher-top-k {self.granted}"
            )
        return self.invalid

    def rows(self) -> list[tuple[str, str]]:
        """Names and texts for ``read-env check``."""
        if self.difference:
            tokenizer = f"differs: {self.difference}"
        else:
            tokenizer = f"agrees in {self.compared} tokens" if self.compared else "unknown: the server names no tokens"
        return [
            ("ids echoed", "yes" if self.echoed else "no"),
            ("top-K", f"{self.granted} of {self.asked} granted"),
            ("tokenizer", tokenizer),
            ("two answers", f"{self.apart:.1e} nats apart at most"),
        ]


def shake_hands(name: str, models: ModelConfig, encoder: Encoder, top_k: int) -> Handshake | str:
    """Score one short sequence twice.

    Args:
        name: name of the model on the server.
        models: address and ``remote_protocol``; with ``auto`` the server's list of models decides which protocol it speaks
            (``owned_by``), and a server that names neither gets no request.
        encoder: encoder of the local tokenizer.
        top_k: K that is needed.

    Returns:
        The result; the reason why there is none for a server without probabilities.

    Raises:
        ReadEnvError: the server can't be reached, refuses the key, or fails.
    """
    client, asked = JsonClient(name, models), str(models.remote_protocol)
    named = [*models.remote_chat_fields, *(["remote_extra_body"] if models.remote_extra_body else [])]
    if asked == "auto" and named:
        return f"models.{named[0]} is a parameter of chat requests"
    listed = client.models()
    if asked == "auto":
        owner = str(_entry(name, listed).get("owned_by", "")).lower()
        if owner not in PROTOCOLS:
            return f"its list of models names neither vLLM nor SGLang ({f'owned_by {owner!r}' if owner else 'no owned_by'})"
        asked = owner
    protocol = PROTOCOLS[asked]
    context = _entry(name, listed).get("max_model_len")
    asked_k = min(top_k, encoder.vocabulary)
    sequence = probe(encoder)
    try:
        try:
            first, granted = _scored(client, protocol, models, sequence, asked_k), asked_k
        except Refused as error:
            limit = _GRANTED.search(error.message)
            if limit is None or not 0 < int(limit[1]) < asked_k:
                raise
            granted = int(limit[1])
            first = _scored(client, protocol, models, sequence, granted)
        second = _scored(client, protocol, models, sequence, granted)
    except (Refused, BrokenReply) as error:
        return f"a request for probabilities in {protocol.title}'s form fails ({redacted(str(error), models)})"
    granted = min([granted, *(len(position) for position in first.positions[1:])])
    invalid, (compared, difference) = "", _compare(encoder, sequence, first.texts)
    try:
        targets_of(sequence[1:], first.positions[1:], top_k=granted, vocabulary=encoder.vocabulary, server=client.where)
    except ReadEnvError as error:
        invalid = str(error)
    return Handshake(
        protocol, asked_k, granted, first.echoed == second.echoed == tuple(sequence), compared, difference, _apart(first, second),
        context if isinstance(context, int) else None, first.fingerprint, invalid,
    )  # fmt: skip


def probe(encoder: Encoder) -> list[int]:
    """Token ids of the handshake: those of a short prompt, and ordinary tokens from all over the vocabulary with the last one.

    A server whose vocabulary is smaller refuses the last one.

    >>> from read_env.distillation.loading import load
    >>> len(probe(load("embedded:micro/student").encoder)) <= 64
    True
    """
    ordinary = sorted(set(range(encoder.vocabulary)) - set(encoder.tokenizer.added_tokens_decoder))
    spread = ordinary[:: max(1, len(ordinary) // _SPREAD)][:_SPREAD]
    return [*encoder.prompts([_TEXT])[0][-32:], *spread, ordinary[-1]]


def extra_body(models: ModelConfig, protocol: ScoreProtocol) -> dict[str, Any]:
    """Parameters of ``models.remote_extra_body``.

    Raises:
        ReadEnvError: one of them is a parameter of the protocol's own requests.
    """
    extra: dict[str, Any] = json.loads(models.remote_extra_body or "{}")
    own = {**protocol.scoring("", [0], 1), **protocol.generation("", [0], 1, 1, [0])}
    if taken := sorted(extra.keys() & own.keys()):
        raise ReadEnvError(
            f"models.remote_extra_body sets {', '.join(taken)}, which read-env itself decides in requests for probabilities; right "
            "would be other parameters, or models.remote_protocol 'chat'"
        )
    return extra


def _entry(name: str, listed: list[Mapping[str, Any]]) -> Mapping[str, Any]:
    """Entry of a model in a server's list; the only one if the list has no other."""
    named = [one for one in listed if one.get("id") == name]
    return (named or listed)[0] if named or len(listed) == 1 else {}


def _scored(client: JsonClient, protocol: ScoreProtocol, models: ModelConfig, ids: list[int], top_k: int) -> Scores:
    body = {**extra_body(models, protocol), **protocol.scoring(client.name, ids, top_k, texts=True)}
    reply = client.post(protocol.address(models.remote_base_url), body, f"{len(ids)} tokens were to be scored")
    return protocol.read_scores(reply, ids)


def _compare(encoder: Encoder, ids: list[int], texts: tuple[str | None, ...]) -> tuple[int, str]:
    """Number of tokens whose texts were compared, and the first that differs."""
    compared = 0
    for token, theirs in zip(ids, texts, strict=True):
        ours = str(encoder.tokenizer.decode([token], clean_up_tokenization_spaces=False))
        if theirs is None or "\ufffd" in theirs + ours:  # a part of a character, which servers show in their own ways
            continue
        compared += 1
        # Tokenizers of some kinds leave the space before a word out.
        if theirs.strip(_SPACES) != ours.strip(_SPACES):
            return compared, f"token {token} is {theirs!r} there and {ours!r} here"
    return compared, ""


def _apart(first: Scores, second: Scores) -> float:
    """Largest difference of a log-probability in two answers, nats."""
    pairs = list(zip(first.log_probs[1:], second.log_probs[1:], strict=True))
    for one, other in zip(first.positions, second.positions, strict=True):
        again = dict(other)
        pairs += [(log_prob, again[token]) for token, log_prob in one if token in again]
    return max((abs(a - b) for a, b in pairs if a != b), default=0.0)  # both may be minus infinity
