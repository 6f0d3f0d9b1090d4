"""Process of a rank other than 0: makes the calls that rank 0 sends, until the last one."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import torch.distributed as dist
from torch.distributed.rendezvous import rendezvous

from read_env.distillation.distributed.ranks import DEVICE, END, FOR_A_CALL, meet, report
from read_env.errors import DivergedError

if TYPE_CHECKING:
    from torch._C._distributed_c10d import Store


def follow(store: Store, rank: int, ranks: int, device: str) -> None:
    """Make the calls of rank 0, with its arguments, on this rank's shard of the student."""
    from read_env.distillation.distributed.student import ShardedStudent

    student: Any = None
    try:
        mesh = meet(store, rank, ranks, device)
        while True:
            sent: list[Any] = [None]
            try:
                dist.broadcast_object_list(sent, src=0)
            except RuntimeError:  # rank 0 is gone, and has said why
                os._exit(1)
            name, arguments, settings = sent[0]
            if name == END:
                break
            try:
                if name == "build":
                    student = None  # of an earlier call, before there is a second one
                    student = ShardedStudent(arguments[0], mesh)
                else:
                    getattr(student, name)(*arguments, **settings)
            except DivergedError:
                pass  # rank 0 raises the same one
            dist.barrier()
    except BaseException as error:
        report(store, rank, error)
    dist.destroy_process_group()


def follow_under_torchrun() -> None:
    """Be one of the ranks that ``torchrun`` started, until rank 0 ends."""
    store, rank, ranks = next(rendezvous("env://"))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    store.set_timeout(FOR_A_CALL)
    follow(store, rank, ranks, store.get(DEVICE).decode())


def _end_with(parent: int) -> None:
    """End this process once its parent has ended."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


def main() -> None:
    """Follow rank 0, which started this process with its number, the number of ranks, the store's port and the devices' type."""
    rank, ranks, port, device = sys.argv[1:]
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # rank 0 has it, and ends the others
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    store = dist.TCPStore("127.0.0.1", int(port), int(ranks), is_master=False)  # type: ignore[attr-defined]
    follow(store, int(rank), int(ranks), device)


if __name__ == "__main__":
    main()
