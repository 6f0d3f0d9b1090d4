"""Suppression of transformers' progress bars and advice while this package loads a model."""

from __future__ import annotations

import importlib
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

#: Modules of transformers with a ``tqdm``; not every version has all of them. The second reads GGUF files and
#: ignores transformers' own switch for progress bars.
_MODULES = ("transformers.utils.logging", "transformers.modeling_gguf_pytorch_utils", "transformers.core_model_loading")

_SUPPRESSED: ContextVar[bool] = ContextVar("read_env_quiet", default=False)
#: Without a lock, two threads could restore a module in the wrong order.
_LOCK = threading.RLock()


@contextmanager
def suppress_progress_bars() -> Iterator[None]:
    """Context without transformers' progress bars for weights, in this thread alone.

    The user's settings are not changed: neither transformers' switch for progress bars nor that of the hub, whose
    downloads still show theirs. On exit every ``tqdm`` is restored.
    """
    logging.getLogger("transformers.integrations.hub_kernels").addFilter(_no_advice)
    token = _SUPPRESSED.set(True)
    with _LOCK:
        original = {module: module.tqdm for module in map(_module, _MODULES) if hasattr(module, "tqdm")}
        try:
            for module, tqdm in original.items():
                module.tqdm = _SuppressibleTqdm(tqdm)
            yield
        finally:
            for module, tqdm in original.items():
                module.tqdm = tqdm
            _SUPPRESSED.reset(token)


def _no_advice(record: logging.LogRecord) -> bool:
    """Filter out one message of the first forward pass, which is true on every CPU and can't be acted on."""
    return "is falling back to its reference" not in record.getMessage()


def _module(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


class _SuppressibleTqdm:
    """Wrapper of a tqdm: disabled inside the context, unchanged in other threads."""

    def __init__(self, tqdm: Any) -> None:
        self._tqdm = tqdm

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        return self._tqdm(*arguments, **{**options, "disable": True} if _SUPPRESSED.get() else options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tqdm, name)
