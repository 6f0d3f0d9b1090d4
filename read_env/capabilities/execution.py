"""Execution and grading of untrusted Python in Monty's sandbox (package ``pydantic-monty``).

Monty is a Python interpreter in Rust without files, network, processes, environment variables or input. It runs in worker
processes with limits on time, memory and recursion. Only the program and the calls are sent to a worker; the text of each
call's value comes back and is compared here: the program never receives the expected values.

Monty 1.4 supports this subset of Python 3.14:

- functions, closures, decorators, lambdas, comprehensions, ``try``, ``with``, ``match``, ``async``, f-strings, ``str.format``
  and ``%``, starred unpacking, assignment expressions, ``eval`` and ``exec``;
- classes without bases, dataclasses, special methods except ordering, ``__len__`` and ``__bool__``;
- the modules base64, binascii, bisect, collections (Counter, defaultdict, deque, namedtuple), copy, csv, dataclasses,
  datetime, decimal, functools (cache, lru_cache, partial, reduce), hashlib, itertools, json, math, random, re, time, tomllib,
  typing and unicodedata.

It does not support ``yield``, ``del``, base classes (and so no new exception types), ``@property``, ``@staticmethod``,
``@classmethod``, ``except*``, ``import *``, ``callable``, ``issubclass``, attributes of functions, or other modules (heapq,
string, operator, statistics, enum, fractions, …). A program that uses them fails, and the error names the construct.
Generator expressions, ``map``, ``filter`` and ``zip`` make lists at once; a set iterates in insertion order.
"""

from __future__ import annotations

import ast
import atexit
import inspect
import os
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic_monty import Monty, MontyCrashedError, MontyError, MontySyntaxError, OSPolicy, ResourceLimits

from read_env.errors import ReadEnvError

_LOCK = threading.Lock()
_POOLS: dict[int, Monty] = {}  # process id -> pool


@dataclass(frozen=True)
class ExecutionResult:
    """Verdict on a program.

    Attributes:
        passed: every call returned the expected value and nothing failed.
        results: one entry per case: True if its value was right.
        error: first error in one line: an exception, ``time-out``, ``memory``, ``crashed`` or ``unsupported``; else empty.
    """

    passed: bool
    results: tuple[bool, ...]
    error: str


def run_python(
    code: str, cases: Sequence[tuple[str, str]], *, seconds: float = 5.0, memory_mib: int = 256
) -> ExecutionResult:
    """Run an untrusted program and compare the values of calls with the expected ones.

    The cases share the program and run in order; two programs share nothing. Calls after one that raises are still made;
    after a time-out the remaining cases fail. ``random`` starts from the same seed in every run; printed text is dropped.

    Args:
        code: Python source, for example a function definition. Its ``__name__`` is ``answer``.
        cases: pairs of a call, for example ``"f(2)"``, and the ``repr`` of its value. Types must match exactly: ``True`` is not
            ``1``, and ``1`` is not ``1.0``.
        seconds: wall-clock limit for the program and all cases together, in seconds.
        memory_mib: memory limit of the program, in MiB.

    Raises:
        ReadEnvError: an argument is out of range, no worker process starts, or this process is a fork of one that ran programs.

    >>> run_python("def double(x): return 2 * x", [("double(2)", "4"), ("double('a')", "'aa'")])
    ExecutionResult(passed=True, results=(True, True), error='')
    """
    if not cases or not all(len(case) == 2 and all(isinstance(text, str) for text in (code, *case)) for case in cases):
        raise ReadEnvError(f"code must be a text, cases at least one pair of texts, not {code!r:.80}, {cases!r:.80}")
    if not (0 < seconds <= 3600 and 1 <= memory_mib <= 2**20):
        raise ReadEnvError(f"seconds is {seconds!r}, memory_mib {memory_mib!r}: right is (0, 3600] and [1, {2**20}]")
    values, error = _evaluate(code, [call for call, _ in cases], seconds, memory_mib)
    results = tuple(text in (right, _canonical(right)) for text, (_, right) in zip(values, cases, strict=True))
    return ExecutionResult(all(results) and not error, results, error)


