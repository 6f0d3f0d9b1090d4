"""The command line: ``read-env run``, ``train``, ``compare``, ``transfer``, ``check``, ``contaminate``, ``report``
and ``list``.

A preset fills the configuration first, options override it second::

    read-env run --preset micro --task bookkeeper --agent read-bandit --budget.total-tokens 80000

Nothing here imports torch before a command has been understood: help and mistakes answer at once.
"""

from __future__ import annotations

import contextlib
import functools
import io
import shlex
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from read_env.config import Config, load_preset, make_config
from read_env.deprecated import rename_arguments
from read_env.errors import ReadEnvError

if TYPE_CHECKING:
    from read_env.running.agents import AgentSpec
    from read_env.running.runner import Watcher


class SharedConfig(Config):
    """The configuration that many runs share: each has its own agent, task and seed."""

    task: Annotated[str, tyro.conf.Suppress] = ""
    agent: Annotated[str, tyro.conf.Suppress] = ""
    agent_options: Annotated[dict[str, str | int | float | bool], tyro.conf.Suppress] = {}
    seed: Annotated[int, tyro.conf.Suppress] = 0


class TrainingConfig(Config):
    """The configuration of a training: tasks are drawn anew for each episode."""

    task: Annotated[str, tyro.conf.Suppress] = ""


_Flat = tyro.conf.arg(name="")


@dataclass(frozen=True)
class Run:
    """One budgeted run: a distilled student and a report. Interrupted, the same command goes on."""

    config: Annotated[Config, _Flat]
    out: Path | None = None
    """Directory of the run; runs/AGENT__TASK__seedN if not given."""
    overwrite: bool = False
    """Delete an earlier run in that directory first."""

    def __call__(self, typed: str) -> int:
        from read_env.running.agents import AgentSpec
        from read_env.running.display import RunDisplay
        from read_env.running.runner import RunRequest, run
        from read_env.running.tensorboard import TensorBoardWatcher

        agent = AgentSpec.parse(self.config.agent, self.config.agent_options)
        config = self.config.model_copy(update={"agent": agent.name, "agent_options": dict(agent.options)})
        task = _check(config, [agent])[0]
        directory = self.out or Path("runs") / f"{agent.label}__{task}__seed{config.seed}"
        request = RunRequest(config, agent, directory, overwrite=self.overwrite)
        budget = config.budget.total_tokens
        title = f"{agent.label} on {task}, seed {config.seed}"
        watchers: list[Watcher] = [RunDisplay(title, budget), TensorBoardWatcher(directory / "tensorboard", budget)]
        result = run(request, watchers=watchers)

        from read_env.reporting import run_report

        _remember(directory, typed)
        report = run_report(directory)
        if result.already_finished:
            print(f"{directory} was finished already; --overwrite runs it again")
        summary = result.summary
        _table(
            [
                ("utility", f"{summary['utility_start']:.4f} -> {summary['utility']:.4f} (probes)"),
                (
                    "exam",
                    f"{summary['exam_utility_start']:.4f} -> {summary['exam_utility']:.4f} (exact match, held out)",
                ),
                (
                    "spent",
                    f"{summary['spent']:,} of {summary['budget']:,} completion tokens in {summary['steps']} steps",
                ),
                ("before", f"{summary['tokens_before_run']:,} completion tokens spent on training the agent"),
                ("student", directory / "student"),
                ("report", report),
                ("curves", f"tensorboard --logdir {directory}"),
            ]
        )
        return 0


