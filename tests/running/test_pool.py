"""Many runs in a few processes: who takes what, and what happens to the others when one fails."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from typing import Any

import pytest
from fake_runs import Make, contents, fake_env, watched_env

from read_env.config import Config
from read_env.errors import ReadEnvError
from read_env.running.pool import Ended, Schedule, _Slot, map_jobs
from read_env.running.requests import RunRequest
from read_env.running.worker import StepEvent, Worker

Events = list[tuple[str, Any]]


def requests_of(request_for: Make, agents: list[str], seeds: range) -> dict[str, RunRequest]:
    return {f"{agent}-{seed}": request_for(agent, f"{agent}-{seed}", seed=seed) for seed in seeds for agent in agents}


def make_all(requests: dict[str, RunRequest], processes: int, factory: Any) -> Events:
    events: Events = []
    options: Any = {"processes": processes, "group_of": lambda request: request.config.seed}
    map_jobs(Worker(factory), requests, lambda *event: events.append(event), **options)
    return events


def test_a_worker_stays_with_its_seed_and_then_helps_where_most_is_left() -> None:
    schedule = Schedule({f"{agent}-{seed}": seed for seed in range(3) for agent in ("uniform", "task-static")})
    assert [schedule.next(None), schedule.next(None)] == ["uniform-0", "uniform-1"]
    assert [schedule.next("uniform-0"), schedule.next("task-static-0")] == ["task-static-0", "uniform-2"]
    assert schedule.next("uniform-1") == "task-static-1"
    assert schedule.next("task-static-1") == "task-static-2"
    assert schedule.next("task-static-2") is None


def test_models_are_loaded_once_for_all_runs_of_a_process(request_for: Make) -> None:
    made: list[Any] = []

    def counted(config: Config) -> Any:
        made.append(fake_env(config))
        return made[-1]

    make_all(requests_of(request_for, ["uniform", "task-static"], range(2)), 1, counted)
    assert [env.loaded for env in made] == [1]


def test_a_run_made_after_others_has_the_bits_of_one_made_alone(request_for: Make) -> None:
    requests = requests_of(request_for, ["random-candidate", "read-bandit-published"], range(2))
    make_all(requests, 1, fake_env)
    alone = request_for("read-bandit-published", "alone", seed=1)
    make_all({"alone": alone}, 1, fake_env)
    assert contents(alone.directory) == contents(requests["read-bandit-published-1"].directory)


class Failing:
    """An environment factory whose environments fail at seed 1."""

    def __init__(self, fatal: bool) -> None:
        self.fatal = fatal

    def __call__(self, config: Config) -> Any:
        def reset(*, seed: int | None = None, options: Any = None) -> None:
            if seed == 1 and self.fatal:
                os.kill(os.getpid(), signal.SIGKILL)
            if seed == 1:
                raise RuntimeError("seed 1 is broken")

        return watched_env(config, reset, "reset")


def ended(events: Events) -> dict[str, Ended]:
    return {name: event for name, event in events if isinstance(event, Ended)}


def test_a_failed_run_does_not_stop_the_others_and_brings_its_traceback(request_for: Make) -> None:
    results = ended(make_all(requests_of(request_for, ["uniform"], range(3)), 1, Failing(fatal=False)))
    assert results["uniform-1"].error == "RuntimeError: seed 1 is broken"
    assert "in reset" in results["uniform-1"].traceback
    assert results["uniform-0"].result is not None and results["uniform-2"].result is not None
    with pytest.raises(ReadEnvError, match=r"uniform-1: RuntimeError: seed 1 is broken\nTraceback"):
        results["uniform-1"].value("uniform-1")


@pytest.mark.slow  # three processes that import torch
@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_a_killed_worker_is_replaced_and_the_others_go_on(request_for: Make) -> None:
    requests = requests_of(request_for, ["uniform"], range(3))
    events = make_all(requests, 2, Failing(fatal=True))
    results = ended(events)
    assert "its process died" in results["uniform-1"].error
    for name in ("uniform-0", "uniform-2"):
        assert results[name].result is not None and requests[name].directory.joinpath("summary.json").exists()
        assert [event.spent for run, event in events if isinstance(event, StepEvent) and run == name][-1] == 600


@pytest.mark.slow  # two processes that import torch
def test_a_worker_with_nothing_left_ends_by_itself(request_for: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    codes: list[int | None] = []
    stop = _Slot.stop

    def watched(slot: _Slot) -> None:
        (process,) = slot._executor._processes.values()
        stop(slot)
        codes.append(process.exitcode)

    monkeypatch.setattr(_Slot, "stop", watched)
    make_all(requests_of(request_for, ["uniform"], range(2)), 2, fake_env)
    assert codes == [0, 0], "one that is killed leaves the locks of its libraries behind"


def leave(job: int, report: Any) -> Any:
    """A job that ends its process in the ways that Python has for it, or has a result that can't be pickled."""
    if job == 0:
        raise SystemExit(3)
    return (lambda: None) if job == 1 else job


@pytest.mark.slow  # two processes
def test_a_job_that_exits_ends_alone() -> None:
    events: Events = []
    map_jobs(leave, {str(job): job for job in range(4)}, lambda *event: events.append(event), processes=2)
    results = ended(events)
    assert results["0"].error == "SystemExit: 3" and "pickle" in results["1"].error
    assert (results["2"].result, results["3"].result) == (2, 3)


def work_or_wait(seconds: float, report: Any) -> float:
    """A job: reports that it has begun, and takes some seconds."""
    report("begun")
    time.sleep(seconds)
    return seconds


@pytest.mark.slow  # two processes
def test_an_interrupt_ends_the_jobs_that_are_going_on() -> None:
    processes: list[Any] = []

    def interrupt(name: str, event: Any) -> None:
        processes.extend(multiprocessing.active_children())
        raise KeyboardInterrupt

    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        map_jobs(work_or_wait, {"one": 300.0, "two": 300.0}, interrupt, processes=2)
    assert time.monotonic() - started < 60
    assert processes and not any(process.is_alive() for process in processes)


def test_worker_processes_and_a_cluster_exclude_each_other() -> None:
    with pytest.raises(ReadEnvError, match="processes: 2 counts worker processes"):
        map_jobs(work_or_wait, {}, lambda *_: None, processes=2, cluster="auto")
