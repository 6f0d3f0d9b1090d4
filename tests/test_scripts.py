"""What scripts compute: the search behind docs/allocation_gap.md, the projected step, the page of throughputs."""

import importlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from read_env.capabilities import get_suite
from read_env.tasks import load_task, task_names


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "scripts"))
    return importlib.import_module


@pytest.fixture
def fixed_allocations(script: Callable[[str], ModuleType]) -> ModuleType:
    return script("fixed_allocations")


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


def test_projection_finds_the_fixed_and_the_growing_part(script: Callable[[str], ModuleType]) -> None:
    def steps(tokens: int) -> list[dict[str, float]]:
        row = {
            "teacher": 4e-4 * tokens,
            "student": 1e-4 * tokens,
            "probes": 0.5,
            "prompts": 2e-6 * tokens,
            "other": 0.1,
        }
        return [row, row, {stage: 10 * seconds for stage, seconds in row.items()}]  # one step was disturbed

    measured = {"cold": {tokens: steps(tokens) for tokens in (4_000, 6_000, 10_000)}}
    lines = script("benchmark_chunk").projection(measured, choice=0.04)
    rows = {cells[1].strip(): [c.strip() for c in cells[2:]] for line in lines if (cells := line.split("|")[1:-1])}
    assert rows["teacher and student"][:3] == ["0.0000", "0.50000", "500.00"]
    assert rows["probes"] == ["0.5000", "0.00000", "0.50", "0.10%", "≤ 3%: met", "3.12%"]
    assert rows["everything else"][:3] == ["0.1400", "0.00200", "2.14"]


def test_a_section_replaces_the_one_of_its_pair_and_hardware(script: Callable[[str], ModuleType]) -> None:
    merge = script("throughput_page").merge
    page = merge("", "## micro on a CPU\n\n1,000 tokens\n")
    page = merge(page, "## micro on a GPU\n\nother\n")
    page = merge(page, "## micro on a CPU\n\n2,000 tokens\n")
    assert page.count("# Throughput beside TRL") == 1 and page.count("\n## ") == 2
    assert "1,000 tokens" not in page and page.index("2,000 tokens") < page.index("other")
