"""What fits into memory: a batch is done in halves where the whole of it does not."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

import torch

from read_env.errors import ReadEnvError

_LOG = logging.getLogger(__name__)

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def in_halves(
    items: Sequence[_Item], work: Callable[[Sequence[_Item]], Iterable[_Result]], what: str, remedy: str
) -> list[_Result]:
    """``work`` on all items at once; on half as many of the rest as often as memory runs out.

    Nothing is remembered from one call to the next, so that the same items are always tried in the same pieces.

    Args:
        items: what is worked on.
        work: results of consecutive items, one each, in order.
        what: is done, for messages: ``decoding answers``.
        remedy: settings that may help where a single item doesn't fit.

    Raises:
        ReadEnvError: where a single item doesn't fit.
    """
    results: list[_Result] = []
    size = len(items)
    while len(results) < len(items):
        piece = items[len(results) : len(results) + size]
        try:
            results.extend(work(piece))
            continue
        except torch.OutOfMemoryError as error:
            message = str(error)
        # Out here nothing holds the tensors of the attempt any more.
        release()
        if len(piece) == 1:
            raise ReadEnvError(f"out of memory while {what}, one at a time: try {remedy} ({message})")
        size = len(piece) // 2
        _LOG.warning("out of memory while %s, %d at a time: going on with %d", what, len(piece), size)
    return results


def release() -> None:
    """Gives memory that torch holds for later tensors back to the device."""
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
