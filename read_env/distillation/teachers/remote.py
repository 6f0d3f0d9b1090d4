"""Teacher behind an OpenAI-compatible endpoint: text only, one request per prompt."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from read_env.config import ModelConfig
from read_env.distillation.text.completion import Answer
from read_env.errors import ReadEnvError
from read_env.losses.targets import TeacherTargets

if TYPE_CHECKING:
    from openai import OpenAI

_LOG = logging.getLogger(__name__)

#: Environment variables that may hold the API key, in this order; it is read from nowhere else.
KEY_VARIABLES = ("READ_ENV_API_KEY", "OPENAI_API_KEY")
REMOTE = "remote:"
#: Time-out of the request for a server's models, seconds.
_CHECK_TIMEOUT = 5.0


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
        ids = [*text.encode(), *([self.eos_id] if ended else [])]
        return Answer(tuple(ids), TeacherTargets.from_tokens(torch.tensor(ids, dtype=torch.int64)))


class RemoteTeacher:
    """Model that answers chat requests over HTTP.

    Every prompt is one request, so an answer doesn't depend on other prompts, and complete answers are kept when a
    later one fails. Requests that time out, hit a rate limit or can't connect are retried with exponential backoff.

    Args:
        name: name of the model on the server.
        models: address, time-out, retries, concurrent requests, and the revision of the model.
        max_completion_tokens: maximum length of an answer, in the server's tokens.

    Raises:
        ReadEnvError: no address, an API key that can't be sent, or the package ``openai`` isn't installed.
    """

    batched = False

    def __init__(self, name: str, models: ModelConfig, *, max_completion_tokens: int) -> None:
        self.name = name
        self.encoder = Utf8()
        self.max_completion_tokens = max_completion_tokens
        self._models = models
        self._client = _client(models)

    @property
    def identity(self) -> str:
        address = f"{self._models.remote_base_url}/{self.name}@{self._models.remote_revision}"
        return f"remote/{address}/greedy/{self.max_completion_tokens}"

    def complete(
        self, texts: Sequence[str], on_answer: Callable[[int, Answer], None] | None = None
    ) -> tuple[Answer, ...]:
        """Answers in order; ``on_answer`` is called with index and answer as soon as one is complete.

        Raises:
            ReadEnvError: an invalid answer, or a server that can't be reached or refuses a request.
        """
        answers: dict[int, Answer] = {}
        with ThreadPoolExecutor(min(len(texts), self._models.remote_concurrency) or 1) as pool:
            futures = {pool.submit(self._request, text): index for index, text in enumerate(texts)}
            try:
                for future in as_completed(futures):
                    answers[futures[future]] = future.result()
                    if on_answer is not None:
                        on_answer(futures[future], answers[futures[future]])
            except BaseException:
                pool.shutdown(cancel_futures=True)
                # Requests that were running when one failed are complete by now.
                for future, index in futures.items():
                    if on_answer and index not in answers and not future.cancelled() and not future.exception():
                        on_answer(index, future.result())
                raise
        return tuple(answers[index] for index in range(len(texts)))

    def _request(self, text: str) -> Answer:
        import openai

        try:
            found = self._client.chat.completions.create(
                model=self.name, messages=[{"role": "user", "content": text}], temperature=0.0,
                max_tokens=self.max_completion_tokens,
            )  # fmt: skip
        except openai.APIStatusError as error:
            raise ReadEnvError(
                f"{self._where} refused a prompt: HTTP {error.status_code} {_first_line(error)}"
            ) from None
        except openai.APITimeoutError:
            raise ReadEnvError(
                f"{self._where} did not answer within models.remote_timeout = {self._models.remote_timeout:g}, "
                f"{self._models.remote_max_retries + 1} times; answers so far are kept: run the same command again"
            ) from None
        except openai.APIConnectionError as error:
            raise ReadEnvError(
                f"{self._where} can't be reached ({_first_line(error.__cause__ or error)}); answers so far are kept: run "
                "the same command again"
            ) from None
        except (openai.OpenAIError, ValueError) as error:
            raise ReadEnvError(f"{self._where} sent an invalid answer ({_first_line(error)})") from None
        return self._read(found)

    def _read(self, found: Any) -> Answer:
        choices = getattr(found, "choices", None)
        choice = choices[0] if isinstance(choices, list) and choices else None
        content = getattr(getattr(choice, "message", None), "content", None)
        if choice is None or not isinstance(content, str):
            raise ReadEnvError(
                f"{self._where} sent an answer without text in choices[0].message.content, got {_redacted(str(found))[:80]!r}"
            )
        reason = getattr(choice, "finish_reason", None)
        if reason not in ("stop", "length"):  # filtered, a tool call, or unknown
            raise ReadEnvError(
                f"{self._where} sent an answer with finish_reason {_redacted(str(reason))[:80]!r}; right would be 'stop' "
                "(complete) or 'length' (cut)"
            )
        if not content:
            if reason == "length":
                raise ReadEnvError(
                    f"{self._where} was cut at distill.max_completion_tokens = {self.max_completion_tokens} before any "
                    "text; right would be a larger number, or a model that doesn't reason first"
                )
            _LOG.warning("%s gave an empty answer", self._where)
        try:
            return self.encoder.answer(content, ended=reason == "stop")
        except UnicodeEncodeError as error:
            raise ReadEnvError(f"{self._where} sent an answer that is not valid UTF-8 ({error.reason})") from None

    @property
    def _where(self) -> str:
        return f"teacher {self.name!r} at {self._models.remote_base_url}"


@dataclass(frozen=True)
class Endpoint:
    """Result of a request for a server's models.

    Attributes:
        reached: the server responded.
        refused: the API key is missing or was rejected.
        names: names of its models; None if it doesn't list them.
        trouble: error message without the key; empty without an error.
    """

    reached: bool
    refused: bool = False
    names: tuple[str, ...] | None = None
    trouble: str = ""

    def text(self, name: str) -> str:
        """One line about the server; ``name`` is the requested model."""
        if self.trouble:
            return f"{'yes, but' if self.reached else 'no:'} {self.trouble}"
        if self.names is None:
            return "yes, without a list of its models"
        if name in self.names:
            return f"yes, and has {name!r}"
        few = ", ".join(self.names[:5]) + (", …" if len(self.names) > 5 else "")
        # Some servers load a model by name without listing it.
        return f"yes, but {name!r} is not among the {len(self.names)} models that it lists ({few or 'none'})"


def look(models: ModelConfig) -> Endpoint:
    """Request the server's models (GET /models), once and with a short time-out.

    Raises:
        ReadEnvError: as for :class:`RemoteTeacher`.
    """
    client = _client(models).with_options(timeout=min(_CHECK_TIMEOUT, models.remote_timeout), max_retries=0)
    import openai

    try:
        found = client.models.list()
    except (openai.AuthenticationError, openai.PermissionDeniedError) as error:
        return Endpoint(True, refused=True, trouble=f"it refuses this key: HTTP {error.status_code}")
    except openai.NotFoundError:
        return Endpoint(True)
    except openai.APIStatusError as error:
        return Endpoint(True, trouble=f"with HTTP {error.status_code} {_first_line(error)}")
    except openai.APITimeoutError:
        return Endpoint(False, trouble=f"nothing within {client.timeout:g} s")
    except openai.APIConnectionError as error:
        return Endpoint(False, trouble=f"it can't be reached ({_first_line(error.__cause__ or error)})")
    except (openai.OpenAIError, ValueError) as error:
        return Endpoint(True, trouble=f"with something that is no list of models ({_first_line(error)})")
    listed = getattr(found, "data", None)
    if not isinstance(listed, list):
        return Endpoint(True)
    return Endpoint(True, names=tuple(_redacted(str(getattr(one, "id", one))) for one in listed))


def key_variable() -> str:
    """Environment variable that the API key is read from; empty if none is set."""
    return next((name for name in KEY_VARIABLES if os.environ.get(name, "").strip()), "")


def _client(models: ModelConfig) -> OpenAI:
    if not models.remote_base_url:
        raise ReadEnvError(
            "models.remote_base_url is empty; right would be the address of an OpenAI-compatible server, such as "
            "http://localhost:8000/v1"
        )
    try:
        from openai import OpenAI
    except ImportError as error:
        raise ReadEnvError(
            f"a remote teacher needs the package openai ({error}); pip install 'read-env[remote]'"
        ) from None
    return OpenAI(
        base_url=models.remote_base_url,
        api_key=_key(),
        timeout=models.remote_timeout,
        max_retries=models.remote_max_retries,
    )


def _key() -> str:
    """API key without surrounding white space, such as a line break from a file; ``none`` if none is set."""
    name = key_variable()
    key = os.environ.get(name, "none").strip()
    if not (key.isascii() and key.isprintable()):
        raise ReadEnvError(
            f"${name} has a line break or another character in it that no HTTP header may have; right would be the key alone"
        )
    return key


def _first_line(error: BaseException) -> str:
    """First line of an error's message, without the API key."""
    return _redacted(str(error)).strip().partition("\n")[0][:200]


def _redacted(text: str) -> str:
    """Replace API keys by the names of their variables; to be called before a text is cut, which may split a key."""
    for name in KEY_VARIABLES:
        held = os.environ.get(name, "")
        # As sent, and as quoted in a message.
        for key in (held, held.strip()):
            for form in (key, repr(key)[1:-1]):
                text = text.replace(form, f"${name}") if form.strip() else text
    return text
