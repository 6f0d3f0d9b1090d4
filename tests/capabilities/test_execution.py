"""Untrusted code: right and wrong programs, bombs, and attempts to break out, in both kinds of isolation."""

import errno
import gc
import json
import os
import random
import signal
import socket
import struct
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from read_env.capabilities.base import Template
from read_env.capabilities.execution import (
    ExecutionResult,
    host,
    interpreter,
    isolation,
    isolation_reason,
    run_python,
    seccomp,
)
from read_env.capabilities.execution.interpreter import Machine
from read_env.capabilities.execution.library import Refused
from read_env.capabilities.execution.values import Unsuitable, text_of
from read_env.capabilities.instruct.code import CODE, python_block
from read_env.errors import ReadEnvError

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="untrusted code is refused without fork()")

needs_seccomp = pytest.mark.skipif(
    sys.platform != "linux" or isolation() != "seccomp", reason=f"no seccomp: {isolation_reason()}"
)

Run = Callable[..., ExecutionResult]


@pytest.fixture(params=[pytest.param("seccomp", marks=needs_seccomp), "interpreter"])
def run(request: pytest.FixtureRequest) -> Run:
    """``run_python`` in one kind of isolation, with indented code."""
    walking = request.param == "interpreter"

    def call(code: str, *cases: tuple[str, str], seconds: float = 10.0, **options: Any) -> ExecutionResult:
        return run_python(textwrap.dedent(code), cases, seconds=seconds, interpreter=walking, **options)

    return call


def seccomp_only(code: str, *cases: tuple[str, str], seconds: float = 10.0, **options: Any) -> ExecutionResult:
    return run_python(textwrap.dedent(code), cases, seconds=seconds, **options)


# --- verdicts ----------------------------------------------------------------


def test_a_right_program_passes(run: Run) -> None:
    code = """
        import math
        from collections import Counter

        def area(r: float) -> float:
            \"\"\"Area of a circle.\"\"\"
            return math.pi * r ** 2

        def letters(text):
            print("counting", text)
            return dict(Counter(text).most_common(2))

        def both(xs, *, key=lambda x: -x):
            return sorted(xs, key=key), {x for x in xs}, tuple(xs)
    """
    cases = [
        ("area(1)", "3.141592653589793"),
        ("letters('banana')", "{'a': 3, 'n': 2}"),
        ("both([1, 3, 2])", "([3, 2, 1], {1, 2, 3}, (1, 3, 2))"),
        (" area(0) ", "0.0"),
    ]
    assert run(code, *cases) == ExecutionResult(True, (True, True, True, True), "")


def test_a_wrong_value_fails_without_an_error(run: Run) -> None:
    result = run("def f(x):\n    return x + 1\n", ("f(1)", "2"), ("f(2)", "2"), ("f(3)", "4.0"))
    assert result == ExecutionResult(False, (True, False, False), "")


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("def f(:\n    pass", "SyntaxError"),
        ("return 1", "SyntaxError"),
        ("x = 1 / 0", "ZeroDivisionError: division by zero"),
        ("def f():\n    raise ValueError('no such\\nthing')", "ValueError: no such thing"),
        ("def g():\n    pass", "NameError"),
        ("f = 3", "TypeError"),
        ("def f():\n    return [][1]", "IndexError"),
        ("def f(x):\n    return x", "TypeError"),
        ("import a_module_that_nobody_has", ""),
        ("", "NameError"),
    ],
)
def test_errors_are_one_line(run: Run, code: str, error: str) -> None:
    result = run(code, ("f()", "1"))
    assert not result.passed and result.results == (False,)
    assert error in result.error and result.error and "\n" not in result.error


def test_other_cases_count_after_one_that_raises(run: Run) -> None:
    result = run("def f(x):\n    return 6 // x\n", ("f(0)", "0"), ("f(2)", "3"))
    assert result == ExecutionResult(False, (False, True), result.error)
    assert result.error.startswith("ZeroDivisionError")


def test_sets_have_no_order_and_expected_text_may_be_spaced_freely(run: Run) -> None:
    code = "def f():\n    return {'x': {'b', 'a', 'c'}, 'y': frozenset({1, 2}), 'z': {(2, 1), (1, 2)}}\n"
    assert run(code, ("f()['x']", "{'c','a', 'b'}"), ("f()['y']", "frozenset({1, 2})")).passed
    assert run(code, ("f()['z']", "{(1, 2), (2, 1)}"), ("f()['z']", "{(2, 1), (1, 2)}")).passed
    assert not run(code, ("f()['x']", "{'c','a'}"), ("f()['x']", "['a', 'b', 'c']")).passed


def test_cases_share_a_process_and_runs_do_not(run: Run) -> None:
    code = "seen = []\ndef f(x):\n    seen.append(x)\n    return len(seen)\n"
    for _ in range(2):
        assert run(code, ("f(1)", "1"), ("f(1)", "2")).passed


def test_the_order_of_a_set_is_the_same_in_every_server(run: Run) -> None:
    code = "def f():\n    return list(set('abcdefgh')), list({'x', 'yz', 'w'})\n"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}print(f())"], env={"PYTHONHASHSEED": "0"}, capture_output=True, text=True
    )
    for _ in range(2):
        assert run(code, ("f()", done.stdout.strip())).passed
        host._servers.close()


@needs_seccomp
def test_random_numbers_are_the_same_in_every_run() -> None:
    code = "import random\ndef f():\n    return random.random()\n"
    assert seccomp_only(code, ("f()", repr(random.Random(0).random()))).passed


@needs_seccomp
def test_what_answers_commonly_use_is_there() -> None:
    code = """
        from __future__ import annotations
        import bisect, collections, copy, datetime, decimal, enum, fractions, functools, heapq, itertools, json
        import math, operator, random, re, statistics, string, textwrap, time, typing
        from dataclasses import dataclass, field

        @dataclass(order=True)
        class Item:
            size: int
            names: list[str] = field(default_factory=list)

        class Colour(enum.Enum):
            RED = 1

        def f():
            time.sleep(0.001)
            day = datetime.datetime.strptime("2024-02-29", "%Y-%m-%d")
            total = decimal.Decimal("0.1") + decimal.Decimal("0.2")
            found = re.sub(r"(\\d+)", lambda m: str(int(m[1]) + 1), "a1b22")
            half = str(fractions.Fraction(1, 2))
            return [day.weekday(), str(total), found, half, json.dumps({"a": [1]}), max(Item(1), Item(2)).size,
                    Colour(1).name, f"{'é':>3}", "ß".encode("latin-1"), textwrap.shorten("a b c", 3, placeholder="")]

        def main():
            raise SystemExit("not reached")

        if __name__ == "__main__":
            main()
    """
    right = "[3, '0.3', 'a2b23', '1/2', '{\"a\": [1]}', 2, 'RED', '  é', b'\\xdf', 'a b']"
    result = seccomp_only(code, ("f()", right))
    assert result.passed, result.error


