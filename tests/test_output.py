"""Output of the commands: a pipe that is closed, and a locale that lacks the characters."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

_TABLE = r"""
import sys, warnings
from read_env.output import forgiving_output
with forgiving_output():
    for number in range({lines}):
        print("utility \u2192 .5 \u5b57", number)
    print("end", file=sys.stderr)
"""


def python(lines: int, **settings: object) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-c", _TABLE.format(lines=lines)], timeout=60, check=False, stderr=subprocess.PIPE, **settings
    )  # type: ignore[call-overload,no-any-return]


def test_characters_that_the_locale_lacks_are_shown_as_escapes() -> None:
    env = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii"}
    done = python(1, stdout=subprocess.PIPE, env=env)
    assert (done.returncode, done.stdout.split()) == (0, rb"utility \u2192 .5 \u5b57 0".split())


@pytest.mark.skipif(os.name == "nt", reason="pipes of Windows close in other ways")
@pytest.mark.parametrize("lines", [1, 100_000])
def test_a_pipe_that_is_closed_ends_nothing(lines: int) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = python(lines, stdout=writing)
    os.close(writing)
    assert (done.returncode, done.stderr.split()) == (0, [b"end"])
