"""Requests of many runs: comparisons, transfer matrices, interventions. Their docstrings are help texts, as in ``requests``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any

import tyro

from read_env.config import Config
from read_env.errors import ReadEnvError, unknown
from read_env.running.agents import AgentSpec
from read_env.running.requests import (
    Cluster,
    FlatConfig,
    RunRequest,
    at_student,
    check_agents,
    check_students,
    expanded,
    task_names,
)
from read_env.tasks.interventions import interventions, seeds_of


@dataclass(frozen=True)
class ComparisonRequest:
    """Compare agents x tasks x seeds in parallel processes, at one budget and on common prompts."""

    config: FlatConfig
    agents: tuple[str, ...] = ("read-bandit", "task-static", "water-filling", "uniform")
    """Agents: NAME, NAME,option=value,..., the path of a saved agent, or ``hf:`` and its repository on the hub."""
    tasks: tuple[str, ...] = ()
    """Tasks: names or .toml files of task cards. None given: the preset's task."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Seeds of prompts and agents. The default is the fewest that show a spread."""
    processes: int = 0
    """Worker processes, each with models of its own and models.threads torch threads. 0: one per GPU; without a GPU, one per
    core, or as many as the free memory has room for."""
    out: Path | None = None
    """Directory of the comparison. None: runs/compare-PRESET."""
    keep_students: bool = False
    """Keep every student. By default only the best one of each task by dev utility is kept; the others are deleted as soon as
    they are beaten."""
    reference: str = "task-static"
    """Agent that the report compares the others with."""
    overwrite: bool = False
    """Delete an earlier comparison in that directory first."""
    students: tuple[str, ...] = ()
    """Starting students, each with every task; as in models.start, which is used if none is given."""
    cluster: Cluster = ""
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
        return expanded(self.out) or Path("runs") / f"compare-{Path(self.config.preset).stem}"

    @property
    def task_names(self) -> list[str]:
        """Names on the task cards, each with every starting student."""
        names = task_names(self.config, self.tasks or (self.config.task,))
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
    """Worker processes, each with models of its own and models.threads torch threads. 0: one per GPU; without a GPU, one per
    core, or as many as the free memory has room for."""
    out: Path | None = None
    """Directory of the matrix. None: runs/transfer-PRESET."""
    overwrite: bool = False
    """Delete an earlier matrix in that directory first."""
    cluster: Cluster = ""

    @property
    def directory(self) -> Path:
        """Directory of the matrix; its runs are in ``runs/one-hot-CAPABILITY__seedN/``."""
        return expanded(self.out) or Path("runs") / f"transfer-{Path(self.config.preset).stem}"

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
    """Worker processes, each with models of its own and models.threads torch threads. 0: one per GPU; without a GPU, one per
    core, or as many as the free memory has room for."""
    out: Path | None = None
    """File of the card. None: card.toml in the directory of the interventions."""
    runs_dir: Path | None = None
    """Directory of the interventions. None: runs/identify-TASK."""
    overwrite: bool = False
    """Delete earlier interventions in that directory first."""
    describe: str = ""
    """Description of a task that is a file of prompts, in one or two sentences. It stands on the card."""
    cluster: Cluster = ""

    @property
    def directory(self) -> Path:
        """Directory of the interventions."""
        return expanded(self.runs_dir) or Path("runs") / f"identify-{task_names(self.config, [self.config.task])[0]}"

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
        least["external"] = ()
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


def _distinct(field: str, values: Sequence[str]) -> None:
    twice = sorted({value for value in values if values.count(value) > 1})
    if twice:
        raise ReadEnvError(f"{field}: {', '.join(twice)} is there twice")
    if not values:
        raise ReadEnvError(f"{field}: name at least one")
