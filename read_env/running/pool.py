"""Many runs in a few worker processes.

A worker loads the models once and keeps the teacher's answers for all its runs. Runs of one seed see the same prompts, so a
worker stays with a seed as long as there are runs of it, and then takes one of the seed that has most runs left.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from typing import TYPE_CHECKING, Any

from read_env.errors import ReadEnvError, describe_os_error
from read_env.running.callbacks import Callback
from read_env.running.display import largest_shares
from read_env.running.requests import RunRequest
from read_env.running.runner import RunResult, make_env, run
from read_env.running.tensorboard import TensorBoardCallback

if TYPE_CHECKING:
    from read_env.envs.distillation import DistillationEnv

EnvFactory = Callable[..., "DistillationEnv"]


@dataclass(frozen=True)
class StepEvent:
    """A run made a step: completion tokens spent so far, utility, and a text of the allocation."""

    name: str
    spent: int
    utility: float
    shares: str = ""


@dataclass(frozen=True)
class EndEvent:
    """A run ended: with a ``result``, or with an ``error`` of one line."""

    name: str
    result: RunResult | None = None
    error: str = ""


Event = StepEvent | EndEvent


class Schedule:
    """Order in which workers take the runs.

    Args:
        requests: name -> run, in the order in which they should start.

    Example:
        >>> from read_env.config import Config
        >>> schedule = Schedule({f"run {n}": RunRequest(Config(seed=n % 2)) for n in range(3)})
        >>> schedule.next(None), schedule.next(0), schedule.next(0)
        ('run 0', 'run 2', 'run 1')
    """

    def __init__(self, requests: Mapping[str, RunRequest]) -> None:
        self._waiting: dict[int, list[str]] = {}
        for name, request in requests.items():
            self._waiting.setdefault(request.config.seed, []).append(name)
        self._taken: set[int] = set()

    def next(self, seed: int | None) -> str | None:
        """Name of the next run for a worker whose last run had ``seed``; None if all are taken."""
        if seed is None or not self._waiting.get(seed):
            left = {s: names for s, names in self._waiting.items() if names}
            if not left:
                return None
            fresh = [s for s in left if s not in self._taken]
            seed = fresh[0] if fresh else max(left, key=lambda s: len(left[s]))
        self._taken.add(seed)
        return self._waiting[seed].pop(0)


class Worker:
    """Runs requests one after another with one loaded environment.

    Args:
        env_factory: makes the environment of a configuration.
    """

    def __init__(self, env_factory: EnvFactory = make_env) -> None:
        self._factory = env_factory
        self._env: DistillationEnv | None = None
        self._key: dict[str, Any] = {}

    def run(self, name: str, request: RunRequest, report: Callable[[Event], None]) -> EndEvent:
        """Run a request; an error becomes part of the result."""
        # A reset changes task, starting student and seed; everything else needs another environment.
        fields = dict.fromkeys(("task", "agent", "agent_options", "seed"), True)
        key = request.config.model_dump(exclude={**fields, "models": {"start"}})
        try:
            if self._env is None or key != self._key:
                self._env, self._key = self._factory(request.config), key
            curves = TensorBoardCallback(request)
            return EndEvent(name, run(request, env=self._env, callbacks=[_StepReporter(name, report), curves]))
        except Exception as error:
            # The state of a failed run must not reach the next one.
            self._env = None
            return EndEvent(name, error=in_a_line(error))


def worker_count(processes: int, runs: int) -> int:
    """Number of worker processes: at most one for each run; for 0 asked, one per core.

    >>> worker_count(4, 3)
    3
    """
    return min(processes or _cores(), runs)


def run_all(
    requests: Mapping[str, RunRequest], processes: int, report: Callable[[Event], None],
    env_factory: EnvFactory = make_env,
) -> None:  # fmt: skip
    """Run all requests. A run that fails doesn't stop the others.

    Args:
        requests: name -> run.
        processes: worker processes; 0: one per core; 1: the runs are made in this process.
        report: called in this process with every event.
        env_factory: makes the environment of a configuration; for worker processes a function of a module.
    """
    processes = worker_count(processes, len(requests))
    schedule = Schedule(requests)
    if processes <= 1:
        worker, seed = Worker(env_factory), None
        while (name := schedule.next(seed)) is not None:
            seed = requests[name].config.seed
            report(worker.run(name, requests[name], report))
        return
    workers: dict[Any, _WorkerProcess] = {}
    try:
        while True:
            while len(workers) < processes and (name := schedule.next(None)) is not None:
                new = _WorkerProcess(env_factory)
                workers[new.pipe] = new
                new.start(name, requests[name])
            if not workers:
                return
            for pipe in wait(list(workers)):
                process = workers[pipe]
                event = process.receive()
                report(event)
                if isinstance(event, EndEvent):
                    if process.alive and (name := schedule.next(process.seed)) is not None:
                        process.start(name, requests[name])
                    else:
                        workers.pop(pipe).stop()
    finally:
        for process in workers.values():
            process.stop()


class _WorkerProcess:
    """Worker process, seen from the parent."""

    def __init__(self, env_factory: EnvFactory) -> None:
        # A fork after torch's threads ran can hang, and CUDA does not survive one.
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self._process = context.Process(target=_worker_main, args=(theirs, env_factory), daemon=True)
        with interrupts_held():
            self._process.start()
        theirs.close()
        self._name = ""
        self._busy = False
        self.seed: int | None = None
        self.alive = True

    def start(self, name: str, request: RunRequest) -> None:
        """Send a run to the worker."""
        self._name, self.seed, self._busy = name, request.config.seed, True
        self.pipe.send((name, request))

    def receive(self) -> Event:
        """Next event of the worker; if its process is gone, the end of its run."""
        try:
            event: Event = self.pipe.recv()
        except (EOFError, OSError):
            self.alive = False
            self._process.join(timeout=10)
            code = self._process.exitcode
            return EndEvent(self._name, error=f"its process ended with exit code {code}; the run can be resumed")
        self._busy = isinstance(event, StepEvent)
        return event

    def stop(self) -> None:
        """End the process; an unfinished run can be resumed from its checkpoint."""
        self.pipe.close()
        if not self._busy:  # it ends by itself and releases the locks of its libraries
            self._process.join(timeout=10)
        if self._process.is_alive():
            self._process.terminate()
        self._process.join(timeout=10)


@contextmanager
def interrupts_held() -> Iterator[None]:
    """Keep Ctrl-C from processes that start in the block and still import modules; in this one it comes after the block."""
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "pthread_sigmask"):
        yield
        return
    held: list[int] = []
    resource_tracker.ensure_running()  # its own start would unblock the signal
    handler = signal.signal(signal.SIGINT, lambda number, _: held.append(number))
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # new processes inherit it
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        signal.signal(signal.SIGINT, handler)
    if held:
        raise KeyboardInterrupt


def follow_parent() -> None:
    """Prepare a worker process: one thread, no reaction to Ctrl-C, and an end when the parent ends."""
    # Before torch is imported: the cores are shared among processes, not threads.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    # A killed parent can't stop its workers, and a worker locks the directory of its run.
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=lambda: (wait([parent.sentinel]), os._exit(1)), daemon=True).start()
    # Ctrl-C reaches the whole process group; the parent handles it, and terminates its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # An exit of Python's own releases the locks of libraries, which would be reported as leaked.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))


def _worker_main(pipe: Connection, env_factory: EnvFactory) -> None:
    """Main function of a worker process: run what is sent until the pipe closes."""
    follow_parent()
    worker = Worker(env_factory)
    try:
        while True:
            name, request = pipe.recv()
            pipe.send(worker.run(name, request, pipe.send))
    except (EOFError, OSError):  # the parent is gone
        pass


class _StepReporter(Callback):
    """Reports the steps of a run as events."""

    def __init__(self, name: str, report: Callable[[Event], None]) -> None:
        self._name, self._report = name, report

    def on_run_start(self, start: Mapping[str, Any], steps: Sequence[Mapping[str, Any]]) -> None:
        self._suite = start["suite"]
        if steps:
            self.on_step(steps[-1])
        else:
            self._report(StepEvent(self._name, 0, start["utility"]))

    def on_step(self, record: Mapping[str, Any]) -> None:
        shares = largest_shares(self._suite, record["allocation"])
        self._report(StepEvent(self._name, record["budget_spent"], record["utility"], shares))


def in_a_line(error: Exception) -> str:
    """Text of an error in one line.

    >>> in_a_line(ReadEnvError("steps must be above 0")), in_a_line(KeyError("steps"))
    ('steps must be above 0', "KeyError: 'steps'")
    """
    if isinstance(error, OSError):
        return describe_os_error(error)
    return str(error if isinstance(error, ReadEnvError) else traceback.format_exception_only(error)[-1]).strip()


def _cores() -> int:
    """Cores that this process may use; a container often has fewer than the machine."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
