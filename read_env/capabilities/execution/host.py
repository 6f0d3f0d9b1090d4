"""Running untrusted programs, as seen by the caller: servers that are kept, requests, and the verdict."""

from __future__ import annotations

import ast
import atexit
import math
import os
import secrets
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from read_env.capabilities.execution.runner import (
    ERROR_CHARACTERS,
    EXIT_MEMORY,
    Ended,
    Reply,
    Request,
    receive,
    send,
)
from read_env.capabilities.execution.values import TEXT_CHARACTERS, Unsuitable, text_of
from read_env.errors import ReadEnvError

_CODE_CHARACTERS = 200_000
_START_SECONDS = 60.0
# How much longer than the program's own limit a server may take to answer, on a busy machine.
_GRACE_SECONDS = 30.0

# The packages above `execution` would import far more than the server needs: stand-ins take their
# place, of which only the last one has a folder. Nothing is imported before the current folder is off
# the path.
_BOOTSTRAP = """
import sys
sys.path[:] = [folder for folder in sys.path if folder]
import os, types
os.environ.clear()
for name, path in (("read_env", []), ("read_env.capabilities", []), ("read_env.capabilities.execution", sys.argv[1:])):
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__path__ = path
from read_env.capabilities.execution.runner import serve
serve()
"""


@dataclass(frozen=True)
class ExecutionResult:
    """What came of running a program.

    Attributes:
        passed: every case gave the expected text.
        results: the same, case by case.
        error: what went wrong first, in one line: an exception, ``time-out``, ``memory``, ``blocked``,
            ``unsupported``, …; empty if the program ran to its end, even with wrong values.
    """

    passed: bool
    results: tuple[bool, ...]
    error: str


def run_python(
    code: str,
    cases: Sequence[tuple[str, str]],
    *,
    seconds: float = 5.0,
    memory_mib: int = 256,
    interpreter: bool = False,
) -> ExecutionResult:
    """Run a program that nobody vouches for, and compare what its calls return with what they should.

    The program runs in a process of its own, without files, network, other processes, environment
    variables, input or visible output (see :mod:`read_env.capabilities.execution` for how, and for
    what that doesn't protect from). It may import the standard modules that answers commonly use.
    All cases see the same process, in order. Set elements are compared in ascending order;
    ``random`` and the hashes of texts start from the same seed every time. Safe to call from several threads; each uses a
    server process of its own, which is kept for later calls.

    Args:
        code: Python source, for example a function definition. As a module its name is ``answer``, so
            a part guarded by ``__name__ == "__main__"`` doesn't run.
        cases: pairs of a call expression, for example ``"f(2)"``, and the ``repr`` of its right value.
            Values must be made of exactly builtin types. Only the calls are shown to the program.
        seconds: wall-clock limit for the program and all cases together; a CPU limit goes with it.
        memory_mib: address space that the program may use beyond that of the bare interpreter, in MiB.
        interpreter: use the whitelisting interpreter even where the kernel could isolate the program.

    Returns:
        The verdict. Whatever the program does, this function doesn't raise because of it.

    Raises:
        ReadEnvError: if an argument makes no sense, or if no isolation is available on this machine.
    """
    calls, expected = _checked(code, cases, seconds, memory_mib)
    if len(code) > _CODE_CHARACTERS:
        return _failed(len(cases), f"unsupported: more than {_CODE_CHARACTERS} characters of source")
    available = isolation()
    if available == "none":
        raise ReadEnvError(f"untrusted code can't be run safely on this machine: {isolation_reason()}")
    request = Request(
        code=code,
        calls=calls,
        seconds=float(seconds),
        memory_mib=memory_mib,
        nonce=secrets.token_hex(16),
        isolation="interpreter" if interpreter else available,
    )
    reply = _servers.answer(request)
    return _verdict(request, reply, expected)


def isolation() -> str:
    """Which isolation programs get here: ``"seccomp"``, ``"interpreter"`` or ``"none"``.

    Found out once by starting a server, and kept for the rest of the process.
    """
    return _servers.found()[0]


