"""Agents × tasks × seeds at one budget, with common prompts: each run in a directory of its own.

Interrupted or partly failed, the same command goes on with what is missing; more agents, tasks or
seeds may be added to a comparison later.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from read_env import files
from read_env.errors import ReadEnvError
from read_env.running.agents import AgentSpec, build_agent
from read_env.running.directory import RecordDirectory, RunDirectory
from read_env.running.display import ManyRunsDisplay
from read_env.running.identity import RunIdentity
from read_env.running.pool import EnvFactory, Event, Stepped, run_all
from read_env.running.reuse import derive, shared_key
from read_env.running.runner import RunRequest, make_env

if TYPE_CHECKING:
    from rich.console import Console

    from read_env.config import Config


@dataclass(frozen=True)
class ComparisonRequest:
    """What to compare.

    Attributes:
        config: shared by all runs; its agent, task and seed are replaced.
        agents: with different labels.
        tasks: names or paths of task cards.
        seeds: of prompts and agents.
        directory: gets ``runs/AGENT__TASK__seedN/``.
        processes: worker processes.
        keep_students: keep every student, and not only the best of each task by dev utility.
        overwrite: delete an earlier comparison first.
    """

    config: Config
    agents: tuple[AgentSpec, ...]
    tasks: tuple[str, ...]
    seeds: tuple[int, ...]
    directory: Path
    processes: int = 1
    keep_students: bool = False
    overwrite: bool = False

    def runs(self) -> dict[str, RunRequest]:
        """Name -> run, in the order in which they are begun.

        Raises:
            ReadEnvError: an unknown task or agent option, or two agents or tasks of one name: before
                anything is run.
        """
        from read_env.capabilities import get_suite
        from read_env.tasks import load_task

        suite = get_suite(self.config.suite)
        cards = [load_task(task, suite) for task in self.tasks]
        for agent in self.agents:
            built = build_agent(agent, suite, seed=0)
            for card in cards:
                built.check_task(card.requirement_vector(suite))
        _distinct("agents", [agent.label for agent in self.agents])
        names = [card.name for card in cards]
        _distinct("tasks", names)
        _distinct("seeds", [str(seed) for seed in self.seeds])
        requests = {}
        for seed in self.seeds:
            for task, task_name in zip(self.tasks, names, strict=True):
                for agent in self.agents:
                    changes = {"agent": agent.name, "agent_options": dict(agent.options), "task": task, "seed": seed}
                    name = f"{agent.label}__{task_name}__seed{seed}"
                    config = self.config.model_copy(update=changes)
                    requests[name] = RunRequest(config, agent, self.directory / "runs" / name)
        return requests


@dataclass(frozen=True)
class ComparisonResult:
    """How a comparison ended.

    Attributes:
        directory: its directory.
        failures: run name -> error, for the runs that have no summary.
        best_students: task -> directory of the best student by dev utility.
    """

    directory: Path
    failures: Mapping[str, str]
    best_students: Mapping[str, Path]


def compare(
    request: ComparisonRequest, console: Console | None = None, env_factory: EnvFactory = make_env
) -> ComparisonResult:
    """Makes the runs that are missing and keeps the best students.

    Args:
        request: what to compare.
        console: where progress is shown.
        env_factory: makes the environment of a configuration; a function of a module for workers.

    Raises:
        ReadEnvError: the directory holds something else, or the request makes no sense. The error
            of a single run is in the result.
    """
    runs = request.runs()
    directory = RecordDirectory(request.directory)
    identity = RunIdentity.of_many("comparison", request.config)
    with directory.claim(identity, _settings(request), overwrite=request.overwrite):
        failures = run_many(f"comparing {len(request.agents)} agents", runs, request.processes, console, env_factory)
        best = _best_students(request.directory / "runs")
        if not request.keep_students:
            for run in runs.values():
                if run.directory / "student" not in best.values():
                    files.remove(run.directory / "student")
    return ComparisonResult(request.directory, failures, best)


def run_many(
    title: str, runs: Mapping[str, RunRequest], processes: int, console: Console | None, env_factory: EnvFactory
) -> dict[str, str]:
    """Makes the runs that aren't finished, one for all tasks where the agent allows it, with progress.

    Returns:
        Run name -> error, for those that failed.
    """
    real, copies = _share(runs)
    failures: dict[str, str] = {}
    finished = []
    for name, run in real.items():
        if RunDirectory(run.directory).finished:
            finished.append(name)
            try:
                with RunDirectory(run.directory).claim(run.identity, run.config.model_dump(mode="json")):
                    pass
            except ReadEnvError as error:
                failures[name] = str(error)
    budgets = {name: run.config.budget.total_tokens for name, run in real.items()}
    display = ManyRunsDisplay(title, budgets, finished, console)

    def tell(event: Event) -> None:
        if isinstance(event, Stepped):
            display.stepped(event.name, event.spent, event.utility, event.shares)
        elif event.result is None:
            failures[event.name] = event.error
            display.ended(event.name, f"FAILED: {event.error}")
        else:
            display.ended(event.name, _in_short(event.result.summary))

    try:
        missing = {name: run for name, run in real.items() if name not in finished}
        run_all(missing, processes, tell, env_factory)
        for name, source in copies.items():
            if source in failures:
                failures[name] = f"not derived, because {source} failed"
                continue
            try:
                derive(runs[source], runs[name])
            except ReadEnvError as error:
                failures[name] = str(error)
    finally:
        display.close()
    return failures


def _share(runs: Mapping[str, RunRequest]) -> tuple[dict[str, RunRequest], dict[str, str]]:
    """The runs to make, and for each of the others the one that it can be derived from."""
    from read_env.capabilities import get_suite
    from read_env.tasks import load_task

    real: dict[str, RunRequest] = {}
    copies: dict[str, str] = {}
    first: dict[tuple[str, str, tuple[int, ...], str], str] = {}
    for name, run in runs.items():
        suite = get_suite(run.config.suite)
        shared = shared_key(run.agent, load_task(run.config.task, suite), suite)
        key = (run.agent.label, run.config.model_dump_json(exclude={"task"}), run.exam_at, shared or "")
        if shared is not None and first.setdefault(key, name) != name:
            copies[name] = first[key]
        else:
            real[name] = run
    return real, copies


def _settings(request: ComparisonRequest) -> dict[str, Any]:
    """``config.json``: what was asked for, together with what earlier calls asked for."""
    from read_env.capabilities import get_suite
    from read_env.tasks import load_task

    suite = get_suite(request.config.suite)
    settings: dict[str, Any] = {
        **request.config.model_dump(mode="json", exclude={"agent", "agent_options", "task", "seed"}),
        "agents": [agent.label for agent in request.agents],
        "tasks": [load_task(task, suite).name for task in request.tasks],
        "seeds": list(request.seeds),
    }
    earlier = request.directory / "config.json"
    if earlier.exists() and not request.overwrite:
        before = files.read_json(earlier)
        for field in ("agents", "tasks", "seeds"):
            settings[field] = list(dict.fromkeys([*before.get(field, []), *settings[field]]))
    return settings


def _best_students(runs: Path) -> dict[str, Path]:
    """The student of each task with the highest dev utility at the end; the first one of equals.

    All runs of the directory count, those of earlier calls too: a better one whose student is gone
    by then leaves the task without an entry.
    """
    best: dict[str, tuple[float, Path]] = {}
    for path in sorted(runs.iterdir()):
        directory = RunDirectory(path)
        if directory.finished:
            summary, last = files.read_json(directory.summary), files.read_lines(directory.steps)[-1]
            score = last.get("dev_utility", summary["utility"])
            if summary["task"] not in best or score > best[summary["task"]][0]:
                best[summary["task"]] = (score, directory.student)
    return {task: student for task, (_, student) in best.items() if student.exists()}


def _in_short(summary: Mapping[str, Any]) -> str:
    gain = summary["utility"] - summary["utility_start"]
    exam = "" if summary["exam"] is None else f", exam {summary['exam_utility']:.3f}"
    return f"utility {summary['utility']:.4f} ({gain:+.4f}){exam}"


def _distinct(what: str, values: Sequence[str]) -> None:
    twice = sorted({value for value in values if values.count(value) > 1})
    if twice:
        raise ReadEnvError(f"{what}: {', '.join(twice)} is there twice")
    if not values:
        raise ReadEnvError(f"{what}: name at least one")
