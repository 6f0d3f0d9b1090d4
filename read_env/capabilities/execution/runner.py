"""The process that runs untrusted programs, as seen from inside. Imports nothing but the standard library.

:func:`serve` is a server that does nothing but wait for a request on its standard input, fork a
child that confines itself and runs the program, collect what the child writes within the limits,
kill it and send the lot back. It never looks at the program and never runs a line of it. It has one
thread and no other state, which makes forking it cheap and safe; every program sees the same fresh
process.
"""

from __future__ import annotations

import gc
import io
import json
import math
import os
import random
import select
import signal
import struct
import sys
import time
import types
from collections.abc import Callable
from typing import Any, NoReturn, TypedDict

from read_env.capabilities.execution.values import Unsuitable, text_of

#: Most bytes that a program's process may send back.
OUTPUT_BYTES = 4 * 2**20
EXIT_MEMORY, EXIT_BROKEN = 77, 78
ERROR_CHARACTERS = 200

# What answers commonly import, and what those import only when it is used. After the filter is
# installed nothing else can be loaded, except modules that are compiled into the interpreter.
_PRELOADED = """
    abc array ast base64 binascii bisect calendar cmath collections collections.abc contextlib copy csv
    dataclasses datetime decimal difflib enum fractions functools graphlib hashlib heapq html inspect io
    itertools json keyword locale math numbers operator os pprint queue random re statistics string struct
    sys textwrap threading time traceback types typing unicodedata warnings weakref zlib zoneinfo
    _strptime encodings.ascii encodings.latin_1 encodings.utf_16 encodings.utf_8 encodings.idna
""".split()

_DESCRIPTORS = 64  # of the server
_RESULTS = 3  # the program's only descriptor

# Saved here: a program that replaces the builtins must not break its own report by accident.
_compile, _exec, _eval, _type, _str, _len = compile, exec, eval, type, str, len
_write = os.write
_name_of = type.__dict__["__name__"].__get__


class Request(TypedDict):
    """What the server is asked: run ``code``, then evaluate ``calls``, within the limits."""

    code: str
    calls: list[str]
    seconds: float
    memory_mib: int
    nonce: str
    isolation: str


class Reply(TypedDict):
    """What came of it.

    ``ended`` is ``"exit"`` (``status`` is the exit code), ``"signal"`` (its number), ``"time"`` or
    ``"flood"``; ``output`` holds the bytes that were written, one character each.
    """

    ended: str
    status: int
    output: str


class Ended(Exception):
    """The other side of the pipe has gone."""


def send(descriptor: int, message: Any) -> None:
    """Write one message, as JSON with its length in front."""
    data = json.dumps(message).encode()
    left = memoryview(struct.pack(">I", len(data)) + data)
    while left:
        left = left[os.write(descriptor, left) :]


def receive(descriptor: int, wait: Callable[[], None] = lambda: None) -> Any:
    """Read one message; ``wait`` is called before every read and may raise.

    Raises:
        Ended: if the pipe was closed.
    """
    (size,) = struct.unpack(">I", _read(descriptor, 4, wait))
    return json.loads(_read(descriptor, size, wait))


def _read(descriptor: int, size: int, wait: Callable[[], None]) -> bytes:
    data = bytearray()
    while len(data) < size:
        wait()
        piece = os.read(descriptor, min(size - len(data), 2**20))
        if not piece:
            raise Ended
        data += piece
    return bytes(data)


# --- the server --------------------------------------------------------------


