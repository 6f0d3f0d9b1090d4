"""Requests of one run or training: the options of a command and, at once, the argument of the function that carries it out.

The docstrings are the help texts of the command line.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, ClassVar, Protocol, TypeVar

import numpy as np
import tyro

from read_env.config import Config
from read_env.digests import content_digest
from read_env.distillation.models.sources import EMBEDDED
from read_env.distillation.starts import EVEN, parse_past
from read_env.errors import ReadEnvError
from read_env.running.agents import AgentSpec, build_agent
from read_env.running.identity import RunIdentity, card_fingerprint, settings_of
from read_env.surrogate.model import surrogate_digest

_Request = TypeVar("_Request", bound="_Configured")

#: The configuration's fields are options without a prefix: ``--task``, ``--budget.total-tokens``.
FlatConfig = Annotated[Config, tyro.conf.arg(name="")]

#: Option of the commands that make many runs or long ones.
Cluster = Annotated[
    str,
    tyro.conf.arg(
        help="Ray cluster that does the work, each run as a task of its own: auto for the one that this machine belongs to, or "
        "the address of its head, HOST:6379. Needs the extra ``ray``. Empty: this machine."
    ),
]


class _Configured(Protocol):
    """Request with a configuration."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def config(self) -> Config: ...


def expanded(directory: Path | None) -> Path | None:
    """Directory with the home directory in place of ``~``."""
    return directory and Path(os.path.expanduser(directory))


@dataclass(frozen=True)
class RunRequest:
    """Run one budgeted distillation: a distilled student and a report. Interrupted, the same command resumes it."""

    config: FlatConfig
    out: Path | None = None
    """Directory of the run. None: runs/AGENT__TASK__seedN."""
    overwrite: bool = False
    """Delete an earlier run in that directory first."""
    push_to_hub: str = ""
    """Repository of the hub, NAME or ORGANISATION/NAME, to which the student is uploaded with its card. Empty: none."""
    keep: int = 0
    """Save the student after every KEEP steps as well, whole, in OUT/students/step-000010 and so on. 0: only at the end."""
    exam_at: tyro.conf.Suppress[tuple[int, ...]] = ()
    """Completion tokens after which the exam is held during the run, for transfer matrices."""
    label: tyro.conf.Suppress[str] = ""
    """Name of the agent in reports. Empty: the name with its options."""

    def __post_init__(self) -> None:
        if self.keep < 0:
            raise ReadEnvError(
                f"keep is {self.keep}; right would be a number of steps, or 0 for the last student alone"
            )

    @cached_property
    def agent(self) -> AgentSpec:
        """Agent of the configuration.

        Raises:
            ReadEnvError: unknown agent.
        """
        return AgentSpec.parse(self.config.agent, self.config.agent_options, label=self.label)

    @cached_property
    def task_name(self) -> str:
        """Name on the task card, with the starting student: ``tutor@clerk``; ``tutor`` for the student as it was loaded."""
        return at_student(task_names(self.config, [self.config.task])[0], self.config.models.start)

    @property
    def directory(self) -> Path:
        """Directory of the records, the checkpoint and the student."""
        return expanded(self.out) or Path("runs") / f"{self.agent.label}__{self.task_name}__seed{self.config.seed}"

    @property
    def identity(self) -> RunIdentity:
        """Identity that a resumed run must have."""
        return RunIdentity.of_run(self.config, agent_path=self.agent.path, exam_at=list(self.exam_at))

    @property
    def recorded(self) -> dict[str, Any]:
        """Content of ``config.json``."""
        return self.config.model_dump(mode="json")


@dataclass(frozen=True)
class DistillRequest:
    """Distil a student for a task of your own: check, infer what the task needs, run, exam, student with a model card.

    Interrupted in any stage, the same command goes on. Teacher and student are those of the preset unless they are given;
    the preset is ``micro`` with the models that ship, and ``instruct`` with others.
    """

    config: FlatConfig
    teacher: str = ""
    """Teacher, as in models.teacher."""
    student: str = ""
    """Student, as in models.student."""
    describe: str = ""
    """Description of a task that is a file of prompts, in one or two sentences. It stands on the card."""
    out: Path | None = None
    """Directory of the run, with the student in it. None: runs/distill-TASK."""
    dry_run: bool = False
    """Print what each stage will cost, and stop after the check."""
    processes: int = 0
    """Worker processes of the interventions, each with models of its own and models.threads torch threads. 0: one per GPU; without
    a GPU, one per core, or as many as the free memory has room for."""
    push_to_hub: str = ""
    """Repository of the hub, NAME or ORGANISATION/NAME, to which the student is uploaded with its card. Empty: none."""
    overwrite: bool = False
    """Delete an earlier run in that directory first."""

    @property
    def configured(self) -> Config:
        """Configuration with the models that were given.

        Raises:
            ReadEnvError: no task.
        """
        if not self.config.task:
            raise ReadEnvError(
                "task: none is given; right would be --task my_task.jsonl, a file of prompts with answers, or a .toml card. A "
                "description alone is not enough: the student is measured on answers"
            )
        given = {name: value for name in ("teacher", "student") if (value := getattr(self, name))}
        models = self.config.models.model_copy(update=given)
        for name in ("teacher", "student"):
            if self.config.preset == "instruct" and getattr(models, name).startswith(EMBEDDED):
                raise ReadEnvError(
                    f"{name}: none is given; right would be --{name} with a folder, a hub id or a GGUF file"
                )
        return self.config.model_copy(update={"models": models})

    def run(self, config: Config) -> RunRequest:
        """The run of a configuration whose task has a requirement."""
        names = task_names(config, [config.task])
        directory = expanded(self.out) or Path("runs") / f"distill-{names[0]}"
        return RunRequest(config, directory, overwrite=self.overwrite, push_to_hub=self.push_to_hub)


