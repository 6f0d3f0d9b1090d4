"""JSON requests to a server, and its list of models."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from read_env.distillation.teachers.remote_answers import decoded, error_message
from read_env.distillation.teachers.remote_endpoint import redacted
from read_env.distillation.teachers.remote_requests import PassingTrouble, ServerClient
from read_env.errors import ReadEnvError

#: Statuses that refuse the request itself, for its caller to read.
_REFUSING = (400, 404, 405, 413, 422, 501)


class Refused(ReadEnvError):
    """Request that a server refuses, with the HTTP status and the server's message."""

    def __init__(self, status: int, message: str, where: str, about: str) -> None:
        super().__init__(f"{where} refused a request: HTTP {status} {message}".rstrip() + f"; {about}")
        self.status = status
        self.message = message


class JsonClient(ServerClient):
    """Client that sends JSON to any address of the server."""

    def post(self, address: str, body: Mapping[str, Any], about: str) -> Any:
        """Decoded reply to a request, which is retried.

        Args:
            address: path relative to ``models.remote_base_url``, or a whole URL.
            body: JSON object.
            about: what is asked, for errors.

        Raises:
            Refused: the server refuses the request itself (HTTP 400, 404, 405, 413, 422, 501), or sends an HTML page.
            ReadEnvError: the server can't be reached, refuses the key, or keeps failing.
        """
        return self.retried(lambda: self.post_once(address, body, about), about)

    def post_once(self, address: str, body: Mapping[str, Any], about: str) -> Any:
        """Decoded reply to a request, as :meth:`post`, without retries."""
        import openai

        try:
            return self.sent(lambda: self._decoded(address, body), about)
        except openai.APIStatusError as error:
            response, found = error.response, decoded(error.response.content)
            if response.status_code in _REFUSING:
                message = redacted(error_message(found), self._models)[:200]
                raise Refused(response.status_code, message, self.where, about) from None
            raise self.error(response, response.status_code, found, about) from None

    def _decoded(self, address: str, body: Mapping[str, Any]) -> Any:
        try:
            found = self._client.post(address, body=dict(body), cast_to=object)
        except json.JSONDecodeError:  # cut on its way
            raise PassingTrouble(f"{self.where} sent something that is no JSON") from None
        if not isinstance(found, str):
            return found
        if not isinstance(read := decoded(found.encode()), str):  # JSON under the name of another type
            return read
        shown = redacted(error_message(read), self._models)[:120]
        if shown.startswith("an HTML page"):  # of a proxy, or the address of a web page
            raise Refused(200, shown, self.where, "right would be the server's own address in models.remote_base_url")
        raise PassingTrouble(f"{self.where} sent something that is no JSON: {shown!r}")

    def models(self) -> list[Mapping[str, Any]]:
        """Entries of the server's list of models (GET /models); empty where it gives none.

        Raises:
            ReadEnvError: the server can't be reached.
        """
        import openai

        def once() -> Any:
            try:
                return self.sent(lambda: self._client.get("/models", cast_to=object), "its models")
            except (openai.APIStatusError, ReadEnvError) as error:
                if isinstance(error, PassingTrouble):
                    raise
                return None

        body = self.retried(once, "its list of models was asked for")
        listed = body.get("data") if isinstance(body, Mapping) else None
        return [one for one in listed if isinstance(one, Mapping)] if isinstance(listed, list) else []
