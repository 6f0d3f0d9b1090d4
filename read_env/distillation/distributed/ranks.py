"""The ranks of one student: their processes, the group that calls go through, and what became of a rank that failed.

Rank 0 is the process of the environment. It starts the others on this machine, or finds them where ``torchrun`` started them.
A call is sent to all over a gloo group and then made by all; tensors go through a second group, NCCL on GPUs. No rank can leave
a call that the others are in, so a rank that fails says why in the store that the groups met at, and ends: the connections that
it closes end the call on the others.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import torch
import torch.distributed as dist
from torch.distributed.rendezvous import rendezvous

from read_env.errors import DivergedError, ReadEnvError

if TYPE_CHECKING:
    from torch._C._distributed_c10d import Store
    from torch.distributed.device_mesh import DeviceMesh

_Result = TypeVar("_Result")

#: Name of the last call.
END = "end"
#: Key under which rank 0 tells the type of the devices to ranks that it didn't start.
DEVICE = "device"
#: Ranks wait for a call as long as the teacher takes. A rank that has died is noticed by its closed connection.
FOR_A_CALL = timedelta(days=365)
#: Seconds for which the reason of a failure is looked for.
_REASON = 5.0
_OUT_OF_MEMORY = "out of memory"


class RankError(ReadEnvError):
    """A rank failed or died. The ranks are gone; the next call starts them again."""


class RankOutOfMemory(RankError):
    """A rank ran out of memory."""


def under_torchrun() -> bool:
    """True if ``torchrun`` started this process."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def is_follower() -> bool:
    """True if ``torchrun`` started this process as another rank than 0."""
    return under_torchrun() and os.environ.get("RANK", "0") != "0"


def meet(store: Store, rank: int, ranks: int, device: str) -> DeviceMesh:
    """Join the groups of the ranks; the mesh for tensors."""
    from torch.distributed.device_mesh import DeviceMesh

    with _on_this_machine():
        dist.init_process_group("gloo", store=store, rank=rank, world_size=ranks, timeout=FOR_A_CALL)
        group = dist.new_group(backend="gloo" if device == "cpu" else "cpu:gloo,cuda:nccl")
    return DeviceMesh.from_group(group, device)


@contextmanager
def _on_this_machine() -> Iterator[None]:
    """Context in which gloo uses the loopback interface, unless told otherwise: a machine's name may lead nowhere."""
    if under_torchrun() or "GLOO_SOCKET_IFNAME" in os.environ or not sys.platform.startswith("linux"):
        yield
        return
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    try:
        yield
    finally:
        del os.environ["GLOO_SOCKET_IFNAME"]


def report(store: Store, rank: int, error: BaseException) -> NoReturn:
    """End this rank, and leave the reason for rank 0."""
    kind = _OUT_OF_MEMORY if isinstance(error, torch.OutOfMemoryError) else type(error).__name__
    with suppress(RuntimeError):  # rank 0 may be gone
        store.set(f"failed/{rank}", json.dumps([kind, str(error)]))
    os._exit(1)