def text_of(value: Any, limit: int = 20_000, depth: int = 0) -> str:
    """``repr(value)`` for exactly builtin types, with the elements of sets in ascending order of their text.

    Workers run this function from its source: a class cannot forge a value, and deeply nested values stay in the worker.
    Raises NotImplementedError for another type, more than 50 levels, or more than ``limit`` characters.

    >>> text_of({"a": (1,), "b": {3, 2}})
    "{'a': (1,), 'b': {2, 3}}"
    """
    kind = type(value)
    if depth > 50 or (kind in (str, bytes, list, tuple, set, frozenset, dict) and len(value) > limit):
        raise NotImplementedError("unsupported: the text of the value is too long or nested deeper than 50 levels")
    if kind in (type(None), bool, int, float, complex, type(...), str, bytes):
        text = repr(value)
    elif kind in (list, tuple, set, frozenset, dict):
        pieces: list[str] = []
        left = limit
        for item in value.items() if kind is dict else value:
            parts = [text_of(part, left, depth + 1) for part in (item if kind is dict else (item,))]
            pieces.append(": ".join(parts))
            left -= len(pieces[-1])
        text = ", ".join(sorted(pieces) if kind in (set, frozenset) else pieces) + (
            "," if kind is tuple and len(pieces) == 1 else ""
        )
        text = f"[{text}]" if kind is list else f"({text})" if kind is tuple else "{" + text + "}"
        text = "set()" if kind is set and not pieces else f"frozenset({text})" if kind is frozenset else text
    else:
        raise NotImplementedError(f"unsupported: the value is or contains a {kind.__name__}, not only builtin types")
    if len(text) > limit:
        raise NotImplementedError("unsupported: the text of the value is too long")
    return text


def _canonical(expected: str) -> str:
    """Text that a worker returns for the same value."""
    try:
        return text_of(ast.literal_eval(expected.strip()), max(20_000, 2 * len(expected)))
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError, NotImplementedError):
        return expected.strip()


def _evaluate(code: str, calls: list[str], seconds: float, memory_mib: int) -> tuple[list[str | None], str]:
    """Text of each call's value, None for a call without one, and the first error."""
    limits: ResourceLimits = {"max_memory": memory_mib * 2**20, "max_recursion_depth": 1000}
    limits |= {"max_feed_duration_secs": seconds, "max_total_sleep_secs": seconds}
    policy: OSPolicy = {"random_start": {"seed": 0}, "sleep_system_max": float("inf")}
    for _ in range(3):
        try:
            with _pool().checkout(limits=limits, os_policy=policy, assert_message_annotations=False) as session:
                # The program runs in a dict of its own, from which `text_of` in the worker's globals cannot be reached.
                session.feed_run(f"{inspect.getsource(text_of)}\nspace = {{'__name__': 'answer'}}")
                return _run(session, code, calls, seconds, memory_mib)
        except MontyCrashedError:  # raised here only for a worker that was killed from outside while idle
            continue
    raise ReadEnvError("untrusted code cannot be run: three worker processes ended before they ran a program")


def _run(session: Any, code: str, calls: list[str], seconds: float, memory: int) -> tuple[list[str | None], str]:
    texts: list[str | None] = []
    first_error, deadline = "", time.monotonic() + seconds
    for feed, source in [
        ("exec(source, space)", code),
        *(("text_of(eval(source, space))", call.strip()) for call in calls),
    ]:
        text, error, ended = None, "", False
        try:
            text = session.feed_run(feed, inputs={"source": source}, print_callback=lambda *printed: None)
        except (MontyError, RuntimeError, UnicodeError) as raised:
            error, ended = _describe(raised, seconds, memory)
        if time.monotonic() > deadline and not error:
            text, error, ended = None, f"time-out: more than {seconds:g} s", True
        first_error = first_error or error
        texts.append(text)
        if ended or (error and len(texts) == 1):
            break
    return (texts[1:] + [None] * len(calls))[: len(calls)], first_error


def _describe(error: Exception, seconds: float, memory_mib: int) -> tuple[str, bool]:
    """Error in one line, and True if the session cannot continue after it."""
    text = "".join(c if c.isprintable() else "?" for c in " ".join(str(error)[:2000].split()))[:200]
    kind, _, message = text.partition(": ")
    if isinstance(error, MontyCrashedError) and not error.timed_out:
        return "crashed: the worker process ended", True
    if isinstance(error, MontyCrashedError) or (kind == "TimeoutError" and "limit exceeded" in message):
        return f"time-out: more than {seconds:g} s", True
    if kind == "MemoryError":
        return f"memory: more than {memory_mib} MiB", True
    if "does not yet support " in message:
        message = f"unsupported: {message.partition('does not yet support ')[2]}"
    if message.startswith("unsupported: "):
        return message, False
    if not isinstance(error, MontyError) or isinstance(error, MontySyntaxError):
        return f"{type(error).__name__.removeprefix('Monty')}: {text}", isinstance(error, RuntimeError)
    return text or "an exception without a text", False


def _pool() -> Monty:
    """Pool of workers of this process, opened by the first call and closed at exit."""
    with _LOCK:
        if _POOLS and os.getpid() not in _POOLS:  # Monty's client does not survive a fork
            raise ReadEnvError("untrusted code cannot be run in a forked copy of a process that ran some: use spawn")
        if not _POOLS:
            try:
                _POOLS[os.getpid()] = Monty().__enter__()
            except (OSError, RuntimeError, MontyError) as error:
                raise ReadEnvError(f"untrusted code cannot be run: no worker process starts ({error})") from error
            atexit.register(_close)
        return _POOLS[os.getpid()]


def _close() -> None:
    if pool := _POOLS.pop(os.getpid(), None):
        pool.__exit__(None, None, None)
