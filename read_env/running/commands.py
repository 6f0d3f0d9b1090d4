"""Commands that make runs: each takes a parsed request and the command as typed, prints a table, and returns the exit code.

torch is imported by the commands themselves, so that help and errors come at once.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from read_env.config import Config, load_preset
from read_env.running.agents import TRAINING_RECORD, AgentSpec
from read_env.running.batch_requests import ComparisonRequest, IdentifyRequest, TransferRequest
from read_env.running.command_parts import Rows, curves, failed, pictures_of, plain, refused, table, write_report
from read_env.running.requests import DistillRequest, RunRequest, TrainingRequest, check_agents, resolved
from read_env.running.tool_requests import BenchmarkRequest

if TYPE_CHECKING:
    from read_env.running.runner import RunResult


def distill_command(request: DistillRequest, typed: str) -> int:
    """``read-env distill``."""
    from read_env.running.display import StderrConsole
    from read_env.running.distill import distill

    _check_hub(request.push_to_hub)
    request = replace(request, config=plain(request.config))
    done = distill(request, StderrConsole())
    rows = done.checked.rows if done.checked else []
    if done.result is None:
        table([row for row in rows if row[0] != "refused"])
        table([(stage.name, stage.cost) for stage in done.stages])
        return refused(rows, done.checked is not None and done.checked.ready)
    return _finish_run(done.request, done.result, typed)


def run_command(request: RunRequest, typed: str) -> int:
    """``read-env run``."""
    from read_env.running.display import RunDisplay
    from read_env.running.runner import run
    from read_env.running.tensorboard import TensorBoardCallback

    _check_hub(request.push_to_hub)
    agent = request.agent
    task = _identified(request, request.config.task)
    config = request.config.model_copy(update={"task": task})
    request = _resolved(replace(request, config=agent.configure(config)))
    config, budget = request.config, request.config.budget.total_tokens
    _check(config, [agent], [config.task])
    _check_external(config)
    title = f"{agent.label} on {request.task_name}, seed {config.seed}"
    result = run(request, callbacks=[RunDisplay(title, budget), TensorBoardCallback(request)])

    return _finish_run(request, result, typed)


def _finish_run(request: RunRequest, result: RunResult, typed: str) -> int:
    """Write the report and the student's card, upload the student where that is asked for, and print the result."""
    from read_env import files
    from read_env.record_files import read_external
    from read_env.reporting import student_card
    from read_env.running import external
    from read_env.running.display import result_rows

    directory, summary = request.directory, result.summary
    report = write_report(directory, typed)
    if result.already_finished:
        print(f"{directory} was finished already; --overwrite runs it again")
    spent = f"{summary['spent']:,} of {summary['budget']:,} completion tokens in {summary['steps']} steps"
    before = (
        f"{summary['tokens_before_run']:,} completion tokens spent on the inference of needs and on training the agent"
    )
    rows: Rows = [
        *result_rows(files.read_json(directory / "start.json"), summary),
        ("spent", spent),
        ("before", before),
    ]
    if (directory / "student").is_dir():  # a comparison may have deleted it
        student_card(directory)
        rows.append(("student", directory / "student"))
    if request.config.eval.external:
        rows += external.rows(read_external(directory).evaluations)
    rows += [*report, curves(directory)]
    if request.push_to_hub:
        rows.append(("hub", _push(directory / "student", request.push_to_hub)))
    table(rows)
    return 0


def train_command(request: TrainingRequest, typed: str) -> int:
    """``read-env train``."""
    from read_env.reporting import agent_card
    from read_env.running.display import StderrConsole
    from read_env.running.training import train

    _check_hub(request.push_to_hub)
    agent = request.agent
    tasks = tuple(_identified(request, task, request.cluster) for task in request.tasks or (request.config.task,))
    config = agent.configure(plain(request.config)).model_copy(update={"task": tasks[0]})
    request = _resolved(replace(request, config=config, tasks=tasks))
    _check(config, [], tasks)
    result = train(request, StderrConsole())
    directory = result.agent.parent
    if result.already_finished:
        print(f"{directory} was finished already; --overwrite trains again")
    rows: Rows = [
        ("agent", f"{result.agent}   (read-env run --agent {directory})"),
        ("spent", f"{result.tokens_before_run:,} completion tokens in {result.episodes} finished episodes"),
    ]
    if (directory / "episodes.jsonl").stat().st_size:  # a training through the worlds of a surrogate records none
        rows += write_report(directory, typed)
    card = agent_card(directory)
    if request.push_to_hub:
        rows.append(("hub", _push(directory, request.push_to_hub, [result.agent.name, TRAINING_RECORD, card.name])))
    table([*rows, curves(directory)])
    return 0


