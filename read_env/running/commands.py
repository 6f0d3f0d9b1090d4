"""Commands of the command line: each takes a parsed request and the command as typed, prints a table, and returns the exit code.

torch is imported by the commands themselves, so that help and errors come at once.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from read_env.config import Config, ModelConfig, load_preset, make_config
from read_env.errors import ReadEnvError
from read_env.running.agents import TRAINING_RECORD, AgentSpec
from read_env.running.batch_requests import ComparisonRequest, IdentifyRequest, TransferRequest
from read_env.running.requests import DistillRequest, RunRequest, TrainingRequest, check_agents, resolved  # fmt: skip
from read_env.running.tool_requests import (
    BenchmarkRequest,
    CheckRequest,
    ContaminationRequest,
    EvaluateRequest,
    ExportRequest,
    ListRequest,
    ReportRequest,
    SurrogateRequest,
    TrainIdentifierRequest,
)

if TYPE_CHECKING:
    from read_env.running.runner import RunResult

Rows = list[tuple[str, Any]]


def distill_command(request: DistillRequest, typed: str) -> int:
    """``read-env distill``."""
    from read_env.running.display import StderrConsole
    from read_env.running.distill import distill

    _check_hub(request.push_to_hub)
    request = replace(request, config=_plain(request.config))
    done = distill(request, StderrConsole())
    rows = done.checked.rows if done.checked else []
    if done.result is None:
        _table([row for row in rows if row[0] != "refused"])
        _table([(stage.name, stage.cost) for stage in done.stages])
        return _refused(rows, done.checked is not None and done.checked.ready)
    return _finish_run(done.request, done.result, typed)


def run_command(request: RunRequest, typed: str) -> int:
    """``read-env run``."""
    from read_env.running.display import RunDisplay
    from read_env.running.runner import run
    from read_env.running.tensorboard import TensorBoardCallback

    _check_hub(request.push_to_hub)
    agent = request.agent
    config = request.config.model_copy(update={"task": _identified(request.config, request.config.task)})
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
    report = _write_report(directory, typed)
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
    rows += [*report, _curves(directory)]
    if request.push_to_hub:
        rows.append(("hub", _push(directory / "student", request.push_to_hub)))
    _table(rows)
    return 0


def train_command(request: TrainingRequest, typed: str) -> int:
    """``read-env train``."""
    from read_env.reporting import agent_card
    from read_env.running.display import StderrConsole
    from read_env.running.training import train

    _check_hub(request.push_to_hub)
    agent = request.agent
    tasks = tuple(
        _identified(request.config, task, request.cluster) for task in request.tasks or (request.config.task,)
    )
    config = agent.configure(_plain(request.config)).model_copy(update={"task": tasks[0]})
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
        rows += _write_report(directory, typed)
    card = agent_card(directory)
    if request.push_to_hub:
        rows.append(("hub", _push(directory, request.push_to_hub, [result.agent.name, TRAINING_RECORD, card.name])))
    _table([*rows, _curves(directory)])
    return 0


def compare_command(request: ComparisonRequest, typed: str) -> int:
    """``read-env compare``."""
    from read_env.reporting import student_card
    from read_env.running.comparison import compare

    request = _resolved(replace(request, config=_plain(request.config)))
    tasks = tuple(
        _identified(request.config, task, request.cluster) for task in request.tasks or (request.config.task,)
    )
    request = replace(request, tasks=tasks)
    directory = request.directory
    _check(request.config, request.specs, tasks)
    _check_external(request.config)
    result = compare(request)
    if len(result.failures) < result.runs:
        report = _write_report(directory, typed, request.reference)
        for student in result.best_students.values():
            student_card(student.parent)
        students = [(f"best student for {task}", path) for task, path in result.best_students.items()]
        _table([*report, *_pictures(directory), *students, _curves(directory)])
    return _failed(result.failures)


def transfer_command(request: TransferRequest, typed: str) -> int:
    """``read-env transfer-matrix``."""
    from read_env.running.transfer import transfer

    request = _resolved(replace(request, config=_plain(request.config)))
    directory = request.directory
    _check(request.config, [], [request.config.task])
    _check_external(request.config)
    failures = transfer(request)
    if len(failures) < len(request.runs()):
        report = _write_report(directory, typed)
        pictures = _pictures(directory)
        _table([*report, *pictures, _curves(directory)])
    return _failed(failures)


def identify_command(request: IdentifyRequest, typed: str) -> int:
    """``read-env identify``."""
    from read_env import files
    from read_env.running.identify import identify

    request = _resolved(replace(request, config=_plain(request.config)))
    found = identify(request)
    report = _write_report(found.directory, typed)
    names = files.read_json(found.directory / "requirement.json")["suite"]
    r = found.requirement
    rows: Rows = [
        ("" if i else "needs", f"{names[at]} {r.mean[at]:.2f} ({r.low[at]:.2f} to {r.high[at]:.2f})")
        for i, at in enumerate(sorted(range(len(names)), key=lambda at: -r.mean[at])[:5])
        if r.mean[at] > 0
    ]
    rows.append(("explained", f"{r.explained:.2f} of the variance of held-out interventions"))
    rows.append(("before", f"{found.tokens:,} completion tokens spent on interventions"))
    _table([*rows, ("card", f"{found.card}   (read-env run --task {found.card})"), *report])
    return _failed(found.failures)


def check_configuration_command(request: CheckRequest, typed: str) -> int:
    """``read-env check``."""
    from read_env.running.check import check

    config, note = _with_fitting_task(_plain(request.config))
    checked = check(config)
    _table([row for row in [*note, *checked.rows] if row[0] != "refused"])
    return _refused(checked.rows, checked.ready)


def _refused(rows: Sequence[tuple[str, Any]], ready: bool) -> int:
    """Print what a run would refuse, and return the exit code of a check."""
    refused = [text for name, text in rows if name == "refused"]
    for problem in refused:
        print(f"read-env: {problem}", file=sys.stderr)
    return 2 if refused else 0 if ready else 1


def _with_fitting_task(config: Config) -> tuple[Config, Rows]:
    """Configuration whose task fits the suite, and a row about a preset's task that doesn't."""
    from read_env.capabilities import get_suite
    from read_env.tasks import load_task

    if config.task != load_preset(config.preset).task:
        return config, []
    with contextlib.suppress(ReadEnvError):  # a suite that can't be read is reported by the check
        suite = get_suite(config.suite)
        try:
            load_task(config.task, suite)
        except ReadEnvError:
            first = suite.names[0]
            note = f"{first}; the suite lacks capabilities of {config.task!r}, so a run needs --task {first} or another"
            return config.model_copy(update={"task": first}), [("task", note)]
    return config, []


def check_contamination_command(request: ContaminationRequest, typed: str) -> int:
    """``read-env check-contamination``."""
    from read_env.capabilities import get_suite
    from read_env.capabilities.contamination import overlaps

    found = overlaps(get_suite(request.suite), request.file, request.draws, request.seeds)
    _table([(f"line {one.line}", f"{one.capability}, seed {one.seed}: {one.text[:80]!r}") for one in found])
    print(f"{len(found)} overlaps in the first {request.draws:,} draws of every stream, and all of a file")
    return 1 if found else 0


def evaluate_command(request: EvaluateRequest, typed: str) -> int:
    """``read-env evaluate``."""
    from read_env import files
    from read_env.records import ExternalRecord
    from read_env.running import external
    from read_env.running.harness_tasks import HarnessTasks, load_tasks

    run, student = external.run_of(request.student)
    tasks = HarnessTasks(
        request.tasks, request.include_path, request.num_fewshot, request.limit, request.chat_template,
        request.trust_remote_code,
    )  # fmt: skip
    models = ModelConfig(device=request.device, dtype=request.dtype, trust_remote_code=request.trust_remote_code)
    loaded, report = load_tasks(tasks), Rows()
    if run is None:
        found = external.evaluate_model(request.student, models, tasks, loaded, request.batch_size)
    else:
        with run.locked():
            found = external.evaluate_run(
                run, models, tasks, loaded, student=student, again=request.overwrite, batch_size=request.batch_size
            )
        report = _write_report(run.path, typed)
    if request.out is not None:
        path = Path(os.path.expanduser(request.out))
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write_json(path, ExternalRecord(evaluations=tuple(found)).to_json())
        report.append(("results", path))
    _table([*external.rows(found), *report])
    return 0


def train_identifier_command(request: TrainIdentifierRequest, typed: str) -> int:
    """``read-env train-identifier``."""
    from read_env.running.train_identifier import train_identifier
    from read_env.tasks.identifier import ENCODER

    _, tasks = train_identifier(request.directories, request.suite, request.out, request.encoder or ENCODER)
    _table([("tasks", ", ".join(tasks)), ("identifier", f"{request.out}   (--identify.identifier {request.out})")])
    return 0


def report_command(request: ReportRequest, typed: str) -> int:
    """``read-env report``."""
    for _, path in _write_report(Path(os.path.expanduser(request.directory)), "", request.reference):
        print(path)
    return 0


def export_command(request: ExportRequest, typed: str) -> int:
    """``read-env export``."""
    from read_env.running.export import export

    done = export(request)
    for line in done.skipped:
        print(f"read-env: left out: {line}", file=sys.stderr)
    rows: Rows = [
        ("episodes", f"{done.episodes}, with {done.transitions:,} transitions"),
        ("data set", f"{done.path}   ({done.load})"),
    ]
    if request.format == "minari":
        rows.append(("environment", done.environment or "recover_environment() of the data set makes it"))
    _table(rows)
    return 0


def benchmark_command(request: BenchmarkRequest, typed: str) -> int:
    """``read-env benchmark``."""
    from read_env.running.benchmark import benchmark, load_protocol

    protocol = load_protocol(request.protocol)
    for preset in dict.fromkeys(pair.preset for pair in protocol.pairs):
        _check(load_preset(preset), [request.spec], [pair.task for pair in protocol.pairs if pair.preset == preset])
    done = benchmark(request)
    if done.path is not None:
        _table([*((pair, f"{gain:+.4f}") for pair, gain in done.gains.items()), ("result", str(done.path))])
    return _failed(done.failures)


def surrogate_command(request: SurrogateRequest, typed: str) -> int:
    """``read-env surrogate fit``."""
    from read_env.running.fit_surrogate import fit_surrogate

    done = fit_surrogate(request)
    for line in done.skipped:
        print(f"read-env: left out: {line}", file=sys.stderr)
    facts = done.surrogate.made_from
    _table([
        ("surrogate", f"{done.path}, {done.surrogate.count} worlds of {done.surrogate.size} capabilities"),
        ("record", f"{facts['episodes']} runs, {facts['steps']:,} steps, {facts['tokens']:,} completion tokens"),
        ("students", ", ".join(done.surrogate.starts)),
    ])  # fmt: skip
    return 0


def list_command(request: ListRequest, typed: str) -> int:
    """``read-env list``."""
    from read_env.running.listing import describe

    _table(describe(request.kind, request.suite))
    return 0


def _plain(config: Config) -> Config:
    """Configuration without the classes of the command line."""
    return make_config(config.model_dump(), "configuration")


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


def _identified(config: Config, task: str, cluster: str = "") -> str:
    """The task, or the card that its identification ends with where its requirement is not known."""
    from read_env.running.identify import identified

    found = identified(_plain(config), task, cluster=cluster)
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


def _write_report(directory: Path, typed: str, reference: str = "task-static") -> Rows:
    """Write the report of a directory, and its pictures for TensorBoard; returns the paths of its two pages.

    A ``typed`` command is first added to ``commands.txt``, which the report shows.
    """
    from read_env import files, reporting
    from read_env.running.directory import RecordDirectory
    from read_env.running.tensorboard import write_pictures

    identity = RecordDirectory(directory).identity
    if not identity.exists():
        raise ReadEnvError(f"{directory} holds no run, comparison, transfer matrix or training")
    if typed:
        path = directory / "commands.txt"
        known = files.read_text(path).splitlines() if path.exists() else []
        files.write_text(path, "".join(f"{line}\n" for line in dict.fromkeys([*known, typed])))
    kind = str(files.read_json(identity).get("kind", ""))
    reports: dict[str, Callable[[Path], Path]] = {
        "comparison": partial(reporting.comparison_report, reference=reference),
        "training": reporting.training_report, "transfer": reporting.transfer_report,
        "identification": reporting.identification_report,
    }  # fmt: skip
    report = reports.get(kind, reporting.run_report)(directory)
    if pictures := {f"report/{path.stem}": path for _, path in _pictures(directory)}:
        write_pictures(directory / "tensorboard" / "pictures", pictures)
    return [("report", report), ("web page", report.with_suffix(".html"))]


def _pictures(directory: Path) -> Rows:
    return [("picture", picture) for picture in sorted(directory.glob("*.png"))]


def _curves(directory: Path) -> tuple[str, str]:
    # From there, the name of a run begins with its agent, task and seed.
    runs = directory / "runs"
    return "curves", f"tensorboard --logdir {runs if runs.is_dir() else directory}"


def _failed(failures: Mapping[str, str]) -> int:
    for name, error in failures.items():
        print(f"read-env: {name} failed: {error}", file=sys.stderr)
    if failures:
        print("read-env: the same command makes the missing runs", file=sys.stderr)
    return 1 if failures else 0


def _table(rows: Sequence[tuple[str, Any]]) -> None:
    width = max((len(name) for name, _ in rows), default=0)
    for name, value in rows:
        print(f"{name:<{width}}  {value}".rstrip())
