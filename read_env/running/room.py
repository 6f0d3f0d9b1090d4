"""Number of runs that this machine makes at a time by default, and the GPUs of each worker process.

Every worker process loads models of its own. With GPUs there is one process for each GPU, or for each group of GPUs that a run takes;
without, as many as the memory has room for, and at most one per core.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from read_env.config import ModelConfig

_GIB = 2**30
#: Limit of a container's memory in bytes, by the second and the first version of Linux's control groups.
_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


class Machine(NamedTuple):
    """Parts of a machine that this process may use.

    Attributes:
        cores: number of cores.
        gpus: number of CUDA devices.
        memory: bytes of host memory that no process uses.
    """

    cores: int
    gpus: int
    memory: float

    @classmethod
    def here(cls) -> Machine:
        """This machine, as it is now."""
        import psutil
        import torch

        from read_env.running import pool

        return cls(pool.cores(), torch.cuda.device_count(), min(psutil.virtual_memory().available, container_limit()))


class Fit(NamedTuple):
    """Number of processes, at least 1, and the reason for it in words."""

    processes: int
    reason: str


def fit(models: ModelConfig, device: str, host_bytes: float, machine: Machine) -> Fit:
    """Number of runs at a time that a machine has room for.

    Args:
        models: models of the runs.
        device: type of the student's device, such as ``cuda`` or ``cpu``.
        host_bytes: host memory of one run, with the models if they are on the CPU.
        machine: the machine.

    Example:
        >>> fit(ModelConfig(), "cuda", 8 * 2**30, Machine(cores=32, gpus=2, memory=64 * 2**30))
        Fit(processes=2, reason='one per GPU')
        >>> fit(ModelConfig(), "cpu", 20 * 2**30, Machine(cores=32, gpus=0, memory=64 * 2**30))
        Fit(processes=3, reason='64.0 GiB of memory are free, and a run takes 20.0')
    """
    ranks = models.gpus if device == "cpu" else 1
    threads = models.threads * ranks
    fits = [
        Fit(machine.cores // threads, "one per core" if threads == 1 else f"{threads} threads each, on {machine.cores} cores"),
        Fit(
            int(machine.memory // max(host_bytes, 1)),
            f"{machine.memory / _GIB:.1f} GiB of memory are free, and a run takes {host_bytes / _GIB:.1f}",
        ),
    ]  # fmt: skip
    if device != "cpu":
        fits.insert(0, _on_gpus(models, device, machine.gpus))
    least = min(fits, key=lambda one: one.processes)
    return least._replace(processes=max(1, least.processes))


def gpus_of_run(models: ModelConfig) -> int:
    """GPUs that one run takes; 0 where a setting names one of them, or takes all.

    >>> gpus_of_run(ModelConfig(gpus=4)), gpus_of_run(ModelConfig(device="cuda:1"))
    (4, 0)
    """
    if models.device not in ("auto", "cuda") or models.teacher_device_map:
        return 0
    in_vllm = any(teacher.startswith("vllm:") for teacher in models.all_teachers)
    return max(models.gpus, models.vllm_tensor_parallel_size if in_vllm else 1)


def visible_gpus(taken: int, gpus: int, visible: str | None) -> tuple[str, ...]:
    """Values of ``CUDA_VISIBLE_DEVICES``, one for each group of GPUs; none where one group or no GPU is there.

    Args:
        taken: GPUs of a group; see :func:`gpus_of_run`.
        gpus: number of GPUs.
        visible: value of ``CUDA_VISIBLE_DEVICES`` in this process; None if it is not set.

    Example:
        >>> visible_gpus(2, 4, None), visible_gpus(1, 2, "3,5"), visible_gpus(1, 1, None)
        (('0,1', '2,3'), ('3', '5'), ())
    """
    names = [str(index) for index in range(gpus)] if visible is None else visible.split(",")[:gpus]
    groups = len(names) // taken if taken else 0
    return tuple(",".join(names[at * taken : (at + 1) * taken]) for at in range(groups)) if groups > 1 else ()


def gpus_of_workers(runs: Sequence[ModelConfig]) -> tuple[str, ...]:
    """Values of ``CUDA_VISIBLE_DEVICES`` for worker processes, each of which may make any of the runs with these models."""
    import torch

    taken = [gpus_of_run(models) for models in runs]
    if not taken or not all(taken):
        return ()
    return visible_gpus(max(taken), torch.cuda.device_count(), os.environ.get("CUDA_VISIBLE_DEVICES"))


def container_limit() -> float:
    """Limit of the container's memory in bytes; infinite without one."""
    for path in _LIMITS:
        with suppress(OSError, ValueError):
            return float(path.read_text().strip().replace("max", "inf"))
    return float("inf")


def _on_gpus(models: ModelConfig, device: str, gpus: int) -> Fit:
    taken = gpus_of_run(models)
    if taken:
        return Fit(gpus // taken, "one per GPU" if taken == 1 else f"{taken} GPUs each, of {gpus}")
    if models.teacher_device_map:
        return Fit(1, "models.teacher_device_map spreads the teacher over all GPUs")
    return Fit(
        1, f"models.device names one device, {models.device}" if models.device != "auto" else f"one {device} device"
    )
