"""The search for the best fixed allocation of every task, used by comparison.py.

A fixed allocation's final profile does not depend on the task: each is run once per seed and used for
all tasks. The search plays all allocations on one seed and the best few of each task on more, and
measures exact match on the dev split, never on the exam. The winner is not the luckiest run but the best
allocation according to a surface fitted to all runs: the scores of one run depend on its seed by more
than most allocations differ.
"""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from common import cards_of_profiles, exam_of, run_all

from read_env.capabilities import Suite, get_suite
from read_env.config import Config
from read_env.running.requests import RunRequest
from read_env.tasks import TaskCard

#: Settings of all runs of this search and of what is compared with it: many runs share the teacher's answers.
SETTINGS = {"distill": {"teacher_batch_size": 96}}
SEARCH_SEEDS = [5001, 5002, 5003, 5004, 5005]
#: The search uses the dev split alone; 144 prompts per capability are nearly all that some capabilities have there.
SEARCH_MEASURE = {"exam_split": "dev", "exam": 144}
#: Ridge penalties, chosen by cross-validation.
PENALTIES = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
#: Allocations of each task that go on from the first search seed to the others.
FINALISTS = 3
#: Random shares of each task's needs.
DRAWS = 4


def shares_of(allocation: np.ndarray, names: tuple[str, ...]) -> str:
    """An allocation as the ``fixed`` agent's option: ``"math=0.5 code=0.5"``."""
    return " ".join(f"{name}={share:.3f}" for name, share in zip(names, allocation, strict=True) if share > 0)


def search_space(tasks: Sequence[TaskCard], suite: Suite) -> dict[str, np.ndarray]:
    """Named allocations, each once: (|C|,) shares that sum to 1.

    An allocation keeps its first name; ``task-NAME`` comes first, so every task has its own.
    """
    size = len(suite)
    sources = [
        {f"task-{task.name}": task.requirement_vector(suite) for task in tasks},
        {"uniform": np.full(size, 1 / size)},
        {f"only-{name}": row for name, row in zip(suite.names, np.eye(size), strict=True)},
        *(_variations(task, suite) for task in tasks),
        _pairs(suite),
        *(_without_a_need(task, suite) for task in tasks),
    ]
    space: dict[str, np.ndarray] = {}
    for name, allocation in itertools.chain.from_iterable(source.items() for source in sources):
        if not any(np.allclose(allocation, known, atol=1e-6) for known in space.values()):
            space[name] = allocation
    return space


def _variations(task: TaskCard, suite: Suite) -> dict[str, np.ndarray]:
    """A task's requirement mixed with uniform, flattened, and drawn anew; half of the draws with a helper."""
    size = len(suite)
    requirement = task.requirement_vector(suite)
    found = {f"safe-{task.name}": 0.85 * requirement + 0.15 / size}
    needs = np.flatnonzero(requirement)
    if len(needs) == 1:
        return found
    found[f"sqrt-{task.name}"] = np.sqrt(requirement) / np.sqrt(requirement).sum()
    rng = np.random.default_rng(zlib.crc32(task.name.encode()))  # a new card changes no other card's draws
    for i in range(DRAWS):
        shares = np.zeros(size)
        shares[needs] = rng.dirichlet(np.ones(len(needs)))
        helper = np.eye(size)[rng.integers(size)]
        found[f"mix{i}-{task.name}"] = shares if i % 2 else 0.8 * shares + 0.2 * helper
    return found


def _pairs(suite: Suite) -> dict[str, np.ndarray]:
    """Half the tokens on each of two capabilities."""
    corners = zip(suite.names, np.eye(len(suite)), strict=True)
    return {f"half-{a}-{b}": 0.5 * (first + second) for (a, first), (b, second) in itertools.combinations(corners, 2)}


def _without_a_need(task: TaskCard, suite: Suite) -> dict[str, np.ndarray]:
    """A task's requirement with one need left out."""
    requirement = task.requirement_vector(suite)
    needs = np.flatnonzero(requirement)
    if len(needs) == 1:
        return {}
    left = {suite.names[need]: np.where(np.arange(len(suite)) == need, 0.0, requirement) for need in needs}
    return {f"without-{name}-{task.name}": rest / rest.sum() for name, rest in left.items()}


def requests(space: dict[str, np.ndarray], seeds: list[int], config: Config, directory: Path) -> dict[str, RunRequest]:
    """One run per allocation and seed."""
    names = get_suite(config.suite).names
    found = {}
    for seed, (label, allocation) in itertools.product(seeds, space.items()):
        options = {"shares": shares_of(allocation, names)}
        run_config = config.model_copy(update={"agent": "fixed", "agent_options": options, "seed": seed})
        found[f"{label}__seed{seed}"] = RunRequest(run_config, directory / "runs" / f"{label}__seed{seed}", label=label)
    return found