@dataclass(frozen=True)
class Train:
    """Train an allocation policy over many episodes and tasks."""

    config: Annotated[TrainingConfig, _Flat]
    tasks: tuple[str, ...] = ()
    """One is drawn for each episode; the preset's task if none is given."""
    steps: int = 200
    """Environment steps."""
    out: Path | None = None
    """Directory of the training; runs/train-AGENT if not given."""
    overwrite: bool = False
    """Delete an earlier training in that directory first."""

    def __call__(self, typed: str) -> int:
        from rich.console import Console

        from read_env.running.agents import AgentSpec
        from read_env.running.training import TrainingRequest, train

        agent = AgentSpec.parse(self.config.agent, self.config.agent_options)
        tasks = self.tasks or (self.config.task,)
        changes = {"agent": agent.name, "agent_options": dict(agent.options), "task": tasks[0]}
        config = _plain(self.config, **changes)
        _check(config, [agent], tasks, training=True)
        directory = self.out or Path("runs") / f"train-{agent.label}"
        request = TrainingRequest(config, agent, tasks, self.steps, directory, self.overwrite)
        result = train(request, Console(stderr=True))
        if result.already_finished:
            print(f"{directory} was finished already; --overwrite trains again")
        lines: list[tuple[str, Any]] = [
            ("agent", f"{result.agent}   (read-env run --agent {directory})"),
            ("spent", f"{result.tokens_before_run:,} completion tokens in {result.episodes} finished episodes"),
        ]
        if result.episodes:
            from read_env.reporting import training_report

            _remember(directory, typed)
            lines.append(("report", training_report(directory)))
        _table([*lines, ("curves", f"tensorboard --logdir {directory}")])
        return 0


@dataclass(frozen=True)
class Compare:
    """Agents x tasks x seeds in parallel processes, at one budget and on common prompts."""

    config: Annotated[SharedConfig, _Flat]
    agents: tuple[str, ...] = ("read-bandit", "task-static", "water-filling", "uniform")
    """NAME, NAME,option=value,... or the path of a saved agent."""
    tasks: tuple[str, ...] = ()
    """Names or .toml files of task cards; the preset's task if none is given."""
    seeds: tuple[int, ...] = (0, 1, 2)
    processes: int = 0
    """Worker processes, one torch thread each; 0: one a core."""
    out: Path | None = None
    """Directory of the comparison; runs/compare-PRESET if not given."""
    students: bool = False
    """Keep every student, not only the best of each task by dev utility."""
    reference: str = "task-static"
    """The agent that the report compares the others with."""
    overwrite: bool = False
    """Delete an earlier comparison in that directory first."""

    def __call__(self, typed: str) -> int:
        from read_env.running.agents import AgentSpec
        from read_env.running.comparison import ComparisonRequest, compare

        agents = tuple(AgentSpec.parse(agent) for agent in self.agents)
        tasks = self.tasks or (self.config.task,)
        config = _plain(self.config)
        _check(config, agents, tasks)
        directory = self.out or Path("runs") / f"compare-{Path(config.preset).stem}"
        request = ComparisonRequest(
            config, agents, tasks, self.seeds, directory, self.processes or _cores(), self.students, self.overwrite
        )
        result = compare(request)
        if len(result.failures) == len(agents) * len(tasks) * len(self.seeds):
            return _failed(result.failures)

        from read_env.reporting import comparison_report

        _remember(directory, typed)
        report = comparison_report(directory, reference=self.reference)
        lines: list[tuple[str, Any]] = [("report", report)]
        lines += [("picture", picture) for picture in sorted(directory.glob("*.png"))]
        lines += [(f"best student for {task}", path) for task, path in result.best_students.items()]
        lines.append(("curves", f"tensorboard --logdir {directory}"))
        _table(lines)
        return _failed(result.failures)


