"""Command line: ``read-env run``, ``train``, ``compare``, ``transfer-matrix``, ``check``, ``check-contamination``, ``report``
and ``list``.

A preset fills the configuration, options override it::

    read-env run --preset micro --task bookkeeper --agent read-bandit --budget.total-tokens 80000

torch is imported after a command has been parsed, so that help and errors come at once.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import io
import os
import shlex
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from pydantic import ValidationError

from read_env.capabilities.splits import fit_splits
from read_env.config import Config, describe, load_preset, make_config
from read_env.deprecated import rename_arguments
from read_env.errors import ReadEnvError, describe_os_error
from read_env.output import forgiving_output
from read_env.running.agents import AgentSpec
from read_env.running.requests import (
    ComparisonRequest,
    FlatConfig,
    IdentifyRequest,
    RunRequest,
    TrainingRequest,
    TransferRequest,
    check_agents,
    resolved,
)  # fmt: skip

Rows = list[tuple[str, Any]]


class SharedConfig(Config):
    """Configuration that many runs share: each has its own agent, task and seed, so these are no options."""

    task: Annotated[str, tyro.conf.Suppress] = ""
    agent: Annotated[str, tyro.conf.Suppress] = ""
    agent_options: Annotated[dict[str, str | int | float | bool], tyro.conf.Suppress] = {}
    seed: Annotated[int, tyro.conf.Suppress] = 0


class TrainingConfig(Config):
    """Configuration of a training: a task is drawn for each episode, so it is no option."""

    task: Annotated[str, tyro.conf.Suppress] = ""


class InterventionConfig(Config):
    """Configuration of interventions: their allocations take the place of an agent."""

    agent: Annotated[str, tyro.conf.Suppress] = ""
    agent_options: Annotated[dict[str, str | int | float | bool], tyro.conf.Suppress] = {}
    seed: Annotated[int, tyro.conf.Suppress] = 0


@dataclass(frozen=True)
class CheckRequest:
    """Show parameters, memory by part and seconds per step of a configuration, and what is missing with the command to get it.

    The exit code is 0 if nothing is missing, 1 if something is, 2 for a mistake. Needs no network.
    """

    config: FlatConfig


@dataclass(frozen=True)
class ContaminationRequest:
    """Find training prompts that occur in a file of evaluation prompts; --decontamination-files FILE keeps them out of a run."""

    file: tyro.conf.Positional[Path]
    """JSON lines with a prompt or question, or a .txt file with one per line."""
    suite: str = "micro"
    """Suite with the training prompts."""
    seeds: tuple[int, ...] = (0,)
    """Seeds of the training streams."""
    draws: int = 20_000
    """Prompts drawn from the start of each stream; the default is more than a run of the presets draws. Prompts of a file
    are all compared."""


@dataclass(frozen=True)
class ReportRequest:
    """Make the report of a run, comparison, transfer matrix or training again, from its records."""

    directory: tyro.conf.Positional[Path]
    """Directory of the run, comparison, transfer matrix or training."""
    reference: str = "task-static"
    """Agent that a comparison's report compares the others with."""


@dataclass(frozen=True)
class ListRequest:
    """List the names that the options of the other commands take."""

    kind: tyro.conf.Positional[Literal["agents", "tasks", "students", "presets", "losses", "capabilities"]]
    """Kind of names."""
    suite: str = "micro"
    """Suite with the tasks and capabilities."""


def _run(request: RunRequest, typed: str) -> int:
    from read_env import files
    from read_env.running.display import RunDisplay, result_rows
    from read_env.running.runner import run
    from read_env.running.tensorboard import TensorBoardCallback

    agent = request.agent
    config = request.config.model_copy(update={"task": _identified(request.config, request.config.task)})
    request = _resolved(replace(request, config=agent.configure(config)))
    config, directory, budget = request.config, request.directory, request.config.budget.total_tokens
    _check(config, [agent], [config.task])
    title = f"{agent.label} on {request.task_name}, seed {config.seed}"
    result = run(request, callbacks=[RunDisplay(title, budget), TensorBoardCallback(directory / "tensorboard", budget)])

    report = _write_report(directory, typed)
    if result.already_finished:
        print(f"{directory} was finished already; --overwrite runs it again")
    summary = result.summary
    spent = f"{summary['spent']:,} of {summary['budget']:,} completion tokens in {summary['steps']} steps"
    before = f"{summary['tokens_before_run']:,} completion tokens spent on training the agent"
    rows: Rows = [
        *result_rows(files.read_json(directory / "start.json"), summary),
        ("spent", spent),
        ("before", before),
    ]
    _table([*rows, ("student", directory / "student"), ("report", report), _curves(directory)])
    return 0


