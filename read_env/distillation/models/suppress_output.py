"""No bars and no advice from transformers while this package loads a model, and only from this package's loading."""

from __future__ import annotations

import importlib
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

#: Modules of transformers that draw a bar under the name ``tqdm``; which of them there are depends on the version.
#: The second reads GGUF files and takes the bar from tqdm itself, whatever transformers was told about bars.
_DRAWING = ("transformers.utils.logging", "transformers.modeling_gguf_pytorch_utils", "transformers.core_model_loading")

_QUIET: ContextVar[bool] = ContextVar("read_env_quiet", default=False)
#: Two threads that put stand-ins into one module could take them out in the wrong order.
_ONE_AT_A_TIME = threading.RLock()


@contextmanager
def quietly() -> Iterator[None]:
    """Keeps transformers from drawing bars for weights, in this thread: other threads see theirs.

    Nothing that a user may have set is touched: neither transformers' switch for bars nor that of the
    hub, whose downloads go on showing theirs. When the context ends every bar is as it was.
    """
    logging.getLogger("transformers.integrations.hub_kernels").addFilter(_no_advice)
    token = _QUIET.set(True)
    with _ONE_AT_A_TIME:
        drawing = {module: module.tqdm for module in map(_module, _DRAWING) if hasattr(module, "tqdm")}
        try:
            for module, tqdm in drawing.items():
                module.tqdm = _QuietHere(tqdm)
            yield
        finally:
            for module, tqdm in drawing.items():
                module.tqdm = tqdm
            _QUIET.reset(token)


def _no_advice(record: logging.LogRecord) -> bool:
    """Drops one message, which comes at the first forward pass: true on every CPU, and nothing to be done about."""
    return "is falling back to its reference" not in record.getMessage()


def _module(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


class _QuietHere:
    """Stands in for a tqdm: without a bar in a context that asked for quiet, the tqdm itself in all others."""

    def __init__(self, tqdm: Any) -> None:
        self._tqdm = tqdm

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        return self._tqdm(*arguments, **{**options, "disable": True} if _QUIET.get() else options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tqdm, name)