class Ranks:
    """Rank 0's view of all ranks.

    Args:
        ranks: number of ranks, this one included.
        device: type of their devices, ``cpu`` or ``cuda``.

    Attributes:
        mesh: the ranks, for tensors.
    """

    _open: weakref.ReferenceType[Ranks] | None = None

    def __init__(self, ranks: int, device: str) -> None:
        if Ranks._open is not None and (other := Ranks._open()) is not None:
            other.close()  # torch has one default group in a process
        Ranks._open = weakref.ref(self)
        self.ranks = ranks
        self._device = device
        self._processes: list[subprocess.Popen[bytes]] = []
        if under_torchrun():
            self._store, _, _ = next(rendezvous("env://"))
            self._store.set(DEVICE, device)
        else:
            self._store = dist.TCPStore("127.0.0.1", 0, ranks, is_master=True, wait_for_workers=False)  # type: ignore[attr-defined]
            self._processes = [_start(rank, ranks, self._store.port, device) for rank in range(1, ranks)]
        self._healthy = [True]
        self._finalizer = weakref.finalize(self, _end, self._processes, self._healthy)
        threading.Thread(target=_watch, args=(weakref.ref(self),), daemon=True).start()
        try:
            self.mesh = meet(self._store, 0, ranks, device)
        except RuntimeError as error:
            raise self._failure(error, "starting") from None

    @property
    def closed(self) -> bool:
        """True if the ranks are gone."""
        return not self._finalizer.alive

    def call(
        self, name: str, arguments: tuple[Any, ...], settings: dict[str, Any], own: Callable[[], _Result]
    ) -> _Result:
        """Make a call on every rank; the result is that of rank 0, ``own()``.

        Raises:
            DivergedError: raised by all ranks alike.
            RankOutOfMemory: a rank ran out of memory.
            RankError: a rank failed or died.
        """
        try:
            dist.broadcast_object_list([(name, arguments, settings)], src=0)
            try:
                result = own()
            except DivergedError as error:  # of sums that all ranks have
                dist.barrier()
                raise error
            dist.barrier()
            return result
        except DivergedError:
            raise
        except BaseException as error:
            raise self._failure(error, name) from error

    def close(self) -> None:
        """End the other ranks."""
        self._finalizer()

    def dead(self) -> str:
        """Description of a rank that has ended; empty if all are there."""
        for rank, process in enumerate(self._processes, start=1):
            if (code := process.poll()) is not None:
                how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
                return f"rank {rank} of {self.ranks} {how}"
        return ""

    def _failure(self, error: BaseException, name: str) -> BaseException:
        """Error to raise for a call that ended with ``error`` on this rank; the other ranks are ended."""
        self._healthy[0] = False
        own = isinstance(error, torch.OutOfMemoryError) or not isinstance(error, RuntimeError)
        reason = ("", "", "") if own else self._reason()
        self._finalizer()
        rank, kind, text = reason
        if isinstance(error, torch.OutOfMemoryError):
            rank, kind, text = f"rank 0 of {self.ranks}", _OUT_OF_MEMORY, str(error)
        if kind == _OUT_OF_MEMORY:
            return RankOutOfMemory(f"{rank} ran out of memory in the call {name!r}: {text}")
        if not rank:
            return error
        return RankError(
            f"{rank}{f': {kind}: {text}' if kind else ''}, in the call {name!r} of models.gpus = {self.ranks}; the same command "
            "goes on from the last checkpoint"
        )

    def _reason(self) -> tuple[str, str, str]:
        """Rank that failed, kind of its error and text; empty texts if no other rank failed."""
        end = time.monotonic() + _REASON
        while True:
            with suppress(RuntimeError):
                for rank in range(1, self.ranks):
                    if self._store.check([f"failed/{rank}"]):
                        kind, text = json.loads(self._store.get(f"failed/{rank}"))
                        return f"rank {rank} of {self.ranks}", kind, text
            if dead := self.dead():
                return dead, "", ""
            if time.monotonic() > end:
                return "", "", ""
            time.sleep(0.05)

    def abort(self) -> None:
        """Abort what is going on between GPUs. Unlike gloo, NCCL doesn't always notice that a rank has died."""
        if self._device == "cuda":
            self.mesh.get_group()._get_backend(torch.device("cuda")).abort()


def _start(rank: int, ranks: int, port: int, device: str) -> subprocess.Popen[bytes]:
    command = [
        sys.executable,
        "-m",
        "read_env.distillation.distributed.follower",
        str(rank),
        str(ranks),
        str(port),
        device,
    ]
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, env={**os.environ, "LOCAL_RANK": str(rank)})


def _end(processes: list[subprocess.Popen[bytes]], healthy: list[bool]) -> None:
    """End the other ranks, by a last call, and those that don't follow it by a signal; then leave the groups."""
    if healthy[0]:
        with suppress(RuntimeError, ValueError):
            dist.broadcast_object_list([(END, (), {})], src=0)
    end = time.monotonic() + (2.0 if healthy[0] else 0.0)
    while any(process.poll() is None for process in processes) and time.monotonic() < end:
        time.sleep(0.02)
    for process in processes:
        if process.poll() is None:
            process.kill()
            process.wait()
    if dist.is_initialized():
        dist.destroy_process_group()


def _watch(ranks: weakref.ReferenceType[Ranks]) -> None:
    """Abort the collective calls of rank 0 once another rank has ended."""
    while (alive := ranks()) is not None and not alive.closed:
        if alive.dead():
            with suppress(RuntimeError, AttributeError):
                alive.abort()
            return
        del alive
        time.sleep(0.5)
