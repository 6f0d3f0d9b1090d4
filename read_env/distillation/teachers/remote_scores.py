"""Probabilities that a server gives, in the form of its own protocol, vLLM's or SGLang's, and parts of replies.

Token ids of the local tokenizer go out; the K most likely tokens of each position come back by id. Written for vLLM 0.32
(``vllm/entrypoints/openai/completion``, ``vllm/logprobs.py``) and SGLang 0.5.23 (``sglang/srt/managers/io_struct.py``,
``tokenizer_manager.py``, ``scheduler_components/logprob_result_processor.py``), whose sources were read.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from read_env.distillation.teachers.remote_answers import BrokenReply
from read_env.distillation.teachers.top_k import Position


@dataclass(frozen=True)
class Scores:
    """Probabilities of the tokens of a sequence that was sent; entry i describes token i given those before it.

    Attributes:
        echoed: n token ids as the server read them; empty if it doesn't say.
        log_probs: n log-probabilities of these tokens, nats; nan for the first.
        positions: n lists of most likely tokens; empty for the first.
        texts: n texts of the tokens by the server's tokenizer; None where it gives none.
        fingerprint: the server's version of model and configuration; empty if it gives none.
    """

    echoed: tuple[int, ...]
    log_probs: tuple[float, ...]
    positions: tuple[Position, ...]
    texts: tuple[str | None, ...]
    fingerprint: str


@dataclass(frozen=True)
class Generated:
    """Answer of a server with the probabilities that it was decoded from.

    Attributes:
        echoed: token ids of the prompt as the server read them; None if it doesn't say.
        token_ids: ids of the answer, one or more, with the token that ended it.
        positions: most likely tokens at each of them.
        ended: False if the answer was cut.
    """

    echoed: tuple[int, ...] | None
    token_ids: tuple[int, ...]
    positions: tuple[Position, ...]
    ended: bool


class ScoreProtocol(Protocol):
    """Requests and replies of one kind of server."""

    name: str
    title: str

    def address(self, base_url: str) -> str:
        """Address of the requests."""
        ...

    def scoring(self, model: str, ids: Sequence[int], top_k: int, *, texts: bool = False) -> dict[str, Any]:
        """Request for the probabilities of a sequence; with ``texts`` also for the text of its tokens."""
        ...

    def generation(
        self, model: str, ids: Sequence[int], top_k: int, max_tokens: int, stop_ids: Sequence[int]
    ) -> dict[str, Any]:
        """Request for a greedily decoded answer with its probabilities, in one call."""
        ...

    def read_scores(self, body: Any, ids: Sequence[int]) -> Scores:
        """Probabilities in the reply to a scoring request.

        Raises:
            BrokenReply: something is missing.
        """
        ...

    def read_answer(self, body: Any) -> Generated:
        """Answer in the reply to a generation request.

        Raises:
            BrokenReply: something is missing.
        """
        ...


#: Greedy decoding without the penalties that a model's own generation configuration may set as the server's defaults.
GREEDY: Mapping[str, float] = {
    "temperature": 0.0, "top_p": 1.0, "top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0, "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
}  # fmt: skip


def part(body: Any, *path: str | int) -> Any:
    """Part of a decoded JSON value: names lead into objects, numbers into lists.

    Raises:
        BrokenReply: it is not there, or null.

    >>> part({"choices": [{"index": 0}]}, "choices", 0, "index")
    0
    """
    for step in path:
        if isinstance(step, str):
            body = body.get(step) if isinstance(body, Mapping) else None
        else:
            body = body[step] if isinstance(body, list) and step < len(body) else None
    if body is None:
        raise BrokenReply(f"no {'.'.join(map(str, path))}")
    return body


def listed(body: Any, *path: str | int, length: int | None = None) -> list[Any]:
    """List at a :func:`part` of a reply, with as many entries as there are tokens.

    Raises:
        BrokenReply: no list, or one of another length.

    >>> listed({"logprobs": [-0.5, None]}, "logprobs", length=2)
    [-0.5, None]
    """
    found, name = part(body, *path), ".".join(map(str, path))
    if not isinstance(found, list):
        raise BrokenReply(f"no list in {name}")
    if length is not None and len(found) != length:
        raise BrokenReply(f"{name} for {len(found)} of {length} tokens")
    return found


def log_probability(value: Any) -> float:
    """Log-probability of a reply, nats.

    Raises:
        BrokenReply: no number, NaN or infinity. Minus infinity is the logarithm of 0.
    """
    fits = isinstance(value, int | float) and not isinstance(value, bool)
    if not (fits and (abs(value) < 1e300 or value == -math.inf)):  # JSON's integers have any size
        raise BrokenReply(f"{str(value)[:40]!r} in place of a log-probability")
    return float(value)


def whole_number(value: Any) -> int:
    """Token id or rank of a reply, as an integer or in digits.

    Raises:
        BrokenReply: it is none of both.

    >>> whole_number("17")
    17
    """
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 19:
        return int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**63:
        raise BrokenReply(f"{str(value)[:40]!r} in place of a whole number")
    return value


def token_ids(values: Any) -> tuple[int, ...]:
    """Token ids of a reply.

    Raises:
        BrokenReply: no list of token ids.
    """
    if not isinstance(values, list):
        raise BrokenReply("no list of token ids")
    return tuple(map(whole_number, values))


def by_probability(entries: Iterable[tuple[Any, Any]]) -> Position:
    """Most likely tokens of a position, from pairs of token id and log-probability in any order.

    Raises:
        BrokenReply: one of them is none, or a token stands there twice.
    """
    ranked = sorted((-log_probability(value), whole_number(token)) for token, value in entries)
    if len({token for _, token in ranked}) < len(ranked):
        raise BrokenReply("a token twice among the most likely ones of a position")
    return [(token, -negative) for negative, token in ranked]


def ended_by(reason: Any) -> bool:
    """True if a token ended the answer, by its reason for finishing; False if it was cut.

    Raises:
        BrokenReply: any other reason.

    >>> ended_by("stop"), ended_by("length")
    (True, False)
    """
    if reason not in ("stop", "length"):
        raise BrokenReply(f"finish_reason {str(reason)[:40]!r}")
    return bool(reason == "stop")


def optional_text(value: Any) -> str | None:
    """Text of a reply; None for anything else."""
    return value if isinstance(value, str) else None
