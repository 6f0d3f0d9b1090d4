"""Comparison of agents × tasks × seeds at one budget, with common prompts: each run in a directory of its own.

After an interruption or a failure, the same command makes the missing runs. Later calls may add agents, tasks and seeds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from read_env import files
from read_env.errors import ReadEnvError
from read_env.running.batch_requests import ComparisonRequest
from read_env.running.callbacks import Onlookers
from read_env.running.cards import keep_cards
from read_env.running.directory import RecordDirectory, RunDirectory
from read_env.running.display import ManyRunsDisplay
from read_env.running.identity import RunIdentity
from read_env.running.pool import Ended, map_jobs
from read_env.running.requests import RunRequest, resolved
from read_env.running.reuse import derive, shared_key
from read_env.running.room import Fit, gpus_of_workers
from read_env.running.runner import make_env
from read_env.running.worker import EnvFactory, StepEvent, Worker

if TYPE_CHECKING:
    from rich.console import Console


@dataclass(frozen=True)
class ComparisonResult:
    """Result of a comparison.

    Attributes:
        directory: directory of the comparison.
        runs: number of runs that were asked for.
        failures: run name -> error, for the runs without a summary.
        best_students: task -> directory of its best student by dev utility.
    """

    directory: Path
    runs: int
    failures: Mapping[str, str]
    best_students: Mapping[str, Path]


def compare(
    request: ComparisonRequest, console: Console | None = None, env_factory: EnvFactory = make_env
) -> ComparisonResult:
    """Make the missing runs and keep the best students.

    A student that is not the best of its task so far is deleted as soon as its run has finished, so that a comparison of many
    runs needs the disk for one student per task and for the runs that go on. A run from which others are to be derived keeps
    its student until they have theirs.

    Args:
        request: the comparison.
        console: console that shows the progress. None: standard error.
        env_factory: makes the environment of a configuration; for worker processes a function of a module.

    Raises:
        ReadEnvError: the directory holds something else, or the request is invalid. Errors of single runs are in the
            result.
    """
    request = resolved(request)
    runs = request.runs()
    directory = RecordDirectory(request.directory)
    identity = RunIdentity.of_many("comparison", request.config)
    agents = [agent.label for agent in request.specs]
    settings = directory.merged_settings(
        request.config, request.overwrite, agents=agents, tasks=request.task_names, seeds=request.seeds
    )
    origins = set(_share(runs)[1].values())
    folders = {name: RunDirectory(run.directory) for name, run in runs.items()}

    def leave_best(*needed: str) -> dict[str, Path]:
        best = _best_students(request.directory / "runs")
        if not request.keep_students:
            for name, folder in folders.items():
                if folder.finished and name not in needed and folder.student not in best.values():
                    files.remove(folder.student)
        return best

    with directory.claim(identity, settings, overwrite=request.overwrite):
        keep_cards(directory, request.config.suite, request.tasks or (request.config.task,))
        title = f"comparing {len(agents)} agents"
        failures = run_many(
            title, runs, request.processes, console, env_factory, lambda _: leave_best(*origins), request.cluster
        )
        best = leave_best()
    return ComparisonResult(request.directory, len(runs), failures, best)


def run_many(
    title: str, runs: Mapping[str, RunRequest], processes: int, console: Console | None, env_factory: EnvFactory,
    on_finish: Callable[[str], Any] = lambda name: None, cluster: str = "",
) -> dict[str, str]:  # fmt: skip
    """Make the unfinished runs, one for all tasks where the agent allows it, and show the progress.

    Args:
        title: title of the progress display.
        runs: run name -> run.
        processes: worker processes; 0: as many as fit, see :mod:`read_env.running.room`.
        console: console that shows the progress. None: standard error.
        env_factory: makes the environment of a configuration.
        on_finish: called with the name of every run that is made or derived now, once its records are complete. Runs are derived
            after all others.
        cluster: address of a Ray cluster whose nodes make the runs. Empty: worker processes of this machine.

    Returns:
        Run name -> error, for the runs that failed.
    """
    sources, copies = _share(runs)
    failures: dict[str, str] = {}
    finished = [name for name, run in sources.items() if RunDirectory(run.directory).finished]
    for name in finished:
        run = sources[name]
        try:
            with RunDirectory(run.directory).claim(run.identity, run.recorded):
                pass
        except ReadEnvError as error:
            failures[name] = str(error)
    budgets = {name: run.config.budget.total_tokens for name, run in sources.items()}
    display = Onlookers([ManyRunsDisplay(title, budgets, finished, console)])

    def report(name: str, event: Any) -> None:
        if isinstance(event, StepEvent):
            display.call("update", name, event.spent, event.utility, event.shares)
        elif not isinstance(event, Ended):
            display.call("note", f"{name}: {event}")
        elif event.error:
            failures[name] = event.error
            display.call("finish", name, f"FAILED: {event.error}")
        else:
            display.call("finish", name, _in_short(event.result.summary))
            on_finish(name)

    try:
        missing = {name: run for name, run in sources.items() if name not in finished}
        if not (processes or cluster) and len(missing) > 1:
            fit = _fit(missing.values())
            processes = fit.processes
            if processes < len(missing):
                display.call("note", f"{processes} at a time: {fit.reason}")
        gpus = () if cluster else gpus_of_workers([run.config.models for run in missing.values()])
        map_jobs(
            Worker(env_factory), missing, report, processes=processes, cluster=cluster, gpus=gpus,
            group_of=lambda run: run.config.seed,
        )  # fmt: skip
        for name, source in copies.items():
            if source in failures:
                failures[name] = f"not derived, because {source} failed"
                continue
            try:
                derived = derive(runs[source], runs[name])
            except ReadEnvError as error:
                failures[name] = str(error)
            else:
                if not derived.already_finished:
                    on_finish(name)
    finally:
        display.call("close")
    return failures


def _fit(runs: Iterable[RunRequest]) -> Fit:
    """Number of runs at a time for which there is room, whichever they are."""
    from read_env.running.check import processes_that_fit

    aside: dict[str, Any] = {**dict.fromkeys(("task", "agent", "agent_options", "seed"), True), "models": {"start"}}
    different = {run.config.model_dump_json(exclude=aside): run.config for run in runs}
    return min(map(processes_that_fit, different.values()), key=lambda fit: fit.processes)


def _share(runs: Mapping[str, RunRequest]) -> tuple[dict[str, RunRequest], dict[str, str]]:
    """Runs to make; and for each of the others the name of the run that it is derived from."""
    from read_env.capabilities import get_suite
    from read_env.tasks import load_task

    sources: dict[str, RunRequest] = {}
    copies: dict[str, str] = {}
    first: dict[tuple[str, str, tuple[int, ...], str], str] = {}
    for name, run in runs.items():
        suite = get_suite(run.config.suite)
        shared = shared_key(run.agent, load_task(run.config.task, suite), suite)
        key = (run.agent.label, run.config.model_dump_json(exclude={"task"}), run.exam_at, shared or "")
        if shared is not None and first.setdefault(key, name) != name:
            copies[name] = first[key]
        else:
            sources[name] = run
    return sources, copies


def _best_students(runs: Path) -> dict[str, Path]:
    """Task -> student with the highest dev utility at the end; of equals the first.

    All runs in the directory count, those of earlier calls too. A task is left out if its best student was deleted by then.
    """
    best: dict[str, tuple[float, Path]] = {}
    for path in sorted(runs.iterdir()):
        directory = RunDirectory(path)
        if directory.finished:
            summary = files.read_json(directory.summary)
            last = files.read_lines(directory.steps)[-1] if summary["steps"] else {}
            score = summary.get("dev_utility", last.get("dev_utility", summary["utility"]))
            if summary["task"] not in best or score > best[summary["task"]][0]:
                best[summary["task"]] = (score, directory.student)
    return {task: student for task, (_, student) in best.items() if student.exists()}


def _in_short(summary: Mapping[str, Any]) -> str:
    gain = summary["utility"] - summary["utility_start"]
    exam = "" if summary["exam"] is None else f", {summary['exam_utility']:.4f} on the exam"
    return f"utility {summary['utility']:.4f} on the probes ({gain:+.4f}){exam}"