def isolation_reason() -> str:
    """Why it is this isolation, in one line."""
    return _servers.found()[1]


def _checked(
    code: str, cases: Sequence[tuple[str, str]], seconds: float, memory_mib: int
) -> tuple[list[str], list[str]]:
    if not isinstance(code, str):
        raise ReadEnvError(f"code must be a string, not {type(code).__name__}")
    if not cases:
        raise ReadEnvError("cases is empty: a program is judged by at least one call")
    for case in cases:
        if len(case) != 2 or not all(isinstance(part, str) for part in case):
            raise ReadEnvError(f"a case is a pair of texts, a call and its value's repr, not {case!r}")
    if not (math.isfinite(seconds) and 0 < seconds <= 3600):
        raise ReadEnvError(f"seconds is {seconds!r}, must be above 0 and at most 3600")
    if not 1 <= memory_mib <= 2**20:
        raise ReadEnvError(f"memory_mib is {memory_mib!r}, must be from 1 to {2**20}")
    return [call for call, _ in cases], [value for _, value in cases]


# --- the verdict -------------------------------------------------------------


def _failed(count: int, error: str) -> ExecutionResult:
    return ExecutionResult(False, (False,) * count, error)


def _verdict(request: Request, reply: Reply, expected: Sequence[str]) -> ExecutionResult:
    texts: dict[int, str] = {}
    error = ""
    finished = False
    for line in reply["output"].encode("latin-1").split(b"\n")[:-1]:
        try:
            nonce, kind, place_text, data = line.split(b" ")
            place, text = int(place_text), bytes.fromhex(data.decode("ascii")).decode("utf-8", "surrogatepass")
        except ValueError:
            nonce, kind, place, text = b"", b"", 0, ""
        if nonce != request["nonce"].encode() or finished or place in texts:
            return _failed(len(expected), "blocked: the program wrote to the channel of its results")
        if kind == b"value":
            texts[place] = text
        elif kind == b"end":
            finished = True
        else:
            error = error or (_printable(text) if kind == b"error" else f"no isolation: {_printable(text)}")
            finished = place < 0
    error = error or _how_it_ended(request, reply, finished)
    results = tuple(place in texts and _same(texts[place], value) for place, value in enumerate(expected))
    return ExecutionResult(all(results) and not error, results, error)


def _how_it_ended(request: Request, reply: Reply, finished: bool) -> str:
    """An error if the program's process didn't end as it should, else nothing."""
    ended, status = reply["ended"], reply["status"]
    if ended == "time" or (ended == "signal" and status in (signal.SIGXCPU, signal.SIGKILL)):
        return f"time-out: more than {request['seconds']:g} s"
    if ended == "flood":
        return "blocked: the program wrote to the channel of its results"
    if ended == "signal":
        return f"crashed: signal {status}"
    if status == EXIT_MEMORY:
        return f"memory: more than {request['memory_mib']} MiB"
    return "" if finished and status == 0 else "ended early: the program left its process"


def _same(text: str, expected: str) -> bool:
    return text == expected or text == _canonical(expected)


def _canonical(expected: str) -> str:
    """The text that the program's process writes for the same value: sets have no order of their own."""
    try:
        return text_of(ast.literal_eval(expected), max(TEXT_CHARACTERS, 2 * len(expected)))
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError, Unsuitable):
        return expected.strip()


def _printable(text: str) -> str:
    shown = "".join(letter if letter.isprintable() else "?" for letter in text[:ERROR_CHARACTERS])
    return shown or "an exception without a text"


# --- servers -----------------------------------------------------------------


