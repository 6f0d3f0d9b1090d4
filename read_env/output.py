"""Standard output and standard error of the command line, which may be closed or full without ending a command."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def forgiving_output() -> Iterator[None]:
    """Drop output that can't be written, as after ``| head -1``, and show characters that the locale lacks as escapes.

    An ``OSError`` in another thread is not printed: writers of curves raise it again in the main thread.
    """
    before, threads = (sys.stdout, sys.stderr), threading.excepthook
    sys.stdout, sys.stderr = (stream and _Forgiving(stream) for stream in before)
    threading.excepthook = lambda args: None if isinstance(args.exc_value, OSError) else threads(args)
    try:
        yield
    finally:
        for stream in filter(None, (sys.stdout, sys.stderr)):
            stream.flush()
        sys.stdout, sys.stderr = before
        threading.excepthook = threads


class _Forgiving:
    """Text stream whose writes don't raise."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        try:
            self._stream.write(text)
        except UnicodeEncodeError:
            self._stream.write(text.encode("ascii", "backslashreplace").decode("ascii"))
        except OSError:
            self._let_go()
        return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError:
            self._let_go()

    def _let_go(self) -> None:
        # What is left in the buffer goes there too, so that the interpreter's last flush doesn't fail.
        with contextlib.suppress(OSError, ValueError):
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self._stream.fileno())
            os.close(null)
