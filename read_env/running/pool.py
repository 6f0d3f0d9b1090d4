"""Many runs in a few processes.

Each worker process loads the models once and keeps its teacher's answers for all its runs. Runs of
one seed see the same prompts, so a worker stays with a seed while it can; one that has nothing
left helps with the seed that has most left.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import TYPE_CHECKING, Any

from read_env.running.directory import RunDirectory
from read_env.running.display import largest_shares
from read_env.running.runner import RunRequest, RunResult, make_env, run
from read_env.running.tensorboard import TensorBoardWatcher

if TYPE_CHECKING:
    from read_env.config import Config
    from read_env.envs.distillation import DistillationEnv

EnvFactory = Callable[["Config"], "DistillationEnv"]


@dataclass(frozen=True)
class Stepped:
    """A run made a step: completion tokens spent so far, utility now, and where the step's tokens went."""

    name: str
    spent: int
    utility: float
    shares: str = ""


@dataclass(frozen=True)
class Ended:
    """A run is over: ``result`` if it went well, else ``error`` in a line."""

    name: str
    result: RunResult | None = None
    error: str = ""


Event = Stepped | Ended


class Schedule:
    """Which run a worker takes next.

    Args:
        requests: name -> run, in the order in which they should be begun.
    """

    def __init__(self, requests: Mapping[str, RunRequest]) -> None:
        self._waiting: dict[int, list[str]] = {}
        for name, request in requests.items():
            self._waiting.setdefault(request.config.seed, []).append(name)
        self._taken: set[int] = set()

    def next(self, seed: int | None) -> str | None:
        """The next run of a worker that last worked on ``seed``; None if all are taken."""
        if seed is None or not self._waiting.get(seed):
            left = {s: names for s, names in self._waiting.items() if names}
            if not left:
                return None
            fresh = [s for s in left if s not in self._taken]
            seed = fresh[0] if fresh else max(left, key=lambda s: len(left[s]))
        self._taken.add(seed)
        return self._waiting[seed].pop(0)


class Workplace:
    """Runs requests one after another with one environment, loaded once.

    Args:
        env_factory: makes the environment of a configuration.
    """

    def __init__(self, env_factory: EnvFactory = make_env) -> None:
        self._factory = env_factory
        self._env: DistillationEnv | None = None
        self._key: dict[str, Any] = {}

    def run(self, name: str, request: RunRequest, tell: Callable[[Event], None]) -> Ended:
        """Runs ``request``; an error becomes part of the result."""
        # A reset changes task and seed; everything else is built into the environment.
        key = request.config.model_dump(exclude={"task", "agent", "agent_options", "seed"})
        try:
            if self._env is None or key != self._key:
                self._env, self._key = self._factory(request.config), key
            curves = TensorBoardWatcher(RunDirectory(request.directory).tensorboard, request.config.budget.total_tokens)
            return Ended(name, run(request, env=self._env, watchers=[_Teller(name, tell), curves]))
        except Exception as error:
            # The next run must not meet whatever state this one left.
            self._env = None
            return Ended(name, error=_in_a_line(error))


def run_all(
    requests: Mapping[str, RunRequest], processes: int, tell: Callable[[Event], None],
    env_factory: EnvFactory = make_env,
) -> None:  # fmt: skip
    """Runs all ``requests``. A run that fails doesn't stop the others.

    Args:
        requests: name -> run.
        processes: worker processes; with one, the runs are made in this process.
        tell: called with everything that happens, in this process.
        env_factory: makes the environment of a configuration; a function of a module for workers.
    """
    if processes <= 1 or len(requests) <= 1:
        _run_here(requests, tell, env_factory)
    else:
        _run_in_workers(requests, min(processes, len(requests)), tell, env_factory)


def _run_here(requests: Mapping[str, RunRequest], tell: Callable[[Event], None], env_factory: EnvFactory) -> None:
    workplace, schedule = Workplace(env_factory), Schedule(requests)
    seed: int | None = None
    while (name := schedule.next(seed)) is not None:
        seed = requests[name].config.seed
        tell(workplace.run(name, requests[name], tell))


