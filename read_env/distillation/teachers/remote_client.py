"""Chat requests to OpenAI-compatible servers, and parameters that a server refuses."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
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
from read_env.distillation.teachers.remote_endpoint import redacted
from read_env.distillation.teachers.remote_requests import PassingTrouble, ServerClient
from read_env.errors import ReadEnvError

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


class ChatClient(ServerClient):
    """Client that sends one prompt per request.

    A parameter that the server refuses is renamed or left out from then on, with a warning.

    Args:
        name: name of the model on the server.
        models: address, time-out, retries and parameters.
        max_tokens: tokens that the server may generate per answer.

    Raises:
        ReadEnvError: as for :class:`ServerClient`.
    """

    def __init__(self, name: str, models: ModelConfig, max_tokens: int) -> None:
        super().__init__(name, models)
        sent = {"temperature": models.remote_temperature, "max_tokens": max_tokens}
        sent |= json.loads(models.remote_extra_body or "{}")
        self._parameters: dict[str, Any] = {key: value for key, value in sent.items() if value is not None}
        self._refused: set[str] = set()

    def ask(self, text: str) -> Reply:
        """Answer to a prompt, or the reason why the server gives none to this prompt.

        Raises:
            ReadEnvError: the server can't be reached, refuses the request, or keeps sending invalid replies.
        """
        return self.retried(lambda: self._ask_once(text), f"the prompt was {text[:60]!r}")

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
                about = f"the prompt was {text[:60]!r}, right would be another one or other parameters in models.remote_extra_body"
                raise self.error(response, status, body, about)

    def _post(self, text: str, parameters: Mapping[str, Any]) -> Any:
        """HTTP response of a request, with any status."""
        import openai

        message = {"role": "user", "content": text}
        send = self._client.chat.completions.with_raw_response.create
        try:
            return self.sent(
                lambda: send(model=self.name, messages=[message], extra_body=dict(parameters)).http_response,  # type: ignore[list-item]
                f"the prompt {text[:60]!r}",
            )
        except openai.APIStatusError as error:
            return error.response

    def _read(self, response: Any, body: Any, sent: Mapping[str, Any]) -> Reply:
        if isinstance(body, str) or (isinstance(body, Mapping) and "choices" not in body):
            shown = redacted(error_message(body) or str(body), self._models)[:120]
            trouble = f"{self.where} sent an answer that is no chat completion: {shown}"
            if shown.startswith("an HTML page"):  # the address of a web page
                raise ReadEnvError(f"{trouble}{self._redirect(response)}{self._address()}")
            raise PassingTrouble(trouble)
        allowed = next((sent[name] for name in _OTHER_NAME if isinstance(sent.get(name), int)), None)
        try:
            if not isinstance(body, Mapping):
                raise BrokenReply(f"got {type(body).__name__}")
            reply = read_reply(body, allowed, keep_reasoning=self._models.remote_reasoning == "keep")
        except BrokenReply as error:
            raise PassingTrouble(
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
