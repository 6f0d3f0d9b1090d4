"""A(τ), the candidate allocations of ReAD (arXiv 2605.11290), as one array.

A(τ) holds sparse actions on the top-k needs, and local perturbations of the previous allocation, as the environment's
catalogue (``read_env.envs.catalogue``) defines them. Perturbations can reach capabilities that the task doesn't need but that
help others.
"""

from collections.abc import Sequence

import numpy as np

from read_env.agents.observation import Array, View
from read_env.envs.catalogue import ROUNDING, moves, ranked_needs, shifted, sparse, sparse_actions, starting_point

#: The authors' release: support at most 2, these shares, the top 3 needs, at most 50 of them.
TOP_K = 3
GRID = (0.25, 0.5, 0.75)
LIMIT = 50
#: Weights that a perturbation moves. The paper gives no sizes.
SHIFTS = (0.1, 0.25)


def candidates(view: View, k: int = TOP_K, grid: Sequence[float] = GRID, shifts: Sequence[float] = SHIFTS) -> Array:
    """A(τ) for one observation: at most ``LIMIT`` sparse actions, then perturbations.

    Args:
        view: the observation. Before the first step, the requirement is used as the previous allocation.
        k: largest needs that the sparse actions use; fewer if the task has fewer.
        grid: shares of the larger need in a pair.
        shifts: weights δ moved from i to j, for all ordered pairs in which i has weight.

    Returns:
        (n, |C|), every row on the simplex; n = 192 for ten capabilities at most.

    Example:
        >>> view = View(np.array([0.8, 0.2]), np.zeros(2), 1.0, np.zeros(2), np.zeros(2))
        >>> candidates(view, grid=[0.5], shifts=[0.1]).round(2).tolist()
        [[1.0, 0.0], [0.0, 1.0], [0.5, 0.5], [0.7, 0.3], [0.9, 0.1]]
    """
    actions = sparse_actions(min(k, len(ranked_needs(view.requirement))), grid)[:LIMIT]
    rows = [sparse(view.requirement, ranks, shares) for ranks, shares in actions]
    start = starting_point(view.requirement, view.last_allocation)
    return np.concatenate([rows, perturbations(start, shifts)])


def perturbations(allocation: Array, shifts: Sequence[float] = SHIFTS) -> Array:
    """``allocation`` with weight δ, or all of i's weight if less, moved from i to j: (n, |C|).

    Sources without weight are left out, so n ≤ len(shifts)·|C|·(|C| − 1).

    Example:
        >>> perturbations(np.array([1.0, 0.0]), shifts=[0.25]).tolist()
        [[0.75, 0.25]]
    """
    size = len(allocation)
    rows = [shifted(allocation, i, j, amount) for amount, i, j in moves(size, shifts) if allocation[i] > ROUNDING]
    return np.array(rows).reshape(-1, size)  # one capability: nothing to move it to
