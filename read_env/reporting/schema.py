"""The records themselves: one dataclass a kind of JSON object, and how it is read and checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from read_env.reporting.fields import Fields


@dataclass(frozen=True, eq=False)
class Start:
    """The initial student: ``start.json``. Vectors are (|C|,), scores in [0, 1]."""

    suite: tuple[str, ...]
    task: str
    requirement: np.ndarray
    utility_form: str
    profile: np.ndarray
    utility: float
    exam: np.ndarray | None
    dev_profile: np.ndarray | None
    dev_utility: float | None


@dataclass(frozen=True, eq=False)
class Step:
    """One finished step: a line of ``steps.jsonl``. Token fields are counts; ``seconds`` is by stage.

    ``cache`` counts what was asked of the teacher's cache; empty in records from before it was counted.
    """

    step: int
    allocation: np.ndarray
    tokens_by_capability: np.ndarray
    completion_tokens: int
    prompt_tokens: int
    trained_tokens: int
    budget_spent: int
    profile: np.ndarray
    utility: float
    reward: float
    gain: float
    spillover: float
    cost: float
    forgetting: float
    loss: float
    metrics: Mapping[str, float]
    agent: Mapping[str, float]
    seconds: Mapping[str, float]
    cache: Mapping[str, float]
    dev_profile: np.ndarray | None
    dev_utility: float | None
    exam: np.ndarray | None


@dataclass(frozen=True, eq=False)
class Summary:
    """The end of a finished run: ``summary.json``. ``exam`` fields are None where no exam was held."""

    agent: str
    task: str
    seed: int
    budget: int
    spent: int
    residue: int
    prompt_tokens: int
    probe_tokens: int
    dev_tokens: int
    tokens_before_run: int
    steps: int
    profile_start: np.ndarray
    profile: np.ndarray
    utility_start: float
    utility: float
    exam_start: np.ndarray | None
    exam: np.ndarray | None
    exam_utility_start: float | None
    exam_utility: float | None
    spillover: float
    forgetting: float
    exam_forgetting: float | None


@dataclass(frozen=True, eq=False)
class Episode:
    """One training episode: a line of ``episodes.jsonl``. ``completion_tokens`` is what this episode spent."""

    episode: int
    task: str
    seed: int
    episode_return: float
    steps: int
    completion_tokens: int
    utility_start: float | None
    utility: float | None


def read_start(fields: Fields) -> Start:
    """``start.json``."""
    suite = fields.texts("suite")
    size = len(suite)
    return Start(
        suite=suite,
        task=fields.text("task"),
        requirement=fields.vector("requirement", size),
        utility_form=fields.text("utility_form"),
        profile=fields.vector("profile", size),
        utility=fields.number("utility"),
        exam=fields.optional_vector("exam", size),
        dev_profile=fields.optional_vector("dev_profile", size),
        dev_utility=fields.optional_number("dev_utility"),
    )


def read_step(fields: Fields, size: int, expected: int) -> Step:
    """One line of ``steps.jsonl``, which must carry the step number ``expected`` and vectors of ``size``."""
    if (step := fields.integer("step")) != expected:
        raise fields.wrong("step", step, f"{expected} (steps are numbered from 1 without gaps)")
    integers = "step completion_tokens prompt_tokens trained_tokens budget_spent"
    numbers = "utility reward gain spillover cost forgetting loss"
    values: dict[str, Any] = {name: fields.integer(name) for name in integers.split()}
    values |= {name: fields.number(name) for name in numbers.split()}
    values |= {name: fields.vector(name, size) for name in ("allocation", "tokens_by_capability", "profile")}
    values |= {name: fields.numbers(name) for name in ("metrics", "agent", "seconds", "cache")}
    values |= {name: fields.optional_vector(name, size) for name in ("dev_profile", "exam")}
    return Step(**values, dev_utility=fields.optional_number("dev_utility"))


def read_summary(fields: Fields, size: int) -> Summary:
    """``summary.json`` with vectors of ``size``."""
    integers = "seed budget spent residue prompt_tokens probe_tokens dev_tokens tokens_before_run steps"
    values: dict[str, Any] = {name: fields.text(name) for name in ("agent", "task")}
    values |= {name: fields.integer(name) for name in integers.split()}
    values |= {name: fields.vector(name, size) for name in ("profile_start", "profile")}
    values |= {name: fields.number(name) for name in ("utility_start", "utility", "spillover", "forgetting")}
    values |= {name: fields.optional_vector(name, size) for name in ("exam_start", "exam")}
    values |= {n: fields.optional_number(n) for n in ("exam_utility_start", "exam_utility", "exam_forgetting")}
    return Summary(**values)


def read_episode(fields: Fields) -> Episode:
    """One line of ``episodes.jsonl``."""
    return Episode(
        episode=fields.integer("episode"),
        task=fields.text("task"),
        seed=fields.integer("seed"),
        episode_return=fields.number("return"),
        steps=fields.integer("steps"),
        completion_tokens=fields.integer("completion_tokens"),
        utility_start=fields.optional_number("utility_start"),
        utility=fields.optional_number("utility"),
    )
