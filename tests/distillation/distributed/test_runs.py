"""Whole runs of a student of two ranks: killed and resumed, with a rank that dies, and under torchrun."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from read_env import files

_RUN = [
    "run", "--agent", "uniform", "--models.gpus", "2", "--models.device", "cpu", "--budget.total-tokens", "900",
    "--budget.step-tokens", "300", "--eval.probes", "4", "--eval.dev", "4", "--eval.exam", "4",
]  # fmt: skip
_COMMAND = [sys.executable, "-m", "read_env.cli", *_RUN]


def records(folder):
    kept = [
        {key: value for key, value in line.items() if key not in ("seconds", "cache")}
        for line in files.read_lines(folder / "steps.jsonl")
    ]
    summary = files.read_json(folder / "summary.json")
    return kept, summary["profile"], summary["exam"]


def begun(folder):
    """A run that has finished its first step."""
    process = subprocess.Popen(
        [*_COMMAND, "--out", str(folder)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    end = time.monotonic() + 120
    while not (folder / "steps.jsonl").exists() or not (folder / "steps.jsonl").read_text():
        assert time.monotonic() < end and process.poll() is None, process.stderr.read()
        time.sleep(0.02)
    return process


def others(process):
    """Ids of the other ranks."""
    return [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_a_run_goes_on_with_the_same_records_after_a_kill_of_either_rank(tmp_path):
    subprocess.run([*_COMMAND, "--out", str(tmp_path / "whole")], check=True, capture_output=True)
    expected = records(tmp_path / "whole")

    process = begun(tmp_path / "first")
    (other,) = others(process)
    process.kill()
    process.wait()
    time.sleep(2)
    assert not Path(f"/proc/{other}").exists(), "the other rank ends with the run"
    subprocess.run([*_COMMAND, "--out", str(tmp_path / "first")], check=True, capture_output=True)
    assert records(tmp_path / "first") == expected

    process = begun(tmp_path / "second")
    os.kill(others(process)[0], signal.SIGKILL)
    begin = time.monotonic()
    _, error = process.communicate(timeout=60)
    assert process.returncode == 2 and "rank 1 of 2 was killed by signal 9" in error
    assert time.monotonic() - begin < 10
    assert error.count("Traceback") == 0
    subprocess.run([*_COMMAND, "--out", str(tmp_path / "second")], check=True, capture_output=True)
    assert records(tmp_path / "second") == expected


@pytest.mark.slow
def test_torchrun_starts_the_same_run(tmp_path):
    own = {name: value for name, value in os.environ.items() if name not in ("RANK", "WORLD_SIZE")}
    environment = {**own, "GLOO_SOCKET_IFNAME": "lo"} if sys.platform.startswith("linux") else own
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    torchrun += ["--master-addr", "127.0.0.1", "--master-port", port]
    subprocess.run(
        [*torchrun, "-m", "read_env.cli", *_RUN, "--out", str(tmp_path / "run")],
        check=True,
        timeout=200,
        env=environment,
    )
    subprocess.run([*_COMMAND, "--out", str(tmp_path / "own")], check=True, capture_output=True)
    assert records(tmp_path / "run") == records(tmp_path / "own")
