"""One run or training on a node of a Ray cluster: it works in a temporary folder, and sends what changes there."""

from __future__ import annotations

import os
import platform
import queue
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from read_env.errors import ReadEnvError
from read_env.running.identity import RunIdentity
from read_env.running.mirror import Mirror, write_piece
from read_env.running.pool import Ended, Report, Work, ended
from read_env.running.requests import RunRequest, TrainingRequest

Request = RunRequest | TrainingRequest

#: Seconds between two looks for a new checkpoint.
_LOOK_SECONDS = 0.5
#: Packages whose versions decide the digits of a result.
_PACKAGES = ("read-env", "torch", "transformers", "numpy")


@dataclass(frozen=True)
class Sent:
    """Request on its way to a node, and what the node compares itself with.

    Attributes:
        request: the request.
        identity: its identity on this machine.
        versions: versions of Python and of packages on this machine.
        folder: working directory, which relative paths refer to.
        inputs: path -> content of task cards, prompts and saved agents that the request names.
    """

    request: Request
    identity: Mapping[str, Any]
    versions: Mapping[str, str]
    folder: str
    inputs: Mapping[str, bytes]


_kept: dict[str, Work] = {}


def on_node(identifier: str, kept: list[Any], sent: Sent, pieces: list[Any]) -> Iterator[Any]:
    """Do a request on a node: the task.

    Args:
        identifier: of the ``work``.
        kept: reference to the ``work``, in a list so that it is fetched by the first task of a process alone.
        sent: the request.
        pieces: references to the files of the directory, from an interrupted call.

    Yields:
        Reports of ``work``, pieces of files, and :class:`Ended`.
    """
    import ray

    if identifier not in _kept:
        _kept.clear()  # of an earlier command
        _kept[identifier] = ray.get(kept[0])
    with tempfile.TemporaryDirectory(prefix="read-env-") as folder:
        request = replace(sent.request, out=Path(folder) / sent.request.directory.name, overwrite=False)
        for piece in pieces:
            write_piece(request.directory, ray.get(piece))
        mirror = Mirror(request.directory, copied=True)
        events: queue.SimpleQueue[Any] = queue.SimpleQueue()

        def checked(request: Request, report: Report) -> Any:
            _prepare_node(sent, request)
            return _kept[identifier](request, report)

        def do() -> None:
            end = Ended(error="it ended without a result")
            try:
                end = ended(checked, request, events.put)
            finally:
                events.put(end)

        # In a thread, so that records are sent while a step goes on.
        threading.Thread(target=do, daemon=True).start()
        event: Any = None
        while not isinstance(event, Ended):
            try:
                event = events.get(timeout=_LOOK_SECONDS)
            except queue.Empty:
                event = None
            if mirror.due or isinstance(event, Ended):
                yield from mirror.changes()
            if event is not None:
                yield event


def _prepare_node(sent: Sent, request: Request) -> None:
    """Write the inputs that the node lacks, and compare it with the machine that sent the request.

    Raises:
        ReadEnvError: other versions of packages, or other files under the same names.
    """
    with suppress(OSError):  # a folder that is not there is missed where a relative path is read
        os.chdir(sent.folder)
    for name, content in sent.inputs.items():
        path = Path(name)
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    here = versions()
    if differing := [
        f"{name} {here[name]}, not {asked}" for name, asked in sent.versions.items() if here[name] != asked
    ]:
        raise ReadEnvError(
            f"node {platform.node()} has {', '.join(differing)}, so its results could differ; right would be the same "
            "environment on all nodes"
        )
    if differences := RunIdentity.from_json(sent.identity).differences(request.identity):
        raise ReadEnvError(f"node {platform.node()} has other files ({'; '.join(differences)})")


def versions() -> dict[str, str]:
    """Versions that decide the digits of a result."""
    return {"Python": platform.python_version(), **{package: version(package) for package in _PACKAGES}}
