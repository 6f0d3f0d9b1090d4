"""Requests: the options of a command and, at once, the argument of the function that carries it out.

The docstrings are the help texts of the command line.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Annotated, Any, TypeVar

import numpy as np
import tyro

from read_env.config import Config
from read_env.digests import content_digest
from read_env.distillation.models.sources import EMBEDDED
from read_env.distillation.starts import EVEN, parse_past
from read_env.errors import ReadEnvError, unknown
from read_env.running.agents import AgentSpec, build_agent
from read_env.running.identity import RunIdentity, card_fingerprint, settings_of
from read_env.surrogate.model import surrogate_digest
from read_env.tasks.interventions import interventions, seeds_of

_Request = TypeVar(
    "_Request", "RunRequest", "TrainingRequest", "ComparisonRequest", "TransferRequest", "IdentifyRequest"
)

#: The configuration's fields are options without a prefix: ``--task``, ``--budget.total-tokens``.
FlatConfig = Annotated[Config, tyro.conf.arg(name="")]


def _expanded(directory: Path | None) -> Path | None:
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
    exam_at: tyro.conf.Suppress[tuple[int, ...]] = ()
    """Completion tokens after which the exam is held during the run, for transfer matrices."""
    label: tyro.conf.Suppress[str] = ""
    """Name of the agent in reports. Empty: the name with its options."""

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
        return at_student(_task_names(self.config, [self.config.task])[0], self.config.models.start)

    @property
    def directory(self) -> Path:
        """Directory of the records, the checkpoint and the student."""
        return _expanded(self.out) or Path("runs") / f"{self.agent.label}__{self.task_name}__seed{self.config.seed}"

    @property
    def identity(self) -> RunIdentity:
        """Identity that a resumed run must have."""
        return RunIdentity.of_run(self.config, agent_path=self.agent.path, exam_at=list(self.exam_at))


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
    """Worker processes of the interventions, one torch thread each. 0: one per core."""
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
        names = _task_names(config, [config.task])
        directory = _expanded(self.out) or Path("runs") / f"distill-{names[0]}"
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
    push_to_hub: str = ""
    """Repository of the hub, NAME or ORGANISATION/NAME, to which the agent is uploaded with its card. Empty: none."""

    @cached_property
    def agent(self) -> AgentSpec:
        """Agent of the configuration: a new one, or a saved one that is trained further."""
        return AgentSpec.parse(self.config.agent, self.config.agent_options)

    @property
    def directory(self) -> Path:
        """Directory of the records and of ``agent.zip``."""
        return _expanded(self.out) or Path("runs") / f"train-{self.agent.label}"

    @property
    def settings(self) -> dict[str, Any]:
        """Settings beside configuration and tasks; those that are not given are absent, as in earlier records."""
        given = {"envs": self.envs if self.envs > 1 else 0, "students": list(self.students), "on": self.on}
        return {"steps": self.steps, **{name: value for name, value in given.items() if value}}

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


@dataclass(frozen=True)
class ComparisonRequest:
    """Compare agents x tasks x seeds in parallel processes, at one budget and on common prompts."""

    config: FlatConfig
    agents: tuple[str, ...] = ("read-bandit", "task-static", "water-filling", "uniform")
    """Agents: NAME, NAME,option=value,... or the path of a saved agent."""
    tasks: tuple[str, ...] = ()
    """Tasks: names or .toml files of task cards. None given: the preset's task."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Seeds of prompts and agents. The default is the fewest that show a spread."""
    processes: int = 0
    """Worker processes, one torch thread each. 0: one per core."""
    out: Path | None = None
    """Directory of the comparison. None: runs/compare-PRESET."""
    keep_students: bool = False
    """Keep every student. By default only the best one of each task by dev utility is kept."""
    reference: str = "task-static"
    """Agent that the report compares the others with."""
    overwrite: bool = False
    """Delete an earlier comparison in that directory first."""
    students: tuple[str, ...] = ()
    """Starting students, each with every task; as in models.start, which is used if none is given."""
    labels: tyro.conf.Suppress[tuple[str, ...]] = ()
    """Names of the agents in reports, in the order of ``agents``. None given: their names with their options."""

    @cached_property
    def specs(self) -> tuple[AgentSpec, ...]:
        """Agents, parsed."""
        labels = self.labels or ("",) * len(self.agents)
        return tuple(AgentSpec.parse(agent, label=label) for agent, label in zip(self.agents, labels, strict=True))

    @property
    def directory(self) -> Path:
        """Directory of the comparison; its runs are in ``runs/AGENT__TASK__seedN/``."""
        return _expanded(self.out) or Path("runs") / f"compare-{Path(self.config.preset).stem}"

    @property
    def task_names(self) -> list[str]:
        """Names on the task cards, each with every starting student."""
        names = _task_names(self.config, self.tasks or (self.config.task,))
        return [at_student(name, start) for name in names for start in self._starts]

    @property
    def _starts(self) -> tuple[str, ...]:
        return self.students or (self.config.models.start,)

    def runs(self) -> dict[str, RunRequest]:
        """Run name -> run, in the order in which the runs are started.

        Raises:
            ReadEnvError: an unknown task or agent option, or two agents or tasks of one name. Nothing has run by then.
        """
        tasks, names = self.tasks or (self.config.task,), self.task_names
        check_agents(self.config, self.specs, tasks)
        _distinct("agents", [agent.label for agent in self.specs])
        check_students(self.config, self._starts)
        _distinct("tasks", names)
        _distinct("seeds", [str(seed) for seed in self.seeds])
        runs = {}
        for seed in self.seeds:
            for (task, start), task_name in zip(product(tasks, self._starts), names, strict=True):
                models = self.config.models.model_copy(update={"start": start})
                for agent in self.specs:
                    name = f"{agent.label}__{task_name}__seed{seed}"
                    changes = {"task": task, "seed": seed, "models": models}
                    config = agent.configure(self.config).model_copy(update=changes)
                    runs[name] = RunRequest(config, self.directory / "runs" / name, label=agent.label)
        return runs


