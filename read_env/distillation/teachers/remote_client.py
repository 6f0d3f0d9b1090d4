"""Requests to OpenAI-compatible servers: address and key, retries, and parameters that a server refuses."""

from __future__ import annotations

import itertools
import json
import logging
import math
import random
import re
import threading
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any

from read_env.config import ModelConfig
from read_env.distillation.teachers.remote_answers import (
    BrokenReply,
    Reply,
    decoded,
    error_message,
    read_reply,
    refusal,
)
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

#: Longest pause before a retry without, and with a request of the server, seconds.
_LONGEST_PAUSE, _LONGEST_RETRY_AFTER = 30.0, 600.0
#: Apart from the generators that results depend on.
_JITTER = random.SystemRandom()
#: Parameters that a request does without; others are errors if the server refuses them.
_OPTIONAL = frozenset(
    "temperature top_p top_k min_p seed stop logprobs top_logprobs frequency_penalty presence_penalty".split()
)
#: Parameter that limits an answer, and its other name.
_OTHER_NAME = {"max_tokens": "max_completion_tokens", "max_completion_tokens": "max_tokens"}
_UNSUPPORTED = re.compile(
    r"unsupported|not support|n't support|unrecognized|unknown|unexpected|extra (inputs|fields)|not (permitted|allowed)|"
    r"deprecated|no longer|only\b.{1,20}\b(allowed|supported|permitted)|use '?max_",
    re.IGNORECASE,
)
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


