"""Attempts to break out, in both kinds of isolation."""

import json
import socket
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sandboxes import Run, needs_fork, needs_seccomp, seccomp_only

from read_env.capabilities.execution import host, isolation, isolation_reason, seccomp

pytestmark = needs_fork


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
