"""Requests to a server: failures that are retried, errors with what would be right, and requests at the same time."""

from __future__ import annotations

import itertools
import json
import logging
import math
import random
import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

from read_env.config import ModelConfig
from read_env.distillation.teachers.remote_answers import error_message
from read_env.distillation.teachers.remote_endpoint import (
    KEY_VARIABLES,
    first_line,
    key_variable,
    look,
    make_client,
    redacted,
)
from read_env.errors import ReadEnvError

_LOG = logging.getLogger(__name__)
_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

#: Longest pause before a retry without, and with a request of the server, seconds.
_LONGEST_PAUSE, _LONGEST_RETRY_AFTER = 30.0, 600.0
#: Apart from the generators that results depend on.
_JITTER = random.SystemRandom()
#: Lasting errors of TLS by a part of their message; others pass.
_TLS = {
    "WRONG_VERSION": "an address that begins with http://",
    "record layer": "an address that begins with http://",
    "CERTIFICATE_VERIFY": "its certificate's issuer in the file that $SSL_CERT_FILE names",
}
#: Messages about a model that a server doesn't have.
_NO_MODEL = re.compile(
    r"\bmodel\b.*\b(not (found|exist|available|a valid)|n't exist|unknown|invalid|no such)", re.IGNORECASE
)