def _train(request: TrainingRequest, typed: str) -> int:
    from read_env.running.display import StderrConsole
    from read_env.running.training import train

    agent = request.agent
    tasks = tuple(_identified(request.config, task) for task in request.tasks or (request.config.task,))
    config = agent.configure(_plain(request.config)).model_copy(update={"task": tasks[0]})
    request = _resolved(replace(request, config=config, tasks=tasks))
    directory = request.directory
    _check(config, [], tasks)
    result = train(request, StderrConsole())
    if result.already_finished:
        print(f"{directory} was finished already; --overwrite trains again")
    rows: Rows = [
        ("agent", f"{result.agent}   (read-env run --agent {directory})"),
        ("spent", f"{result.tokens_before_run:,} completion tokens in {result.episodes} finished episodes"),
    ]
    if result.episodes:
        rows.append(("report", _write_report(directory, typed)))
    _table([*rows, _curves(directory)])
    return 0


def _compare(request: ComparisonRequest, typed: str) -> int:
    from read_env.running.comparison import compare

    request = _resolved(replace(request, config=_plain(request.config)))
    tasks = tuple(_identified(request.config, task) for task in request.tasks or (request.config.task,))
    request = replace(request, tasks=tasks)
    directory = request.directory
    _check(request.config, request.specs, tasks)
    result = compare(request)
    if len(result.failures) < result.runs:
        report = _write_report(directory, typed, request.reference)
        students = [(f"best student for {task}", path) for task, path in result.best_students.items()]
        _table([("report", report), *_pictures(directory), *students, _curves(directory)])
    return _failed(result.failures)


def _transfer(request: TransferRequest, typed: str) -> int:
    from read_env.running.tensorboard import write_pictures
    from read_env.running.transfer import transfer

    request = _resolved(replace(request, config=_plain(request.config)))
    directory = request.directory
    _check(request.config, [], [request.config.task])
    failures = transfer(request)
    if len(failures) < len(request.runs()):
        report = _write_report(directory, typed)
        pictures = _pictures(directory)
        write_pictures(directory / "tensorboard", {f"transfer/{path.stem}": path for _, path in pictures})
        _table([("report", report), *pictures, _curves(directory)])
    return _failed(failures)


def _identify(request: IdentifyRequest, typed: str) -> int:
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
    _table([*rows, ("card", f"{found.card}   (read-env run --task {found.card})"), ("report", report)])
    return _failed(found.failures)


def _check_configuration(request: CheckRequest, typed: str) -> int:
    from read_env.running.check import check

    config, note = _with_fitting_task(_plain(request.config))
    rows, ready = check(config)
    rows = [*note, *rows]
    refused = [text for name, text in rows if name == "refused"]
    _table([row for row in rows if row[0] != "refused"])
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


def _check_contamination(request: ContaminationRequest, typed: str) -> int:
    from read_env.capabilities import get_suite
    from read_env.capabilities.contamination import overlaps

    found = overlaps(get_suite(request.suite), request.file, request.draws, request.seeds)
    _table([(f"line {one.line}", f"{one.capability}, seed {one.seed}: {one.text[:80]!r}") for one in found])
    print(f"{len(found)} overlaps in the first {request.draws:,} draws of every stream, and all of a file")
    return 1 if found else 0


def _report(request: ReportRequest, typed: str) -> int:
    print(_write_report(Path(os.path.expanduser(request.directory)), "", request.reference))
    return 0


def _list(request: ListRequest, typed: str) -> int:
    from read_env.running.listing import describe

    _table(describe(request.kind, request.suite))
    return 0


