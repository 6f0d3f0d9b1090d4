"""Frozen benchmarks: one agent on the judging pairs of a protocol, with everything that was spent, in one JSON file.

A protocol is a file of ``read_env/benchmarks``: pairs of task and starting student, and seeds. Its digest also covers the presets,
models and task cards, so that results which can't be compared are told apart.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from read_env import files
from read_env.config import describe, load_preset
from read_env.errors import ReadEnvError, unknown
from read_env.running.agents import AgentSpec
from read_env.running.directory import RunDirectory
from read_env.running.identity import RunIdentity, card_fingerprint
from read_env.running.requests import RunRequest, resolved
from read_env.running.runner import make_env
from read_env.running.worker import EnvFactory

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

if TYPE_CHECKING:
    from rich.console import Console

    from read_env.running.tool_requests import BenchmarkRequest

#: Packages whose versions a result names.
_PACKAGES = ("read-env", "torch", "transformers", "numpy")


class Pair(BaseModel):
    """Task and starting student.

    Attributes:
        preset: configuration of the runs.
        task: task card.
        student: starting student, as in ``models.start``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    preset: str
    task: str
    student: str

    @property
    def label(self) -> str:
        """``task@student``."""
        return f"{self.task}@{self.student}"


class Protocol(BaseModel):
    """Frozen protocol.

    Attributes:
        pairs: judging pairs.
        seeds: seeds of every pair.
        reference: agent that the others are compared with.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    pairs: tuple[Pair, ...] = Field(min_length=1)
    seeds: tuple[int, ...] = Field(min_length=1)
    reference: str = "task-static"

    @cached_property
    def digest(self) -> str:
        """Digest of the protocol, its presets, models and task cards."""
        parts: list[Any] = [self.model_dump(mode="json")]
        for pair in self.pairs:
            config = load_preset(pair.preset)
            identity = RunIdentity.of_many("benchmark", config)
            parts += [identity.settings, identity.contents, card_fingerprint(pair.task, config.suite)]
        return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:16]


def benchmark_names() -> tuple[str, ...]:
    """Names of the protocols that ship.

    >>> benchmark_names()
    ('micro-dev', 'micro-dev-tasks', 'micro-v1')
    """
    return tuple(sorted(path.name.removesuffix(".toml") for path in _folder().iterdir() if path.name.endswith(".toml")))


def load_protocol(name: str) -> Protocol:
    """Protocol of a shipped name, or of a ``.toml`` file.

    Raises:
        ReadEnvError: no such protocol, or a file that is none.
    """
    if name in benchmark_names():
        text = (_folder() / f"{name}.toml").read_text(encoding="utf-8")
    elif name.endswith(".toml"):
        path = Path(os.path.expanduser(name))
        if not path.is_file():
            raise ReadEnvError(f"protocol {name!r}: no such file")
        text = path.read_text(encoding="utf-8")
    else:
        raise unknown("protocol", name, [*benchmark_names(), "a .toml file"])
    try:
        return Protocol.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise ReadEnvError(f"protocol {name!r} is not valid TOML: {error}") from None
    except ValidationError as error:
        raise ReadEnvError(describe(error, f"protocol {name!r}")) from None


@dataclass(frozen=True)
class BenchmarkResult:
    """Result of a benchmark.

    Attributes:
        path: the JSON file; None if a run failed.
        failures: run name -> error.
        gains: pair -> mean gain of exam utility.
    """

    path: Path | None
    failures: Mapping[str, str]
    gains: Mapping[str, float]


def benchmark(
    request: BenchmarkRequest, console: Console | None = None, env_factory: EnvFactory = make_env
) -> BenchmarkResult:
    """Make the missing runs of a protocol, and write the result, after each of them.

    A run that the file holds need not be made again, wherever its folder is.

    Args:
        request: agent and protocol.
        console: console that shows the progress. None: standard error.
        env_factory: makes the environment of a configuration; for worker processes a function of a module.

    Raises:
        ReadEnvError: unknown protocol or agent, or an output that is no ``.json`` file.
    """
    from read_env.running.comparison import run_many

    protocol = load_protocol(request.protocol)
    out, directory = request.file, request.directory
    if out.suffix != ".json":
        raise ReadEnvError(f"out: {str(out)!r}; right would be a .json file")
    runs = runs_of(protocol, request.spec, directory)
    kept = _kept(out, protocol, runs)
    missing = {name: run for name, run in runs.items() if name not in kept}
    out.parent.mkdir(parents=True, exist_ok=True)

    def write() -> None:
        files.write_json(out, result_of(request.protocol, protocol, request.spec, kept))

    def keep(name: str) -> None:
        kept[name] = run_result(runs[name])
        write()
        files.remove(RunDirectory(runs[name].directory).student)

    failures: dict[str, str] = {}
    try:
        if missing:
            title = f"{request.protocol}: {request.spec.label}"
            failures = run_many(title, missing, request.processes, console, env_factory, keep, cluster=request.cluster)
    finally:
        folders = {name: RunDirectory(run.directory) for name, run in missing.items() if name not in failures}
        finished = {name: runs[name] for name, folder in folders.items() if folder.finished}
        found = {name: run_result(run) for name, run in finished.items() if name not in kept}
        kept |= {name: one for name, one in found.items() if one["made_with"] == _made_with(runs[name])}
        write()
        for run in finished.values():
            for part in ("student", "tensorboard"):
                files.remove(run.directory / part)
    if failures:
        return BenchmarkResult(None, failures, {})
    gains = {
        one["pair"]: float(np.subtract(one["exam_utility"], one["exam_utility_start"]).mean())
        for one in load_result(out, protocol)["pairs"]
    }
    return BenchmarkResult(out, {}, gains)


def runs_of(protocol: Protocol, agent: AgentSpec, directory: Path) -> dict[str, RunRequest]:
    """Run name -> run, for every pair and seed."""
    runs = {}
    for pair in protocol.pairs:
        base = load_preset(pair.preset, {"models": {"start": pair.student}})
        for seed in protocol.seeds:
            config = agent.configure(base).model_copy(update={"task": pair.task, "seed": seed})
            name = run_name(pair, seed)
            runs[name] = RunRequest(config, directory / name, label=agent.label)
    return runs


def run_result(run: RunRequest) -> dict[str, Any]:
    """JSON object of a finished run."""
    summary, start = (files.read_json(run.directory / name) for name in ("summary.json", "start.json"))
    return {
        "made_with": _digest(files.read_json(RunDirectory(run.directory).identity)),
        **{key: round(summary[key], 6) for key in ("exam_utility_start", "exam_utility", "forgetting")},
        "spent": summary["spent"], "tokens_before_run": summary["tokens_before_run"],
        "profile_start": np.round(start["profile"], 4).tolist(),
    }  # fmt: skip


def result_of(name: str, protocol: Protocol, agent: AgentSpec, runs: Mapping[str, Any]) -> dict[str, Any]:
    """JSON object of the finished runs, as :func:`run_result` gives them."""
    return {
        "protocol": name, "digest": protocol.digest, "agent": agent.label, "name": agent.name, "options": dict(agent.options),
        "versions": {"python": platform.python_version(), **{package: version(package) for package in _PACKAGES}},
        "runs": {run: runs[run] for run in _names(protocol) if run in runs},
    }  # fmt: skip


class IncompleteResult(ReadEnvError):
    """Result without some of the protocol's runs."""


