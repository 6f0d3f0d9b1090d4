"""Untrusted programs: right ones pass, wrong ones fail, none hangs or leaves anything behind."""

import multiprocessing
import os
import random
import subprocess
import sys
import textwrap
import threading
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pydantic_monty
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from read_env.capabilities import execution
from read_env.capabilities.execution import ExecutionResult, run_python, text_of
from read_env.errors import ReadEnvError


def run(code: str, *cases: tuple[str, str], seconds: float = 10.0, **options: Any) -> ExecutionResult:
    return run_python(textwrap.dedent(code), cases, seconds=seconds, **options)


# --- verdicts -------------------------------------------------------------------------------------


def test_a_right_program_passes() -> None:
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


def test_a_wrong_value_fails_without_an_error() -> None:
    result = run("def f(x):\n    return x + 1\n", ("f(1)", "2"), ("f(2)", "2"), ("f(3)", "4.0"))
    assert result == ExecutionResult(False, (True, False, False), "")


@pytest.mark.parametrize(
    ("value", "expected", "same"),
    [
        ("True", "1", False),
        ("1", "1.0", False),
        ("(1,)", "[1]", False),
        ("[True]", "[1]", False),
        ("'1'", "1", False),
        ("-0.0", "0.0", False),
        ("float('inf')", "inf", True),
        ("1e22", "1e+22", True),
        ("{'b': 1, 'a': 2}", "{'b':1,'a':2}", True),
        ("{3, 1, 2}", "{1, 2, 3}", True),
        ("{(2, 1), (1, 2)}", "{(1, 2), (2, 1)}", True),
        ("{'a', 'c'}", "{'c','a', 'b'}", False),
        ("set()", "set()", True),
        ("frozenset({1, 2})", "frozenset({1, 2})", True),
        ("b'\\xff'", "b'\\xff'", True),
        ("'é\\u200b'", "'é\\u200b'", True),
        ("None", "None", True),
    ],
)
def test_values_are_compared_with_their_types(value: str, expected: str, same: bool) -> None:
    assert run("", (value, expected)).passed is same


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3) | st.tuples(inner, inner) | st.dictionaries(st.text(max_size=3), inner)
        ),
        max_leaves=8,
    )
)
@settings(max_examples=60)
def test_every_builtin_value_is_recognised(value: Any) -> None:
    assert text_of(value) == repr(value)
    if all(not "\ud800" <= letter <= "\udfff" for letter in repr(value)):
        assert run("", (repr(value), repr(value))).passed


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("def f(:\n    pass", "SyntaxError"),
        ("x = 1 / 0", "ZeroDivisionError: division by zero"),
        ("def f():\n    raise ValueError('no such\\nthing')", "ValueError: no such thing"),
        ("def g():\n    pass", "NameError"),
        ("f = 3", "TypeError"),
        ("def f():\n    return [][1]", "IndexError"),
        ("def f(x):\n    return x", "TypeError"),
        ("import a_module_that_nobody_has", "ModuleNotFoundError"),
        ("def f():\n    yield 1", "unsupported: yield"),
        ("class C(dict):\n    pass", "unsupported: class inheritance"),
        ("", "NameError"),
    ],
)
def test_errors_are_one_line(code: str, error: str) -> None:
    result = run(code, ("f()", "1"))
    assert not result.passed and result.results == (False,)
    assert error in result.error and "\n" not in result.error


def test_other_cases_count_after_one_that_raises() -> None:
    result = run("def f(x):\n    return 6 // x\n", ("f(0)", "0"), ("f(2)", "3"))
    assert result.results == (False, True) and not result.passed
    assert result.error.startswith("ZeroDivisionError")


def test_cases_share_a_program_and_programs_share_nothing() -> None:
    code = "seen = []\ndef f(x):\n    seen.append(x)\n    return len(seen)\n"
    for _ in range(2):
        assert run(code, ("f(1)", "1"), ("f(1)", "2")).passed


def test_random_numbers_and_the_order_of_sets_are_the_same_in_every_run() -> None:
    code = "import random\ndef f():\n    return random.random(), list(set('abcdefgh'))\n"
    seeded = f"({random.Random(0).random()!r}, ['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h'])"
    assert run(code, ("f()", seeded)).passed and run(code, ("f()", seeded)).passed


def test_a_guarded_main_is_not_run() -> None:
    assert run("x = 1\nif __name__ == '__main__':\n    raise SystemExit", ("x", "1")).passed


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


# --- limits ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "code",
    [
        "while True:\n    pass",
        "try:\n    while True:\n        pass\nexcept BaseException:\n    pass",
        "import time\ntime.sleep(100)",
        "while True:\n    print('x' * 10**6)",
        "class L:\n    def __str__(self):\n        while True: pass\nstr(L())",
    ],
)
def test_a_program_without_end_is_stopped(code: str) -> None:
    assert run(code, ("1", "1"), seconds=0.5) == ExecutionResult(False, (False,), "time-out: more than 0.5 s")


def test_a_call_without_end_is_stopped_and_the_calls_before_it_count() -> None:
    code = "def f():\n    while True:\n        pass\n"
    result = run(code, ("1", "1"), ("f()", "1"), ("2", "2"), seconds=0.5)
    assert result == ExecutionResult(False, (True, False, False), "time-out: more than 0.5 s")