def serve() -> NoReturn:
    """Say which isolation works here, then answer requests until the standard input is closed."""
    for name in (*_PRELOADED, "read_env.capabilities.execution.interpreter"):
        try:
            __import__(name)
        except ImportError:  # a build of Python without it
            continue
    time.localtime()  # reads the time zone's file
    import resource

    os.closerange(3, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    resource.setrlimit(resource.RLIMIT_NOFILE, (_DESCRIPTORS, _DESCRIPTORS))
    base = _address_space()
    gc.collect()
    gc.freeze()  # the children share these pages for longer
    try:
        send(1, _isolation(base))
        while True:
            send(1, _supervise(receive(0), base))
    except (Ended, BrokenPipeError):
        sys.exit(0)


def _isolation(base: int) -> dict[str, str]:
    """Which isolation a child gets, tried out in one."""
    try:
        from read_env.capabilities.execution import seccomp
    except ImportError as error:
        return {"isolation": "interpreter", "reason": f"this Python has no ctypes ({error})"}
    if seccomp.machine() not in seccomp.ARCHITECTURES:
        return {"isolation": "interpreter", "reason": f"there is no system call filter for {seccomp.machine()}"}
    request = Request(code="", calls=["1 + 1"], seconds=10.0, memory_mib=64, nonce="probe", isolation="seccomp")
    reply = _supervise(request, base)
    if (reply["ended"], reply["status"]) != ("exit", 0):
        reason = f"the kernel or the container forbids system call filters ({reply['output'].strip()})"
        return {"isolation": "interpreter", "reason": reason}
    return {"isolation": "seccomp", "reason": f"system call filter for {seccomp.machine()}"}


def _address_space() -> int:
    """Bytes of address space this process has, where that can be known."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def _supervise(request: Request, base: int) -> Reply:
    """Run one program in a child; whatever happens there, the child is gone afterwards."""
    reader, writer = os.pipe()
    server = os.getpid()
    child = os.fork()
    if child == 0:
        try:
            _run(request, writer, server, base)
        finally:
            os._exit(EXIT_BROKEN)
    os.close(writer)
    try:
        ended, output = _collect(reader, request["seconds"])
    finally:
        os.close(reader)
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    if ended == "exit" and code < 0:
        ended, code = "signal", -code
    return Reply(ended=ended, status=code, output=output.decode("latin-1"))


def _collect(reader: int, seconds: float) -> tuple[str, bytes]:
    """What the child writes until it ends, with how that came."""
    deadline = time.monotonic() + seconds
    output = bytearray()
    poller = select.poll()
    poller.register(reader, select.POLLIN)
    poller.register(0, select.POLLIN)
    while True:
        left = deadline - time.monotonic()
        if left <= 0:
            return "time", bytes(output)
        ready = dict(poller.poll(math.ceil(left * 1000)))
        if 0 in ready:  # closed: there is never a second request while one is under way
            raise Ended
        if reader in ready:
            data = os.read(reader, 65536)
            if not data:
                return "exit", bytes(output)
            output += data
            if len(output) > OUTPUT_BYTES:
                return "flood", b""


# --- the child ---------------------------------------------------------------


class _Nowhere(io.TextIOBase):
    """Standard output of the program: takes everything and keeps nothing."""

    encoding = "utf-8"

    def writable(self) -> bool:
        return True

    def write(self, text: str, /) -> int:
        return _len(text)


def _breakpoint(*_: object, **__: object) -> NoReturn:
    raise RuntimeError("there is no debugger here")


def _run(request: Request, writer: int, server: int, base: int) -> None:
    """Confine this process, run the program and report; ends the process."""
    nonce = request["nonce"].encode()

    def report(kind: bytes, place: int, text: str) -> None:
        left = b"%s %s %d %s\n" % (nonce, kind, place, text.encode("utf-8", "surrogatepass").hex().encode())
        while left:
            left = left[_write(_RESULTS, left) :]

    if writer != _RESULTS:
        os.dup2(writer, _RESULTS, inheritable=True)
    os.closerange(0, _RESULTS)
    os.closerange(_RESULTS + 1, _DESCRIPTORS)
    nowhere: Any = _Nowhere()
    for name in ("stdout", "__stdout__", "stderr", "__stderr__"):
        setattr(sys, name, nowhere)
    for name in ("stdin", "__stdin__"):
        setattr(sys, name, io.StringIO())
    sys.breakpointhook = _breakpoint
    sys.path[:] = []
    sys.path_importer_cache.clear()
    sys.meta_path[:] = sys.meta_path[:2]  # builtin and frozen modules; the third one looks for files
    random.seed(0)
    try:
        _limit(request, base)
        if sys.platform == "linux":
            _end_with(server)
        evaluate: Callable[[str], Any]
        if request["isolation"] == "seccomp":
            from read_env.capabilities.execution import seccomp

            seccomp.install()
            execute, evaluate = _python()
        else:
            execute, evaluate = _interpreter()
    except BaseException as error:
        report(b"broken", 0, f"{type(error).__name__}: {error}")
        os._exit(EXIT_BROKEN)
    _report_values(request, execute, evaluate, report)


def _report_values(
    request: Request,
    execute: Callable[[str], None],
    evaluate: Callable[[str], Any],
    report: Callable[[bytes, int, str], None],
) -> None:
    leave = os._exit
    try:
        try:
            execute(request["code"])
        except MemoryError:
            raise
        except BaseException as error:
            report(b"error", -1, _one_line(error))
            leave(0)
        for place, call in enumerate(request["calls"]):
            try:
                report(b"value", place, text_of(evaluate(call)))
            except MemoryError:
                raise
            except BaseException as error:
                report(b"error", place, _one_line(error))
        report(b"end", _len(request["calls"]), "")
        leave(0)
    except MemoryError:  # what fills the memory may still be there: say so without needing any
        leave(EXIT_MEMORY)


def _python() -> tuple[Callable[[str], None], Callable[[str], Any]]:
    """Run and evaluate as Python does, in a module of its own."""
    module = types.ModuleType("answer")
    sys.modules["answer"] = module  # dataclasses and others look their module up
    space = module.__dict__

    def execute(code: str) -> None:
        _exec(_compile(code, "<answer>", "exec", dont_inherit=True), space)

    def evaluate(call: str) -> Any:
        return _eval(_compile(call.strip(), "<case>", "eval", dont_inherit=True), space)

    return execute, evaluate


def _interpreter() -> tuple[Callable[[str], None], Callable[[str], Any]]:
    """Run and evaluate over a whitelisted syntax tree."""
    from read_env.capabilities.execution.interpreter import Machine

    sys.setrecursionlimit(30_000)  # Python's frames; the program's own calls have their own limit
    machine = Machine()
    return machine.execute, machine.evaluate


def _limit(request: Request, base: int) -> None:
    """Have the kernel limit what it can, whatever the isolation."""
    import resource

    seconds = math.ceil(request["seconds"]) + 1
    memory = base + request["memory_mib"] * 2**20
    limits = {
        "RLIMIT_CORE": 0,
        "RLIMIT_CPU": seconds,
        "RLIMIT_FSIZE": 0,
        "RLIMIT_NPROC": 0,
        "RLIMIT_AS": memory,
        "RLIMIT_DATA": memory,
        "RLIMIT_NOFILE": 0,
    }
    for name, value in limits.items():
        kind = getattr(resource, name, None)
        if kind is None:
            continue
        hard = resource.getrlimit(kind)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        try:
            resource.setrlimit(kind, (value, value))
        except (OSError, ValueError):
            if sys.platform == "linux":
                raise  # other systems lack some of these; the interpreter bounds sizes itself


def _end_with(server: int) -> None:
    """Have the kernel kill this process when the server dies."""
    try:
        from read_env.capabilities.execution import seccomp
    except ImportError:
        return
    seccomp.die_with_parent(signal.SIGKILL)
    if os.getppid() != server:
        os._exit(EXIT_BROKEN)


def _one_line(error: BaseException) -> str:
    """What went wrong, in one line; the program may have made the exception's class and text."""
    try:
        if isinstance(error, Unsuitable):
            return f"unsupported: {error}"
        text = " ".join(_str(error)[: 10 * ERROR_CHARACTERS].split())
        if getattr(error, "refused", None) is True:  # the interpreter's own
            return text[:ERROR_CHARACTERS]
        prefix = "blocked: " if isinstance(error, PermissionError) else ""
        return f"{prefix}{_name_of(_type(error))}: {text}"[:ERROR_CHARACTERS]
    except MemoryError:
        raise
    except BaseException:
        return "an exception without a text"