@dataclass(frozen=True)
class TrainingRequest:
    """Train an allocation policy over many episodes and tasks."""

    config: FlatConfig
    tasks: tuple[str, ...] = ()
    """Tasks, one drawn for each episode: names or .toml files of task cards. None given: the preset's task."""
    steps: int = 200
    """Environment steps, over all episodes and environments."""
    out: Path | None = None
    """Directory of the training. None: runs/train-AGENT."""
    overwrite: bool = False
    """Delete an earlier training in that directory first."""
    students: tuple[str, ...] = ()
    """Starting students, one drawn for each episode; as in models.start, which is used if none is given."""
    envs: int = 1
    """Environments that run at the same time, each in a worker process with its own models; on a surrogate, all in this
    process. 1: one, in this process."""
    on: str = ""
    """Surrogate to train on, in place of real models: ``micro``, or a file of ``read-env surrogate fit``. Empty: real models."""
    then_steps: int = 0
    """Environment steps on real models after those on a surrogate, in one environment, recorded in OUT/real. 0: none."""
    cluster: Cluster = ""
    push_to_hub: str = ""
    """Repository of the hub, NAME or ORGANISATION/NAME, to which the agent is uploaded with its card. Empty: none."""

    def then_real(self, agent: Path) -> TrainingRequest:
        """Request that goes on with an agent on real models."""
        config = self.config.model_copy(update={"agent": str(agent), "agent_options": {}})
        return replace(
            self, config=config, steps=self.then_steps, out=self.directory / "real", envs=1, on="", then_steps=0
        )

    @cached_property
    def agent(self) -> AgentSpec:
        """Agent of the configuration: a new one, or a saved one that is trained further."""
        return AgentSpec.parse(self.config.agent, self.config.agent_options)

    @property
    def directory(self) -> Path:
        """Directory of the records and of ``agent.zip``."""
        return expanded(self.out) or Path("runs") / f"train-{self.agent.label}"

    @property
    def settings(self) -> dict[str, Any]:
        """Settings beside configuration and tasks; those that are not given are absent, as in earlier records."""
        given = {"envs": self.envs if self.envs > 1 else 0, "students": list(self.students), "on": self.on}
        return {"steps": self.steps, **{name: value for name, value in given.items() if value}}

    @property
    def recorded(self) -> dict[str, Any]:
        """Content of ``config.json``."""
        return {**self.config.model_dump(mode="json"), "tasks": list(self.tasks), **self.settings}

    @property
    def drawn(self) -> dict[str, Any]:
        """Arguments of the environment: the tasks and starting students of which it draws one for each episode."""
        return {"tasks": self.tasks, "students": self.students or None}

    @property
    def identity(self) -> RunIdentity:
        """Identity that a resumed training must have."""
        cards = {f"task {name}": card_fingerprint(name, self.config.suite) for name in self.tasks}
        shared = RunIdentity.of_many("training", self.config)
        settings = {**shared.settings, **settings_of(self.config, {"task"}, self.tasks), **self.settings}
        contents = {**shared.contents, **cards}
        if self.agent.path is not None:
            contents["agent"] = content_digest(self.agent.path)
        if self.on:
            contents["on"] = surrogate_digest(self.on)
        return RunIdentity("training", settings, contents)


def resolved(request: _Request) -> _Request:
    """The request with a value for every ``auto`` of its configuration.

    Raises:
        ReadEnvError: the student's files can't be read, or an unknown suite.
    """
    if request.config.resolved:
        return request  # torch need not be imported
    from read_env.distillation.defaults import resolve

    return replace(request, config=resolve(request.config))


def check_agents(config: Config, agents: Sequence[AgentSpec], tasks: Sequence[str]) -> None:
    """Check that every agent can be made and can act on every task, before models are loaded.

    Raises:
        ReadEnvError: an unknown suite, task or option, or an agent that has to be trained first.
    """
    from read_env.capabilities import get_suite
    from read_env.tasks import load_task

    suite = get_suite(config.suite)
    cards = [load_task(task, suite) for task in tasks]
    check_students(config, [config.models.start])
    for agent in agents:
        built = build_agent(agent, suite, config.seed, config.budget.may_stop)
        for card in cards:
            known = card.identified  # else it is inferred before a run, and may turn out to be any
            built.check_task(card.requirement_vector(suite) if known else np.full(len(suite), 1 / len(suite)))


def check_students(config: Config, starts: Sequence[str]) -> None:
    """Raise for starting students that can't be made."""
    from read_env.capabilities import get_suite

    for start in starts:
        parse_past(start, get_suite(config.suite).names)


def at_student(task: str, start: str) -> str:
    """Name of a task with a starting student.

    >>> at_student("tutor", "clerk"), at_student("tutor", "even")
    ('tutor@clerk', 'tutor')
    """
    return task if start == EVEN else f"{task}@{start}"


def task_names(config: Config, tasks: Sequence[str]) -> list[str]:
    """Names on the cards of tasks."""
    from read_env.capabilities import get_suite
    from read_env.tasks import load_task

    suite = get_suite(config.suite)
    return [load_task(task, suite).name for task in tasks]
