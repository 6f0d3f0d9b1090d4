"""A(τ), the candidate allocations of ReAD (arXiv 2605.11290), as one array.

Two parts: sparse actions on the top-k needs, and local perturbations of the
previous allocation. The second lets a bandit reach, step by step, a helper that
is no need of the task at all. What a candidate *is* comes from the environment's
catalogue (``read_env.envs.catalogue``); here all of them are computed at once,
because a bandit scores all of them at every step.
"""

from collections.abc import Sequence
from itertools import combinations, permutations

import numpy as np

from read_env.agents.observation import Array, View
from read_env.envs.catalogue import ranked_needs, starting_point

#: The authors' release: support at most 2, these shares, the top 3 needs, at most 50 of them.
TOP_K = 3
GRID = (0.25, 0.5, 0.75)
LIMIT = 50
#: Weights that a perturbation moves. The paper names perturbations without sizes: these are ours.
SHIFTS = (0.1, 0.25)

# Allocations come back from observations in float32: less than this is rounding.
_DUST = 1e-6


def candidates(view: View, k: int = TOP_K, grid: Sequence[float] = GRID, shifts: Sequence[float] = SHIFTS) -> Array:
    """A(τ) for one observation: sparse actions first, perturbations after them.

    Args:
        view: the observation; before the first step the requirement stands in for the
            previous allocation.
        k: needs that the sparse actions use; fewer where the task has fewer.
        grid: shares of the larger need in a pair.
        shifts: weights δ moved from i to j, for all ordered pairs in which i has weight.

    Returns:
        (n, |C|), every row on the simplex; n = 124 for eight capabilities at most.
    """
    sparse = sparse_actions(view.requirement, k, grid)
    start = starting_point(view.requirement, view.last_allocation)
    return np.concatenate([sparse, perturbations(start, shifts)])


def sparse_actions(requirement: Array, k: int = TOP_K, grid: Sequence[float] = GRID, limit: int = LIMIT) -> Array:
    """The corners and the pairs of the top-k needs, (n, |C|) with n ≤ ``limit``."""
    needs = ranked_needs(requirement)[:k]
    rows = [np.eye(len(requirement))[need] for need in needs]
    for i, j in combinations(needs, 2):
        for share in grid:
            row = np.zeros(len(requirement))
            row[i], row[j] = share, 1 - share
            rows.append(row)
    return np.array(rows[:limit])


def perturbations(allocation: Array, shifts: Sequence[float] = SHIFTS) -> Array:
    """``allocation`` with δ moved from i to j (all that i has, if that is less): (n, |C|).

    A capability without weight has nothing to give, so n ≤ len(shifts)·|C|·(|C| − 1).
    """
    size = len(allocation)
    pairs = np.array([pair for pair in permutations(range(size), 2) if allocation[pair[0]] > _DUST], dtype=int)
    if not len(pairs):  # one capability: nothing to move it to
        return np.empty((0, size))
    source, target = np.tile(pairs, (len(shifts), 1)).T
    amount = np.repeat(np.asarray(shifts, dtype=np.float64), len(pairs))
    have = allocation[source]
    moved = np.where(have - amount > _DUST, amount, have)
    rows = np.tile(allocation, (len(source), 1))
    index = np.arange(len(source))
    rows[index, source] -= moved
    rows[index, target] += moved
    return rows