@dataclass(frozen=True)
class Surface:
    """Final scores as a smooth function of the allocation, pooled over all runs of a search.

    Ridge regression on w, √w and w², which makes gains diminish or not, with a level of its own for each seed.

    Attributes:
        slopes: (3·|C|, |C|), of the features.
        level: (|C|,), the seeds' levels on average.
        penalty: of the squared slopes, the one of ``PENALTIES`` with the least ``error``.
        error: root mean squared error of a score when all runs of its allocation are left out of the fit.
    """

    slopes: np.ndarray
    level: np.ndarray
    penalty: float
    error: float

    @classmethod
    def fit(cls, allocations: np.ndarray, scores: np.ndarray, seeds: np.ndarray) -> Surface:
        """A surface through runs: allocations and scores (runs, |C|), seeds (runs,)."""
        levels = (seeds[:, None] == np.unique(seeds)).astype(float)
        design = np.concatenate([_features(allocations), levels], axis=1)
        groups = np.unique(allocations, axis=0, return_inverse=True)[1].ravel()

        def solve(penalty: float, rows: np.ndarray) -> np.ndarray:
            weight = penalty * np.array([1.0] * (design.shape[1] - levels.shape[1]) + [1e-3] * levels.shape[1])
            x = design[rows]
            return np.linalg.solve(x.T @ x + np.diag(weight), x.T @ scores[rows])

        def error(penalty: float) -> float:
            left_out = [groups == group for group in np.unique(groups)]
            misses = [design[rows] @ solve(penalty, ~rows) - scores[rows] for rows in left_out]
            return float(np.sqrt((np.concatenate(misses) ** 2).mean()))

        errors = {penalty: error(penalty) for penalty in PENALTIES}
        penalty = min(PENALTIES, key=lambda penalty: errors[penalty])
        weights = solve(penalty, np.ones(len(design), bool))
        count = levels.shape[1]
        return cls(weights[:-count], weights[-count:].mean(axis=0), penalty, errors[penalty])

    def __call__(self, allocations: np.ndarray) -> np.ndarray:
        """Scores in [0, 1], (n, |C|), of allocations (n, |C|)."""
        return np.clip(_features(allocations) @ self.slopes + self.level, 0.0, 1.0)


def _features(allocations: np.ndarray) -> np.ndarray:
    return np.concatenate([allocations, np.sqrt(allocations), allocations**2], axis=1)


@dataclass(frozen=True)
class Search:
    """Result of a search for the best fixed allocation of every task.

    Attributes:
        space: all allocations, by name.
        best: task -> the best one by utility of the fitted surface.
        utilities: allocation -> task -> that utility.
        surface: fitted surface of the utilities.
        tokens: completion tokens of all its runs.
    """

    space: dict[str, np.ndarray]
    best: dict[str, str]
    utilities: dict[str, dict[str, float]]
    surface: Surface
    tokens: int


def search(config: Config, seeds: list[int], directory: Path, processes: int) -> Search:
    """All allocations on the first seed, the best ``FINALISTS`` of each task and its task-static on the others."""
    config = config.model_copy(update={"eval": config.eval.model_copy(update=SEARCH_MEASURE)})
    suite = get_suite(config.suite)
    tasks = cards_of_profiles(suite)
    space = search_space(tasks, suite)
    first, *others = seeds
    runs = run_all("searching fixed allocations", requests(space, [first], config, directory), processes)
    exams = {name: exam_of(run) for name, run in runs.items()}
    left: dict[str, None] = {}
    for task in tasks:
        ranked = sorted(space, key=lambda label: -task.utility(exams[f"{label}__seed{first}"], suite))
        left |= dict.fromkeys([*ranked[:FINALISTS], f"task-{task.name}"])
    finals = requests({label: space[label] for label in left}, others, config, directory)
    exams |= {name: exam_of(run) for name, run in run_all("searching the finalists", finals, processes).items()}
    labels, at = zip(*(name.rsplit("__seed", 1) for name in exams), strict=True)
    fitted = Surface.fit(np.array([space[label] for label in labels]), np.array(list(exams.values())), np.array(at))
    utilities = {
        label: {task.name: task.utility(profile, suite) for task in tasks}
        for label, profile in zip(space, fitted(np.array(list(space.values()))), strict=True)
    }
    best = {task.name: max(space, key=lambda label: utilities[label][task.name]) for task in tasks}
    return Search(space, best, utilities, fitted, config.budget.total_tokens * len(exams))