def compare_command(request: ComparisonRequest, typed: str) -> int:
    """``read-env compare``."""
    from read_env.reporting import student_card
    from read_env.running.comparison import compare

    request = _resolved(replace(request, config=plain(request.config)))
    tasks = tuple(_identified(request, task, request.cluster) for task in request.tasks or (request.config.task,))
    request = replace(request, tasks=tasks)
    directory = request.directory
    _check(request.config, request.specs, tasks)
    _check_external(request.config)
    result = compare(request)
    if len(result.failures) < result.runs:
        report = write_report(directory, typed, request.reference)
        for student in result.best_students.values():
            student_card(student.parent)
        students = [(f"best student for {task}", path) for task, path in result.best_students.items()]
        table([*report, *pictures_of(directory), *students, curves(directory)])
    return failed(result.failures)


def transfer_command(request: TransferRequest, typed: str) -> int:
    """``read-env transfer-matrix``."""
    from read_env.running.transfer import transfer

    request = _resolved(replace(request, config=plain(request.config)))
    directory = request.directory
    _check(request.config, [], [request.config.task])
    _check_external(request.config)
    failures = transfer(request)
    if len(failures) < len(request.runs()):
        report = write_report(directory, typed)
        pictures = pictures_of(directory)
        table([*report, *pictures, curves(directory)])
    return failed(failures)


def identify_command(request: IdentifyRequest, typed: str) -> int:
    """``read-env identify``."""
    from read_env import files
    from read_env.running.identify import identify

    request = _resolved(replace(request, config=plain(request.config)))
    found = identify(request)
    report = write_report(found.directory, typed)
    names = files.read_json(found.directory / "requirement.json")["suite"]
    r = found.requirement
    rows: Rows = [
        ("" if i else "needs", f"{names[at]} {r.mean[at]:.2f} ({r.low[at]:.2f} to {r.high[at]:.2f})")
        for i, at in enumerate(sorted(range(len(names)), key=lambda at: -r.mean[at])[:5])
        if r.mean[at] > 0
    ]
    rows.append(("explained", f"{r.explained:.2f} of the variance of held-out interventions"))
    rows.append(("before", f"{found.tokens:,} completion tokens spent on interventions"))
    table([*rows, ("card", f"{found.card}   (read-env run --task {found.card})"), *report])
    return failed(found.failures)


def benchmark_command(request: BenchmarkRequest, typed: str) -> int:
    """``read-env benchmark``."""
    from read_env.running.benchmark import benchmark, load_protocol

    protocol = load_protocol(request.protocol)
    for preset in dict.fromkeys(pair.preset for pair in protocol.pairs):
        _check(load_preset(preset), [request.spec], [pair.task for pair in protocol.pairs if pair.preset == preset])
    done = benchmark(request)
    if done.path is not None:
        table([*((pair, f"{gain:+.4f}") for pair, gain in done.gains.items()), ("result", str(done.path))])
    return failed(done.failures)


def _resolved(request: Any) -> Any:
    """The request with a value for every ``auto``, which is shown with its reason."""
    request = resolved(request)
    for field, value in request.config.reasons.items():
        print(f"read-env: {field}: auto is {value}", file=sys.stderr)
    return request


def _check(config: Config, agents: Sequence[AgentSpec], tasks: Sequence[str]) -> None:
    """Raise for everything that is unknown or can't act yet, before models are loaded."""
    from read_env.losses import get_objective

    check_agents(config, agents, tasks)
    for agent in agents:
        if agent.path is None and agent.name.startswith("sb3"):
            print(f"read-env: {agent.name} is untrained here; read-env train makes a trained one", file=sys.stderr)
    get_objective(config.distill.loss)


def _check_external(config: Config) -> None:
    """Raise for what is wrong with ``eval.external``; a training and interventions don't use it."""
    if config.eval.external:
        from read_env.running.harness_tasks import HarnessTasks, load_tasks

        load_tasks(HarnessTasks.of(config))


def _identified(request: RunRequest | ComparisonRequest | TrainingRequest, task: str, cluster: str = "") -> str:
    """The task, or the card that its identification ends with where its requirement is not known."""
    from read_env.running.directory import RecordDirectory
    from read_env.running.identify import identified

    directory = None if request.overwrite else RecordDirectory(request.directory)
    found = identified(plain(request.config), task, cluster=cluster, directory=directory)
    if found != task:
        print(f"read-env: the requirement of {task} was inferred: {found}", file=sys.stderr)
    return found


def _check_hub(name: str) -> None:
    if name:
        from read_env.running.hub import check_hub

        check_hub(name)


def _push(folder: Path, name: str, patterns: Sequence[str] | None = None) -> str:
    from read_env.running.hub import push

    return push(folder, name, patterns)
