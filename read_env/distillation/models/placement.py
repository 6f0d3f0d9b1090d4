"""Placement of a model: device, dtypes and attention, chosen by device and size, with the reason."""

from __future__ import annotations

import importlib.util
import logging
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch

from read_env.config import ModelConfig
from read_env.errors import ReadEnvError

_LOG = logging.getLogger(__name__)

#: Number of parameters below which fp32 costs little and is bit-reproducible on CPUs.
SMALL = 50_000_000


@dataclass(frozen=True)
class Placement:
    """Device, dtypes and attention implementation of a model.

    Attributes:
        device: device of the weights.
        weights: dtype of the weights in memory.
        compute: dtype of matrix products; autocast is used if it differs from ``weights``.
        attention: ``attn_implementation`` of transformers.
        reason: explanation of the choice, for the log.
        ranks: number of processes that the model is divided between.

    Example:
        >>> print(Placement(torch.device("cpu"), torch.float32, torch.bfloat16, "sdpa", reason="large model"))
        cpu, bf16 on fp32 weights, sdpa attention (large model)
    """

    device: torch.device
    weights: torch.dtype
    compute: torch.dtype
    attention: str
    reason: str
    ranks: int = 1

    def autocast(self) -> AbstractContextManager[object]:
        """Context for forward passes: autocast if ``compute`` differs from ``weights``."""
        if self.compute == self.weights:
            return nullcontext()
        return torch.autocast(self.device.type, dtype=self.compute)

    @property
    def identity(self) -> str:
        """The settings that change the last digits of a result; ``reason`` and the GPU's index don't."""
        where = f"cpu, {torch.get_num_threads()} threads" if self.device.type == "cpu" else self.device.type
        divided = f", {self.ranks} ranks" if self.ranks > 1 else ""
        return f"{where}, {_name(self.weights)}, {_name(self.compute)}, {self.attention}{divided}"

    def __str__(self) -> str:
        numbers = _name(self.compute) if self.compute == self.weights else f"{_name(self.compute)} on fp32 weights"
        device = f"{self.ranks} ranks, each on {self.device.type}" if self.ranks > 1 else str(self.device)
        return f"{device}, {numbers}, {self.attention} attention ({self.reason})"


def place(config: ModelConfig, parameters: int, *, trained: bool, fused: bool = True) -> Placement:
    """Choose the placement of a model.

    Args:
        config: device, dtype and attention, each possibly ``auto``.
        parameters: number of parameters.
        trained: True if the model is updated: its weights stay in fp32, since bf16 rounds small updates away.
        fused: False if its architecture has no fused attention, as with soft-capped scores.

    Raises:
        ReadEnvError: the device doesn't exist.

    Example:
        >>> print(place(ModelConfig(device="cpu", dtype="float32"), 300_000, trained=True))
        cpu, fp32, sdpa attention (as asked for)
    """
    device = _device(config.device)
    compute, reason = _dtype(config.dtype, device, parameters)
    attention = _attention(config.attn_implementation, device, compute, fused)
    weights = torch.float32 if trained else compute
    return Placement(device, weights, compute, attention, reason)


def _device(asked: str) -> torch.device:
    if asked == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(asked)
    except RuntimeError:
        raise ReadEnvError(f"models.device is {asked!r}; right would be auto, cpu, cuda or cuda:0, cuda:1, …") from None
    if device.type == "cuda" and (not torch.cuda.is_available() or (device.index or 0) >= torch.cuda.device_count()):
        raise ReadEnvError(
            f"models.device is {asked!r}, but this process sees {torch.cuda.device_count()} CUDA devices; right would be "
            "auto, cpu or one of those"
        )
    return device


def _dtype(asked: str, device: torch.device, parameters: int) -> tuple[torch.dtype, str]:
    if asked != "auto":
        return {"float32": torch.float32, "bfloat16": torch.bfloat16}[asked], "as asked for"
    size = f"{parameters / 1e6:,.1f} M parameters"
    if parameters < SMALL:
        return torch.float32, f"{size}: fp32 costs little at this size and repeats to the bit on a CPU"
    if device.type == "cuda":
        with torch.cuda.device(device):  # the query is about the current device
            fast = torch.cuda.is_bf16_supported(including_emulation=False)
        if fast:
            return torch.bfloat16, f"{size} on a GPU with bf16"
        return torch.float32, f"{size} on a GPU without bf16"
    if _cpu_has_bf16():
        return torch.bfloat16, f"{size} on a CPU with bf16 units"
    return torch.float32, f"{size} on a CPU without bf16 units"


def _cpu_has_bf16() -> bool:
    """True if this CPU has bf16 units; emulated bf16 is much slower than fp32."""
    probes = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
    return any(getattr(torch.cpu, probe, lambda: False)() for probe in probes)


def _attention(asked: str, device: torch.device, compute: torch.dtype, fused: bool) -> str:
    if asked != "auto":
        return asked
    if not fused:
        return "eager"
    if device.type == "cuda":
        flash = compute == torch.bfloat16 and importlib.util.find_spec("flash_attn") is not None
        return "flash_attention_2" if flash else "sdpa"
    # Fused attention in bf16 has a slow path on CPUs: 60 ms per call, eager 1 ms.
    return "eager" if compute == torch.bfloat16 else "sdpa"


def _name(dtype: torch.dtype) -> str:
    return {torch.float32: "fp32", torch.bfloat16: "bf16"}.get(dtype, str(dtype))