def _run_in_workers(
    requests: Mapping[str, RunRequest], processes: int, tell: Callable[[Event], None], env_factory: EnvFactory
) -> None:
    schedule = Schedule(requests)
    workers: list[_Worker] = []
    try:
        for _ in range(processes):
            _employ(workers, schedule, requests, env_factory)
        while workers:
            ready = wait([worker.pipe for worker in workers])
            for worker in [w for w in workers if w.pipe in ready]:
                event = worker.receive()
                tell(event)
                if isinstance(event, Stepped):
                    continue
                name = schedule.next(worker.seed) if worker.alive else None
                if name is not None:
                    worker.start(name, requests[name])
                    continue
                workers.remove(worker)
                worker.stop()
                if not worker.alive:
                    _employ(workers, schedule, requests, env_factory)
    finally:
        for worker in workers:
            worker.stop()


def _employ(
    workers: list[_Worker], schedule: Schedule, requests: Mapping[str, RunRequest], env_factory: EnvFactory
) -> None:
    """One more worker, if there is something left to do."""
    name = schedule.next(None)
    if name is not None:
        workers.append(_Worker(env_factory))
        workers[-1].start(name, requests[name])


class _Worker:
    """The parent's side of a worker process."""

    def __init__(self, env_factory: EnvFactory) -> None:
        # A fork after torch's threads ran can hang, and CUDA does not survive one.
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self._process = context.Process(target=_work, args=(theirs, env_factory), daemon=True)
        self._process.start()
        theirs.close()
        self._name = ""
        self._busy = False
        self.seed: int | None = None
        self.alive = True

    def start(self, name: str, request: RunRequest) -> None:
        """Hands over a run."""
        self._name, self.seed, self._busy = name, request.config.seed, True
        self.pipe.send((name, request))

    def receive(self) -> Event:
        """What the worker says, or that it is gone."""
        try:
            event: Event = self.pipe.recv()
        except (EOFError, OSError):
            self.alive = False
            self._process.join(timeout=10)
            code = self._process.exitcode
            return Ended(self._name, error=f"its process ended with exit code {code}; the run can be resumed")
        self._busy = isinstance(event, Stepped)
        return event

    def stop(self) -> None:
        """Ends the process; a run under way can be resumed from its checkpoint."""
        self.pipe.close()
        if not self._busy:  # it ends by itself, and puts its affairs in order
            self._process.join(timeout=10)
        if self._process.is_alive():
            self._process.terminate()
        self._process.join(timeout=10)


def _work(pipe: Connection, env_factory: EnvFactory) -> None:
    """The worker process: runs what it is sent until the pipe closes."""
    # Before torch is imported: workers share the cores by being many, not by having many threads.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    # A parent that was killed can't stop its workers, and a worker holds its run's directory.
    threading.Thread(target=_end_with_parent, daemon=True).start()
    # Ctrl-C reaches the whole group; the parent decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    workplace = Workplace(env_factory)
    try:
        while True:
            name, request = pipe.recv()
            pipe.send(workplace.run(name, request, pipe.send))
    except (EOFError, OSError):
        return  # the parent is gone


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


class _Teller:
    """Passes a run's steps on."""

    def __init__(self, name: str, tell: Callable[[Event], None]) -> None:
        self._name = name
        self._tell = tell
        self._suite: Sequence[str] = ()

    def started(self, start: Mapping[str, Any], steps: Sequence[Mapping[str, Any]]) -> None:
        self._suite = start["suite"]
        if steps:
            self.stepped(steps[-1])
        else:
            self._tell(Stepped(self._name, 0, start["utility"]))

    def stepped(self, record: Mapping[str, Any]) -> None:
        shares = largest_shares(self._suite, record["allocation"])
        self._tell(Stepped(self._name, record["budget_spent"], record["utility"], shares))

    def finished(self, summary: Mapping[str, Any]) -> None:
        pass

    def close(self) -> None:
        pass


def _in_a_line(error: Exception) -> str:
    from read_env.errors import ReadEnvError

    if isinstance(error, ReadEnvError):
        return str(error)
    return traceback.format_exception_only(error)[-1].strip()
