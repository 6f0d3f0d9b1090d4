"""Programs that take forever, all memory or the whole pipe end at their bounds."""

import time

import pytest
from sandboxes import Run, needs_fork, needs_seccomp, seccomp_only

from read_env.capabilities.execution import ExecutionResult

pytestmark = needs_fork


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
