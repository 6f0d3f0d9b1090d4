"""Runs at a time by default: what the GPUs, the cores and the memory of a machine have room for."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from fake_runs import fake_env
from rich.console import Console

from read_env.config import Config, ModelConfig, load_preset
from read_env.running import check, comparison, pool, room
from read_env.running.batch_requests import ComparisonRequest
from read_env.running.check import processes_that_fit
from read_env.running.comparison import compare
from read_env.running.distill import plan
from read_env.running.pool import map_jobs
from read_env.running.room import Fit, Machine, container_limit, fit, gpus_of_workers, visible_gpus

GIB = 2**30


def host(cores: int = 32, gpus: int = 0, memory: float = 64) -> Machine:
    return Machine(cores, gpus, memory * GIB)


@pytest.mark.parametrize(
    ("models", "machine", "expected"),
    [
        ({}, host(gpus=1), Fit(1, "one per GPU")),
        ({}, host(gpus=8), Fit(8, "one per GPU")),
        ({"gpus": 2}, host(gpus=8), Fit(4, "2 GPUs each, of 8")),
        ({"gpus": 4}, host(gpus=6), Fit(1, "4 GPUs each, of 6")),
        ({"teacher": "vllm:large", "vllm_tensor_parallel_size": 4}, host(gpus=8), Fit(2, "4 GPUs each, of 8")),
        ({"vllm_tensor_parallel_size": 4}, host(gpus=8), Fit(8, "one per GPU")),  # no teacher is in vLLM
        ({"teacher_device_map": "auto"}, host(gpus=8), Fit(1, "models.teacher_device_map spreads the teacher over all GPUs")),
        ({"device": "cuda:1"}, host(gpus=8), Fit(1, "models.device names one device, cuda:1")),
        ({}, host(gpus=8, memory=10), Fit(5, "10.0 GiB of memory are free, and a run takes 2.0")),
        ({}, host(cores=4, gpus=8), Fit(4, "one per core")),
    ],
)  # fmt: skip
def test_one_run_for_each_gpu_or_group_of_gpus(models: dict[str, Any], machine: Machine, expected: Fit) -> None:
    assert fit(ModelConfig(**models), "cuda", 2 * GIB, machine) == expected


@pytest.mark.parametrize(
    ("models", "needed", "machine", "expected"),
    [
        ({}, 0.1, host(), Fit(32, "one per core")),
        ({}, 20, host(), Fit(3, "64.0 GiB of memory are free, and a run takes 20.0")),
        ({}, 200, host(), Fit(1, "64.0 GiB of memory are free, and a run takes 200.0")),
        ({"threads": 4}, 1, host(), Fit(8, "4 threads each, on 32 cores")),
        ({"gpus": 2, "device": "cpu"}, 1, host(), Fit(16, "2 threads each, on 32 cores")),
        ({"threads": 64}, 1, host(), Fit(1, "64 threads each, on 32 cores")),
    ],
)
def test_without_gpus_as_many_runs_as_the_memory_has_room_for(
    models: dict[str, Any], needed: float, machine: Machine, expected: Fit
) -> None:
    assert fit(ModelConfig(**models), "cpu", needed * GIB, machine) == expected


def on(monkeypatch: pytest.MonkeyPatch, machine: Machine) -> None:
    monkeypatch.setattr(pool, "cores", lambda: machine.cores)
    monkeypatch.setattr(room.Machine, "here", classmethod(lambda cls: machine))


def test_the_models_that_ship_get_all_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    on(monkeypatch, host())
    assert processes_that_fit(load_preset("micro")) == Fit(32, "one per core")
    large = {"teacher": "meta-llama/Llama-3.1-8B-Instruct", "dtype": "float32"}
    found = processes_that_fit(load_preset("micro", {"models": large}))
    assert found.processes == 2 and "a run takes 31." in found.reason, "a teacher of 8 B parameters takes 30 GiB alone"


def test_models_whose_size_is_not_known_run_one_at_a_time(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    on(monkeypatch, host())
    absent = load_preset("micro", {"models": {"student": str(tmp_path / "absent")}})
    assert processes_that_fit(absent).processes == 1


def test_the_check_shows_the_number_and_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    on(monkeypatch, host(memory=1.5))
    rows = dict(check.check(load_preset("micro", {"eval": {"probes": 2, "dev": 2, "exam": 2}})).rows)
    assert rows["runs at a time"] == "2 by default: 1.5 GiB of memory are free, and a run takes 0.7"


def test_runs_take_the_number_that_fits_unless_one_is_given(
    small: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    on(monkeypatch, host(memory=1.5))
    asked: list[int] = []
    monkeypatch.setattr(comparison, "map_jobs", lambda *_, processes, **__: asked.append(processes))
    console = Console(file=io.StringIO())
    for given in (0, 7):
        request = ComparisonRequest(small, ("task-static",), ("math",), (0, 1, 2), given, tmp_path / str(given))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(comparison, "_best_students", lambda _: {})
            compare(request, console, fake_env)
    assert asked == [2, 7]
    assert "2 at a time: 1.5 GiB of memory are free" in console.file.getvalue()


def test_the_plan_of_interventions_says_how_many_run_at_a_time(
    small: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on(monkeypatch, host(memory=1.5))
    cache = small.cache.model_copy(update={"directory": str(tmp_path)})
    rows = ({"prompt": f"{a}+{b}", "answer": str(a + b)} for a in range(10) for b in range(10))
    (tmp_path / "sums.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = small.model_copy(update={"task": str(tmp_path / "sums.jsonl"), "cache": cache})
    stage, *_ = plan(config, tmp_path, None, 0)
    assert stage.what == "40 interventions, 2 at a time (1.5 GiB of memory are free, and a run takes 0.7)"
    assert plan(config, tmp_path, None, 7)[0].what == "40 interventions, 7 at a time"


@pytest.mark.parametrize(
    ("taken", "gpus", "visible", "expected"),
    [
        (1, 4, None, ("0", "1", "2", "3")),
        (2, 4, None, ("0,1", "2,3")),
        (2, 5, "1,3,5,7,9", ("1,3", "5,7")),
        (1, 2, "GPU-a,GPU-b", ("GPU-a", "GPU-b")),
        (1, 1, "3", ()),
        (4, 4, None, ()),
        (0, 4, None, ()),
        (1, 0, None, ()),
    ],
)
def test_each_group_of_gpus_is_seen_by_one_worker(
    taken: int, gpus: int, visible: str | None, expected: tuple[str, ...]
) -> None:
    assert visible_gpus(taken, gpus, visible) == expected


def test_workers_that_may_make_any_run_have_enough_gpus_for_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert gpus_of_workers([ModelConfig(), ModelConfig(gpus=2)]) == ("0,1", "2,3")
    assert gpus_of_workers([ModelConfig(), ModelConfig(device="cuda:1")]) == ()
    assert gpus_of_workers([ModelConfig(device="cpu")]) == gpus_of_workers([]) == ()


def seen(job: str, report: Any) -> str:
    return os.environ["CUDA_VISIBLE_DEVICES"]


@pytest.mark.slow  # three processes
def test_worker_processes_get_gpus_in_turn() -> None:
    ends: dict[str, Any] = {}
    map_jobs(seen, {"a": "a", "b": "b", "c": "c"}, ends.__setitem__, processes=3, gpus=("0,1", "2,3"))
    assert [ends[name].result for name in "abc"] == ["0,1", "2,3", "0,1"]


@pytest.mark.parametrize(
    ("text", "expected"), [("max\n", float("inf")), ("2147483648\n", 2 * GIB), (None, float("inf"))]
)
def test_the_memory_is_that_of_the_container(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None, expected: float
) -> None:
    if text is not None:
        (tmp_path / "memory.max").write_text(text)
    monkeypatch.setattr(room, "_LIMITS", (tmp_path / "memory.max",))
    assert container_limit() == expected
    assert 0 < Machine.here().memory <= expected
