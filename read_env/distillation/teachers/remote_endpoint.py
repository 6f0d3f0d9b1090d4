"""Address, key and models of an OpenAI-compatible server."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from read_env.config import ModelConfig
from read_env.distillation.teachers.remote_answers import decoded, error_message
from read_env.errors import ReadEnvError

if TYPE_CHECKING:
    from openai import OpenAI

#: Environment variables that may hold the API key, in this order; it is read from nowhere else.
KEY_VARIABLES = ("READ_ENV_API_KEY", "OPENAI_API_KEY")
#: Time-out of the request for a server's models, seconds.
_CHECK_TIMEOUT = 5.0
#: Keys from the first length on are redacted wherever they occur, from the second on as whole words.
_LONG_KEY, _SHORT_KEY = 16, 8
#: Text in front of a key in a header or in a message about one.
_HEADER = r"bearer\s+|[\w-]*(?:key|token|authorization)(?: provided)?['\"]?\s*[:=]\s*['\"]?(?:bearer\s+)?"
#: Paths of addresses that have their version already.
_VERSIONED = re.compile(r"/v\d+\w*(/|$)|/openai(/|$)")


@dataclass(frozen=True)
class Endpoint:
    """Result of a request for a server's models.

    Attributes:
        reached: the server responded at this address.
        refused: the API key is missing or was rejected.
        names: names of its models; None if it doesn't list them.
        trouble: error message without the key; empty without an error.

    Example:
        >>> Endpoint(True, names=("qwen", "llama")).text("llama")
        "yes, and has 'llama'"
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
        ReadEnvError: as for :class:`ChatClient`.
    """
    timeout = min(_CHECK_TIMEOUT, models.remote_timeout)
    client = make_client(models).with_options(timeout=timeout)
    import openai

    try:
        names = _listed(client)
    except (openai.AuthenticationError, openai.PermissionDeniedError) as error:
        return Endpoint(True, refused=True, trouble=f"it refuses this key: HTTP {error.status_code}")
    except openai.NotFoundError:
        names = None
    except openai.APIStatusError as error:
        message = redacted(error_message(decoded(error.response.content)), models)[:200]
        return Endpoint(True, trouble=f"with HTTP {error.status_code} {message}".rstrip())
    except openai.APITimeoutError:
        return Endpoint(False, trouble=f"nothing within {timeout:g} s")
    except openai.APIConnectionError as error:
        return Endpoint(False, trouble=f"it can't be reached ({first_line(error.__cause__ or error, models)})")
    except (openai.OpenAIError, ValueError) as error:
        return Endpoint(True, trouble=f"with something that is no list of models ({first_line(error, models)})")
    address = models.remote_base_url.rstrip("/")
    if names is None and not _VERSIONED.search(urlsplit(address).path):
        try:
            found = _listed(client.with_options(base_url=f"{address}/v1"))
        except (openai.OpenAIError, ValueError):
            found = None
        right = f"{address}/v1, which lists models" if found is not None else f"most likely {address}/v1"
        return Endpoint(False, trouble=f"right would be {right}, as models.remote_base_url")
    return Endpoint(True, names=None if names is None else tuple(redacted(name, models) for name in names))


def _listed(client: OpenAI) -> list[str] | None:
    """Names of the models that a server lists; None for a reply without a list."""
    body = decoded(client.models.with_raw_response.list().http_response.content)
    listed = body.get("data") if isinstance(body, Mapping) else None
    if not isinstance(listed, list):
        return None
    return [str(one.get("id", one) if isinstance(one, Mapping) else one) for one in listed]


def key_variable() -> str:
    """Environment variable that the API key is read from; empty if none is set."""
    return next((name for name in KEY_VARIABLES if os.environ.get(name, "").strip()), "")


def make_client(models: ModelConfig) -> OpenAI:
    """Client of the package ``openai`` without retries of its own.

    Raises:
        ReadEnvError: as for :class:`ChatClient`.
    """
    address = models.remote_base_url
    if not address:
        other = "OPENAI_BASE_URL"
        held = f" (${other} is not read, since the address is part of the record)" if os.environ.get(other) else ""
        raise ReadEnvError(
            f"models.remote_base_url is empty{held}; right would be the address of an OpenAI-compatible server, such as "
            "http://localhost:8000/v1"
        )
    try:
        from openai import DefaultHttpxClient, OpenAI
    except ImportError as error:
        raise ReadEnvError(
            f"a remote teacher needs the package openai ({error}); pip install 'read-env[remote]'"
        ) from None
    key = _sendable(key_variable(), "none")
    headers, query = (
        {name: _sendable(value[1:], None) if value.startswith("$") else value for name, value in values.items()}
        for values in (models.remote_extra_headers, models.remote_extra_query)
    )
    host = urlsplit(address).hostname or ""
    try:
        # A proxy can't reach this machine's own servers.
        mounts = {f"all://{f'[{host}]' if ':' in host else host}": None} if _is_loopback(host) else None
        return OpenAI(
            base_url=address, api_key=key, timeout=models.remote_timeout, max_retries=0, default_headers=headers,
            default_query=query, http_client=DefaultHttpxClient(mounts=mounts),
        )  # fmt: skip
    except (
        ImportError,
        OSError,
        ValueError,
    ) as error:  # a proxy of an unknown kind, a file of certificates that is not there
        raise ReadEnvError(
            f"the client can't be set up ({first_line(error, models)}); it reads $HTTP_PROXY, $ALL_PROXY and $SSL_CERT_FILE"
        ) from None


def _is_loopback(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host)
        return address.is_loopback or address.is_unspecified
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _sendable(name: str, otherwise: str | None) -> str:
    """Value of a variable without surrounding white space, such as a line break from a file."""
    value = os.environ.get(name, "").strip() or otherwise
    if value is None:
        raise ReadEnvError(f"${name}, which models.remote_extra_headers or models.remote_extra_query names, is not set")
    if not (value.isascii() and value.isprintable()):
        raise ReadEnvError(
            f"${name} has a line break or another character in it that no HTTP header may have; right would be the key alone"
        )
    return value


def first_line(error: BaseException, models: ModelConfig) -> str:
    """First line of an error's message, without the API key."""
    return redacted(str(error), models).strip().partition("\n")[0][:200]


def redacted(text: str, models: ModelConfig) -> str:
    """Replace keys by the names of their variables; to be called before a text is cut, which may split a key.

    A key of fewer than 8 characters, such as EMPTY or x, is replaced where it stands in a header, others as whole words,
    and from 16 characters on wherever they occur.
    """
    values = [*models.remote_extra_headers.values(), *models.remote_extra_query.values()]
    for name in dict.fromkeys([*KEY_VARIABLES, *(value[1:] for value in values if value.startswith("$"))]):
        held = os.environ.get(name, "")
        # As sent, and as quoted in a message.
        forms = {form for key in (held, held.strip()) for form in (key, repr(key)[1:-1]) if form.strip()}
        for form in sorted(forms, key=len, reverse=True):
            before = "" if len(form) >= _LONG_KEY else r"(?<![\w-])" if len(form) >= _SHORT_KEY else _HEADER
            after = "" if len(form) >= _LONG_KEY else r"(?![\w-])"
            pattern = rf"({before}){re.escape(form)}{after}"
            text = re.sub(pattern, rf"\g<1>${name}", text, flags=re.IGNORECASE)
    return text
