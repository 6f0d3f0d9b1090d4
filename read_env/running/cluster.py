"""Runs and trainings as tasks of a Ray cluster.

A task works in a folder of its node. Its reports, its records and each new checkpoint come back through Ray's object store, and
are written to the directory of the run on this machine: nodes and this machine need no folder in common. If a node is lost, the
run is sent to another one with what has come back, and goes on from the last checkpoint.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from read_env.errors import ReadEnvError
from read_env.running.agents import TRAINING_RECORD
from read_env.running.cluster_node import Request, Sent, on_node, versions
from read_env.running.directory import RecordDirectory
from read_env.running.mirror import Mirror, Piece, write_piece
from read_env.running.pool import Ended, Work, in_a_line
from read_env.running.requests import TrainingRequest

#: Tasks that are submitted at the same time. Each holds the lock of its directory, which takes a file descriptor.
_SUBMITTED = 256
#: Times that a run is sent to another node after its node was lost.
_RETRIES = 3


def map_on_cluster(
    work: Work, requests: Mapping[str, Request], report: Callable[[str, Any], None], address: str
) -> None:
    """Do all requests on a cluster; arguments and errors as in :func:`read_env.running.pool.map_jobs`.

    Args:
        work: what a node does with each request.
        requests: name -> request with a directory.
        report: called with the name and each event: what ``work`` reports, texts about lost nodes, and :class:`Ended` at last.
        address: ``auto`` or the address of the cluster.
    """
    waiting = list(requests)
    with _connected(address) as ray:
        tasks = _Tasks(ray, work)
        try:
            while waiting or tasks.running:
                while waiting and len(tasks.running) < _SUBMITTED:
                    name = waiting.pop(0)
                    try:
                        tasks.add(name, requests[name])
                    except (ReadEnvError, OSError) as error:  # the directory holds another run, or is in use
                        report(name, Ended(error=in_a_line(error)))
                        continue
                    if lacking := tasks.lacking(requests[name]):
                        report(name, lacking)
                if tasks.running:
                    name, event = tasks.next_event()
                    if isinstance(event, Piece):
                        write_piece(requests[name].directory, event)
                    else:
                        report(name, event)
        finally:
            tasks.cancel()


class _Tasks:
    """Tasks of a cluster, seen from the machine of the command.

    Args:
        ray: the module, connected.
        work: what a node does with each request.
    """

    def __init__(self, ray: Any, work: Work) -> None:
        self._ray = ray
        self._task = ray.remote(on_node)
        self._work = ray.put(work)
        self._gpus = ray.cluster_resources().get("GPU", 0) > 0
        errors = ray.exceptions
        self._lost = (
            errors.NodeDiedError, errors.WorkerCrashedError, errors.ObjectLostError, errors.OutOfMemoryError,
        )  # fmt: skip
        #: Stream of a task -> name of its run.
        self.running: dict[Any, str] = {}
        self._requests: dict[str, Request] = {}
        self._claims: dict[str, ExitStack] = {}
        self._losses: dict[str, int] = {}

    def add(self, name: str, request: Request) -> None:
        """Claim the directory of a request until it ends, and submit its task.

        Raises:
            ReadEnvError: the directory can't be used, or a device that Ray can't give.
        """
        with ExitStack() as stack:
            directory = RecordDirectory(request.directory)
            stack.enter_context(directory.claim(request.identity, request.recorded, overwrite=request.overwrite))
            self._requests[name], self._losses[name] = request, 0
            self._submit(name)
            self._claims[name] = stack.pop_all()

    def lacking(self, request: Request) -> str:
        """Text about resources that no node has; empty if one has them."""
        asked = _resources(request, self._gpus)
        cpus, gpus = asked["num_cpus"], asked["num_gpus"]
        nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        if any(node.get("CPU", 0) >= cpus and node.get("GPU", 0) >= gpus for node in nodes):
            return ""
        return f"waits for a node with {cpus} CPUs and {gpus} GPUs, which none of the cluster has now"

    def next_event(self) -> tuple[str, Any]:
        """Name of a run, and what its task sent next. A task whose node is lost is submitted again."""
        (stream,), _ = self._ray.wait(list(self.running), num_returns=1)
        name = self.running[stream]
        try:
            event = self._ray.get(next(stream))
        except self._lost as error:
            event = self._after_loss(stream, name, type(error).__name__)
        except (self._ray.exceptions.RayError, StopIteration) as error:
            line, *_ = in_a_line(getattr(error, "cause", None) or error).splitlines()
            event = Ended(error=line, traceback=str(error))
        if isinstance(event, Ended):
            self.running.pop(stream, None)
            self._claims.pop(name).close()
        return name, event

    def cancel(self) -> None:
        """End the tasks that are going on; their runs can be resumed."""
        for stream in self.running:
            self._ray.cancel(stream, force=True)
        for claim in self._claims.values():
            claim.close()

    def _after_loss(self, stream: Any, name: str, reason: str) -> str | Ended:
        del self.running[stream]
        self._losses[name] += 1
        if self._losses[name] > _RETRIES:
            return Ended(
                error=f"its node or process was lost {self._losses[name]} times ({reason}); the run can be resumed"
            )
        self._submit(name)
        return f"its node or process was lost ({reason}); it goes on elsewhere from its last checkpoint"

    def _submit(self, name: str) -> None:
        request = self._requests[name]
        pieces = [self._ray.put(piece) for piece in Mirror(request.directory).changes()]
        sent = Sent(_on_its_own(request), request.identity.to_json(), versions(), os.getcwd(), _inputs(request))
        options = {**_resources(request, self._gpus), "max_retries": 0, "num_returns": "streaming", "name": name}
        # By the id of this object a process knows the work that it keeps, with its models.
        stream = self._task.options(**options).remote(self._work.hex(), [self._work], sent, pieces)
        self.running[stream] = name


def _resources(request: Request, gpus: bool) -> dict[str, float]:
    """CPUs and GPUs of a task, from the configuration.

    Args:
        request: the request.
        gpus: there are GPUs in the cluster, on which a run with the device ``auto`` computes.

    Raises:
        ReadEnvError: the configuration names one of several GPUs.
    """
    models = request.config.models
    envs = 1 if not isinstance(request, TrainingRequest) or request.on else request.envs
    if models.device not in ("auto", "cpu", "cuda"):
        raise ReadEnvError(
            f"models.device: {models.device!r}; Ray gives each run its GPU, so that right would be cuda, cpu or auto"
        )
    used = models.device == "cuda" or (models.device == "auto" and gpus)
    sharded = models.vllm_tensor_parallel_size if models.teacher.startswith("vllm:") else 1
    ranks = models.gpus
    on_surrogate = isinstance(request, TrainingRequest) and bool(request.on)
    return {
        "num_cpus": models.threads * envs * ranks,
        "num_gpus": 0 if on_surrogate or not used else max(sharded, ranks),
    }


def _on_its_own(request: Request) -> Request:
    """The request as a node gets it: with a directory, whose name needs no saved agent, and without the cluster."""
    request = replace(request, out=request.directory)
    return replace(request, cluster="") if isinstance(request, TrainingRequest) else request


def _inputs(request: Request) -> dict[str, bytes]:
    """Path -> content of the files that a request names and that commands make: task cards, prompts and saved agents."""
    tasks = request.tasks if isinstance(request, TrainingRequest) else (request.config.task,)
    paths = [Path(os.path.expanduser(task)) for task in tasks]
    if request.agent.path is not None:
        paths += [request.agent.path, request.agent.path.with_name(TRAINING_RECORD)]
    return {str(path): path.read_bytes() for path in paths if path.is_file()}


@contextmanager
def _connected(address: str) -> Iterator[Any]:
    """Connection to a cluster; one that this process has already is used, and stays."""
    try:
        import ray
    except ImportError as error:
        raise ReadEnvError(f"cluster needs the package ray ({error}); pip install 'read-env[ray]'") from None
    if address.startswith("ray://"):
        raise ReadEnvError(
            f"cluster: {address!r} is an address of Ray Client, which can't stream results; right would be auto or HOST:6379, "
            "in a process on a machine of the cluster"
        )
    if ray.is_initialized():
        yield ray
        return
    try:
        ray.init(address=address, logging_level=logging.WARNING)
    except Exception as error:  # connection, version or token: Ray raises errors of many types
        raise ReadEnvError(
            f"cluster: {address!r} can't be reached ({' '.join(str(error).split())[:300]}); right would be auto on a machine on which "
            "`ray start` was run, or the address of the head, HOST:6379"
        ) from error
    try:
        yield ray
    finally:
        ray.shutdown()
