"""Check of a remote teacher for ``read-env check``: endpoint, key, reachability, and whether its probabilities can be used.

No prompt is sent to a server that gives text alone, as it may cost money; vLLM and SGLang score one short sequence twice.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import NamedTuple

from read_env.config import Config
from read_env.distillation.loading import tokenizer_of_remote
from read_env.distillation.teachers.remote import REMOTE
from read_env.distillation.teachers.remote_endpoint import KEY_VARIABLES, key_variable, look
from read_env.distillation.teachers.remote_handshake import Handshake, shake_hands
from read_env.distillation.text.lengths import Reader
from read_env.errors import ReadEnvError
from read_env.losses import get_objective

Rows = list[tuple[str, str]]


class RemoteChecked(NamedTuple):
    """Result of the check of a remote teacher.

    Attributes:
        rows: rows that describe it.
        missing: rows of missing parts with the command that gets each.
        reader: the teacher as a reader of prompts, if it gives probabilities; None for text alone.
    """

    rows: Rows
    missing: Rows
    reader: Reader | None = None


def check_remote(config: Config) -> RemoteChecked:
    """Check of the server of a remote teacher.

    Raises:
        ReadEnvError: a key that can't be sent.
    """
    models = config.models
    name = models.teacher.removeprefix(REMOTE)
    held = key_variable()
    shown = [
        ("teacher", f"{name!r}, remote: parameters and memory are the server's"),
        ("key", f"${held} is set" if held else f"not set ({' or '.join(f'${one}' for one in KEY_VARIABLES)})"),
    ]
    lacking: Rows = []
    if find_spec("openai") is None:
        lacking.append(("teacher", "the client's package: pip install 'read-env[remote]'"))
    url = models.remote_base_url
    shown.insert(1, ("endpoint", url or "none"))
    if not url:
        command = "--models.remote-base-url http://localhost:8000/v1"
        lacking.append(("teacher", f"an address: {command} after vllm serve {name}"))
    reader, reason = None, "it can't be asked"
    if not lacking:
        found = look(models)
        shown.append(("answers", found.text(name)))
        if found.refused:
            lacking.append(("teacher", f"a key that the server takes: export {KEY_VARIABLES[0]}=…"))
        elif not found.reached:
            lacking.append(("teacher", f"a server at {url}: vllm serve {name}, or another --models.remote-base-url"))
        else:
            rows, reader, reason = _probabilities(config, name)
            shown += rows
    needed = get_objective(config.distill.loss).needs_probabilities or models.remote_protocol in ("vllm", "sglang")
    if needed and reader is None:
        lacking.append(("objective", (
            f"probabilities for {config.distill.loss!r}, where there is only text ({reason}): a vLLM or SGLang server, or --distill.loss sft"
        )))  # fmt: skip
    return RemoteChecked(shown, lacking, reader)


def _probabilities(config: Config, name: str) -> tuple[Rows, Reader | None, str]:
    """Rows of the handshake, the teacher as a reader, and the reason why its probabilities can't be used."""
    models = config.models
    if models.remote_protocol == "chat":
        return [("probabilities", "no: models.remote_protocol is 'chat'")], None, "models.remote_protocol is 'chat'"
    encoder = tokenizer_of_remote(models)
    try:
        found = shake_hands(name, models, encoder, config.distill.teacher_top_k)
    except ReadEnvError as error:
        found = str(error)
    if not isinstance(found, Handshake):
        return [("probabilities", f"no, text alone: {found}")], None, found
    problem = found.problem
    verdict = f"no, text alone: {problem}" if problem else f"yes, from {found.protocol.title}: every loss works"
    context = found.context - 1 if found.context else None
    return (
        [("probabilities", verdict), *found.rows()],
        None if problem else Reader("teacher", encoder, context),
        problem,
    )