@pytest.mark.parametrize(
    "arguments",
    [
        {"cases": []},
        {"cases": [("f()",)]},
        {"cases": [("f()", 3)]},
        {"code": b"x = 1"},
        {"seconds": 0},
        {"seconds": float("nan")},
        {"memory_mib": 0},
    ],
)
def test_misuse_by_the_caller_is_an_error(arguments: dict[str, Any]) -> None:
    with pytest.raises(ReadEnvError):
        run_python(**{"code": "x = 1", "cases": [("x", "1")], **arguments})


@pytest.mark.parametrize("template", CODE.templates[:-1], ids=lambda template: template.name)
def test_answers_to_the_prompts_for_code_are_run_and_graded(template: Template) -> None:
    rng = random.Random(f"graded/{template.name}")
    for _ in range(3):
        prompt = CODE.draw(template, rng)
        cases = [(call, value) for call, value in prompt.check["cases"]]
        name, (_, constant) = cases[0][0].removeprefix("sorted(").partition("(")[0], cases[0]
        wrong = f"```python\ndef {name}(*args):\n    return {constant}\n```"
        assert CODE.verify(prompt, prompt.reference) and not CODE.verify(prompt, wrong)
        right = run_python(python_block(prompt.reference), cases, interpreter=True)
        assert right.passed, (right.error, prompt.reference)
        assert not run_python(python_block(wrong), cases, interpreter=True).passed


# --- bombs -------------------------------------------------------------------


@pytest.mark.parametrize("code", ["while True:\n    pass\n", "def f():\n    while True:\n        pass\n"])
def test_an_infinite_loop_ends_at_the_limit(run: Run, code: str) -> None:
    started = time.monotonic()
    result = run(code, ("1", "1"), ("f()", "1"), ("2", "2"), seconds=1.0)
    assert time.monotonic() - started < 2.0
    assert not result.passed and not any(result.results[1:]) and result.error.startswith("time-out")


@needs_seccomp
@pytest.mark.parametrize(
    "code",
    [
        "import time\ntime.sleep(100)",
        "try:\n    while True:\n        pass\nexcept BaseException:\n    pass",
        "import signal\nfor n in range(1, 32):\n    try:\n        signal.signal(n, lambda *a: None)\n"
        "    except (OSError, ValueError):\n        pass\nwhile True:\n    pass",
        "import re\nre.match(r'(a+)+$', 'a' * 64 + 'b')",
        "9 ** 9 ** 9",
        "while True:\n    print('x' * 10**6)",
        "class L:\n    def __str__(self):\n        while True: pass\nclass E(Exception):\n    __str__ = L.__str__\nraise E",
        "import threading\nthreading.Lock().acquire(); l = threading.Lock(); l.acquire(); l.acquire()",
    ],
)
def test_no_other_way_of_taking_forever_works(code: str) -> None:
    started = time.monotonic()
    result = seccomp_only(code, ("1", "1"), seconds=0.5)
    assert time.monotonic() - started < 2.0
    assert result == ExecutionResult(False, (False,), "time-out: more than 0.5 s")


@pytest.mark.parametrize(
    "code",
    [
        "x = [0] * 10**9",
        "x = 'a' * 10**10",
        "x = []\nwhile True:\n    x.append('a' * 10**6 + str(len(x)))",
        "x = [[]]\nwhile True:\n    x = x + x",
        "x = list(range(10**9))",
        "x = {i: str(i) * 100 for i in range(10**8)}",
    ],
)
def test_memory_is_bounded(run: Run, code: str) -> None:
    result = run(code, ("1", "1"), memory_mib=64)
    assert not result.passed and result.results == (False,)
    assert result.error.startswith(("memory", "time-out"))


@needs_seccomp
def test_memory_error_may_be_caught_by_the_program() -> None:
    code = "try:\n    x = 'a' * 10**9\nexcept MemoryError:\n    x = 'small'\n"
    assert seccomp_only(code, ("x", "'small'"), memory_mib=64).passed
    assert seccomp_only("x = 'a' * (100 * 2**20)", ("len(x)", str(100 * 2**20)), memory_mib=192).passed


def test_recursion_is_bounded(run: Run) -> None:
    result = run("def f(n):\n    return f(n + 1)\n", ("f(0)", "1"), ("1 + 1", "2"))
    assert result.results == (False, True) and result.error.startswith("RecursionError")


@needs_seccomp
@pytest.mark.parametrize(
    "code",
    [
        "import sys\nsys.setrecursionlimit(10**9)\ndef f(n):\n    return f(n + 1)\nf(0)",
        "import sys\nsys.setrecursionlimit(10**9)\nclass C:\n    def __repr__(self): return repr(self)\nrepr(C())",
        "import ctypes\nctypes.string_at(0)",
        "x = " + "(" * 5000 + ")" * 5000,
        "x = " + "-" * 100_000 + "1",
        "import os\nos._exit(0)",
        "import os\nos.abort()",
    ],
)
def test_a_crash_is_only_the_programs(code: str) -> None:
    result = seccomp_only(code, ("1", "1"))
    assert not result.passed and result.results == (False,) and result.error


def test_printing_is_free_and_kept_nowhere(run: Run) -> None:
    assert run("for i in range(50):\n    print('x' * 10**5)\n", ("1", "1")).passed


@pytest.mark.parametrize(
    "expression",
    [
        "'x' * 10**6",
        "list(range(30_000))",
        "twice([], 10**3)",
        "twice([1, 2], 30)",
        "loop",
    ],
)
def test_an_enormous_value_is_refused(run: Run, expression: str) -> None:
    code = """
        def twice(x, n):
            for _ in range(n):
                x = [x, x]
            return x
        loop = []
        loop.append(loop)
    """
    result = run(code, (expression, "1"), ("1", "1"))
    assert result.results == (False, True) and result.error.startswith("unsupported")


@needs_seccomp
def test_a_flood_into_the_pipe_ends_at_its_bound() -> None:
    result = seccomp_only("import os\nwhile True:\n    os.write(3, b'x' * 2**20)", ("1", "1"))
    assert result == ExecutionResult(False, (False,), "blocked: the program wrote to the channel of its results")


# --- escapes -----------------------------------------------------------------

OPEN, SOCKET, FORK, KILL = (2, 41, 57, 62) if seccomp.machine() == "x86_64" else (56, 198, 220, 129)
OPEN_ARGUMENTS = "PATH, 0" if seccomp.machine() == "x86_64" else "-100, PATH, 0"

