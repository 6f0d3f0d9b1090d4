"""The processes that run programs: how they start, serve and end."""

import gc
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest
from sandboxes import Run, needs_fork

from read_env.capabilities.execution import host, isolation, isolation_reason, run_python
from read_env.errors import ReadEnvError

pytestmark = needs_fork


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
