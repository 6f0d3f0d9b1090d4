"""Variants that scripts/benchmark_throughput.py compares, by row of the table, and measurements of a pass."""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

COLD, WARM = "this engine, cold", "this engine, warm"
SHUFFLED, GROUPED = "TRL GKD, shuffled", "TRL GKD, length-grouped"
GIVEN = "TRL DistillationTrainer, completions given"
VARIANTS = (COLD, WARM, SHUFFLED, GROUPED, GIVEN)


@dataclass(frozen=True)
class Run:
    """One pass over the examples.

    Attributes:
        seconds: set-up excluded.
        tokens: prompt and completion tokens that were trained on.
        updates: optimizer steps.
        losses: of every batch, nats per completion token of its step, where requested.
    """

    seconds: float
    tokens: int
    updates: int
    losses: tuple[float, ...] = ()

    @property
    def speed(self) -> float:
        """Trained tokens per second."""
        return self.tokens / self.seconds


def added_memory(work: Callable[[], object], device: torch.device) -> float:
    """GiB between the memory held before and the most that was held during ``work``, which runs on ``device``.

    Torch's allocations on a GPU, else this process's resident memory (Linux only: the kernel forgets its high-water
    mark when 5 is written to ``clear_refs``).
    """
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        work()
        return (torch.cuda.max_memory_allocated(device) - before) / 2**30
    Path("/proc/self/clear_refs").write_text("5")
    before = resident("VmRSS")
    work()
    return (resident("VmHWM") - before) / 2**30


def resident(field: str) -> int:
    """Bytes of this process's memory: ``VmRSS`` now, ``VmHWM`` at most (Linux only)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return 1024 * int(line.split()[1])
    raise RuntimeError(f"/proc/self/status has no {field}: this kernel doesn't tell how much memory a process takes")
