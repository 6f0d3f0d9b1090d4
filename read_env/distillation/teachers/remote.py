"""A teacher behind an OpenAI-compatible endpoint: text only, asked prompt by prompt."""

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

#: The environment variables that may hold the key, in this order. Nowhere else is one read from.
KEY_VARIABLES = ("READ_ENV_API_KEY", "OPENAI_API_KEY")
REMOTE = "remote:"
#: Seconds that a look at a server may take: somebody is waiting for it.
_LOOK_SECONDS = 5.0


class Utf8:
    """Text as its UTF-8 bytes: the vocabulary of a teacher of whom nothing but the text is known."""

    eos_id = 256

    def text(self, ids: Sequence[int]) -> str:
        """The text of an answer."""
        return bytes(i for i in ids if i < self.eos_id).decode("utf-8", "replace")

    def answer(self, text: str, *, ended: bool) -> Answer:
        """An answer of that text; ``ended`` unless it was cut."""
        ids = [*text.encode(), *([self.eos_id] if ended else [])]
        return Answer(tuple(ids), TeacherTargets.of_text(torch.tensor(ids, dtype=torch.int64)))


class RemoteTeacher:
    """A model that answers chat requests over HTTP.

    Every prompt is asked on its own, so an answer doesn't depend on its neighbours, and what has
    arrived is kept when a later one fails. Requests that time out, are refused for their rate or
    meet a server that is down are made again with growing pauses.

    Args:
        name: of the model, as the server knows it.
        models: address, time-out, retries, requests at once, and the revision that the user vouches for.
        max_completion_tokens: answers are cut here, in the server's own tokens.

    Raises:
        ReadEnvError: no address, a key that can't be sent, or the client's package isn't installed.
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

    def ask(self, texts: Sequence[str], arrived: Callable[[int, Answer], None] | None = None) -> tuple[Answer, ...]:
        """Answers in order; ``arrived`` is told of each one with its place as soon as it is there.

        Raises:
            ReadEnvError: an answer that is none, or a server that stays away or refuses.
        """
        answers: dict[int, Answer] = {}
        with ThreadPoolExecutor(min(len(texts), self._models.remote_concurrency) or 1) as pool:
            waiting = {pool.submit(self._one, text): place for place, text in enumerate(texts)}
            try:
                for done in as_completed(waiting):
                    answers[waiting[done]] = done.result()
                    if arrived is not None:
                        arrived(waiting[done], answers[waiting[done]])
            except BaseException:
                pool.shutdown(cancel_futures=True)
                # Those that were on their way when one failed are there by now.
                for done, place in waiting.items():
                    if arrived is not None and place not in answers and not done.cancelled() and not done.exception():
                        arrived(place, done.result())
                raise
        return tuple(answers[place] for place in range(len(texts)))

    def _one(self, text: str) -> Answer:
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
                f"{self._models.remote_max_retries + 1} times; answers so far are kept: the same command goes on"
            ) from None
        except openai.APIConnectionError as error:
            raise ReadEnvError(
                f"{self._where} can't be reached ({_first_line(error.__cause__ or error)}); answers so far are kept: the "
                "same command goes on"
            ) from None
        except (openai.OpenAIError, ValueError) as error:
            raise ReadEnvError(f"{self._where} sent something that is no answer ({_first_line(error)})") from None
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
        if reason not in ("stop", "length"):  # filtered, a call of a tool, or nobody knows: no answer to learn from
            raise ReadEnvError(
                f"{self._where} sent an answer with finish_reason {_redacted(str(reason))[:80]!r}; right would be 'stop' (it "
                "is whole) or 'length' (it was cut)"
            )
        if not content:
            if reason == "length":
                raise ReadEnvError(
                    f"{self._where} was cut at distill.max_completion_tokens = {self.max_completion_tokens} before it had "
                    "said anything; right would be a larger number, or a model that doesn't think first"
                )
            _LOG.warning("%s answered a prompt with nothing", self._where)
        try:
            return self.encoder.answer(content, ended=reason == "stop")
        except UnicodeEncodeError as error:
            raise ReadEnvError(f"{self._where} sent an answer that is no text in UTF-8 ({error.reason})") from None

    @property
    def _where(self) -> str:
        return f"teacher {self.name!r} at {self._models.remote_base_url}"


@dataclass(frozen=True)
class Endpoint:
    """What a server said when it was asked for its models.

    Attributes:
        reached: it answered, in whatever way.
        refused: it wants another key, or one at all.
        names: of its models; None where it doesn't say.
        trouble: what went wrong, in words that hold no key; empty if nothing did.
    """

    reached: bool
    refused: bool = False
    names: tuple[str, ...] | None = None
    trouble: str = ""

    def text(self, name: str) -> str:
        """One line; ``name`` is the model that is wanted."""
        if self.trouble:
            return f"{'yes, but' if self.reached else 'no:'} {self.trouble}"
        if self.names is None:
            return "yes, without a list of its models"
        if name in self.names:
            return f"yes, and has {name!r}"
        few = ", ".join(self.names[:5]) + (", …" if len(self.names) > 5 else "")
        # Some servers load what is asked for by name, whatever they list.
        return f"yes, but {name!r} is not among the {len(self.names)} models that it lists ({few or 'none'})"


def look(models: ModelConfig) -> Endpoint:
    """Asks the server for its models (GET /models), once and not for long.

    Raises:
        ReadEnvError: as for :class:`RemoteTeacher`.
    """
    client = _client(models).with_options(timeout=min(_LOOK_SECONDS, models.remote_timeout), max_retries=0)
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
    """The environment variable that the key is taken from; empty if none is set."""
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
    """The key, without the line's end that a file or a shell may have left on it; ``none`` where none is set."""
    name = key_variable()
    key = os.environ.get(name, "none").strip()
    if not (key.isascii() and key.isprintable()):
        raise ReadEnvError(
            f"${name} has a line break or another character in it that no HTTP header may have; right would be the key alone"
        )
    return key


def _first_line(error: BaseException) -> str:
    """What an error says, without anything that might be the key."""
    return _redacted(str(error)).strip().partition("\n")[0][:200]


def _redacted(text: str) -> str:
    """A text with the names of the variables in place of the keys. Cut it afterwards: half a key is no key to be found."""
    for name in KEY_VARIABLES:
        held = os.environ.get(name, "")
        # As it is sent, and as a message that quotes it shows it.
        for key in (held, held.strip()):
            for form in (key, repr(key)[1:-1]):
                text = text.replace(form, f"${name}") if form.strip() else text
    return text
