"""Right programs pass, wrong ones, lies and noise don't."""

import random
import subprocess
import sys
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sandboxes import Run, needs_fork, needs_seccomp, seccomp_only

from read_env.capabilities.base import Template
from read_env.capabilities.execution import ExecutionResult, host, run_python
from read_env.capabilities.instruct.code import CODE, python_block
from read_env.errors import ReadEnvError

pytestmark = needs_fork


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


@pytest.mark.slow
@needs_seccomp
def test_hundreds_of_programs_take_seconds() -> None:
    run_python("", [("1", "1")])
    started = time.monotonic()
    for number in range(300):
        assert run_python(f"def f(x):\n    return x + {number}\n", [("f(1)", str(number + 1))] * 3).passed
    assert (time.monotonic() - started) / 300 < 0.1
