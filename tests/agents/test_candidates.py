"""A(τ): the same allocations as the environment's catalogue, all at once."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from read_env.agents.candidates import GRID, LIMIT, SHIFTS, TOP_K, candidates, perturbations
from read_env.agents.observation import View
from read_env.envs.catalogue import Catalogue


def view_of(seed: int, size: int = 8, first: bool = False, needs: int | None = None) -> View:
    rng = np.random.default_rng(seed)
    requirement = rng.dirichlet(np.ones(size))
    if needs is not None:
        requirement[rng.permutation(size)[needs:]] = 0
        requirement /= requirement.sum()
    last = np.zeros(size) if first else rng.dirichlet(np.full(size, 0.3))
    last[last < 1e-4] = 0
    last = last / last.sum() if last.any() else last
    return View(requirement, rng.uniform(0, 1, size), 0.5, last, np.zeros(size))


def test_published_values() -> None:
    assert (TOP_K, GRID, LIMIT) == (3, (0.25, 0.5, 0.75), 50)


@given(st.integers(0, 10_000), st.integers(2, 8), st.booleans())
def test_candidates_are_allocations_of_the_documented_number(seed: int, size: int, first: bool) -> None:
    view = view_of(seed, size, first)
    rows = candidates(view)
    assert (rows >= 0).all() and np.allclose(rows.sum(axis=1), 1)
    k = min(TOP_K, size)
    start = view.requirement if first else view.last_allocation
    sources = int((start > 1e-6).sum())
    assert len(rows) == k + k * (k - 1) // 2 * len(GRID) + sources * (size - 1) * len(SHIFTS)


@given(st.integers(0, 10_000), st.booleans(), st.integers(1, 8))
def test_candidates_are_those_of_the_catalogue(seed: int, first: bool, needs: int) -> None:
    view = view_of(seed, first=first, needs=needs)
    situation = (view.requirement, view.profile, view.last_allocation)
    catalogue = Catalogue(8)
    mask = catalogue.mask(*situation)
    indices = [i for i, one in enumerate(catalogue.candidates) if mask[i] and one.kind in ("needs", "shift")]
    expected = [catalogue.allocation(index, *situation) for index in indices]
    rows = candidates(view)
    assert len(rows) == len(expected)
    order = lambda table: table[np.lexsort(table.round(9).T)]  # noqa: E731
    assert np.allclose(order(rows), order(np.array(expected)))


def test_a_perturbation_moves_what_there_is_at_most() -> None:
    rows = perturbations(np.array([0.05, 0.95, 0.0]), (0.1,))
    expected = [[0, 1, 0], [0, 0.95, 0.05], [0.15, 0.85, 0], [0.05, 0.85, 0.1]]
    assert np.allclose(rows, expected)


def test_the_limit_holds_for_larger_settings() -> None:
    view = View(np.full(12, 1 / 12), np.zeros(12), 1.0, np.zeros(12), np.zeros(12))
    assert len(candidates(view, k=12, grid=(0.1, 0.3, 0.5, 0.7, 0.9), shifts=())) == LIMIT


def test_one_capability_has_one_candidate() -> None:
    view = View(np.ones(1), np.zeros(1), 1.0, np.zeros(1), np.zeros(1))
    assert candidates(view).tolist() == [[1.0]]
