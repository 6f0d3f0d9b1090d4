"""Conversion of nested values with numpy arrays for checkpoints, since ``torch.load(weights_only=True)`` reads tensors only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from read_env.errors import ReadEnvError


def to_tensors(value: Any, where: str = "state") -> Any:
    """Convert numpy arrays in a nested value to tensors.

    Raises:
        ReadEnvError: anything that is no array, number, text, None, list, tuple or dict of them.

    >>> to_tensors({"weights": np.array([1, 2]), "step": 3})
    {'weights': tensor([1, 2]), 'step': 3}
    """
    import torch

    if isinstance(value, np.ndarray):
        if value.dtype.kind not in "biuf":
            raise ReadEnvError(f"{where} is an array of dtype {value.dtype}; a checkpoint holds numbers")
        return torch.from_numpy(np.array(value, order="C"))
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Mapping):
        return {key: to_tensors(item, f"{where}[{key!r}]") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(to_tensors(item, f"{where}[{index}]") for index, item in enumerate(value))
    if value is None or isinstance(value, bool | int | float | str | torch.Tensor):
        return value
    raise ReadEnvError(
        f"{where} is a {type(value).__name__}; a checkpoint holds arrays, numbers, text, lists and dicts"
    )


def from_tensors(value: Any) -> Any:
    """Convert tensors in a nested value to numpy arrays, the inverse of :func:`to_tensors`.

    >>> from_tensors(to_tensors({"weights": np.array([1, 2])}))
    {'weights': array([1, 2])}
    """
    import torch

    if isinstance(value, torch.Tensor):
        return value.numpy()
    if isinstance(value, dict):
        return {key: from_tensors(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(from_tensors(item) for item in value)
    return value
