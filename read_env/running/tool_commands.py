"""Commands beside the runs: checks, evaluations, reports, exports, fits and lists.

Each takes a parsed request and the command as typed, prints a table, and returns the exit code. torch is imported by the
commands themselves, so that help and errors come at once.
"""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

from read_env.config import Config, ModelConfig, load_preset
from read_env.errors import ReadEnvError
from read_env.running.command_parts import Rows, plain, refused, table, write_report
from read_env.running.tool_requests import (
    CheckRequest,
    ContaminationRequest,
    EvaluateRequest,
    ExportRequest,
    ListRequest,
    ReportRequest,
    SurrogateRequest,
    TrainIdentifierRequest,
)


def check_configuration_command(request: CheckRequest, typed: str) -> int:
    """``read-env check``."""
    from read_env.running.check import check

    config, note = _with_fitting_task(plain(request.config))
    checked = check(config)
    table([row for row in [*note, *checked.rows] if row[0] != "refused"])
    return refused(checked.rows, checked.ready)


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
    table([(f"line {one.line}", f"{one.capability}, seed {one.seed}: {one.text[:80]!r}") for one in found])
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
        report = write_report(run.path, typed)
    if request.out is not None:
        path = Path(os.path.expanduser(request.out))
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write_json(path, ExternalRecord(evaluations=tuple(found)).to_json())
        report.append(("results", path))
    table([*external.rows(found), *report])
    return 0


def train_identifier_command(request: TrainIdentifierRequest, typed: str) -> int:
    """``read-env train-identifier``."""
    from read_env.running.train_identifier import train_identifier
    from read_env.tasks.identifier import ENCODER

    _, tasks = train_identifier(request.directories, request.suite, request.out, request.encoder or ENCODER)
    table([("tasks", ", ".join(tasks)), ("identifier", f"{request.out}   (--identify.identifier {request.out})")])
    return 0


def report_command(request: ReportRequest, typed: str) -> int:
    """``read-env report``."""
    for _, path in write_report(Path(os.path.expanduser(request.directory)), "", request.reference):
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
    table(rows)
    return 0


def surrogate_command(request: SurrogateRequest, typed: str) -> int:
    """``read-env surrogate fit``."""
    from read_env.running.fit_surrogate import fit_surrogate

    done = fit_surrogate(request)
    for line in done.skipped:
        print(f"read-env: left out: {line}", file=sys.stderr)
    facts = done.surrogate.made_from
    table([
        ("surrogate", f"{done.path}, {done.surrogate.count} worlds of {done.surrogate.size} capabilities"),
        ("record", f"{facts['episodes']} runs, {facts['steps']:,} steps, {facts['tokens']:,} completion tokens"),
        ("students", ", ".join(done.surrogate.starts)),
    ])  # fmt: skip
    return 0


def list_command(request: ListRequest, typed: str) -> int:
    """``read-env list``."""
    from read_env.running.listing import describe

    table(describe(request.kind, request.suite))
    return 0
