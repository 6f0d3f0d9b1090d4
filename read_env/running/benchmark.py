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
from read_env.running.identity import RunIdentity, card_fingerprint
from read_env.running.pool import EnvFactory
from read_env.running.requests import RunRequest
from read_env.running.runner import make_env

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
    ('micro-dev', 'micro-v1')
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
    """Make the missing runs of a protocol, and write the result.

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
    failures = run_many(f"{request.protocol}: {request.spec.label}", runs, request.processes, console, env_factory)
    for run in runs.values():
        for name in ("student", "tensorboard"):
            files.remove(run.directory / name)
    if failures:
        return BenchmarkResult(None, failures, {})
    result = result_of(request.protocol, protocol, request.spec, runs)
    out.parent.mkdir(parents=True, exist_ok=True)
    files.write_json(out, result)
    gains = {
        one["pair"]: float(np.subtract(one["exam_utility"], one["exam_utility_start"]).mean())
        for one in result["pairs"]
    }
    return BenchmarkResult(out, {}, gains)


def runs_of(protocol: Protocol, agent: AgentSpec, directory: Path) -> dict[str, RunRequest]:
    """Run name -> run, for every pair and seed."""
    runs = {}
    for pair in protocol.pairs:
        base = load_preset(pair.preset, {"models": {"start": pair.student}})
        for seed in protocol.seeds:
            config = agent.configure(base).model_copy(update={"task": pair.task, "seed": seed})
            name = f"{pair.label.replace(':', '-')}__{seed}"
            runs[name] = RunRequest(config, directory / name, label=agent.label)
    return runs


def result_of(name: str, protocol: Protocol, agent: AgentSpec, runs: Mapping[str, RunRequest]) -> dict[str, Any]:
    """JSON object of finished runs."""
    summaries = [files.read_json(run.directory / "summary.json") for run in runs.values()]
    profiles = [files.read_json(run.directory / "start.json")["profile"] for run in runs.values()]
    count = len(protocol.seeds)
    by_pair = [slice(i, i + count) for i in range(0, len(summaries), count)]
    pairs = [
        {
            "pair": pair.label,
            **{
                key: [round(one[key], 6) for one in summaries[of]]
                for key in ("exam_utility_start", "exam_utility", "forgetting")
            },
            "spent": [one["spent"] for one in summaries[of]],
            "profile_start": np.mean(profiles[of], axis=0).round(4).tolist(),
        }
        for pair, of in zip(protocol.pairs, by_pair, strict=True)
    ]
    return {
        "protocol": name, "digest": protocol.digest, "agent": agent.label, "name": agent.name, "options": dict(agent.options),
        "seeds": list(protocol.seeds),
        "tokens_before_run": max(one["tokens_before_run"] for one in summaries),
        "versions": {"python": platform.python_version(), **{package: version(package) for package in _PACKAGES}},
        "pairs": pairs,
    }  # fmt: skip


def load_result(path: Path, protocol: Protocol) -> dict[str, Any]:
    """Result of a file, for the table of a protocol.

    Raises:
        ReadEnvError: a result of other pairs, presets, models or task cards.
    """
    result = files.read_json(path)
    try:
        digest, seeds, pairs = result["digest"], result["seeds"], result["pairs"]
        shapes = {(one["pair"], len(one["exam_utility"]), len(one["exam_utility_start"])) for one in pairs}
    except (KeyError, TypeError) as error:
        raise ReadEnvError(f"{path} is no result of read-env benchmark: {type(error).__name__} {error}") from None
    if digest != protocol.digest:
        raise ReadEnvError(
            f"{path}: its digest is {digest}, that of the protocol {protocol.digest}: pairs, presets, models or task cards "
            "differ; right would be a result of the same ones"
        )
    if shapes != {(pair.label, len(seeds), len(seeds)) for pair in protocol.pairs} or seeds != list(protocol.seeds):
        raise ReadEnvError(f"{path}: its pairs or seeds are not those of the protocol")
    return result


def _folder() -> Any:
    return resources.files("read_env") / "benchmarks"
