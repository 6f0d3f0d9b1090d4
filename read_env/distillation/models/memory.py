"""Out-of-memory handling: retry with half the batch size."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

import torch

from read_env.errors import ReadEnvError

_LOG = logging.getLogger(__name__)

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def run_with_halving(
    function: Callable[[Sequence[_Item]], Iterable[_Result]], items: Sequence[_Item], activity: str, remedy: str
) -> list[_Result]:
    """Apply ``function`` to all items at once; on out-of-memory, retry with half the batch size.

    Each call starts with the whole, so that the same items are always tried in the same batches.

    Args:
        function: gives one result per item of a batch of consecutive items, in order.
        items: the items.
        activity: name of the work in messages, such as ``decoding answers``.
        remedy: settings that may help if a single item doesn't fit.

    Raises:
        ReadEnvError: a single item doesn't fit.

    Example:
        >>> run_with_halving(lambda numbers: [n * n for n in numbers], [1, 2, 3], "squaring", "smaller numbers")
        [1, 4, 9]
    """
    results: list[_Result] = []
    size = len(items)
    while len(results) < len(items):
        batch = items[len(results) : len(results) + size]
        try:
            results.extend(function(batch))
            continue
        except torch.OutOfMemoryError as error:
            message = str(error)
        # Outside the handler, where the traceback no longer holds the tensors of the attempt.
        release_memory()
        if len(batch) == 1:
            raise ReadEnvError(f"out of memory while {activity} with batch size 1: try {remedy} ({message})")
        size = len(batch) // 2
        _LOG.warning("out of memory while %s with batch size %d: retrying with %d", activity, len(batch), size)
    return results


def release_memory() -> None:
    """Return torch's cached memory to the device."""
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