#: Command -> what is parsed, the class of its configuration, and the function that carries it out.
_COMMANDS: Mapping[str, tuple[Any, type[Config] | None, Any]] = {
    "run": (RunRequest, Config, _run),
    "train": (TrainingRequest, TrainingConfig, _train),
    "compare": (ComparisonRequest, SharedConfig, _compare),
    "transfer-matrix": (TransferRequest, SharedConfig, _transfer),
    "identify": (IdentifyRequest, InterventionConfig, _identify),
    "check": (CheckRequest, Config, _check_configuration),
    "check-contamination": (ContaminationRequest, None, _check_contamination),
    "report": (ReportRequest, None, _report),
    "list": (ListRequest, None, _list),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        arguments: arguments without the name of the program. None: those of this process.

    Returns:
        Exit code: 0; 1 if some of many runs failed, ``check`` found something missing or ``check-contamination`` found an
        overlap; 2 for a mistake; 130 after Ctrl-C.
    """
    with forgiving_output():
        return _main(arguments)


def _main(arguments: Sequence[str] | None) -> int:
    try:
        with _plain_warnings():
            arguments = rename_arguments(sys.argv[1:] if arguments is None else arguments)
            base = load_preset(_preset(arguments))
        parsers = {
            name: functools.partial(request, config=config(**base.model_dump())) if config else request
            for name, (request, config, _) in _COMMANDS.items()
        }
        with _plain_field_names():
            request = tyro.extras.subcommand_cli_from_dict(
                parsers,
                prog="read-env",
                description="Budgeted distillation of language models, and agents that allocate the budget.",
                args=arguments,
                config=(tyro.conf.AvoidSubcommands, tyro.conf.FlagCreatePairsOff),
            )
        if isinstance(getattr(request, "config", None), Config):
            request = replace(request, config=fit_splits(request.config))
        execute = next(function for parsed, _, function in _COMMANDS.values() if isinstance(request, parsed))
        return int(execute(request, shlex.join(["read-env", *arguments])))
    except ReadEnvError as error:
        print(f"read-env: {error}", file=sys.stderr)
        return 2
    except ValidationError as error:  # tyro prints those of sections itself
        print(f"read-env: {describe(error, 'command line')}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"read-env: {describe_os_error(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nread-env: interrupted; the same command resumes after the last finished step", file=sys.stderr)
        return 130


@contextlib.contextmanager
def _plain_warnings() -> Iterator[None]:
    """Print warnings about old names as lines ``read-env: warning: …``."""

    def show(message: Warning | str, *_: Any, **__: Any) -> None:
        print(f"read-env: warning: {message}", file=sys.stderr)

    with warnings.catch_warnings():
        warnings.simplefilter("always", FutureWarning)
        warnings.showwarning = show
        yield


@contextlib.contextmanager
def _plain_field_names() -> Iterator[None]:
    """Remove tyro's prefix of field names and pydantic's links from the errors that tyro prints."""
    printed = io.StringIO()
    try:
        with contextlib.redirect_stderr(printed):
            yield
    finally:
        for line in printed.getvalue().splitlines():
            shown = line.replace("__tyro-dummy-inner__.config.", "")
            if "errors.pydantic.dev" not in line and "For further information visit" not in line:
                # The box keeps its right edge.
                print(shown[:-1] + " " * (len(line) - len(shown)) + shown[-1:], file=sys.stderr)


def _preset(arguments: Sequence[str]) -> str:
    """Name of the preset: the defaults of the other options come from it."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--preset", nargs="?", default="micro", const="micro")
    return str(parser.parse_known_args(arguments)[0].preset)


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


def _identified(config: Config, task: str) -> str:
    """The task, or the card that its identification ends with where its requirement is not known."""
    from read_env.running.identify import identified

    found = identified(_plain(config), task)
    if found != task:
        print(f"read-env: the requirement of {task} was inferred: {found}", file=sys.stderr)
    return found


def _write_report(directory: Path, typed: str, reference: str = "task-static") -> Path:
    """Write the report of a directory; a ``typed`` command is first added to ``commands.txt``, which the report shows."""
    from read_env import files, reporting
    from read_env.running.directory import RecordDirectory

    identity = RecordDirectory(directory).identity
    if not identity.exists():
        raise ReadEnvError(f"{directory} holds no run, comparison, transfer matrix or training")
    if typed:
        path = directory / "commands.txt"
        known = files.read_text(path).splitlines() if path.exists() else []
        files.write_text(path, "".join(f"{line}\n" for line in dict.fromkeys([*known, typed])))
    kind = str(files.read_json(identity).get("kind", ""))
    if kind == "comparison":
        return reporting.comparison_report(directory, reference=reference)
    reports = {
        "training": reporting.training_report, "transfer": reporting.transfer_report,
        "identification": reporting.identification_report,
    }  # fmt: skip
    return reports.get(kind, reporting.run_report)(directory)


def _pictures(directory: Path) -> Rows:
    return [("picture", picture) for picture in sorted(directory.glob("*.png"))]


def _curves(directory: Path) -> tuple[str, str]:
    return "curves", f"tensorboard --logdir {directory}"


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


if __name__ == "__main__":
    sys.exit(main())
