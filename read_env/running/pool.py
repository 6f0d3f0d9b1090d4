"""Many jobs at the same time: in this process, in a few worker processes, or as tasks of a Ray cluster.

A job is any value that can be pickled, and ``work`` a function of the job and of a function that reports what happens. A worker
process keeps ``work``, and with it the models that it loaded, for all its jobs.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from typing import Any

from read_env.errors import ReadEnvError, describe_os_error

Report = Callable[[Any], None]
Work = Callable[[Any, Report], Any]

#: Seconds in which a worker process whose job is no longer wanted may end by itself.
_GRACE_SECONDS = 5.0


@dataclass(frozen=True)
class Ended:
    """End of a job: its result, or an error of one line with its traceback.

    Attributes:
        result: what ``work`` returned.
        error: message of what it raised; empty if it returned.
        traceback: traceback of an error that is no ``ReadEnvError``.
    """

    result: Any = None
    error: str = ""
    traceback: str = ""

    def value(self, name: str) -> Any:
        """Result of the job of that name.

        Raises:
            ReadEnvError: the job failed. The message has its name, the error and the traceback.
        """
        if self.error:
            raise ReadEnvError(f"{name}: {self.error}" + (f"\n{self.traceback}" if self.traceback else ""))
        return self.result


def map_jobs(
    work: Work, jobs: Mapping[str, Any], report: Callable[[str, Any], None], *, processes: int = 0, cluster: str = "",
    group_of: Callable[[Any], Hashable] = lambda job: None, gpus: Sequence[str] = (),
) -> None:  # fmt: skip
    """Do all jobs. One that fails doesn't stop the others; an exception in this process, such as Ctrl-C, stops all.

    Args:
        work: called with a job and a function, through which it may report progress. Its result ends the job. For worker
            processes a function of a module, or an object that can be pickled.
        jobs: name -> job, in the order in which they should start.
        report: called in this process with the name of a job and each of its reports, the last of which is :class:`Ended`.
        processes: worker processes; 0: one per core; 1: the jobs are done in this process.
        cluster: address of a Ray cluster, whose tasks do the jobs in place of worker processes: requests with a directory, see
            :mod:`read_env.running.cluster`. Empty: none.
        group_of: group of a job. A worker process stays with a group as long as it has jobs.
        gpus: values of ``CUDA_VISIBLE_DEVICES`` that the worker processes get in turn. None given: that of this process.

    Raises:
        ReadEnvError: both ``processes`` and ``cluster`` are given, or the cluster can't be reached.
    """
    if cluster:
        from read_env.running.cluster import map_on_cluster

        if processes:
            raise ReadEnvError(
                f"processes: {processes} counts worker processes of this machine, and cluster names a Ray cluster, whose "
                "resources say how many runs go on at once; right would be one of the two"
            )
        map_on_cluster(work, jobs, report, cluster)
        return
    processes = worker_count(processes, len(jobs))
    schedule = Schedule({name: group_of(job) for name, job in jobs.items()})
    if processes <= 1:
        name = schedule.next(None)
        while name is not None:
            report(name, ended(work, jobs[name], partial(report, name)))
            name = schedule.next(name)
        return
    slots: list[_Slot] = []
    try:
        while len(slots) < processes and (name := schedule.next(None)) is not None:
            slots.append(_Slot(work, gpus[len(slots) % len(gpus)] if gpus else ""))
            slots[-1].start(name, jobs[name])
        while slots:
            for pipe in wait([slot.events for slot in slots]):
                slot = next(one for one in slots if one.events is pipe)
                event = slot.receive()
                report(slot.name, event)
                if isinstance(event, Ended):
                    if (following := schedule.next(slot.name)) is not None:
                        slot.start(following, jobs[following])
                    else:
                        slots.remove(slot)
                        slot.stop()
    finally:
        for slot in slots:  # all at once, since each may take some seconds
            slot.events.close()
        for slot in slots:
            slot.stop()


def ended(work: Work, job: Any, report: Report) -> Ended:
    """Do one job; an error becomes part of the result."""
    try:
        return Ended(work(job, report))
    except Exception as error:
        return Ended(None, in_a_line(error), "" if isinstance(error, ReadEnvError) else traceback.format_exc())


class Schedule:
    """Order in which workers take the jobs.

    Args:
        groups: name -> group, in the order in which the jobs should start.

    Example:
        >>> schedule = Schedule({f"run {n}": n % 2 for n in range(3)})
        >>> schedule.next(None), schedule.next("run 0"), schedule.next("run 2")
        ('run 0', 'run 2', 'run 1')
    """

    def __init__(self, groups: Mapping[str, Hashable]) -> None:
        self._groups = groups
        self._waiting: dict[Hashable, list[str]] = {}
        for name, group in groups.items():
            self._waiting.setdefault(group, []).append(name)
        self._taken: set[Hashable] = set()

    def next(self, last: str | None) -> str | None:
        """Name of the next job for a worker whose last job was ``last``: of its group, else of one that nobody has begun, else
        of the one with most jobs left; None if all are taken.
        """
        group = None if last is None else self._groups[last]
        if last is None or not self._waiting.get(group):
            left = {g: names for g, names in self._waiting.items() if names}
            if not left:
                return None
            fresh = [g for g in left if g not in self._taken]
            group = fresh[0] if fresh else max(left, key=lambda g: len(left[g]))
        self._taken.add(group)
        return self._waiting[group].pop(0)


def worker_count(processes: int, jobs: int) -> int:
    """Number of worker processes: at most one for each job; for 0 asked, one per core.

    >>> worker_count(4, 3)
    3
    """
    return min(processes or cores(), jobs)


class _Slot:
    """Worker process with the pipe of its reports, seen from the parent.

    Each process has an executor of its own: one that is killed breaks all futures of its executor.

    Args:
        work: what the process does with each job.
        gpus: value of ``CUDA_VISIBLE_DEVICES``; empty: that of this process.
    """

    def __init__(self, work: Work, gpus: str = "") -> None:
        self._work, self._gpus = work, gpus
        self._open()
        self._ended: Future[Ended] = Future()
        self.name = ""

    def _open(self) -> None:
        # A fork after torch's threads ran can hang, and CUDA does not survive one.
        context = multiprocessing.get_context("spawn")
        self.events, self._theirs = context.Pipe()
        arguments = self._work, self._theirs, self._gpus
        self._executor = ProcessPoolExecutor(1, context, initializer=_prepare, initargs=arguments)

    def _reopen(self) -> None:
        self.events.close()
        self._open()

    def start(self, name: str, job: Any) -> None:
        """Send a job to the process, which starts with the first one."""
        self.name = name
        with interrupts_held():
            try:
                self._ended = self._executor.submit(_do, job)
            except BrokenProcessPool:  # killed between two jobs
                self._reopen()
                self._ended = self._executor.submit(_do, job)
        self._theirs.close()  # the process has it now, and its death closes the pipe

    def receive(self) -> Any:
        """Next report of the job; if its process is gone, the end of the job."""
        with suppress(EOFError, OSError):
            if (event := self.events.recv()) is not None:
                return event
        error = self._ended.exception()
        if error is None:
            return self._ended.result()
        if isinstance(error, BrokenProcessPool):
            self._reopen()
            return Ended(error="its process died: it was killed, ran out of memory or crashed; the run can be resumed")
        return Ended(error=f"{type(error).__name__}: {error}")  # SystemExit, or a result that can't be pickled

    def stop(self) -> None:
        """End the process; an unfinished run can be resumed from its checkpoint."""
        if self._ended.done():  # it ends by itself and releases the locks of its libraries
            self._executor.shutdown()
        self.events.close()
        self._executor.shutdown()


_work: Work
_report: Report


def _prepare(work: Work, pipe: Connection, gpus: str) -> None:
    """Initialise a worker process."""
    global _work, _report
    if gpus:  # before CUDA is initialised; torch may be imported
        os.environ["CUDA_VISIBLE_DEVICES"] = gpus
    follow_parent(pipe)
    _work, _report = work, pipe.send


def _do(job: Any) -> Ended:
    """Do a job in a worker process, and wake the parent at its end."""
    try:
        return ended(_work, job, _report)
    finally:
        _report(None)


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


def follow_parent(pipe: Connection | None = None) -> None:
    """Prepare a worker process: one thread, no reaction to Ctrl-C, and an end when the parent ends.

    Args:
        pipe: connection to the parent, on which nothing comes; the process also ends when the parent closes it.
    """
    # Before torch is imported: the cores are shared among processes, not threads.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    # A killed parent can't stop its workers, and a worker locks the directory of its run.
    parent = multiprocessing.parent_process()
    assert parent is not None
    watched: list[Any] = [parent.sentinel, *([] if pipe is None else [pipe])]

    # Ctrl-C reaches the whole process group; the parent handles it, and ends its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # An exit of Python's own releases the locks of libraries, which would be reported as leaked.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))

    def watch() -> None:
        if parent.sentinel not in wait(watched):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(_GRACE_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def in_a_line(error: Exception) -> str:
    """Text of an error in one line.

    >>> in_a_line(ReadEnvError("steps must be above 0")), in_a_line(KeyError("steps"))
    ('steps must be above 0', "KeyError: 'steps'")
    """
    if isinstance(error, OSError):
        return describe_os_error(error)
    return str(error if isinstance(error, ReadEnvError) else traceback.format_exception_only(error)[-1]).strip()


def cores() -> int:
    """Cores that this process may use; a container often has fewer than the machine."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
