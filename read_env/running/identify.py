"""Requirement of a measured task from interventions: short real runs on allocations that differ (arXiv 2605.11290, step 1).

Every intervention is a run of its own from the starting student, with the records of any run; an interrupted call goes on where
it was. The tokens of all of them are spent before the run that uses the requirement. Where some fail, ``read-env identify`` still
writes a card from the others, whose first line names them; a command that infers a requirement for its own use stops.

=====================  ==============================================================
``task.toml``          the task with even requirement, on which the interventions run
``runs/``              the runs of the interventions
``requirement.json``   what was found (:class:`read_env.records.IdentificationRecord`)
``card.toml``          the task with the requirement that was found, written last
=====================  ==============================================================
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from read_env import files
from read_env.capabilities import get_suite
from read_env.digests import content_digest
from read_env.errors import ReadEnvError
from read_env.records import IdentificationRecord, StudentRequirement
from read_env.running.batch_requests import IdentifyRequest
from read_env.running.cards import at_prompts_of, kept_card
from read_env.running.comparison import run_many
from read_env.running.directory import RecordDirectory, RunDirectory
from read_env.running.identity import RunIdentity, card_fingerprint
from read_env.running.requests import RunRequest, resolved
from read_env.running.runner import make_env
from read_env.running.worker import EnvFactory
from read_env.tasks import TaskCard, load_task
from read_env.tasks.card import card_toml
from read_env.tasks.identifier import Identifier
from read_env.tasks.regression import Requirement, fit_requirement, within_blocks

#: File of the card with the requirement that was found, written last.
CARD = "card.toml"

if TYPE_CHECKING:
    from rich.console import Console

    from read_env.config import Config


@dataclass(frozen=True)
class Identification:
    """Result of an identification.

    Attributes:
        directory: directory of the interventions.
        card: file of the task with the requirement.
        requirement: of all starting students together.
        tokens: completion tokens of the interventions.
        failures: run -> error, for interventions that failed and were left out.
    """

    directory: Path
    card: Path
    requirement: Requirement
    tokens: int
    failures: Mapping[str, str]


def identify(
    request: IdentifyRequest, console: Console | None = None, env_factory: EnvFactory = make_env
) -> Identification:
    """Make the missing interventions and fit the requirement.

    Args:
        request: the task, its students and the interventions.
        console: console that shows the progress. None: standard error.
        env_factory: makes the environment of a configuration; for worker processes a function of a module.

    Raises:
        ReadEnvError: the task has no prompts of its own; the directory holds something else; too few interventions ended, or
            they don't tell one requirement from another.
    """
    request = resolved(request)
    suite = get_suite(request.config.suite)
    card = load_task(request.config.task, suite)
    if not card.measured:
        raise ReadEnvError(
            f"task {card.name!r} is a function of the profile, by the requirement on its card; identify needs prompts with "
            "answers, such as --task my_task.jsonl, or a card with 'prompts'"
        )
    if request.describe:
        card = described(card, request.describe)
    directory = RecordDirectory(request.directory)
    task = (request.directory / "task.toml").resolve()
    runs, asked = request.runs(str(task)), request.config.identify
    prior = None
    if asked.identifier:
        prior = Identifier.load(asked.identifier, suite.names).requirement(card)
    elif not runs:
        raise ReadEnvError(
            "identify.interventions is 0, and identify.identifier names no identifier; right would be either, or both"
        )
    identity = RunIdentity.of_many("identification", request.shared(str(task)), **request.settings)
    identity = replace(identity, contents={**identity.contents, **_contents(request)})

    def drop_student(name: str) -> None:
        files.remove(RunDirectory(runs[name].directory).student)

    with directory.claim(
        identity, {**request.config.model_dump(mode="json"), **request.settings}, overwrite=request.overwrite
    ):
        if not is_finished(request):
            files.remove(request.directory / CARD)  # of an earlier call, without what is made now
        even = dict.fromkeys(suite.names, 1.0)
        files.write_text(task, card_toml(card.model_copy(update={"requirement": even})))
        failures = {}
        if runs:
            title = f"identifying what {card.name} needs"
            failures = run_many(title, runs, request.processes, console, env_factory, drop_student, request.cluster)
        for name in runs.keys() - failures.keys():  # of an earlier call that was killed before it did
            drop_student(name)
        try:
            record, requirement = _fitted(request, card, suite.names, runs, failures, prior)
        except ReadEnvError as error:
            raise ReadEnvError(f"{error}; {_failed(failures, len(runs))}") if failures else error from None
        files.write_json(request.directory / "requirement.json", record.to_json())
        shares = {n: float(r) for n, r in zip(suite.names, requirement.mean, strict=True) if r >= 0.0005}
        found = TaskCard.model_validate(
            {**card.model_dump(), "requirement": shares, "tokens_before_run": record.tokens}
        )
        path = request.out or request.directory / CARD
        lacking = f"# Without {', '.join(failures)}: failed.\n" if failures else ""
        files.write_text(path, lacking + card_toml(found))
    return Identification(request.directory, path, requirement, record.tokens, failures)


def _failed(failures: Mapping[str, str], asked: int) -> str:
    """Text on the interventions that failed, grouped by error."""
    by_error: dict[str, list[str]] = {}
    for name, error in failures.items():
        by_error.setdefault(error, []).append(name)
    errors = "; ".join(f"{', '.join(names)}: {error}" for error, names in by_error.items())
    return f"{len(failures)} of {asked} interventions failed ({errors}); the same command makes them again and keeps the others"


def described(card: TaskCard, description: str) -> TaskCard:
    """Card of a file of prompts with a description in place of the default one.

    Raises:
        ReadEnvError: a card that has a requirement, and so a description of its own.
    """
    if card.identified:
        raise ReadEnvError(
            f"describe: task {card.name!r} has a card, with a description of its own; right would be a file of prompts with "
            "answers, such as --task my_task.jsonl"
        )
    return card.model_copy(update={"description": description})


def kept_request(
    config: Config, task: str, processes: int = 0, describe: str = "", cluster: str = ""
) -> IdentifyRequest | None:
    """Identification of a task in the cache, where later runs find it; None for a task that has a requirement.

    Its directory is named by the digest of task, suite, models and settings.

    Args:
        config: configuration of the run.
        task: as in ``config.task``.
        processes: worker processes; 0: as many as fit.
        describe: description of a file of prompts.
        cluster: address of a Ray cluster; empty: worker processes.
    """
    card = load_task(task, get_suite(config.suite))
    if card.identified:
        return None
    request = resolved(
        IdentifyRequest(
            config.model_copy(update={"task": task}), processes=processes, describe=describe, cluster=cluster
        )
    )
    identity = RunIdentity.of_many("identification", request.shared(""), **request.settings).to_json()
    parts = [identity, _contents(request), *([describe] if describe else [])]
    digest = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]
    folder = config.cache.folder or Path("runs")
    return replace(request, runs_dir=folder / "requirements" / f"{card.name}-{digest}")


def identified(
    config: Config, task: str, processes: int = 0, describe: str = "", cluster: str = "",
    directory: RecordDirectory | None = None,
) -> str:  # fmt: skip
    """Task with a requirement: ``task`` itself if it has one, else the card that its identification ends with.

    Args: see :func:`kept_request`; ``directory`` is that of what needs the requirement. If it has begun, its own card is taken. None:
    it begins, or begins again.

    Raises:
        ReadEnvError: see :func:`identify`; an intervention failed; the directory began with another task of the same name.
    """
    suite = get_suite(config.suite)
    card = load_task(task, suite)
    if describe:
        card = described(card, describe)
    if card.identified:
        return task
    if directory is not None and (own := kept_card(directory, card)):
        return str(at_prompts_of(own, card, suite))
    request = kept_request(config, task, processes, describe, cluster)
    assert request is not None, "it has no requirement"
    if is_finished(request):
        return str(at_prompts_of(request.directory / CARD, card, suite))
    found = identify(request)
    if found.failures:
        raise ReadEnvError(
            f"task {card.name!r}: {_failed(found.failures, len(request.runs(task)))}. If they fail again and again, give a copy "
            f"of {found.card} as the task: the requirement without them"
        )
    return str(found.card)


def is_finished(request: IdentifyRequest) -> bool:
    """True if the card is there and no intervention is missing, such as one that failed."""
    runs = request.runs(request.config.task).values()
    return (request.directory / CARD).exists() and all(RunDirectory(run.directory).finished for run in runs)


def _contents(request: IdentifyRequest) -> dict[str, str]:
    """Digests of the files that the result depends on, beside those of the models."""
    config = request.config
    digests = {"task": card_fingerprint(config.task, config.suite)}
    if config.identify.identifier:
        digests["identifier"] = content_digest(Path(config.identify.identifier))
    return digests


@dataclass(frozen=True)
class Interventions:
    """Results of the interventions from one starting student.

    Attributes:
        changes: (n, |C|) changes of the scores.
        shares: (n, |C|) shares of the tokens.
        gains: (n,) changes of the utility.
        seeds: (n,) seeds of the prompts.
        profile: (|C|,) scores before.
        tokens: completion tokens of all of them.
    """

    changes: np.ndarray
    shares: np.ndarray
    gains: np.ndarray
    seeds: tuple[int, ...]
    profile: np.ndarray
    tokens: int


def read_interventions(directories: Iterable[Path]) -> dict[str, Interventions]:
    """Finished interventions by starting student.

    Args:
        directories: directories of the runs; those without a summary are left out.
    """
    found: dict[str, list[tuple[dict[str, Any], list[float], int]]] = {}
    for path in directories:
        run = RunDirectory(path)
        if run.finished:
            (step,) = files.read_lines(run.steps)
            start = str(files.read_json(run.start).get("student", ""))
            seed = int(files.read_json(run.config)["seed"])
            found.setdefault(start, []).append((files.read_json(run.summary), step["allocation"], seed))
    return {
        start: Interventions(
            changes=np.array([np.subtract(end["profile"], end["profile_start"]) for end, _, _ in ends]),
            shares=np.array([shares for _, shares, _ in ends]),
            gains=np.array([end["utility"] - end["utility_start"] for end, _, _ in ends]),
            seeds=tuple(seed for _, _, seed in ends),
            profile=np.array(ends[0][0]["profile_start"]),
            tokens=sum(end["spent"] for end, _, _ in ends),
        )
        for start, ends in found.items()
    }


def _fitted(
    request: IdentifyRequest, card: TaskCard, names: tuple[str, ...], runs: Mapping[str, RunRequest],
    failures: Mapping[str, str], prior: np.ndarray | None,
) -> tuple[IdentificationRecord, Requirement]:  # fmt: skip
    asked = request.config.identify
    if not runs:
        assert prior is not None, "identify refuses others"
        together = Requirement(
            prior, prior, prior, 0.9, 0.0, 0.0, 1.0, 0.0, tuple(np.argsort(-prior)[:3].tolist()), 0.0, None
        )
        return _record(request, card, names, 0, 0, {"all": together}, prior, failures), together
    by_student = read_interventions(run.directory for name, run in runs.items() if name not in failures)
    if not by_student:
        raise ReadEnvError("no intervention has ended")
    shares = asked.regress_on == "tokens"
    compared = {
        start: within_blocks(one.shares, one.gains, one.seeds) if shares else (one.changes, one.gains)
        for start, one in by_student.items()
    }
    found = {start: fit_requirement(*one, shares=shares, prior=prior) for start, one in compared.items()}
    together = next(iter(found.values()))
    if len(found) > 1:
        changes, gains = zip(*compared.values(), strict=True)
        together = fit_requirement(np.vstack(changes), np.concatenate(gains), shares=shares, prior=prior)
    tokens = sum(one.tokens for one in by_student.values())
    count = len(runs) - len(failures)
    return _record(request, card, names, count, tokens, {"all": together, **found}, prior, failures), together


def _record(
    request: IdentifyRequest, card: TaskCard, names: tuple[str, ...], count: int, tokens: int,
    found: Mapping[str, Requirement], prior: np.ndarray | None, failures: Mapping[str, str],
) -> IdentificationRecord:  # fmt: skip
    asked = request.config.identify
    return IdentificationRecord(
        suite=names, task=card.name, design=asked.design, regress_on=asked.regress_on, interventions=count, tokens=tokens,
        requirement=found["all"].mean, students={student: _recorded(one) for student, one in found.items()}, prior=prior,
        failed=dict(failures) or None,
    )  # fmt: skip


def _recorded(found: Requirement) -> StudentRequirement:
    values: dict[str, Any] = {
        name: getattr(found, name)
        for name in (
            "mean",
            "low",
            "high",
            "level",
            "scale",
            "entropy_weight",
            "prior_weight",
            "explained",
            "sure",
            "needed",
        )
    }
    return StudentRequirement(**values)