class _PassingTrouble(ReadEnvError):
    """Trouble that may pass; ``retry_after`` is the pause in seconds that the server asks for, None for none."""

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class ChatClient:
    """Client that sends one prompt per request.

    Time-outs, rate limits, lost connections, failures of the server (408, 409, 425, 429, 5xx) and broken replies are
    retried. A parameter that the server refuses is renamed or left out from then on, with a warning.

    Args:
        name: name of the model on the server.
        models: address, time-out, retries and parameters.
        max_tokens: tokens that the server may generate per answer.

    Attributes:
        stopped: set to end all pauses before retries.

    Raises:
        ReadEnvError: no address, an API key that can't be sent, or the package ``openai`` isn't installed.
    """

    def __init__(self, name: str, models: ModelConfig, max_tokens: int) -> None:
        self.name = name
        self.stopped = threading.Event()
        self._models = models
        self._client = make_client(models)
        sent = {"temperature": models.remote_temperature, "max_tokens": max_tokens}
        sent |= json.loads(models.remote_extra_body or "{}")
        self._parameters: dict[str, Any] = {key: value for key, value in sent.items() if value is not None}
        self._lock = threading.Lock()
        self._refused: set[str] = set()
        self._said: set[str] = set()

    def ask(self, text: str) -> Reply:
        """Answer to a prompt, or the reason why the server gives none to this prompt.

        Raises:
            ReadEnvError: the server can't be reached, refuses the request, or keeps sending invalid replies.
        """
        for attempt in itertools.count():
            try:
                return self._ask_once(text)
            except _PassingTrouble as trouble:
                pause = min(0.5 * 2.0 ** min(attempt, 20), _LONGEST_PAUSE) * (1 - 0.25 * _JITTER.random())
                pause = trouble.retry_after if trouble.retry_after is not None else pause
                last = attempt >= self._models.remote_max_retries or pause > _LONGEST_RETRY_AFTER
                if last or self.stopped.is_set():
                    raise ReadEnvError(
                        f"{trouble}; the prompt was {text[:60]!r}; answers so far are kept: run the same command again"
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

    @property
    def where(self) -> str:
        """Name of the model and address of the server, for messages."""
        return f"teacher {self.name!r} at {self._models.remote_base_url}"

    def _ask_once(self, text: str) -> Reply:
        while True:
            sent = self._parameters
            response = self._post(text, sent)
            body = decoded(response.content)
            status = _status_in(response.status_code, body)
            if reason := refusal(response.status_code, body):
                return Reply("", skipped=redacted(reason, self._models))
            if status == 200:
                return self._read(response, body, sent)
            if not self._adapt(sent, status, body):
                raise self._error(response, status, body, text)

    def _post(self, text: str, parameters: Mapping[str, Any]) -> Any:
        """HTTP response of a request, with any status."""
        import openai

        try:
            message = {"role": "user", "content": text}
            send = self._client.chat.completions.with_raw_response.create
            return send(model=self.name, messages=[message], extra_body=dict(parameters)).http_response  # type: ignore[list-item]
        except openai.APIStatusError as error:
            return error.response
        except openai.APITimeoutError:
            raise _PassingTrouble(
                f"{self.where} did not answer within models.remote_timeout = {self._models.remote_timeout:g}, "
                f"{self._models.remote_max_retries + 1} times"
            ) from None
        except openai.APIConnectionError as error:
            reason = first_line(error.__cause__ or error, self._models)
            if right := next((right for part, right in _TLS.items() if part in reason), ""):
                raise ReadEnvError(f"{self.where} can't be reached ({reason}); right would be {right}") from None
            raise _PassingTrouble(f"{self.where} can't be reached ({reason})") from None
        except UnicodeEncodeError:
            raise ReadEnvError(
                f"models.teacher: the prompt {text[:60]!r} is not valid Unicode and can't be sent"
            ) from None
        except (openai.OpenAIError, ValueError) as error:
            raise ReadEnvError(f"{self.where} sent an invalid answer ({first_line(error, self._models)})") from None

    def _read(self, response: Any, body: Any, sent: Mapping[str, Any]) -> Reply:
        if isinstance(body, str) or (isinstance(body, Mapping) and "choices" not in body):
            shown = redacted(error_message(body) or str(body), self._models)[:120]
            trouble = f"{self.where} sent an answer that is no chat completion: {shown}"
            if shown.startswith("an HTML page"):  # the address of a web page
                raise ReadEnvError(f"{trouble}{self._redirect(response)}{self._address()}")
            raise _PassingTrouble(trouble)
        allowed = next((sent[name] for name in _OTHER_NAME if isinstance(sent.get(name), int)), None)
        try:
            if not isinstance(body, Mapping):
                raise BrokenReply(f"got {type(body).__name__}")
            reply = read_reply(body, allowed, keep_reasoning=self._models.remote_reasoning == "keep")
        except BrokenReply as error:
            raise _PassingTrouble(
                f"{self.where} sent an answer without text in choices[0].message.content ({error})"
            ) from None
        if reply.note:
            self.say_once(redacted(reply.note, self._models))
        return reply

    def _adapt(self, sent: dict[str, Any], status: int, body: Any) -> bool:
        """Rename or leave out the parameter that a reply refuses; False if it refuses none."""
        name, other = _refused_parameter(sent, status, body)
        with self._lock:
            if self._parameters is not sent:  # another request has found out
                return True
            if not name or other in self._refused:
                return False
            self._refused.add(name)
            self._parameters = {key: value for key, value in sent.items() if key != name}
            if other:
                self._parameters[other] = sent[name]
        done = f"{other} is sent from now on" if other else "it is left out from now on, and the server decides"
        self.say_once(f"refuses {name} ({redacted(error_message(body), self._models)[:120]}): {done}")
        return True

    def _error(self, response: Any, status: int, body: Any, text: str) -> ReadEnvError:
        """Error of a refused request, to be retried or not."""
        message = redacted(error_message(body), self._models)[:200]
        head = f"HTTP {status} {message}".rstrip() + self._redirect(response)
        spent = "insufficient_quota" in json.dumps(body, default=str)
        if (status in (408, 409, 425, 429) or (status >= 500 and status != 501)) and not spent:
            return _PassingTrouble(f"{self.where} refused a prompt: {head}", _retry_after(response.headers))
        if status in (401, 403):
            held = key_variable()
            head += f"; the key is read from {f'${held}' if held else ' or '.join(f'${one}' for one in KEY_VARIABLES)}"
        elif status in (404, 405) or _NO_MODEL.search(message):
            head += self._address()
        else:
            head += f"; the prompt was {text[:60]!r}, right would be another one or other parameters in models.remote_extra_body"
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


def _refused_parameter(sent: Mapping[str, Any], status: int, body: Any) -> tuple[str, str]:
    """Parameter that an error names as refused, and its other name if the server asks for that; empty for none."""
    if status not in (400, 422):
        return "", ""
    message = error_message(body)
    error = body.get("error", body) if isinstance(body, Mapping) else {}
    param = str(error.get("param") or "").rpartition(".")[2] if isinstance(error, Mapping) else ""
    found = {name: match.start() for name in sent if (match := re.search(rf"(?<![\w]){name}(?![\w])", message))}
    name = param if param in sent else min(found, key=found.__getitem__, default="")
    code = str(error.get("code") or "") if isinstance(error, Mapping) else ""
    unsupported = bool(_UNSUPPORTED.search(f"{message} {code.replace('_', ' ')}"))
    wanted = re.search(r"\buse ['\"`]?(\w+)['\"`]? instead", message, re.IGNORECASE)
    other = wanted[1] if wanted else _OTHER_NAME.get(name, "")
    if name in _OTHER_NAME and unsupported and other not in sent:
        return name, other
    # Some servers take greedy decoding for a temperature out of range.
    fits = name in _OPTIONAL and (unsupported or (name == "temperature" and sent[name] == 0))
    return (name, "") if fits else ("", "")


def _status_in(status: int, body: Any) -> int:
    """Status of a reply; gateways report the failure of a server behind them as an error in a reply with status 200."""
    error = body.get("error") if isinstance(body, Mapping) else None
    if status != 200 or not error or body.get("choices"):
        return 200 if 200 <= status < 300 else status
    code = str(error.get("code") or error.get("status") or "") if isinstance(error, Mapping) else ""
    return int(code) if re.fullmatch(r"[45]\d\d", code) else 502


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that a server asks to wait, given as a number or as a date; None if it doesn't."""
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
