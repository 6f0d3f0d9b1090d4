"""Teacher behind an OpenAI-compatible endpoint: text only, one request per prompt."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import torch

from read_env.config import ModelConfig
from read_env.distillation.teachers.remote_client import ChatClient
from read_env.distillation.text.completion import Answer
from read_env.errors import ReadEnvError
from read_env.losses.targets import TeacherTargets

_LOG = logging.getLogger(__name__)

REMOTE = "remote:"


class Utf8:
    """UTF-8 bytes as the vocabulary of a teacher that gives text alone.

    Example:
        >>> Utf8().answer("ab", ended=True).token_ids
        (97, 98, 256)
    """

    eos_id = 256
    stop_ids = (256,)

    def text(self, ids: Sequence[int]) -> str:
        """Text of an answer's token ids."""
        return bytes(i for i in ids if i < self.eos_id).decode("utf-8", "replace")

    def answer(self, text: str, *, ended: bool) -> Answer:
        """Answer with that text; ``ended`` is False if it was cut."""
        return self._made([*text.encode(), *([self.eos_id] if ended else [])])

    def no_answer(self, reason: str) -> Answer:
        """Answer without tokens: the prompt is skipped for that reason."""
        return self._made([], reason)

    def _made(self, ids: list[int], skipped: str = "") -> Answer:
        return Answer(tuple(ids), TeacherTargets.from_tokens(torch.tensor(ids, dtype=torch.int64)), skipped)


class RemoteTeacher:
    """Model that answers chat requests over HTTP.

    Every prompt is one request, so an answer doesn't depend on other prompts, and complete answers are kept when a
    later one fails. A prompt that the server refuses (a content filter, a prompt too long for its model) gets an answer
    without tokens, which the stream skips.

    Args:
        name: name of the model on the server.
        models: address, parameters, time-out, retries, concurrent requests, and the revision of the model.
        max_completion_tokens: maximum length of an answer, in the server's tokens; models.remote_max_tokens overrides it.

    Raises:
        ReadEnvError: no name, no address, an API key that can't be sent, or the package ``openai`` isn't installed.
    """

    batched = False

    def __init__(self, name: str, models: ModelConfig, *, max_completion_tokens: int) -> None:
        if not name:
            raise ReadEnvError(
                f"models.teacher is {REMOTE!r}; right would be {REMOTE}NAME, a model that the server has"
            )
        self.name = name
        self.encoder = Utf8()
        self.max_completion_tokens = models.remote_max_tokens or max_completion_tokens
        self._models = models
        self._client = ChatClient(name, models, self.max_completion_tokens)

    @property
    def identity(self) -> str:
        models = self._models
        address = f"{models.remote_base_url}/{self.name}@{models.remote_revision}"
        sampling = f"temperature {models.remote_temperature}" if models.remote_temperature else "greedy"
        extra = [models.remote_extra_body, models.remote_extra_query, models.remote_reasoning == "keep"]
        # Identities of the default settings are those of earlier versions, so that their answers are found.
        return f"remote/{address}/{sampling}/{self.max_completion_tokens}" + (f"/{extra}" if any(extra) else "")

    def complete(
        self, texts: Sequence[str], on_answer: Callable[[int, Answer], None] | None = None
    ) -> tuple[Answer, ...]:
        """Answers in order; ``on_answer`` is called with index and answer as soon as one is complete.

        Raises:
            ReadEnvError: an invalid answer, or a server that can't be reached or refuses a request.
        """
        return tuple(self._client.all_of(self._request, texts, on_answer))

    def _request(self, text: str) -> Answer:
        reply = self._client.ask(text)
        reason = reply.skipped
        if not reason:
            try:
                answer = self.encoder.answer(reply.text, ended=reply.ended)
            except UnicodeEncodeError as error:
                reason = f"an answer that is not valid UTF-8 ({error.reason})"
            else:
                if not reply.text:
                    _LOG.warning("%s gave an empty answer", self._client.where)
                return answer
        _LOG.info("%s gives no answer to %r: %s", self._client.where, text[:60], reason)
        return self.encoder.no_answer(reason)