@pytest.mark.parametrize(
    "code",
    [
        "x = [0] * 10**9",
        "x = 'a' * 10**10",
        "x = []\nwhile True:\n    x.append('a' * 10**6 + str(len(x)))",
        "x = [[]]\nwhile True:\n    x = x + x",
        "x = list(range(10**9))",
        "x = {i: str(i) * 100 for i in range(10**8)}",
        "x = 9 ** 9 ** 9 ** 9",
        "x = 10 ** 10 ** 10",
    ],
)
def test_memory_is_bounded(code: str) -> None:
    result = run(code, ("1", "1"), memory_mib=64)
    assert not result.passed and result.results == (False,)
    assert result.error.startswith(("memory", "time-out"))


def test_recursion_is_bounded() -> None:
    result = run("def f(n):\n    return f(n + 1)\n", ("f(0)", "1"), ("1 + 1", "2"))
    assert result.results == (False, True) and result.error.startswith("RecursionError")


@pytest.mark.parametrize("code", ["x = " + "(" * 5000 + ")" * 5000, "x = " + "-" * 100_000 + "1", "\ud800", "x = '\0'"])
def test_odd_source_is_only_an_error(code: str) -> None:
    result = run_python(code, [("1", "1")])
    assert not result.passed and result.results == (False,) and result.error


@pytest.mark.parametrize(
    "value", ["'x' * 10**6", "list(range(30_000))", "twice([], 10**3)", "twice([1, 2], 30)", "loop"]
)
def test_an_enormous_or_deep_value_is_refused(value: str) -> None:
    code = "def twice(x, n):\n    for _ in range(n):\n        x = [x, x]\n    return x\nloop = []\nloop.append(loop)"
    result = run(code, (value, "1"), ("1", "1"))
    assert result.results == (False, True) and result.error.startswith("unsupported")


def test_printing_is_free_and_kept_nowhere(capfd: pytest.CaptureFixture[str]) -> None:
    assert run("for i in range(50):\n    print('x' * 10**5)\n", ("1", "1")).passed
    assert capfd.readouterr().out == ""


@settings(max_examples=40)
@given(st.text(max_size=200), st.text(max_size=30))
def test_any_text_gives_a_verdict(code: str, call: str) -> None:
    result = run_python(code, [(call, "1"), ("2 + 2", "4")])
    assert len(result.results) == 2 and "\n" not in result.error
    assert result.passed is (all(result.results) and not result.error)


WORDS = (
    "def f ( ) : \n return lambda x = 1 [ ] { } , * ** + - . for in if else not and is await yield global __a__ 'b' 10"
)


@settings(max_examples=60)
@given(st.lists(st.sampled_from(WORDS.split(" ")), max_size=25).map(" ".join))
def test_almost_programs_give_a_verdict(code: str) -> None:
    result = run_python(code, [("f()", "1")], seconds=2.0)
    assert len(result.results) == 1 and "\n" not in result.error


# --- worker processes -----------------------------------------------------------------------------


def test_threads_run_programs_at_the_same_time() -> None:
    def work(number: int) -> bool:
        return run(f"x = {number}", ("x + 1", str(number + 1)), (str(number), str(number))).passed

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(work, range(20))) == [True] * 20


def owner(code: str) -> subprocess.CompletedProcess[str]:
    """Runs ``code`` in a process that has run a program in a worker."""
    begun = """
        import os
        from pathlib import Path
        from read_env.capabilities.execution import run_python
        from read_env.errors import ReadEnvError
        def passes():
            return run_python("", [("1", "1")]).passed
        assert passes()
        children = [int(child) for task in Path("/proc/self/task").glob("*/children") for child in task.read_text().split()]
    """
    code = textwrap.dedent(begun) + textwrap.dedent(code)
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_a_worker_that_was_killed_is_replaced() -> None:
    done = owner("""
        for child in children:
            os.kill(child, 9)
        verdicts = [passes() for _ in range(3)]
        assert children and verdicts[-1], verdicts
    """)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize("end", ["pass", "os.kill(os.getpid(), 9)"])
def test_workers_end_with_their_owner(end: str) -> None:
    done = owner(f"print(*children, flush=True)\n{end}")
    workers = done.stdout.split()
    assert workers and done.stderr == ""
    for worker in workers:
        for _ in range(200):
            state = Path(f"/proc/{worker}/stat")
            if not state.exists() or state.read_text().rpartition(")")[2].split()[0] == "Z":
                break
            threading.Event().wait(0.05)
        else:
            raise AssertionError(f"worker {worker} lives on")


def test_spawned_processes_have_a_pool_of_their_own() -> None:
    assert run("", ("1", "1")).passed
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        assert pool.submit(run_python, "x = 2", [("x", "2")]).result(60).passed


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_copy_gets_a_clear_error_and_its_parent_goes_on() -> None:
    done = owner("""
        if os.fork() == 0:
            try:
                passes()
            except ReadEnvError as error:
                os._exit(7 if "use spawn" in str(error) else 1)
            os._exit(2)
        assert os.waitstatus_to_exitcode(os.wait()[1]) == 7
        assert passes()
    """)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_missing_worker_program_is_an_error_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(execution, "_POOLS", {})
    broken = lambda: pydantic_monty.Monty(binary_path="/does/not/exist/monty")  # noqa: E731
    monkeypatch.setattr(execution, "Monty", broken)
    with pytest.raises(ReadEnvError, match="no worker process starts"):
        run_python("x = 1", [("x", "1")])
