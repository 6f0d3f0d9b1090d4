"""A(τ), the candidate allocations of ReAD (arXiv 2605.11290), as one array.

A(τ) holds sparse actions on the top-k needs, and local perturbations of the previous allocation. Perturbations can reach
capabilities that the task doesn't need but that help others. The definitions are those of the environment's catalogue
(``read_env.envs.catalogue``); here all candidates are computed at once, since a bandit scores all of them at every step.
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
#: Weights that a perturbation moves. The paper gives no sizes.
SHIFTS = (0.1, 0.25)

# Observations are float32: smaller weights are rounding errors.
_ROUNDING = 1e-6


def candidates(view: View, k: int = TOP_K, grid: Sequence[float] = GRID, shifts: Sequence[float] = SHIFTS) -> Array:
    """A(τ) for one observation: sparse actions, then perturbations.

    Args:
        view: the observation. Before the first step, the requirement is used as the previous allocation.
        k: largest needs that the sparse actions use; fewer if the task has fewer.
        grid: shares of the larger need in a pair.
        shifts: weights δ moved from i to j, for all ordered pairs in which i has weight.

    Returns:
        (n, |C|), every row on the simplex; n = 124 for eight capabilities at most.
    """
    sparse = sparse_actions(view.requirement, k, grid)
    start = starting_point(view.requirement, view.last_allocation)
    return np.concatenate([sparse, perturbations(start, shifts)])


def sparse_actions(requirement: Array, k: int = TOP_K, grid: Sequence[float] = GRID, limit: int = LIMIT) -> Array:
    """All weight on one of the top-k needs, or split over two of them: (n, |C|) with n ≤ ``limit``."""
    needs = ranked_needs(requirement)[:k]
    rows = [np.eye(len(requirement))[need] for need in needs]
    for i, j in combinations(needs, 2):
        for share in grid:
            row = np.zeros(len(requirement))
            row[i], row[j] = share, 1 - share
            rows.append(row)
    return np.array(rows[:limit])


def perturbations(allocation: Array, shifts: Sequence[float] = SHIFTS) -> Array:
    """``allocation`` with weight δ, or all of i's weight if less, moved from i to j: (n, |C|).

    Sources without weight are left out, so n ≤ len(shifts)·|C|·(|C| − 1).
    """
    size = len(allocation)
    pairs = np.array([pair for pair in permutations(range(size), 2) if allocation[pair[0]] > _ROUNDING], dtype=int)
    if not len(pairs):  # one capability: nothing to move it to
        return np.empty((0, size))
    source, target = np.tile(pairs, (len(shifts), 1)).T
    amount = np.repeat(np.asarray(shifts, dtype=np.float64), len(pairs))
    have = allocation[source]
    moved = np.where(have - amount > _ROUNDING, amount, have)
    rows = np.tile(allocation, (len(source), 1))
    index = np.arange(len(source))
    rows[index, source] -= moved
    rows[index, target] += moved
    return rows