# Each returns 'escaped' from f() or leaves a trace, unless it is stopped. PATH is a file with a
# secret, NEW one that doesn't exist, PORT a listening socket's, PID a process that may be killed.
ESCAPES = {
    "read a file": "def f():\n    return open(PATH).read()",
    "read a file with os": "import os\ndef f():\n    return os.read(os.open(PATH, os.O_RDONLY), 99).decode()",
    "read a file with io": "import io\ndef f():\n    return io.FileIO(PATH).read().decode()",
    "read the environment's file": "def f():\n    return open('/proc/self/environ', 'rb').read() and 'escaped'",
    "read memory": "def f():\n    return open('/proc/self/mem', 'rb') and 'escaped'",
    "write a file": "def f():\n    open(NEW, 'w').write('x')\n    return 'escaped'",
    "write with os": "import os\ndef f():\n    os.open(NEW, os.O_CREAT | os.O_WRONLY)\n    return 'escaped'",
    "make a directory": "import os\ndef f():\n    os.mkdir(NEW)\n    return 'escaped'",
    "link": "import os\ndef f():\n    os.symlink(PATH, NEW)\n    return 'escaped'",
    "remove": "import os\ndef f():\n    os.remove(PATH)\n    return 'escaped'",
    "list a directory": "import os\ndef f():\n    return os.listdir('/') and 'escaped'",
    "stat": "import os\ndef f():\n    return os.stat('/') and 'escaped'",
    "change directory": "import os\ndef f():\n    os.chdir('/')\n    return 'escaped'",
    "pathlib": "import pathlib\ndef f():\n    return pathlib.Path(PATH).read_text()",
    "builtin import": "def f():\n    return __import__('os').listdir('/') and 'escaped'",
    "socket": "import socket\ndef f():\n    socket.create_connection(('127.0.0.1', PORT))\n    return 'escaped'",
    "os.system": "import os\ndef f():\n    if os.system('touch ' + NEW):\n        raise OSError('no')\n    return 'escaped'",
    "subprocess": "import subprocess\ndef f():\n    return subprocess.run(['true'], check=True) and 'escaped'",
    "fork": "import os\ndef f():\n    os.fork()\n    return 'escaped'",
    "vfork by spawn": "import os\ndef f():\n    os.posix_spawn('/bin/true', ['true'], {})\n    return 'escaped'",
    "fork bomb": "import os\nwhile True:\n    os.fork()",
    "exec": "import os\ndef f():\n    os.execv('/bin/true', ['true'])",
    "thread": "import threading\ndef f():\n    threading.Thread(target=int).start()\n    return 'escaped'",
    "kill": "import os\ndef f():\n    os.kill(PID, 9)\n    return 'escaped'",
    "kill the server": "import os\ndef f():\n    os.kill(SERVER, 9)\n    return 'escaped'",
    "raise the limits": "import resource\ndef f():\n    resource.setrlimit(resource.RLIMIT_AS, (-1, -1))\n    return 'escaped'",
    "raise the limits by os": (
        "import ctypes\ndef f():\n    if ctypes.CDLL(None).setrlimit(9, bytes([255] * 16)):\n"
        "        raise OSError('no')\n    return 'escaped'"
    ),
    "pipe": "import os\ndef f():\n    os.pipe()\n    return 'escaped'",
    "duplicate a descriptor": "import os\ndef f():\n    os.dup(3)\n    return 'escaped'",
    "close the channel": "import os\ndef f():\n    os.close(3)\n    return 'escaped'",
    "input": "def f():\n    return input() or 'escaped'",
    "breakpoint": "def f():\n    breakpoint()\n    return 'escaped'",
    "exit": "def f():\n    exit()",
    "SystemExit": "def f():\n    raise SystemExit",
    "import what isn't loaded": "import ftplib\ndef f():\n    return 'escaped'",
    "import by path": "import sys\nsys.path.append(FOLDER)\nimport planted\ndef f():\n    return 'escaped'",
    "subclasses": """
        def f():
            waiting = [().__class__.__base__]
            while waiting:
                kind = waiting.pop()
                if kind.__name__ == "FileIO":
                    return kind(PATH).read().decode()
                waiting += type.__subclasses__(kind)
    """,
    "globals of a function": """
        import functools
        def f():
            reach = functools.wraps.__globals__["__builtins__"]
            return (reach["open"] if isinstance(reach, dict) else reach.open)(PATH).read()
    """,
    "frames": """
        import sys
        def f():
            frame = sys._getframe()
            while frame:
                if "os" in frame.f_globals:
                    frame.f_globals["os"].open(PATH, 0)
                    return "escaped"
                frame = frame.f_back
            return 1 / 0
    """,
    "traceback": """
        def f():
            try:
                1 / 0
            except ZeroDivisionError as error:
                return error.__traceback__.tb_frame.f_builtins["open"](PATH).read()
    """,
    "generator's frame": "def f():\n    g = (x for x in [1])\n    return g.gi_frame.f_builtins['open'](PATH).read()",
    "eval": "def f():\n    return eval('open')(PATH).read()",
    "exec as text": "def f():\n    exec('import os; os.mkdir(NEW)', {'NEW': NEW})\n    return 'escaped'",
    "str.format": "def f():\n    text = '{0.__class__.__base__}'.format(())\n    return open(PATH).read() if text else ''",
    "getattr": "def f():\n    return getattr(open(PATH), 'read')()",
    "pickle": 'import pickle\ndef f():\n    pickle.loads(b"cos\\nmkdir\\n(V" + NEW.encode() + b"\\ntR.")\n    return "escaped"',
    "ctypes open": f"""
        import ctypes
        def f():
            libc = ctypes.CDLL(None, use_errno=True)
            PATH = ctypes.c_char_p(globals()["PATH"].encode())
            if libc.syscall({OPEN}, {OPEN_ARGUMENTS}) < 0:
                raise OSError(ctypes.get_errno(), "refused")
            return "escaped"
    """,
    "ctypes socket": f"""
        import ctypes
        def f():
            libc = ctypes.CDLL(None, use_errno=True)
            if libc.syscall({SOCKET}, 2, 1, 0) < 0:
                raise OSError(ctypes.get_errno(), "refused")
            return "escaped"
    """,
    "ctypes fork": f"""
        import ctypes
        def f():
            libc = ctypes.CDLL(None, use_errno=True)
            if libc.syscall({FORK}, 17, 0, 0, 0, 0) < 0:
                raise OSError(ctypes.get_errno(), "refused")
            return "escaped"
    """,
    "ctypes kill": f"""
        import ctypes
        def f():
            libc = ctypes.CDLL(None, use_errno=True)
            if libc.syscall({KILL}, PID, 9) < 0:
                raise OSError(ctypes.get_errno(), "refused")
            return "escaped"
    """,
    "ctypes library": "import ctypes\ndef f():\n    ctypes.CDLL('libutil.so.1')\n    return 'escaped'",
    "another filter": """
        import ctypes
        def f():
            if ctypes.CDLL(None, use_errno=True).prctl(22, 0, 0, 0, 0) < 0:
                raise OSError(ctypes.get_errno(), "refused")
            return "escaped"
    """,
}


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """What the escapes aim at."""
    folder = tmp_path_factory.mktemp("target")
    (folder / "secret").write_text("escaped")
    (folder / "planted.py").write_text(f"open({str(folder / 'new')!r}, 'w')")
    victim = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    isolation()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        yield {
            "PATH": str(folder / "secret"),
            "NEW": str(folder / "new"),
            "FOLDER": str(folder),
            "PORT": listener.getsockname()[1],
            "PID": victim.pid,
            "SERVER": host._servers.all[0].process.pid,
            "listener": listener,
            "victim": victim,
        }
    victim.kill()
    victim.wait()


