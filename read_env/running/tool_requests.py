"""Requests of the commands that run no distillation: checks, reports, exports, fits and lists.

The docstrings are the help texts of the command line.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import tyro

from read_env.errors import ReadEnvError
from read_env.running.agents import AgentSpec
from read_env.running.requests import Cluster, FlatConfig


@dataclass(frozen=True)
class CheckRequest:
    """Show parameters, memory by part and seconds per step of a configuration, and what is missing with the command to get it.

    The exit code is 0 if nothing is missing, 1 if something is, 2 for a mistake. Needs no network, but for data sets of
    eval.external that are not on this machine.
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
class TrainIdentifierRequest:
    """Train an identifier, which reads a task's requirement from the text of its card, on the interventions of other tasks."""

    directories: tyro.conf.Positional[tuple[Path, ...]]
    """Directories of ``read-env identify``."""
    suite: str = "micro"
    """Suite of the tasks."""
    encoder: str = ""
    """Text encoder, by default sentence-transformers/all-MiniLM-L6-v2: folder, hub id, or ``package:DISTRIBUTION`` for a model in an installed package. Needs the extra ``text``."""
    out: Path = Path("runs/identifier")
    """Folder of the identifier, for --identify.identifier."""


@dataclass(frozen=True)
class ReportRequest:
    """Make the report of a run, comparison, transfer matrix or training again, from its records."""

    directory: tyro.conf.Positional[Path]
    """Directory of the run, comparison, transfer matrix or training."""
    reference: str = "task-static"
    """Agent that a comparison's report compares the others with."""


@dataclass(frozen=True)
class EvaluateRequest:
    """Evaluate a student on tasks of lm-eval, the LM Evaluation Harness. Needs the extra ``evaluate``.

    The results of a run's students are kept in the run's external.json, shown in its report and drawn in TensorBoard.
    """

    student: tyro.conf.Positional[str]
    """Directory of a run, for all of its students; one of them (RUN/student, RUN/students/step-000010); or another model:
    folder, hub id or ``embedded:NAME``."""
    tasks: tuple[str, ...]
    """Tasks, groups or tags of lm-eval; ``lm-eval ls tasks`` prints them."""
    include_path: str = ""
    """Folder with tasks of your own, as YAML files of lm-eval."""
    num_fewshot: int | None = None
    """Examples in the prompt. None: as each task has it."""
    limit: int | None = None
    """Prompts per task, the first ones, for a trial. None: all."""
    chat_template: bool = False
    """Render prompts by the student's chat template."""
    batch_size: int = 8
    """Requests per batch. On out-of-memory it is halved."""
    device: str = "auto"
    """Device, as in models.device."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Compute dtype, as in models.dtype."""
    trust_remote_code: bool = False
    """Run Python code that comes with the model or, from the hub, with a task's metrics."""
    overwrite: bool = False
    """Evaluate again what a run has on record with the same settings."""
    out: Path | None = None
    """JSON file of the results, with the fields of external.json. None: none, but for that of a run."""

    def __post_init__(self) -> None:
        if not self.tasks:
            raise ReadEnvError("tasks: none is given; right would be --tasks with one or more names of tasks")
        least = {"num_fewshot": 0, "limit": 1, "batch_size": 1}
        for name, minimum in least.items():
            value = getattr(self, name)
            if value is not None and value < minimum:
                raise ReadEnvError(f"{name} is {value}; right would be {minimum} or more")


@dataclass(frozen=True)
class ListRequest:
    """List the names that the options of the other commands take."""

    kind: tyro.conf.Positional[Literal["agents", "tasks", "students", "presets", "losses", "capabilities"]]
    """Kind of names."""
    suite: str = "micro"
    """Suite with the tasks and capabilities."""


@dataclass(frozen=True)
class ExportRequest:
    """Write the transitions of finished runs as a data set for offline reinforcement learning."""

    directories: tyro.conf.Positional[tuple[Path, ...]]
    """Directories of runs, comparisons, transfer matrices or identifications. A training keeps no steps."""
    format: Literal["minari", "parquet"]
    """minari: a local Minari data set; needs the extra ``minari``. parquet: a row for each transition; needs the extra
    ``data``."""
    out: str = ""
    """Id of the Minari data set, such as NAMESPACE/NAME-v0, or the Parquet file. Empty: read-env/DIRECTORY-v0, or
    DIRECTORY.parquet."""
    author: str = ""
    """Author, for the metadata of the Minari data set."""
    author_email: str = ""
    """E-mail address of the author, for the metadata of the Minari data set."""
    code_permalink: str = ""
    """Address of the code that made the runs, for the metadata of the Minari data set."""
    description: str = ""
    """Description, for the metadata of the Minari data set. Empty: the number of episodes and their tasks."""


@dataclass(frozen=True)
class BenchmarkRequest:
    """Judge an agent by a frozen protocol: tasks, starting students and seeds that nothing is chosen on.

    Interrupted, the same command goes on.
    """

    agent: str = "read-bandit"
    """Agent: NAME, NAME,option=value,..., the path of a saved agent, or ``hf:`` and its repository on the hub."""
    protocol: str = "micro-v1"
    """Protocol that ships, or a .toml file."""
    out: Path | None = None
    """JSON file of the result; the runs are kept beside it, in a folder of its name. None: runs/PROTOCOL/AGENT.json."""
    processes: int = 0
    """Worker processes, each with models of its own and models.threads torch threads. 0: one per GPU; without a GPU, one per
    core, or as many as the free memory has room for."""
    cluster: Cluster = ""

    @cached_property
    def spec(self) -> AgentSpec:
        """The agent.

        Raises:
            ReadEnvError: unknown agent.
        """
        return AgentSpec.parse(self.agent)

    @property
    def file(self) -> Path:
        """File of the result."""
        name = Path(self.protocol).stem
        return (
            Path(os.path.expanduser(self.out))
            if self.out
            else Path("runs") / name / f"{self.spec.label.replace(':', '-')}.json"
        )

    @property
    def directory(self) -> Path:
        """Directory of the runs."""
        return self.file.with_suffix("")


@dataclass(frozen=True)
class SurrogateRequest:
    """Fit a surrogate to finished runs: a fast stand-in for the environment, on which policies are trained."""

    action: tyro.conf.Positional[Literal["fit"]]
    """fit: fit the worlds of a surrogate and write them."""
    directories: tyro.conf.Positional[tuple[Path, ...]]
    """Directories of runs, comparisons or transfer matrices of one suite, pair of models and budget."""
    out: Path = Path("runs/surrogate.json")
    """The file, for ``gym.make("ReadEnv/Surrogate-v0", surrogate=FILE)`` and ``train --on FILE``."""
    worlds: int = 8
    """Number of fits, each to other weights of the runs."""
    iterations: int = 600
    """Steps of the optimizer."""
    seed: int = 0
    """Seed of the weights."""
