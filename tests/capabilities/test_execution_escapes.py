"""Untrusted programs: lies about values fail, and nothing escapes from the sandbox."""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from read_env.capabilities.execution import run_python

LIES = {
    "__repr__": "class Lie:\n    def __repr__(self):\n        return '42'\ndef f():\n    return Lie()",
    "inside": "class Lie:\n    def __repr__(self):\n        return '42'\ndef f():\n    return [Lie()]",
    "__eq__": "class Lie:\n    def __eq__(self, other):\n        return True\ndef f():\n    return Lie()",
    "__class__": "class Lie:\n    __class__ = int\n    def __repr__(self):\n        return '42'\ndef f():\n    return Lie()",
    "named int": "class int:\n    def __repr__(self):\n        return '42'\ndef f():\n    return int()",
    "builtins": "repr = type = str = eval = exec = lambda *a: '42'\ndef f():\n    return 1",
    "the grader's own": "text_of = lambda *a: '42'\nspace = {}\nsource = '42'\ndef f():\n    return 1",
    "global": "def f():\n    global text_of\n    text_of = lambda *a: '42'\n    return 1",
    "printing": "def f():\n    print('42')\nprint('42')",
    "early exit": "raise SystemExit('42')",
}


@pytest.mark.parametrize("lie", LIES)
def test_lies_do_not_pass(lie: str) -> None:
    result = run_python(LIES[lie], [("f()", "[42]" if lie == "inside" else "42"), ("1", "1"), ("f()", "42")])
    assert not result.results[0] and not result.results[2]


def test_expected_values_are_not_in_the_program_s_reach() -> None:
    code = """
        def f():
            seen = repr(eval('locals()')) + repr(SPACE)
            word = ''.join(reversed('rewsna-thgir'))
            return word if word in seen else 'not found'
        SPACE = eval('list(locals().items())')
    """
    result = run_python(textwrap.dedent(code), [("f()", "'right-answer'"), ("f()", "'not found'")])
    assert result.results == (False, True), result.error


# Each returns 'escaped' from f() or leaves a trace, unless it is stopped. PATH is a file with a secret, NEW a new one.
ESCAPES = {
    "read a file": "def f():\n    return open(PATH).read()",
    "read with os": "import os\ndef f():\n    return os.read(os.open(PATH, 0), 99).decode()",
    "read with pathlib": "import pathlib\ndef f():\n    return pathlib.Path(PATH).read_text()",
    "write a file": "def f():\n    open(NEW, 'w').write('x')\n    return 'escaped'",
    "write with pathlib": "from pathlib import Path\ndef f():\n    Path(NEW).write_text('x')\n    return 'escaped'",
    "make a directory": "import os\ndef f():\n    os.mkdir(NEW)\n    return 'escaped'",
    "list a directory": "import os\ndef f():\n    return os.listdir('/') and 'escaped'",
    "environment": "import os\ndef f():\n    return os.environ['READ_ENV_TEST_SECRET']",
    "getenv": "import os\ndef f():\n    return os.getenv('READ_ENV_TEST_SECRET')",
    "os.system": "import os\ndef f():\n    os.system('touch ' + NEW)\n    return 'escaped'",
    "subprocess": "import subprocess\ndef f():\n    return subprocess.run(['true']) and 'escaped'",
    "socket": "import socket\ndef f():\n    return socket.socket() and 'escaped'",
    "ctypes": "import ctypes\ndef f():\n    return ctypes.CDLL(None) and 'escaped'",
    "builtin import": "def f():\n    return __import__('os').listdir('/') and 'escaped'",
    "importlib": "import importlib\ndef f():\n    return importlib.import_module('socket') and 'escaped'",
    "thread": "import threading\ndef f():\n    threading.Thread(target=int).start()\n    return 'escaped'",
    "input": "def f():\n    return input() or 'escaped'",
    "subclasses": "def f():\n    return ().__class__.__base__.__subclasses__() and 'escaped'",
    "globals of a function": "def g(): pass\ndef f():\n    return g.__globals__ and 'escaped'",
    "code of a function": "def g(): pass\ndef f():\n    return g.__code__ and 'escaped'",
    "frames": "import sys\ndef f():\n    return sys._getframe() and 'escaped'",
    "traceback": "def f():\n    try:\n        1 / 0\n    except Exception as e:\n        return e.__traceback__.tb_frame and 'escaped'",
    "format string": "def f():\n    return '{0.__class__.__mro__}'.format(1) and 'escaped'",
    "the package itself": "import read_env\ndef f():\n    return 'escaped'",
}


@pytest.mark.parametrize("escape", ESCAPES)
def test_nothing_escapes(escape: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("READ_ENV_TEST_SECRET", "escaped")
    secret, new = tmp_path / "secret", tmp_path / "new"
    secret.write_text("escaped")
    names = f"PATH = {str(secret)!r}\nNEW = {str(new)!r}\n"
    result = run_python(names + ESCAPES[escape], [("f()", "'escaped'")])
    assert not result.passed and result.error and not new.exists()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="some attempts are Linux's")
def test_the_escapes_work_outside_the_sandbox(tmp_path: Path) -> None:
    """Control: an attempt that is written wrong would fail in the sandbox too."""
    names = {"PATH": str(tmp_path / "secret"), "NEW": str(tmp_path / "new")}
    (tmp_path / "secret").write_text("escaped")
    control = """
        import json, os, shutil, sys
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
            if os.path.isdir(names["NEW"]):
                shutil.rmtree(names["NEW"])
            elif os.path.exists(names["NEW"]):
                os.remove(names["NEW"])
    """
    escapes = {escape: code for escape, code in ESCAPES.items() if escape != "input"}  # there is none to read here
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(control)],
        input=json.dumps([names, escapes]), capture_output=True, text=True, timeout=60,
        env={**os.environ, "READ_ENV_TEST_SECRET": "escaped"},
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