@pytest.mark.parametrize("escape", ESCAPES)
def test_escapes_fail_and_leave_no_trace(run: Run, target: dict[str, Any], escape: str) -> None:
    names = "".join(f"{name} = {value!r}\n" for name, value in target.items() if name.isupper())
    result = run(names + textwrap.dedent(ESCAPES[escape]), ("f()", "'escaped'"), ("1 + 1", "2"))
    assert not result.passed and not result.results[0]
    assert result.error
    assert Path(target["PATH"]).read_text() == "escaped" and not Path(target["NEW"]).exists()
    assert target["victim"].poll() is None and host._servers.all[0].process.poll() is None
    with pytest.raises(BlockingIOError):
        target["listener"].accept()


@needs_seccomp
@pytest.mark.parametrize(
    "escape",
    ["read a file", "write a file", "fork", "exec", "kill", "remove", "pipe", "read memory", "close the channel"],
)
def test_the_kernel_says_no(target: dict[str, Any], escape: str) -> None:
    names = "".join(f"{name} = {value!r}\n" for name, value in target.items() if name.isupper())
    result = seccomp_only(names + ESCAPES[escape], ("f()", "'escaped'"))
    assert result.error.startswith("blocked: PermissionError: [Errno 1]")


# Too harmful to try without isolation, or harmless there and odd only inside.
UNTRIED = {
    *("remove", "change directory", "fork", "fork bomb", "exec", "kill", "kill the server", "raise the limits"),
    *("raise the limits by os", "duplicate a descriptor", "close the channel", "input", "breakpoint", "exit"),
    *("SystemExit", "ctypes fork", "ctypes kill", "ctypes library", "another filter", "read memory"),
}


@pytest.mark.skipif(sys.platform != "linux" or sys.version_info < (3, 11), reason="some name Linux's or 3.11's ways")
def test_escapes_work_without_isolation(target: dict[str, Any]) -> None:
    """Otherwise the tests above would prove nothing: an attempt may fail because it is badly written."""
    control = """
        import json, os, sys
        names, escapes = json.load(sys.stdin)
        for escape, code in escapes.items():
            space = dict(names)
            try:
                exec(code, space)
                value = space["f"]()
            except BaseException as error:
                value = repr(error)
            if value != "escaped":
                print(escape, value)
            if os.path.islink(names["NEW"]) or os.path.isfile(names["NEW"]):
                os.remove(names["NEW"])
            elif os.path.isdir(names["NEW"]):
                os.rmdir(names["NEW"])
    """
    names = {name: value for name, value in target.items() if name.isupper()}
    escapes = {escape: textwrap.dedent(code) for escape, code in ESCAPES.items() if escape not in UNTRIED}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(control)],
        input=json.dumps([names, escapes]),
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    target["listener"].accept()[0].close()


