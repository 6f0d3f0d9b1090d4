"""Layers of a student compiled for its updates by ``torch.compile``; probes and decoding run them as they are."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

import torch

from read_env.distillation.models.head import layers_of
from read_env.errors import ReadEnvError

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class CompiledLayers:
    """Compiled forward passes of a model's layers, made at the first use.

    With ``reduce-overhead`` on a GPU, each layer is recorded as a CUDA graph for each shape of its input, so the passes of an
    update are padded to few shapes.

    Args:
        model: the student, with its adapters.
        mode: mode of ``torch.compile``.

    Raises:
        ReadEnvError: the architecture has no list of layers, or a student on the CPU has no C++ compiler.
    """

    def __init__(self, model: PreTrainedModel, mode: Literal["default", "reduce-overhead"]) -> None:
        self._layers: list[Any] = list(layers_of(model))
        self._mode = mode
        setting = f"models.torch_compile_mode is {mode!r} and"
        if not self._layers:
            raise ReadEnvError(f"{setting} {type(model).__name__} has no base_model.layers; right would be 'off'")
        if model.device.type == "cpu" and not any(map(shutil.which, (os.environ.get("CXX", ""), "g++", "clang++"))):
            raise ReadEnvError(
                f"{setting} this machine has no C++ compiler (g++, clang++ or $CXX); right would be 'off'"
            )
        # One compilation serves all layers of a kind and all shapes: sizes are variables of the compiled code.
        self._compiled = [torch.compile(layer.forward, dynamic=True, mode=mode) for layer in self._layers]

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Context in which the model runs the compiled layers."""
        own = [vars(layer).get("forward") for layer in self._layers]
        for layer, compiled in zip(self._layers, self._compiled, strict=True):
            layer.forward = compiled
        try:
            yield
        finally:
            for layer, before in zip(self._layers, own, strict=True):
                del layer.forward
                if before is not None:  # a wrapper such as accelerate's
                    layer.forward = before

    def begin_pass(self) -> None:
        """Mark the begin of a forward pass: what CUDA graphs returned in the one before may be overwritten."""
        if self._mode == "reduce-overhead":
            torch.compiler.cudagraph_mark_step_begin()

    def shape(self, rows: int, length: int) -> tuple[int, int]:
        """Shape that a batch is padded to.

        Args:
            rows: sequences.
            length: tokens of the longest.
        """
        return padded_shape(rows, length) if self._mode == "reduce-overhead" else (rows, length)


def padded_shape(rows: int, length: int) -> tuple[int, int]:
    """Smallest shape with a power of two as rows, and a power of two or three quarters of one as length.

    >>> padded_shape(5, 33), padded_shape(8, 50), padded_shape(1, 3)
    ((8, 48), (8, 64), (1, 12))
    """
    power = 1 << max(length - 1, 8).bit_length()
    return 1 << (rows - 1).bit_length(), power * 3 // 4 if length <= power * 3 // 4 else power
