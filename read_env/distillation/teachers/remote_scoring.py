"""Teacher behind a server that gives probabilities: token ids go out, the K most likely tokens of each position come back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

import torch

from read_env.config import ModelConfig
from read_env.distillation.teachers.remote_answers import BrokenReply, refusal
from read_env.distillation.teachers.remote_endpoint import redacted
from read_env.distillation.teachers.remote_handshake import Handshake, extra_body
from read_env.distillation.teachers.remote_json import JsonClient, Refused
from read_env.distillation.teachers.remote_requests import PassingTrouble
from read_env.distillation.teachers.remote_scores import Generated, Scores
from read_env.distillation.teachers.top_k import targets_of
from read_env.distillation.text.completion import Answer
from read_env.distillation.text.encoding import Encoder
from read_env.errors import ReadEnvError
from read_env.losses.targets import TeacherTargets

_Read = TypeVar("_Read", Generated, Scores)


class RemoteScoringTeacher:
    """Model on a server that decodes greedily and scores completions.

    Prompts are encoded here, with the chat template of the local tokenizer, as for a teacher in this process. Every prompt is one
    request, and generation and its probabilities come in one call. The server decides which requests share a batch, so the
    last digits of two answers may differ; the cache keeps the first.

    Args:
        name: name of the model on the server.
        models: address, time-out, retries, concurrent requests, revision, and ``remote_logprobs_mode``.
        encoder: encoder of the tokenizer that the handshake compared.
        handshake: result of the handshake, without a problem.
        max_completion_tokens: maximum length of an answer, tokens.
        top_k: K, log-probabilities kept per token.

    Raises:
        ReadEnvError: as for :class:`~read_env.distillation.teachers.remote_requests.ServerClient`.
    """

    batched = False

    def __init__(
        self, name: str, models: ModelConfig, encoder: Encoder, handshake: Handshake, *, max_completion_tokens: int, top_k: int
    ) -> None:  # fmt: skip
        self.encoder = encoder
        self.max_completion_tokens = max_completion_tokens
        self.top_k = min(top_k, encoder.vocabulary)
        self._name, self._models, self._protocol = name, models, handshake.protocol
        self._client = JsonClient(name, models)
        self._address = self._protocol.address(models.remote_base_url)
        self._extra = extra_body(models, self._protocol)
        # A request generates at least one token after what it scores.
        self.context = handshake.context - 1 if handshake.context else None
        parts = [
            "remote-scores", self._protocol.name, f"{models.remote_base_url}/{name}@{models.remote_revision}", handshake.fingerprint,
            encoder.fingerprint, models.remote_logprobs_mode, "greedy", str(max_completion_tokens), f"top{self.top_k}",
        ]  # fmt: skip
        extra = [models.remote_extra_body, models.remote_extra_query]
        self._identity = "/".join(parts) + (f"/{extra}" if any(extra) else "")

    @property
    def identity(self) -> str:
        return self._identity

    def complete(
        self, texts: Sequence[str], on_answer: Callable[[int, Answer], None] | None = None
    ) -> tuple[Answer, ...]:
        """Answers in order; ``on_answer`` is called with index and answer as soon as one is complete.

        A prompt that the server refuses as too long gets an answer without tokens, which the stream skips.

        Raises:
            ReadEnvError: a server that can't be reached, refuses a request, or answers without what was asked for.
        """
        return tuple(self._client.all_of(self._answer, self.encoder.prompts(texts), on_answer))

    def score(self, texts: Sequence[str], completion_ids: Sequence[Sequence[int]]) -> list[TeacherTargets]:
        pairs = list(zip(self.encoder.prompts(texts), completion_ids, strict=True))
        return self._client.all_of(self._score, pairs)

    def _answer(self, prompt: Sequence[int]) -> Answer:
        stop_ids = self.encoder.stop_ids
        body = self._protocol.generation(self._name, prompt, self.top_k, self.max_completion_tokens, stop_ids)
        try:
            found = self._asked(body, self._protocol.read_answer, prompt)
        except Refused as error:
            if reason := refusal(error.status, {"error": {"message": error.message}}):
                return Answer((), self._targets((), ()), reason)
            raise
        self._compare(prompt, found.echoed)
        self._check(found)
        return Answer(found.token_ids, self._targets(found.token_ids, found.positions))

    def _score(self, pair: tuple[Sequence[int], Sequence[int]]) -> TeacherTargets:
        prompt, completion = pair
        ids = [*prompt, *completion]
        body = self._protocol.scoring(self._name, ids, self.top_k)
        found = self._asked(body, lambda reply: self._protocol.read_scores(reply, ids), ids)
        self._compare(ids, found.echoed)
        targets = self._targets(completion, found.positions[len(prompt) :])
        return replace(targets, teacher_log_probs=torch.tensor(found.log_probs[len(prompt) :], dtype=torch.float32))

    def _targets(self, tokens: Sequence[int], positions: Sequence[Sequence[tuple[int, float]]]) -> TeacherTargets:
        return targets_of(
            tokens, positions, top_k=self.top_k, vocabulary=self.encoder.vocabulary, server=self._client.where
        )

    def _asked(self, body: dict[str, object], read: Callable[[object], _Read], ids: Sequence[int]) -> _Read:
        """Reply to a request, read; an incomplete one is asked for again."""
        about = f"the request has {len(ids)} tokens and begins with {self.encoder.text(ids[:20])!r}"

        def once() -> _Read:
            try:
                return read(self._client.post_once(self._address, {**self._extra, **body}, about))
            except BrokenReply as error:
                why = redacted(str(error), self._models)
                raise PassingTrouble(f"{self._client.where} sent an answer without probabilities ({why})") from None

        return self._client.retried(once, about)

    def _check(self, found: Generated) -> None:
        """Refuse an answer that the model of the local tokenizer would not give.

        Raises:
            ReadEnvError: it is longer than it may be, has a token that the tokenizer doesn't have, or ends at another.
        """
        where, vocabulary, stop_ids = self._client.where, self.encoder.vocabulary, self.encoder.stop_ids
        if len(found.token_ids) > self.max_completion_tokens:
            raise ReadEnvError(
                f"{where} sent an answer of {len(found.token_ids)} tokens where {self.max_completion_tokens} were asked for; right "
                "would be a server without a proxy that changes requests"
            )
        if stray := [token for token in found.token_ids if token >= vocabulary]:
            raise ReadEnvError(
                f"{where} answered with token {stray[0]}, and the local tokenizer has {vocabulary}; right would be the model's own "
                "tokenizer in models.remote_tokenizer"
            )
        if found.ended and found.token_ids[-1] not in stop_ids:
            raise ReadEnvError(
                f"{where} ends an answer at token {found.token_ids[-1]}, which ends none for the local tokenizer (these do: "
                f"{list(stop_ids)}); right would be the model's generation_config.json beside its tokenizer, in models.remote_tokenizer"
            )

    def _compare(self, sent: Sequence[int], echoed: Sequence[int] | None) -> None:
        if echoed is not None and list(echoed) != list(sent):
            raise ReadEnvError(
                f"{self._client.where} read other token ids than it was sent: {list(echoed)[:8]} in place of {list(sent)[:8]}; right "
                "would be a server without a proxy that changes prompts"
            )