@dataclass(frozen=True)
class TransferRequest:
    """Measure the transfer matrix at several budgets, from one-hot runs."""

    config: FlatConfig
    budgets: tuple[int, ...] = (20_000, 40_000, 80_000)
    """Completion tokens at which the matrix is measured. There is one run per capability and seed, to the largest."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Seeds of the prompts. The default is the fewest that show a spread."""
    capabilities: tuple[str, ...] = ()
    """Source capabilities, each trained alone. None given: all of the suite."""
    processes: int = 0
    """Worker processes, one torch thread each. 0: one per core."""
    out: Path | None = None
    """Directory of the matrix. None: runs/transfer-PRESET."""
    overwrite: bool = False
    """Delete an earlier matrix in that directory first."""

    @property
    def directory(self) -> Path:
        """Directory of the matrix; its runs are in ``runs/one-hot-CAPABILITY__seedN/``."""
        return _expanded(self.out) or Path("runs") / f"transfer-{Path(self.config.preset).stem}"

    def runs(self) -> dict[str, RunRequest]:
        """Run name -> run.

        Raises:
            ReadEnvError: no budget or seed, a budget that is not positive, or an unknown capability.
        """
        from read_env.capabilities import get_suite

        names = get_suite(self.config.suite).names
        for capability in self.capabilities:
            if capability not in names:
                raise unknown("capability", capability, names)
        if not self.budgets or min(self.budgets) <= 0:
            raise ReadEnvError(f"budgets: name at least one, each above 0, got {list(self.budgets)}")
        if not self.seeds:
            raise ReadEnvError("seeds: name at least one")
        budgets = tuple(sorted(set(self.budgets)))
        step = step_tokens(budgets, self.config.budget.step_tokens)
        budget = self.config.budget.model_copy(update={"total_tokens": budgets[-1], "step_tokens": step})
        runs = {}
        for seed in dict.fromkeys(self.seeds):
            for capability in self.capabilities or names:
                label = f"one-hot-{capability}"
                agent = {"agent": "one-hot", "agent_options": {"capability": capability}}
                config = self.config.model_copy(update={**agent, "seed": seed, "budget": budget})
                name = f"{label}__seed{seed}"
                runs[name] = RunRequest(config, self.directory / "runs" / name, exam_at=budgets, label=label)
        return runs


