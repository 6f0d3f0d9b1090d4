"""The search behind docs/allocation_gap.md: its surface, and the allocations that it plays."""

import importlib
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from read_env.capabilities import get_suite
from read_env.tasks import load_task, task_names


@pytest.fixture
def fixed_allocations(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "scripts"))
    return importlib.import_module("fixed_allocations")


def runs_of_a_known_world(rng: np.random.Generator, noise: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """90 allocations over three capabilities: scores rise with the share's root, math suffers from code."""
    allocations = rng.dirichlet(np.ones(3), size=90)
    seeds = rng.integers(3, size=90)
    scores = 0.2 + 0.5 * np.sqrt(allocations)
    scores[:, 0] -= 0.2 * allocations[:, 1]
    scores += np.array([-0.02, 0.0, 0.02])[seeds][:, None] + rng.normal(0, noise, scores.shape)
    return allocations, scores, seeds


def test_surface_finds_what_the_scores_follow(fixed_allocations: ModuleType) -> None:
    rng = np.random.default_rng(1)
    surface = fixed_allocations.Surface.fit(*runs_of_a_known_world(rng, noise=0.03))
    asked = rng.dirichlet(np.ones(3), size=50)
    truth = 0.2 + 0.5 * np.sqrt(asked)
    truth[:, 0] -= 0.2 * asked[:, 1]
    assert np.abs(surface(asked) - truth).mean() < 0.015  # half the noise of one run
    assert 0.025 < surface.error < 0.04


def test_surface_prefers_a_larger_penalty_where_there_is_only_noise(fixed_allocations: ModuleType) -> None:
    rng = np.random.default_rng(2)
    allocations, scores, seeds = runs_of_a_known_world(rng, noise=0.0)
    exact = fixed_allocations.Surface.fit(allocations, scores, seeds)
    noise = fixed_allocations.Surface.fit(allocations, 0.5 + rng.normal(0, 0.1, scores.shape), seeds)
    assert exact.penalty == min(fixed_allocations.PENALTIES)
    assert noise.penalty == max(fixed_allocations.PENALTIES)


def test_surface_stays_among_scores(fixed_allocations: ModuleType) -> None:
    allocations = 0.2 + 0.4 * np.random.default_rng(3).dirichlet(np.ones(3), size=60)  # far from the corners
    surface = fixed_allocations.Surface.fit(allocations, (allocations - 0.2) / 0.4, np.zeros(60, int))
    found = surface(np.eye(3))
    assert found.min() == 0 and found.max() == 1  # a line through these points leaves [0, 1] on both sides


def test_search_space_holds_every_task_and_no_allocation_twice(fixed_allocations: ModuleType) -> None:
    suite = get_suite("micro")
    tasks = [load_task(name, suite) for name in task_names()]
    space = fixed_allocations.search_space(tasks, suite)
    rows = np.array(list(space.values()))
    assert {f"task-{task.name}" for task in tasks} <= set(space)
    assert (rows >= 0).all() and np.allclose(rows.sum(axis=1), 1)
    assert len(np.unique(rows.round(6), axis=0)) == len(rows)


def test_a_new_card_changes_no_other_cards_draws(fixed_allocations: ModuleType) -> None:
    suite = get_suite("micro")
    tasks = [load_task(name, suite) for name in task_names()]
    whole, part = (fixed_allocations.search_space(some, suite) for some in (tasks, tasks[1:]))
    common = whole.keys() & part.keys()
    assert sum(name.startswith("mix") for name in common) > 20
    assert all(np.array_equal(whole[name], part[name]) for name in common)