def test_the_environment_is_empty(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("READ_ENV_TEST_SECRET", "escaped")
    host._servers.close()
    code = "import os\ndef f():\n    return os.environ.get('READ_ENV_TEST_SECRET', 'none')\n"
    assert not run(code, ("f()", "'escaped'")).passed


@needs_seccomp
def test_no_variable_is_left_in_the_environment() -> None:
    assert seccomp_only("import os", ("dict(os.environ)", "{}"), ("os.environb == {}", "True")).passed


def test_a_server_finds_nothing_but_the_standard_library(monkeypatch: pytest.MonkeyPatch) -> None:
    servers = host._Servers()
    monkeypatch.setattr(host, "_servers", servers)
    checked = (
        "assert all(map(os.path.isabs, sys.path)) and not any('-packages' in folder for folder in sys.path)\n"
        "assert sys.flags.no_site and sys.flags.no_user_site and 'site' not in sys.modules\nserve()\n"
    )
    monkeypatch.setattr(host, "_BOOTSTRAP", host._BOOTSTRAP.replace("serve()\n", checked))
    assert isolation() != "none", isolation_reason()
    servers.close()


LIES = {
    "__repr__": "class Lie:\n    def __repr__(self):\n        return '42'\ndef f():\n    return Lie()",
    "subclass": "class Lie(int):\n    def __repr__(self):\n        return '42'\ndef f():\n    return Lie()",
    "inside": "class Lie(str):\n    def __repr__(self):\n        return '42'\ndef f():\n    return [Lie()]",
    "__eq__": "class Lie:\n    def __eq__(self, other):\n        return True\ndef f():\n    return Lie()",
    "__class__": "class Lie:\n    __class__ = int\n    def __repr__(self):\n        return '42'\ndef f():\n    return Lie()",
    "builtins": "import builtins\nbuiltins.repr = lambda _: '42'\nbuiltins.str = builtins.repr\ndef f():\n    return 1",
    "sys.modules": "import sys\nsys.modules.clear()\nsys.modules['os'] = None\ndef f():\n    return 1",
    "printing": "def f():\n    print('42')\nprint('42')",
    "early exit": "import os\nprint('42')\nos._exit(0)",
    "pipe": "import os\nfor n in range(99):\n    try:\n        os.write(n, b'value 0 3432\\n')\n    except OSError:\n        pass\nf = lambda: 1",
    "pipe with a guessed word": "import os\nos.write(3, b'0' * 32 + b' value 0 3432\\n')\nf = lambda: 1",
    "pipe without a line": "import os\nos.write(3, b'42')\nf = lambda: 42",
}


@pytest.mark.parametrize("lie", LIES)
def test_lies_do_not_pass(run: Run, lie: str) -> None:
    expected = "[42]" if lie == "inside" else "42"
    assert not run(LIES[lie], ("f()", expected)).passed


@needs_seccomp
def test_expected_values_are_nowhere_in_the_process() -> None:
    code = """
        import gc, sys
        def f():
            frame, seen = sys._getframe(), []
            while frame:
                seen.append(repr(dict(frame.f_locals)) + repr(dict(frame.f_globals)))
                frame = frame.f_back
            seen += [repr(item) for item in gc.get_objects() if type(item) in (dict, list, tuple)]
            word = "".join(reversed("rewsna-thgir"))
            return word if any(word in text for text in seen) else "not found"
    """
    result = seccomp_only(code, ("f()", "'right-answer'"), ("f()", "'not found'"), seconds=60.0, memory_mib=2048)
    assert result.results == (False, True), result.error


@settings(max_examples=40)
@given(st.text(max_size=200), st.text(max_size=30), st.booleans())
def test_any_text_gives_a_verdict(code: str, call: str, walking: bool) -> None:
    result = run_python(code, [(call, "1"), ("2 + 2", "4")], interpreter=walking)
    assert len(result.results) == 2 and "\n" not in result.error
    assert result.passed is (all(result.results) and not result.error)


WORDS = "def f ( ) : \n return lambda x = 1 [ ] { } , * ** + - . for in if else not and is await yield global __a__ 'b' 10".split(
    " "
)


@settings(max_examples=40)
@given(st.lists(st.sampled_from(WORDS), max_size=25).map(" ".join), st.booleans())
def test_almost_programs_give_a_verdict(code: str, walking: bool) -> None:
    result = run_python(code, [("f()", "1")], interpreter=walking, seconds=2.0)
    assert len(result.results) == 1 and "\n" not in result.error


# --- servers -----------------------------------------------------------------


def test_a_server_that_died_is_replaced(run: Run) -> None:
    assert run("", ("1", "1")).passed
    for server in host._servers.all:
        server.process.kill()
        server.process.wait()
    assert run("", ("1", "1")).passed


def test_threads_use_servers_of_their_own(run: Run) -> None:
    results: list[bool] = []

    def work(number: int) -> None:
        for place in range(5):
            results.append(run(f"x = {number}", ("x + 1", str(number + 1)), (str(place), str(place))).passed)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [True] * 20
    assert len(host._servers.idle) <= 5


def test_a_slow_program_does_not_hold_up_other_threads(run: Run) -> None:
    slow = threading.Thread(target=run, args=("while True:\n    pass\n", ("1", "1")), kwargs={"seconds": 3.0})
    slow.start()
    time.sleep(0.2)
    started = time.monotonic()
    assert run("", ("1", "1")).passed
    assert time.monotonic() - started < 2.0
    slow.join()


def test_servers_end_with_their_owner(tmp_path: Path) -> None:
    code = """
        import os, signal
        from read_env.capabilities.execution import host, run_python
        assert run_python("", [("1", "1")]).passed
        if os.fork() == 0:  # a copy that lives on must not keep the server alive
            os.setsid()
            os.closerange(0, 3)
            import time
            time.sleep(20)
            os._exit(0)
        print(host._servers.all[0].process.pid, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    server = int(done.stdout)
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and _alive(server):
        time.sleep(0.05)
    assert not _alive(server)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return sys.platform != "linux"


def test_a_forked_copy_of_the_caller_starts_its_own_server() -> None:
    assert run_python("", [("1", "1")]).passed
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = 0 if run_python("x = 2", [("x", "2")]).passed else 2
            host._servers.close()
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    assert run_python("", [("1", "1")]).passed


def test_nothing_is_left_behind(run: Run) -> None:
    run("", ("1", "1"))
    gc.collect()
    before = len(os.listdir("/dev/fd"))
    for _ in range(5):
        run("x = 1 / 0", ("1", "1"))
        run("while True: pass", ("1", "1"), seconds=0.1)
    gc.collect()
    assert len(os.listdir("/dev/fd")) == before


def test_without_isolation_nothing_is_run(monkeypatch: pytest.MonkeyPatch) -> None:
    servers = host._Servers()
    monkeypatch.setattr(host, "_servers", servers)
    monkeypatch.setattr(sys, "executable", "/does/not/exist/python")
    assert isolation() == "none" and "doesn't start" in isolation_reason()
    with pytest.raises(ReadEnvError, match="can't be run safely"):
        run_python("x = 1", [("x", "1")])
    assert servers.all == []


def test_without_a_filter_the_interpreter_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    servers = host._Servers()
    monkeypatch.setattr(host, "_servers", servers)
    forbidden = "import read_env.capabilities.execution.seccomp as s\ns.ARCHITECTURES = {}\nserve()\n"
    monkeypatch.setattr(host, "_BOOTSTRAP", host._BOOTSTRAP.replace("serve()\n", forbidden))
    assert isolation() == "interpreter" and "no system call filter" in isolation_reason()
    assert run_python("def f():\n    return 1\n", [("f()", "1")]).passed
    assert run_python("class C:\n    pass\n", [("1", "1")]).error == "unsupported: ClassDef (line 1)"
    servers.close()


def test_where_filters_are_forbidden_the_interpreter_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    servers = host._Servers()
    monkeypatch.setattr(host, "_servers", servers)
    forbidden = (
        "import read_env.capabilities.execution.seccomp as s\n"
        "def install(): raise PermissionError(1, 'forbidden here')\n"
        "s.install = install\ns.machine = lambda: 'x86_64'\nserve()\n"
    )
    monkeypatch.setattr(host, "_BOOTSTRAP", host._BOOTSTRAP.replace("serve()\n", forbidden))
    assert isolation() == "interpreter" and "forbids" in isolation_reason()
    assert run_python("def f():\n    return 1\n", [("f()", "1")]).passed
    servers.close()


# --- the filter --------------------------------------------------------------


def decide(filter_program: bytes, architecture: int, number: int) -> int:
    """What the kernel answers to a system call, by running the filter as the kernel does."""
    data = struct.pack("=II", number, architecture)
    instructions = list(struct.iter_unpack("=HBBI", filter_program))
    place, accumulator = 0, 0
    while True:
        code, jump_true, jump_false, value = instructions[place]
        place += 1
        if code == 0x20:
            (accumulator,) = struct.unpack_from("=I", data, value)
        elif code == 0x15:
            place += jump_true if accumulator == value else jump_false
        else:
            assert code == 0x06
            return int(value)


@pytest.mark.parametrize("name", seccomp.ARCHITECTURES)
def test_the_filter_lets_only_listed_calls_pass(name: str) -> None:
    architecture = seccomp.ARCHITECTURES[name]
    code = seccomp.program(architecture)
    passed = {n for n in range(1024) if decide(code, architecture.audit, n) == 0x7FFF0000}
    assert passed == set(architecture.calls.values())
    refused = {decide(code, architecture.audit, n) for n in set(range(1024)) - passed}
    assert refused == {0x00050000 | errno.EPERM}
    # Another way of calling the same kernel: the numbers of x32, and another architecture's.
    assert {decide(code, architecture.audit, n | 0x40000000) for n in range(1024)} == refused
    for foreign in (0x40000003, 0x40000028, *(other.audit for other in seccomp.ARCHITECTURES.values())):
        if foreign != architecture.audit:
            assert {decide(code, foreign, n) for n in range(512)} == {0x80000000}


# --- the interpreter ---------------------------------------------------------

# Programs whose value of `f()` must be Python's.
SAME = """
def f(): return [1 + 2 * 3 - 4 // 3, 7 % 3, 2 ** 10, 7 / 2, -3, +3, ~3, not 3, 1 << 4, 17 >> 2, 6 & 3, 6 | 3, 6 ^ 3]
def f(): return [1 < 2 < 3, 1 < 3 < 2, 1 == 1.0, [] is None, 2 in [1, 2], 'a' not in 'abc', 3 in range(10), 5 in {5: 1}]
def f(): return [1 and 0, 0 or 'x', [] or {}, 1 if [] else 2, (lambda x, y=2: x * y)(4), 0 and 1 / 0]
def f(a=1, /, b=2, *c, d=4, **e): return [a, b, c, d, e]
def f(): return g(1, *[2, 3], d=5, **{'z': 6})§def g(a, *c, d=4, **e): return [a, c, d, sorted(e.items())]
def f(): return [x * y for x in range(4) if x % 2 for y in range(x)]
def f(): return {k: v for k, v in zip('abc', range(3))}, {x % 3 for x in range(9)}, sum(x for x in range(5))
def f():§ total = 0§ for i in range(10):§  if i == 3: continue§  if i == 6: break§  total += i§ else: total = -1§ return total
def f():§ n = 0§ while n < 5: n += 2§ else: n *= 10§ return n
def f():§ a, (b, *c), d = 1, [2, 3, 4], 'x'§ a, b = b, a§ return a, b, c, d
def f():§ xs = [3, 1, 2]; ys = xs; ys += [4]; xs[0] += 5; xs[1:3] = 'ab'; del xs[0]; return xs, ys, xs[::-1], xs[-1]
def f():§ d = {}; d['a'] = 1; d['b'] = d.get('a', 0) + 1; d.setdefault('c', []).append(range(2)[1]); del d['a']; return d
def f():§ def g():§  nonlocal n§  n += 1§  return n§ n = 0§ g(); g()§ return n
n = 5§def f():§ global n§ n += 1§ return n
def f():§ try:§  return 1 / 0§ except ZeroDivisionError as e: return str(e)§ finally: print('x')
def f():§ try: {}['k']§ except (IndexError, KeyError) as e: x = str(e)§ else: x = 2§ return x
def f():§ try:§  raise ValueError('a', 1)§ except Exception as e:§  return str(e), isinstance(e, ValueError)
def f():§ try:§  try: int('x')§  except ValueError: raise§ except Exception as e: return str(e)
def f():§ try: assert 1 > 2, 'no'§ except AssertionError as e: return str(e)
def f():§ x = 1§ def g():§  return x§ x = 2§ return g()
def f():§ return [g(i) for i in range(4)]§def g(n): return 1 if n < 2 else n * g(n - 1)
def f(): return f"{3.14159:.2f}|{5:>4}|{'a'!r}|{[1, 'b']}|{10:x}|{0.5:%}", '%s-%03d-%.1f' % ('a', 7, 2.55), '%s' % 'x'
def f(): return 'a,b'.split(','), ' x '.strip(), 'abc'.replace('b', 'zz'), '-'.join(map(str, [1, 2])), 'abc'.upper()
def f(): return 'abc'.find('c'), 'a'.isalpha(), 'ab'.center(6, '*'), '7'.zfill(3), 'aXb'.swapcase(), 'abc'[1:], 'ab' * 2
def f(): return sorted('hello', key=lambda c: (-ord(c), c)), max([1, 5, 2]), min('b', 'a'), any([]), all([1]), abs(-2)
def f(): return list(enumerate('ab', 1)), list(reversed([1, 2])), list(map(lambda a, b: a + b, [1, 2], [3, 4]))
def f(): return list(filter(None, [0, 1])), next(iter([7])), next(iter([]), 8), divmod(7, 2), round(2.567, 2), round(2.5)
def f(): return int('12'), int('ff', 16), float('1.5'), str(1.0), bool([]), chr(97), ord('b'), hex(255), bin(5), pow(3, 5, 7)
def f(): return isinstance(1, (int, str)), isinstance('a', str), type(1) == int, type([]) is list, len({1: 2}), repr('a')
def f(): return [*range(3), *'ab'], {**{'a': 1}, 'b': 2}, (1,), (), {1, 2} | {3}, {1, 2} & {2}, {1: 2} | {3: 4}
def f(): return str.upper('a'), list(map(str.strip, [' a '])), dict.fromkeys('ab', 0), 'abc'.translate(str.maketrans('a', 'b'))
def f():§ if (n := len('abc')) > 2: return n
def f():§ xs = [y := 1, y + 1]; zs = [last := x for x in range(3)]; return xs, zs, last
import math§def f(): return math.sqrt(16), math.gcd(12, 18), math.factorial(5), math.comb(5, 2), math.prod([1, 2, 3]), math.pi
from math import floor as fl, ceil§def f(): return fl(2.5), ceil(2.5)
import itertools as it§def f(): return list(it.islice(it.count(3), 2)), list(it.permutations([1, 2])), list(it.chain([1], [2]))
from itertools import *  §def f(): return 1
import itertools§def f(): return list(itertools.chain.from_iterable([[1], [2]])), list(itertools.accumulate([1, 2, 3]))
import itertools§def f(): return [(k, list(g)) for k, g in itertools.groupby('aab')], list(itertools.product([0, 1], repeat=2))
from functools import reduce, lru_cache§@lru_cache(maxsize=None)§def g(n): return n if n < 2 else g(n - 1) + g(n - 2)§def f(): return g(50), reduce(lambda a, b: a * b, [1, 2, 3])
from functools import cache, cmp_to_key§@cache§def g(n): return n§def f(): return g(3), sorted([3, 1], key=cmp_to_key(lambda a, b: a - b))
from collections import Counter, defaultdict, deque§def f():§ d = defaultdict(list)§ d['a'].append(1)§ q = deque([1, 2])§ q.appendleft(0)§ return dict(d), list(q), q.pop(), Counter('aab').most_common(1), dict(Counter('ab') + Counter('a'))
import heapq, bisect§def f():§ h = [3, 1, 2]§ heapq.heapify(h)§ return heapq.heappop(h), bisect.bisect([1, 2, 4], 3), heapq.nlargest(2, h)
import statistics, string, operator§def f(): return statistics.mean([1, 2, 3]), string.digits, operator.add(1, 2), sorted([(1, 2), (0, 3)], key=operator.itemgetter(1))
from typing import List, Optional§def f(xs: Optional[List[int]] = None) -> List['int']:§ y: int = 3§ z: str§ return [y]
def f():§ x = 'outer'§ [x for x in range(3)]§ return x
def f():§ xs = []§ for i in range(3):§  for j in range(3):§   if j == 1: break§   xs.append((i, j))§ return xs
def f():§ return [list(z) for z in zip(*[[1, 2], [3, 4]])], list(zip(*[iter(range(4))] * 2))
def f():§ s = set()§ s.add((1, 2)); s.update([3, 4]); s.discard(9)§ return s
def f():§ def g(xs=[]):§  xs.append(1)§  return xs§ g()§ return g()
def f():§ r = range(5)§ xs = []§ xs.append(r)§ return xs[0][2], len(r), r[1:3][0], list(r[::2])
def f():§ for i in []: pass§ return [i for i in (3, 4)][-1]
def f():§ x = y = []§ x.append(1)§ return y
def f(): return all(n % d for n in [7] for d in range(2, n)), [[0] * 2 for _ in range(2)], 1_000, 0x10, 1e3, 2j * 2j
def f(): return ('a' 'b', "it's", '\\n', 'é', None, True, ...)
""".strip().splitlines()


@pytest.mark.parametrize("number", range(len(SAME)))
def test_the_interpreter_does_as_python_does(number: int) -> None:
    code = SAME[number].replace("§", "\n")
    space: dict[str, Any] = {}
    exec(code, space)
    machine = Machine()
    try:
        machine.execute(code)
    except Refused as error:
        assert "import *" in code, error
        return
    assert text_of(machine.evaluate("f()")) == text_of(space["f"]())


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("def f():\n    x += 1\nf()", UnboundLocalError),
        ("def f():\n    print(y)\n    y = 1\nf()", UnboundLocalError),
        ("x", NameError),
        ("a, b = 1, 2, 3", ValueError),
        ("1 + 'a'", TypeError),
        ("len(5)", TypeError),
        ("3()", TypeError),
        ("'a'()", TypeError),
        ("def f(a): pass\nf(b=1)", TypeError),
        ("raise 3", TypeError),
        ("raise KeyError", KeyError),
        ("next(iter([]))", StopIteration),
        ("[].pop()", IndexError),
        ("int('9' * 5000)", ValueError),
        ("break", SyntaxError),
    ],
)
@pytest.mark.filterwarnings("ignore::SyntaxWarning")
def test_the_interpreter_raises_as_python_does(code: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        Machine().execute(code)
    with pytest.raises(error):
        exec(code, {})


@pytest.mark.parametrize(
    "code",
    [
        "10 ** 10 ** 10",
        "2 ** 100000",
        "1 << 10**9",
        "x = 3\nwhile True:\n    x = x * x",
        "x = 3\nwhile True:\n    x += x",
        "pow(10, 10**9)",
        "sum([10**4000] * 10, 10**4213) * 10**10",
        "'a' * 10**9",
        "[0] * 10**9",
        "10**9 * (1,)",
        "'a'.ljust(10**9)",
        "'a'.zfill(10**9)",
        "'a'.replace('', 'b' * 10**6)",
        "('a' * 10**6).replace('a', 'b' * 10**6)",
        "('a' * 10**6).join(['b'] * 10**6)",
        "('a' * 10**6).translate({97: 'b' * 10**6})",
        "'%1000000000d' % 1",
        "'%*d' % (10**9, 1)",
        "'%.99999d' % 1",
        "f'{1:1000000000}'",
        "f'{1:{10**9}}'",
        "f'{1:\u0661\u0660\u0660\u0660\u0660\u0660\u0660\u0660\u0660\u0660}'",
        "f'{1:0000000001000000000}'",
        "format(1, '99999999')",
        "b'%1000000000d' % 1",
        "('%999d' * 2000) % ((1,) * 2000)",
        "('%.999f' * 2000) % ((1.5,) * 2000)",
        "('%(x)s' * 20_000) % {'x': 'a' * 1000}",
        "('%(x)d' * 20_000) % {'x': 10**4000}",
        "('%d' * 2000) % ((10**4000,) * 2000)",
        "x = []\nfor _ in range(60):\n    x = [x, x]\nstr(x)",
        "x = []\nfor _ in range(60):\n    x = [x, x]\nf'{x}'",
        "x = []\nfor _ in range(60):\n    x = [x, x]\n'%s' % x",
        "list(range(10**10))",
        "sum(range(10**10))",
        "[x for x in range(10**10)]",
        "10**9 in iter(range(10**10))",
        "max(x for x in range(10**10))",
        "import itertools\nlist(itertools.count())",
        "import itertools\nnext(itertools.compress(itertools.count(), itertools.cycle([0])))",
        "import itertools\nitertools.combinations_with_replacement([1], 10**10)",
        "import itertools\nitertools.permutations([1], 10**10)",
        "import itertools\nitertools.product([1], repeat=10**10)",
        "import math\nmath.factorial(10**6)",
        "import math\nmath.perm(10**6, 10**6)",
        "import math\nmath.comb(10**6, 10**5)",
        "import math\nmath.prod([10**4000] * 100)",
        "from functools import reduce\nreduce(lambda a, b: a * b, [10**4000] * 100)",
        "import itertools\nlist(itertools.accumulate([[0] * 10**5] * 100))",
        "from collections import Counter\nc = Counter({1: 'x'})\nwhile True:\n    c.update(c)",
        "from collections import Counter\nc = Counter({1: []})\nc += c",
        "import itertools\nit, x = itertools.permutations(range(10**5)), []\nfor _ in range(100):\n    x.append(next(it))",
        "round(5, -10**10)",
        "x = [1]\nfor i in x:\n    x.append(i)",
        "x = [1]\nwhile True:\n    x.extend(x)",
        "x = [1]\nwhile True:\n    x += x",
        "x = [1]\nwhile True:\n    x[0:0] = x",
        "x = 'a'\nwhile True:\n    x += x",
        "from collections import deque\nimport itertools\nq = deque()\nq += itertools.count()",
        "from collections import deque\nq = deque()\nq += (0 for _ in iter(lambda: 0, 1))",
        "import itertools\nd = {}\nd |= zip(itertools.count(), itertools.count())",
        "x = []\ns = 'a' * 10**5 + 'b'\nfor i in range(100):\n    x.append(s.partition('b'))",
        "x = []\ns = 'a' * 10**5 + 'b'\nfor i in range(100):\n    x.append(s.split('b'))",
        "x = []\ns = 'a' * 10**5 + '\\n'\nfor i in range(100):\n    x.append(s.splitlines())",
        "x = 'a'\nwhile True:\n    x = f'{x}{x}'",
        "a = ['x' * 10**6 for _ in range(10**6)]",
        "def f(n):\n    return f(n - 1) + f(n - 2)\nf(0)\n" + "try:\n    f(0)\nexcept RecursionError:\n    pass\n" * 3,
        "while True:\n    try:\n        raise ValueError\n    except:\n        pass",
        "try:\n    while True:\n        pass\nfinally:\n    while True:\n        pass",
        "def f():\n    try:\n        while True:\n            pass\n    finally:\n        return 1\nf()",
    ],
)
def test_the_interpreter_bounds_what_is_made(code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interpreter, "STEPS", 300_000)
    with pytest.raises((Refused, RecursionError)):
        Machine().execute(code)


@pytest.mark.parametrize(
    "code",
    [
        "import os",
        "import sys",
        "import collections.abc",
        "from os import path",
        "from . import x",
        "from math import *",
        "from math import __loader__",
        "import math\nmath.__loader__",
        "import math\nmath.nothing",
        "open",
        "eval('1')",
        "exec('1')",
        "getattr(1, 'real')",
        "setattr",
        "globals()",
        "vars()",
        "dir()",
        "type(type)",
        "object",
        "super",
        "memoryview",
        "classmethod",
        "bytes(10)",
        "BaseException",
        "SystemExit",
        "MemoryError",
        "__import__('os')",
        "__builtins__",
        "__name__.__class__",
        "().__class__",
        "(lambda: 1).__globals__",
        "(lambda: 1).__code__",
        "len.__self__",
        "len.function",
        "len.machine",
        "str.mro",
        "int.from_bytes",
        "[].append.function",
        "(x for x in []).gi_frame",
        "(1).real",
        "''.format",
        "'{0.__class__}'.format(1)",
        "''.format_map",
        "str.format",
        "''.encode()",
        "f'{().__class__}'",
        "f'{len}'",
        "str(len)",
        "repr([len])",
        "try:\n    1 / 0\nexcept Exception as e:\n    e.__traceback__",
        "try:\n    1 / 0\nexcept Exception as e:\n    e.with_traceback",
        "try:\n    1 / 0\nexcept Exception as e:\n    e.args",
        "from functools import partial\npartial(len).func",
        "from functools import cache\ncache(len).__wrapped__",
        "from functools import cache\ncache(len).cache_info",
        "from collections import Counter\nCounter.__init__",
        "from collections import defaultdict\ndefaultdict(list).default_factory",
        "from operator import attrgetter",
        "from operator import methodcaller",
        "import itertools\nitertools.count().__reduce__()",
        "class C:\n    pass",
        "def f():\n    yield 1",
        "async def f():\n    pass",
        "with x:\n    pass",
        "match 1:\n    case 1:\n        pass",
        "x = 1\nx.y = 2",
        "x = b'a'",
        "print(*[1], sep='', __file=1) if __debug__ else 0",
        "try:\n    pass\nexcept* ValueError:\n    pass" if sys.version_info >= (3, 11) else "import os",
    ],
)
def test_the_interpreter_refuses_what_it_does_not_know(code: str) -> None:
    with pytest.raises(Refused, match="unsupported"):
        Machine().execute(code)


def test_formats_within_the_bounds_are_written() -> None:
    machine = Machine()
    machine.execute(
        "many = ('%5d, ' * 1000) % tuple(range(1000))\nnamed = ('%(x)s' * 100) % {'x': 'ab', 'y': 'c' * 999}"
    )
    assert machine.evaluate("many") == ("%5d, " * 1000) % tuple(range(1000))
    assert machine.evaluate("named") == "ab" * 100
    assert machine.evaluate("'%5.1f%%|%-4s|%x|%s' % (99.5, 'a', -255, 2j)") == " 99.5%|a   |-ff|2j"


def test_in_place_operators_take_what_python_takes() -> None:
    machine = Machine()
    machine.execute(
        "from collections import deque\nq = deque([1])\nq += range(3)\nq += 'ab'\nx = [0]\nx += (i for i in q)"
    )
    assert machine.evaluate("x") == [0, 1, 0, 1, 2, "a", "b"]


def test_a_refusal_cannot_be_caught() -> None:
    with pytest.raises(Refused):
        Machine().execute("try:\n    open\nexcept:\n    pass")
    with pytest.raises(Refused):
        Machine().execute("try:\n    10 ** 10 ** 10\nexcept Exception:\n    pass\nfinally:\n    x = 1")


def test_unsupported_code_does_not_run_in_part() -> None:
    machine = Machine()
    with pytest.raises(Refused):
        machine.execute("x = 1\nclass C:\n    pass")
    assert "x" not in machine.scope.names


# --- texts -------------------------------------------------------------------

plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=5)
    | st.binary(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.tuples(inner) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(plain)
def test_the_text_of_a_plain_value_is_its_repr(value: Any) -> None:
    assert text_of(value) == repr(value)


def test_the_text_of_a_set_is_in_order() -> None:
    assert text_of({10, 9, 1}) == "{1, 9, 10}"
    assert text_of(frozenset("ba")) == "frozenset({'a', 'b'})"
    assert (text_of(set()), text_of(frozenset())) == ("set()", "frozenset()")
    assert text_of({frozenset({2, 1}), 1}) == "{1, frozenset({1, 2})}"


@pytest.mark.parametrize(
    "value", [object(), range(3), int, len, type("T", (int,), {})(1), "x" * 10**6, [[0] * 9000] * 9]
)
def test_other_values_have_no_text(value: Any) -> None:
    with pytest.raises(Unsuitable):
        text_of(value)


@pytest.mark.slow
@needs_seccomp
def test_hundreds_of_programs_take_seconds() -> None:
    run_python("", [("1", "1")])
    started = time.monotonic()
    for number in range(300):
        assert run_python(f"def f(x):\n    return x + {number}\n", [("f(1)", str(number + 1))] * 3).passed
    assert (time.monotonic() - started) / 300 < 0.1
