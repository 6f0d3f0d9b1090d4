"""Upload of students and agents to the hub, and download of agents, through huggingface_hub."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from huggingface_hub import HfApi, utils
from huggingface_hub.errors import HFValidationError, LocalTokenNotFoundError, RepositoryNotFoundError

from read_env.errors import ReadEnvError, describe_os_error
from read_env.running.agents import TRAINING_RECORD

#: File of a saved agent, in the directory of a training and in a repository of the hub.
AGENT_FILE = "agent.zip"
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


def push(folder: Path, name: str, patterns: Sequence[str] | None = None, *, private: bool = True) -> str:
    """Upload the files of a folder, as one commit, and return the address.

    Args:
        folder: the folder.
        name: repository ``NAME`` or ``ORGANISATION/NAME``; made if it is not there.
        patterns: names of the files, with wildcards. None: all files.
        private: a repository that is made is private.

    Raises:
        ReadEnvError: the hub refuses it or can't be reached. The folder is left as it is.
    """
    api = _api()
    try:
        repository = api.create_repo(name, private=private, exist_ok=True)
        api.upload_folder(
            repo_id=repository.repo_id, folder_path=folder, allow_patterns=list(patterns) if patterns else None,
            commit_message="Upload with read-env",
        )  # fmt: skip
    except Exception as error:
        raise ReadEnvError(
            f"{folder} is complete, but was not uploaded to {name!r}: {_reason(error)}; the same command tries again"
        ) from None
    return str(repository)


def pull_agent(name: str, revision: str | None = None) -> Path:
    """Download the saved agent of a repository with the record of its training, and return the path of ``agent.zip``.

    The files stay in the cache of huggingface_hub, which answers where the hub can't be reached.

    Args:
        name: ``NAME`` or ``ORGANISATION/NAME``.
        revision: branch, tag or commit. None: the main branch.

    Raises:
        ReadEnvError: a name that the hub refuses, no such repository, one without ``agent.zip``, or a server that can't be
            reached.
    """
    try:
        folder = _api().snapshot_download(name, revision=revision, allow_patterns=[AGENT_FILE, TRAINING_RECORD])
    except RepositoryNotFoundError:
        raise ReadEnvError(
            f"agent {name!r}: there is no such file and no such repository on the hub, or the token of `hf auth login` or "
            "$HF_TOKEN may not read it"
        ) from None
    except Exception as error:  # the errors of connections depend on the version of huggingface_hub
        raise ReadEnvError(f"agent {name!r} of the hub: {_reason(error)}") from None
    path = Path(folder) / AGENT_FILE
    if not path.is_file():
        raise ReadEnvError(
            f"agent {name!r} of the hub: the repository has no {AGENT_FILE}, so it holds no agent of read-env"
        )
    return path


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
