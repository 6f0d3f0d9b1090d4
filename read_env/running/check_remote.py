"""Check of a remote teacher for ``read-env check``: endpoint, key and reachability. No prompt is sent, as it may cost money."""

from __future__ import annotations

from importlib.util import find_spec

from read_env.config import Config
from read_env.distillation.teachers.remote import REMOTE
from read_env.distillation.teachers.remote_endpoint import KEY_VARIABLES, key_variable, look
from read_env.losses import get_objective

Rows = list[tuple[str, str]]


def check_remote(config: Config) -> tuple[Rows, Rows]:
    """Rows that describe the teacher, and rows of missing parts with the command that gets each.

    Raises:
        ReadEnvError: a key that can't be sent.
    """
    models = config.models
    name = models.teacher.removeprefix(REMOTE)
    held = key_variable()
    shown = [
        ("teacher", f"{name!r}, remote: text only, parameters and memory are the server's"),
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
    if not lacking:
        found = look(models)
        shown.append(("answers", found.text(name)))
        if found.refused:
            lacking.append(("teacher", f"a key that the server takes: export {KEY_VARIABLES[0]}=…"))
        elif not found.reached:
            lacking.append(("teacher", f"a server at {url}: vllm serve {name}, or another --models.remote-base-url"))
    if get_objective(config.distill.loss).needs_probabilities:
        lacking.append(
            ("objective", f"probabilities for {config.distill.loss!r}, where there is only text: --distill.loss sft")
        )
    return shown, lacking