@dataclass(frozen=True)
class Transfer:
    """The transfer matrix at several budgets, from one-hot runs."""

    config: Annotated[SharedConfig, _Flat]
    budgets: tuple[int, ...] = (20_000, 40_000, 80_000)
    """Completion tokens; one run a capability and seed goes to the largest."""
    seeds: tuple[int, ...] = (0, 1, 2)
    capabilities: tuple[str, ...] = ()
    """Where the tokens go; all of the suite if none is given."""
    processes: int = 0
    """Worker processes, one torch thread each; 0: one a core."""
    out: Path | None = None
    """Directory of the matrix; runs/transfer-PRESET if not given."""
    overwrite: bool = False
    """Delete an earlier matrix in that directory first."""

    def __call__(self, typed: str) -> int:
        from read_env.running.tensorboard import write_pictures
        from read_env.running.transfer import TransferRequest, transfer

        config = _plain(self.config)
        _check(config, [])
        directory = self.out or Path("runs") / f"transfer-{Path(config.preset).stem}"
        processes = self.processes or _cores()
        request = TransferRequest(
            config, self.budgets, self.seeds, directory, self.capabilities, processes, self.overwrite
        )
        failures = transfer(request)
        if len(failures) == len(request.runs()):
            return _failed(failures)

        from read_env.reporting import transfer_report

        _remember(directory, typed)
        report = transfer_report(directory)
        pictures = sorted(directory.glob("*.png"))
        write_pictures(directory / "tensorboard", {f"transfer/{p.stem}": p for p in pictures})
        lines: list[tuple[str, Any]] = [("report", report), *(("picture", picture) for picture in pictures)]
        _table([*lines, ("curves", f"tensorboard --logdir {directory}")])
        return _failed(failures)


@dataclass(frozen=True)
class Check:
    """Parameters, memory by part and seconds a chunk of a configuration; what is missing, and how to get it.

    The exit code is 0 if all is there, 1 if something is missing, 2 for a mistake. Needs no network.
    """

    config: Annotated[SharedConfig, _Flat]

    def __call__(self, typed: str) -> int:
        from read_env.running.check import check

        found = check(_plain(self.config))
        _table(found.rows)
        return 0 if found.ready else 1


@dataclass(frozen=True)
class Contaminate:
    """Whether training prompts stand in a file of evaluation prompts; --decontamination-files FILE keeps them out of a run."""

    file: tyro.conf.Positional[Path]
    """JSON lines with a prompt or question, or a .txt with one a line."""
    suite: str = "micro"
    """Whose training prompts."""
    seeds: tuple[int, ...] = (0,)
    """Of the training streams."""
    draws: int = 20_000
    """First draws of every stream that are looked at; of a file all prompts are."""

    def __call__(self, typed: str) -> int:
        from read_env.capabilities import get_suite
        from read_env.capabilities.contamination import overlaps

        found = overlaps(get_suite(self.suite), self.file, self.draws, self.seeds)
        _table([(f"line {one.line}", f"{one.capability}, seed {one.seed}: {one.text[:80]!r}") for one in found])
        print(f"{len(found)} overlaps in the first {self.draws:,} draws of every stream, and all of a file")
        return 1 if found else 0


@dataclass(frozen=True)
class Report:
    """Make the report of a run, comparison, transfer matrix or training again, from its records."""

    directory: tyro.conf.Positional[Path]
    reference: str = "task-static"
    """The agent that a comparison's report compares the others with."""

    def __call__(self, typed: str) -> int:
        from read_env import reporting
        from read_env.files import read_json
        from read_env.running.directory import RecordDirectory

        identity = RecordDirectory(self.directory).identity
        if not identity.exists():
            raise ReadEnvError(f"{self.directory} holds no run, comparison, transfer matrix or training")
        kind = read_json(identity).get("kind")
        if kind == "comparison":
            report = reporting.comparison_report(self.directory, reference=self.reference)
        elif kind == "transfer":
            report = reporting.transfer_report(self.directory)
        elif kind == "training":
            report = reporting.training_report(self.directory)
        else:
            report = reporting.run_report(self.directory)
        print(report)
        return 0


