"""Upload of students and agents to the hub, through huggingface_hub."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from huggingface_hub import HfApi, utils
from huggingface_hub.errors import HFValidationError, LocalTokenNotFoundError

from read_env.errors import ReadEnvError, describe_os_error

_LOGIN = "log in with `hf auth login`, or set $HF_TOKEN to a token with the right to write"


def check_hub(name: str) -> None:
    """Raise unless a repository ``name`` may be written, before work begins whose result is to be uploaded.

    Args:
        name: ``NAME`` or ``ORGANISATION/NAME``.

    Raises:
        ReadEnvError: a name that the hub refuses, no token, or a server that can't be reached.
    """
    try:
        utils.validate_repo_id(name)  # type: ignore[attr-defined]
    except HFValidationError as error:
        first = str(error).partition("\n")[0]
        raise ReadEnvError(f"push_to_hub {name!r} is no name of a repository: {first}") from None
    try:
        _api().whoami()
    except Exception as error:  # the errors of connections depend on the version of huggingface_hub
        raise ReadEnvError(f"push_to_hub {name!r}: {_reason(error)}") from None


def push(folder: Path, name: str, patterns: Sequence[str] | None = None) -> str:
    """Upload the files of a folder, as one commit, and return the address.

    Args:
        folder: the folder.
        name: repository ``NAME`` or ``ORGANISATION/NAME``; made, private, if it is not there.
        patterns: names of the files, with wildcards. None: all files.

    Raises:
        ReadEnvError: the hub refuses it or can't be reached. The folder is left as it is.
    """
    api = _api()
    try:
        repository = api.create_repo(name, private=True, exist_ok=True)
        api.upload_folder(
            repo_id=repository.repo_id, folder_path=folder, allow_patterns=list(patterns) if patterns else None,
            commit_message="Upload with read-env",
        )  # fmt: skip
    except Exception as error:
        raise ReadEnvError(
            f"{folder} is complete, but was not uploaded to {name!r}: {_reason(error)}; the same command tries again"
        ) from None
    return str(repository)


def _api() -> HfApi:
    # huggingface_hub reads the variable when it is imported, which may have been long ago.
    return HfApi(endpoint=os.environ.get("HF_ENDPOINT") or None)


def _reason(error: Exception) -> str:
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status in (401, 403):
        return f"the hub refuses the token ({status}); {_LOGIN}"
    if isinstance(error, LocalTokenNotFoundError):
        return f"no token; {_LOGIN}"
    if status is None and isinstance(error, OSError) and error.errno:
        return describe_os_error(error)
    return str(error).strip().partition("\n")[0] or type(error).__name__
