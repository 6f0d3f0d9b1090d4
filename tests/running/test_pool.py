"""Many runs in a few processes: who takes what, and what happens to the others when one fails."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest
from fake_runs import Make, contents, fake_env, watched_env

from read_env.config import Config
from read_env.running.pool import EndEvent, Event, Schedule, StepEvent, _WorkerProcess, run_all
from read_env.running.requests import RunRequest


def requests_of(request_for: Make, agents: list[str], seeds: range) -> dict[str, RunRequest]:
    return {f"{agent}-{seed}": request_for(agent, f"{agent}-{seed}", seed=seed) for seed in seeds for agent in agents}


def test_a_worker_stays_with_its_seed_and_then_helps_where_most_is_left(request_for: Make) -> None:
    schedule = Schedule(requests_of(request_for, ["uniform", "task-static"], range(3)))
    assert [schedule.next(None), schedule.next(None)] == ["uniform-0", "uniform-1"]
    assert [schedule.next(0), schedule.next(0)] == ["task-static-0", "uniform-2"]
    assert schedule.next(1) == "task-static-1"
    assert schedule.next(1) == "task-static-2"
    assert schedule.next(2) is None


def test_models_are_loaded_once_for_all_runs_of_a_process(request_for: Make) -> None:
    made: list[Any] = []

    def counted(config: Config) -> Any:
        made.append(fake_env(config))
        return made[-1]

    run_all(requests_of(request_for, ["uniform", "task-static"], range(2)), 1, lambda event: None, counted)
    assert [env.loaded for env in made] == [1]


def test_a_run_made_after_others_has_the_bits_of_one_made_alone(request_for: Make) -> None:
    requests = requests_of(request_for, ["random-candidate", "read-bandit-published"], range(2))
    run_all(requests, 1, lambda event: None, fake_env)
    alone = request_for("read-bandit-published", "alone", seed=1)
    run_all({"alone": alone}, 1, lambda event: None, fake_env)
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


def ended(events: list[Event]) -> dict[str, EndEvent]:
    return {event.name: event for event in events if isinstance(event, EndEvent)}


def test_a_failed_run_does_not_stop_the_others(request_for: Make) -> None:
    events: list[Event] = []
    run_all(requests_of(request_for, ["uniform"], range(3)), 1, events.append, Failing(fatal=False))
    results = ended(events)
    assert results["uniform-1"].error == "RuntimeError: seed 1 is broken"
    assert results["uniform-0"].result is not None and results["uniform-2"].result is not None


@pytest.mark.slow  # three processes that import torch
@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_a_killed_worker_is_replaced_and_the_others_go_on(request_for: Make) -> None:
    events: list[Event] = []
    requests = requests_of(request_for, ["uniform"], range(3))
    run_all(requests, 2, events.append, Failing(fatal=True))
    results = ended(events)
    assert "exit code -9" in results["uniform-1"].error
    for name in ("uniform-0", "uniform-2"):
        assert results[name].result is not None and requests[name].directory.joinpath("summary.json").exists()
        assert [event.spent for event in events if isinstance(event, StepEvent) and event.name == name][-1] == 600


@pytest.mark.slow  # two processes that import torch
def test_a_worker_with_nothing_left_ends_by_itself(request_for: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    codes: list[int | None] = []
    stop = _WorkerProcess.stop

    def watched(worker: _WorkerProcess) -> None:
        stop(worker)
        codes.append(worker._process.exitcode)

    monkeypatch.setattr(_WorkerProcess, "stop", watched)
    run_all(requests_of(request_for, ["uniform"], range(2)), 2, lambda event: None, fake_env)
    assert codes == [0, 0], "one that is killed leaves the locks of its libraries behind"