@dataclass(frozen=True)
class List:
    """What can be named in the other commands."""

    kind: tyro.conf.Positional[Literal["agents", "tasks", "presets", "losses", "capabilities"]]
    suite: str = "micro"
    """Whose capabilities."""

    def __call__(self, typed: str) -> int:
        from read_env.running.listing import describe

        _table(describe(self.kind, self.suite))
        return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command.

    The exit code is 0; 1 if some of many runs failed, something that ``check`` looked for is missing or ``contaminate``
    found an overlap; 2 for a mistake; 130 after Ctrl-C.
    """
    try:
        arguments = rename_arguments(sys.argv[1:] if arguments is None else arguments)
        base = load_preset(_preset(arguments))
        with _plain_field_names():
            command = tyro.extras.subcommand_cli_from_dict(
                {
                    "run": functools.partial(Run, config=base),
                    "train": functools.partial(Train, config=TrainingConfig(**base.model_dump())),
                    "compare": functools.partial(Compare, config=SharedConfig(**base.model_dump())),
                    "transfer-matrix": functools.partial(Transfer, config=SharedConfig(**base.model_dump())),
                    "check": functools.partial(Check, config=SharedConfig(**base.model_dump())),
                    "check-contamination": Contaminate,
                    "report": Report,
                    "list": List,
                },
                prog="read-env",
                description="Budgeted distillation of language models, and agents that allocate the budget.",
                args=arguments,
                config=(tyro.conf.AvoidSubcommands, tyro.conf.FlagCreatePairsOff),
            )
        return int(command(shlex.join(["read-env", *arguments])))
    except ReadEnvError as error:
        print(f"read-env: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nread-env: interrupted; the same command goes on from the last finished step", file=sys.stderr)
        return 130


@contextlib.contextmanager
def _plain_field_names() -> Iterator[None]:
    """Takes what tyro puts before a field's name, and pydantic's links, out of the errors that tyro prints."""
    printed = io.StringIO()
    try:
        with contextlib.redirect_stderr(printed):
            yield
    finally:
        for line in printed.getvalue().splitlines():
            shown = line.replace("__tyro-dummy-inner__.config.", "")
            if "errors.pydantic.dev" in line or "For further information visit" in line:
                continue
            # The box keeps its right edge.
            print(shown[:-1] + " " * (len(line) - len(shown)) + shown[-1:], file=sys.stderr)


def _preset(arguments: Sequence[str]) -> str:
    """The preset must be known before the other options: it is their default."""
    name = "micro"
    for position, argument in enumerate(arguments):
        if argument == "--preset" and position + 1 < len(arguments):
            name = arguments[position + 1]
        elif argument.startswith("--preset="):
            name = argument.removeprefix("--preset=")
    return name


def _plain(config: Config, **changes: Any) -> Config:
    """The configuration without what only the command line needs."""
    return make_config({**config.model_dump(), **changes}, "configuration")


def _check(
    config: Config, agents: Sequence[AgentSpec], tasks: Sequence[str] = (), *, training: bool = False
) -> list[str]:
    """Names of the tasks; raises for whatever is unknown or can't act yet, before models are loaded."""
    from read_env.capabilities import get_suite
    from read_env.losses import check_loss
    from read_env.running.agents import build_agent
    from read_env.tasks import load_task

    suite = get_suite(config.suite)
    cards = [load_task(task, suite) for task in tasks or [config.task]]
    for agent in agents:
        built = build_agent(agent, suite, config.seed)
        if training:
            continue
        for card in cards:
            built.check_task(card.requirement_vector(suite))
        if agent.path is None and agent.name.startswith("sb3"):
            print(f"read-env: {agent.name} is untrained here; read-env train makes one that isn't", file=sys.stderr)
    check_loss(config.distill.loss)
    return [card.name for card in cards]


def _remember(directory: Path, typed: str) -> None:
    """Adds the command to ``commands.txt``, once: the report says where it comes from."""
    from read_env import files

    path = directory / "commands.txt"
    known = path.read_text().splitlines() if path.exists() else []
    files.write_atomic(path, "".join(f"{line}\n" for line in dict.fromkeys([*known, typed])).encode())


def _cores() -> int:
    import os

    # Those that this process may use; a container often has fewer than the machine.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _failed(failures: Any) -> int:
    for name, error in failures.items():
        print(f"read-env: {name} failed: {error}", file=sys.stderr)
    if failures:
        print("read-env: the same command runs what is missing", file=sys.stderr)
    return 1 if failures else 0


def _table(rows: Sequence[tuple[str, Any]]) -> None:
    width = max((len(name) for name, _ in rows), default=0)
    for name, value in rows:
        print(f"{name:<{width}}  {value}".rstrip())


if __name__ == "__main__":
    sys.exit(main())