class _Server:
    """A process that runs programs one after the other; see :func:`read_env.capabilities.execution.runner.serve`."""

    def __init__(self) -> None:
        folder = str(Path(__file__).resolve().parent)
        self.process = subprocess.Popen(
            # -I would do what -s, the empty environment and the bootstrap do, but draw a seed for hashes:
            # a program that depends on the order of a set must not pass in one server and fail in another.
            [sys.executable, "-s", "-S", "-B", "-c", _BOOTSTRAP, folder],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            cwd="/",
            env={"PYTHONHASHSEED": "0"},
            start_new_session=True,  # Ctrl-C is for the caller, who then ends this process
        )
        assert self.process.stdin is not None and self.process.stdout is not None
        self.stdin, self.stdout = self.process.stdin, self.process.stdout
        try:
            self.hello: dict[str, str] = receive(self.stdout.fileno(), self._deadline(_START_SECONDS))
        except BaseException as error:
            self.close()
            if isinstance(error, TimeoutError):  # not the program's fault
                raise Ended from error
            raise

    def ask(self, request: Request) -> Reply:
        """Have one program run.

        Raises:
            Ended: if the server died.
            TimeoutError: if it doesn't answer.
        """
        try:
            send(self.stdin.fileno(), request)
        except BrokenPipeError as error:
            raise Ended from error
        reply: Reply = receive(self.stdout.fileno(), self._deadline(request["seconds"] + _GRACE_SECONDS))
        return reply

    def _deadline(self, seconds: float) -> Callable[[], None]:
        deadline = time.monotonic() + seconds

        def wait() -> None:
            with selectors.DefaultSelector() as selector:
                selector.register(self.stdout, selectors.EVENT_READ)
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    raise TimeoutError

        return wait

    def close(self) -> None:
        """End the process, and with it the program that it runs."""
        self.process.kill()
        self.process.wait()
        self.forget()

    def forget(self) -> None:
        """Let go of the process without ending it."""
        self.stdin.close()
        self.stdout.close()


class _Servers:
    """Idle servers and those at work; a server belongs to one thread at a time."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.idle: list[_Server] = []
        self.all: list[_Server] = []
        self._found: tuple[str, str] | None = None

    def found(self) -> tuple[str, str]:
        """The isolation and the reason for it."""
        if self._found is None:
            self._found = self._find()
        return self._found

    def answer(self, request: Request) -> Reply:
        """Have one program run by an idle server or by a new one; a server that died is replaced once."""
        with self.lock:
            server = self.idle.pop() if self.idle else None
        for _ in range(2):
            try:
                server = server or self._start()
                reply = server.ask(request)
            except TimeoutError:
                self._drop(server)
                return Reply(ended="time", status=0, output="")
            except (Ended, OSError):
                self._drop(server)
                server = None
            except BaseException:  # for example Ctrl-C: an answer may still be under way
                self._drop(server)
                raise
            else:
                with self.lock:
                    self.idle.append(server)
                return reply
        raise ReadEnvError("untrusted code can't be run: the process for it ended twice without an answer")

    def close(self) -> None:
        """End all servers; later calls start new ones."""
        with self.lock:
            servers, self.all, self.idle = self.all, [], []
        for server in servers:
            server.close()

    def forget(self) -> None:
        """In a forked copy of this process: leave the servers to the original.

        The copies of the pipes are closed, for a server ends when the last copy is.
        """
        for server in self.all:
            server.forget()
            server.process.returncode = 0  # not a child of this process: nothing to wait for
        self.__init__()  # type: ignore[misc]

    def _start(self) -> _Server:
        server = _Server()
        with self.lock:
            self.all.append(server)
        return server

    def _drop(self, server: _Server | None) -> None:
        if server is not None:
            with self.lock:
                self.all = [other for other in self.all if other is not server]
            server.close()

    def _find(self) -> tuple[str, str]:
        if not hasattr(os, "fork"):
            return "none", "a system with fork() and resource limits is needed"
        if not sys.executable:
            return "none", "it isn't known where the Python interpreter is"
        try:
            server = self._start()
        except (Ended, OSError) as error:
            return "none", f"a Python process for untrusted code doesn't start ({type(error).__name__})"
        with self.lock:
            self.idle.append(server)
        return server.hello["isolation"], server.hello["reason"]


_servers = _Servers()
atexit.register(_servers.close)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_servers.forget)