@dataclass(frozen=True)
class IdentifyRequest:
    """Infer what a task needs from short runs on different allocations, and write a card with the requirement."""

    config: FlatConfig
    students: tuple[str, ...] = ()
    """Starting students; as in models.start, which is used if none is given."""
    seeds: tuple[int, ...] = (0, 1)
    """Seeds of the prompts, taken in turn by blocks of interventions; a further round of an axial design adds 1,000."""
    processes: int = 0
    """Worker processes, one torch thread each. 0: one per core."""
    out: Path | None = None
    """File of the card. None: card.toml in the directory of the interventions."""
    runs_dir: Path | None = None
    """Directory of the interventions. None: runs/identify-TASK."""
    overwrite: bool = False
    """Delete earlier interventions in that directory first."""
    describe: str = ""
    """Description of a task that is a file of prompts, in one or two sentences. It stands on the card."""

    @property
    def directory(self) -> Path:
        """Directory of the interventions."""
        return _expanded(self.runs_dir) or Path("runs") / f"identify-{_task_names(self.config, [self.config.task])[0]}"

    @property
    def settings(self) -> dict[str, Any]:
        """Settings beside the configuration."""
        return {
            **self.config.identify.model_dump(), "seeds": list(self.seeds),
            "students": list(self.students or (self.config.models.start,)),
        }  # fmt: skip

    def shared(self, task: str) -> Config:
        """Configuration of every intervention, on the card in the file ``task``; only their probes are measured."""
        budget, sizes, asked = self.config.budget, self.config.eval, self.config.identify
        tokens = asked.tokens // max(asked.interventions, 1) or 2 * budget.step_tokens
        least = {"dev": 1, "exam": 1, "task_dev": 1, "task_exam": 1, "score_teacher": "never"}
        # An average over the last updates would still be near the starting student after so few of them.
        least["ema_decay"] = 0.0
        return self.config.model_copy(
            update={
                "task": task,
                "agent": "fixed",
                "budget": budget.model_copy(update={"total_tokens": tokens, "step_tokens": tokens}),
                "eval": sizes.model_copy(update=least),
            }
        )

    def runs(self, task: str) -> dict[str, RunRequest]:
        """Run name -> intervention.

        Args:
            task: file of the card on which they run.

        Raises:
            ReadEnvError: no seed, or an unknown starting student.
        """
        from read_env.capabilities import get_suite

        names, starts = get_suite(self.config.suite).names, self.settings["students"]
        _distinct("seeds", [str(seed) for seed in self.seeds])
        _distinct("students", list(starts))
        check_students(self.config, starts)
        config, asked, runs = self.shared(task), self.config.identify, {}
        for start in starts:
            models = config.models.model_copy(update={"start": start})
            allocations = interventions(asked.design, len(names), asked.interventions) if asked.interventions else ()
            seeds = seeds_of(asked.design, len(names), asked.interventions, self.seeds)
            for i, row in enumerate(allocations):
                shares = " ".join(f"{name}={share:.6g}" for name, share in zip(names, row, strict=True) if share > 0)
                changes = {
                    "agent_options": {"shares": shares},
                    "seed": seeds[i],
                    "models": models,
                }
                name = f"{at_student('intervention', start)}-{i:03d}"
                run = RunRequest(config.model_copy(update=changes), self.directory / "runs" / name, label=name)
                runs[name] = run
        return runs


def resolved(request: _Request) -> _Request:
    """The request with a value for every ``auto`` of its configuration.

    Raises:
        ReadEnvError: the student's files can't be read, or an unknown suite.
    """
    if request.config.resolved:
        return request  # torch need not be imported
    from read_env.distillation.defaults import resolve

    return replace(request, config=resolve(request.config))


def step_tokens(budgets: Sequence[int], wanted: int) -> int:
    """Completion tokens per step: at most ``wanted``, chosen so that a step ends at every budget.

    If that would make steps shorter than half of ``wanted``, they keep that length, and the exam of a budget is held at
    the end of the step in which it is passed.

    >>> step_tokens([20_000, 40_000, 80_000], 6_000)
    5000
    >>> step_tokens([20_000, 80_001], 6_000)
    6000
    """
    common = math.gcd(*budgets)
    for parts in range(math.ceil(common / wanted), 2 * common // wanted + 1):
        if common % parts == 0:
            return common // parts
    return wanted


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


def _task_names(config: Config, tasks: Sequence[str]) -> list[str]:
    from read_env.capabilities import get_suite
    from read_env.tasks import load_task

    suite = get_suite(config.suite)
    return [load_task(task, suite).name for task in tasks]


def _distinct(field: str, values: Sequence[str]) -> None:
    twice = sorted({value for value in values if values.count(value) > 1})
    if twice:
        raise ReadEnvError(f"{field}: {', '.join(twice)} is there twice")
    if not values:
        raise ReadEnvError(f"{field}: name at least one")