def load_result(path: Path, protocol: Protocol) -> dict[str, Any]:
    """Result of a file, for the table of a protocol.

    Returns:
        Content of the file, and under ``pairs`` for every pair its name, the values of its runs, lists over the seeds, and the
        mean of its ``profile_start``; ``tokens_before_run``: the largest of a run.

    Raises:
        ReadEnvError: a result of other pairs, presets, models or task cards.
        IncompleteResult: runs are missing.
    """
    result = files.read_json(path)
    runs = result.get("runs")
    if not isinstance(runs, dict) or not {"digest", "agent", "name"} <= set(result):
        raise ReadEnvError(f"{path} is no result of read-env benchmark")
    if result["digest"] != protocol.digest:
        raise ReadEnvError(
            f"{path}: its digest is {result['digest']}, that of the protocol {protocol.digest}: pairs, presets, models or task "
            "cards differ; right would be a result of the same ones"
        )
    if missing := [name for name in _names(protocol) if name not in runs]:
        raise IncompleteResult(
            f"{path} has {len(runs)} of {len(runs) + len(missing)} runs; the same read-env benchmark makes the others"
        )
    lists = ("exam_utility_start", "exam_utility", "forgetting", "spent")
    try:
        pairs = [
            {
                "pair": pair.label,
                **{key: [runs[name][key] for name in names] for key in lists},
                "profile_start": np.mean([runs[name]["profile_start"] for name in names], axis=0).tolist(),
            }
            for pair in protocol.pairs
            if (names := [run_name(pair, seed) for seed in protocol.seeds])
        ]
        before = max(int(one["tokens_before_run"]) for one in runs.values())
    except (KeyError, TypeError, ValueError) as error:
        raise ReadEnvError(f"{path}: a run is damaged: {type(error).__name__} {error}") from None
    return {**result, "pairs": pairs, "tokens_before_run": before}


def _kept(path: Path, protocol: Protocol, runs: Mapping[str, RunRequest]) -> dict[str, Any]:
    """Runs of an earlier call, by name, whose settings, models, task and agent are the present ones."""
    if not path.exists():
        return {}
    earlier = files.read_json(path)
    found = earlier.get("runs") if earlier.get("digest") == protocol.digest else None
    if not isinstance(found, dict):
        return {}
    return {name: one for name, one in found.items() if name in runs and one["made_with"] == _made_with(runs[name])}


def _made_with(run: RunRequest) -> str:
    """Digest of a run's identity, as its folder has it."""
    return _digest(resolved(run).identity.to_json())


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def _names(protocol: Protocol) -> list[str]:
    return [run_name(pair, seed) for pair in protocol.pairs for seed in protocol.seeds]


def run_name(pair: Pair, seed: int) -> str:
    """Name of a run of a protocol."""
    return f"{pair.label.replace(':', '-')}__{seed}"


def _folder() -> Any:
    return resources.files("read_env") / "benchmarks"