class PassingTrouble(ReadEnvError):
    """Trouble that may pass; ``retry_after`` is the pause in seconds that the server asks for, None for none."""

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class ServerClient:
    """Client of one model on a server.

    Time-outs, rate limits, lost connections, failures of the server (408, 409, 425, 429, 5xx) and broken replies are
    retried.

    Args:
        name: name of the model on the server.
        models: address, time-out, retries and parameters.

    Attributes:
        stopped: set to end all pauses before retries.

    Raises:
        ReadEnvError: no address, an API key that can't be sent, or the package ``openai`` isn't installed.
    """

    def __init__(self, name: str, models: ModelConfig) -> None:
        self.name = name
        self.stopped = threading.Event()
        self._models = models
        self._client = make_client(models)
        self._lock = threading.Lock()
        self._said: set[str] = set()

    def retried(self, request: Callable[[], _Result], about: str) -> _Result:
        """Result of a request that is repeated while it raises :class:`PassingTrouble`.

        Args:
            request: the request.
            about: what was asked, for the last error.

        Raises:
            ReadEnvError: any other trouble, or the last of ``models.remote_max_retries`` retries.
        """
        for attempt in itertools.count():
            try:
                return request()
            except PassingTrouble as trouble:
                pause = min(0.5 * 2.0 ** min(attempt, 20), _LONGEST_PAUSE) * (1 - 0.25 * _JITTER.random())
                pause = trouble.retry_after if trouble.retry_after is not None else pause
                last = attempt >= self._models.remote_max_retries or pause > _LONGEST_RETRY_AFTER
                if last or self.stopped.is_set():
                    raise ReadEnvError(
                        f"{trouble}; {about}; answers so far are kept: run the same command again"
                    ) from None
                _LOG.info("%s; retry %d in %.1f s", trouble, attempt + 1, pause)
                self.pause(pause)
        raise AssertionError("unreachable")

    def pause(self, seconds: float) -> None:
        """Wait before a retry."""
        self.stopped.wait(seconds)

    def say_once(self, note: str) -> None:
        """Log a warning about the server, once."""
        with self._lock:
            if note in self._said:
                return
            self._said.add(note)
        _LOG.warning("%s: %s", self.where, note)

    def all_of(
        self, request: Callable[[_Item], _Result], items: Sequence[_Item],
        on_result: Callable[[int, _Result], None] | None = None,
    ) -> list[_Result]:  # fmt: skip
        """Results in order, of ``models.remote_concurrency`` requests at the same time.

        Args:
            request: request of one item.
            items: the items.
            on_result: called with index and result as soon as one is there, also where a later request fails.
        """
        results: dict[int, _Result] = {}
        self.stopped.clear()
        with ThreadPoolExecutor(min(len(items), self._models.remote_concurrency) or 1) as pool:
            futures = {pool.submit(request, item): index for index, item in enumerate(items)}
            try:
                for future in as_completed(futures):
                    results[futures[future]] = future.result()
                    if on_result is not None:
                        on_result(futures[future], results[futures[future]])
            except BaseException:
                self.stopped.set()
                pool.shutdown(cancel_futures=True)
                # Requests that were running when one failed are complete by now.
                for future, index in futures.items():
                    if on_result and index not in results and not future.cancelled() and not future.exception():
                        on_result(index, future.result())
                raise
        return [results[index] for index in range(len(items))]

    @property
    def where(self) -> str:
        """Name of the model and address of the server, for messages."""
        return f"teacher {self.name!r} at {self._models.remote_base_url}"

    def sent(self, send: Callable[[], _Result], about: str) -> _Result:
        """Result of a call of the package ``openai``, with errors of ours in place of its own.

        Args:
            send: the call. An ``openai.APIStatusError`` passes, for the caller to read.
            about: what was asked, for the error of text that can't be encoded.
        """
        import openai

        try:
            return send()
        except (openai.APIStatusError, ReadEnvError):
            raise
        except openai.APITimeoutError:
            raise PassingTrouble(
                f"{self.where} did not answer within models.remote_timeout = {self._models.remote_timeout:g}, "
                f"{self._models.remote_max_retries + 1} times"
            ) from None
        except openai.APIConnectionError as error:
            reason = first_line(error.__cause__ or error, self._models)
            if right := next((right for part, right in _TLS.items() if part in reason), ""):
                raise ReadEnvError(f"{self.where} can't be reached ({reason}); right would be {right}") from None
            raise PassingTrouble(f"{self.where} can't be reached ({reason})") from None
        except UnicodeEncodeError:
            raise ReadEnvError(f"models.teacher: {about} is not valid Unicode and can't be sent") from None
        except (openai.OpenAIError, ValueError) as error:
            raise ReadEnvError(f"{self.where} sent an invalid answer ({first_line(error, self._models)})") from None

    def error(self, response: Any, status: int, body: Any, about: str) -> ReadEnvError:
        """Error of a refused request, to be retried or not; ``about`` says what was asked and what would be right."""
        message = redacted(error_message(body), self._models)[:200]
        head = f"HTTP {status} {message}".rstrip() + self._redirect(response)
        spent = "insufficient_quota" in json.dumps(body, default=str)
        if (status in (408, 409, 425, 429) or (status >= 500 and status != 501)) and not spent:
            return PassingTrouble(f"{self.where} refused a prompt: {head}", retry_after(response.headers))
        if status in (401, 403):
            held = key_variable()
            head += f"; the key is read from {f'${held}' if held else ' or '.join(f'${one}' for one in KEY_VARIABLES)}"
        elif status in (404, 405) or _NO_MODEL.search(message):
            head += self._address()
        else:
            head += f"; {about}"
        return ReadEnvError(f"{self.where} refused a prompt: {head}")

    def _redirect(self, response: Any) -> str:
        """Remark on a redirection, after which clients send no prompt or no key; empty without one."""
        if not response.history:
            return ""
        address = str(response.url).partition("?")[0].rstrip("/").removesuffix("/chat/completions")
        return f"; it redirects to {redacted(address, self._models)}: right would be that address in models.remote_base_url"

    def _address(self) -> str:
        """Remark on the address, or on the models that the server has."""
        return f"; are its models there? {look(self._models).text(self.name)}"


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that a server asks to wait, given as a number or as a date; None if it doesn't.

    >>> retry_after({"retry-after": "17"})
    17.0
    """
    for name, unit in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
        value = headers.get(name, "")
        try:
            seconds = float(value) * unit
        except ValueError:
            try:
                seconds = parsedate_to_datetime(value).timestamp() - time.time()
            except (TypeError, ValueError):
                continue
        if math.isfinite(seconds):
            return max(0.0, seconds)
    return None
