"""Fixed catalogue of candidate allocations: A(τ) of ReAD (arXiv 2605.11290) and the static rules.

An index has the same meaning in every task, state and episode, such as "the needs ranked 1 and 2 at .25/.75" or "move .1
from code to math". Its weights are a pure function of the task's requirement, the profile and the previous allocation.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations, permutations
from typing import Literal

import numpy as np

from read_env.errors import ReadEnvError

Kind = Literal["needs", "task-static", "uniform", "water-filling", "keep", "shift", "stop"]

#: Weights below this are rounding errors, since observations are float32.
ROUNDING = 1e-6


@dataclass(frozen=True)
class Candidate:
    """Entry of the catalogue.

    Attributes:
        kind: kind of allocation.
        name: short text for logs and plots.
        ranks: for ``needs``: ranks of the needed capabilities, 0 for the largest need.
        shares: for ``needs``: weights of these capabilities, which sum to 1.
        source: for ``shift``: index of the capability that loses weight.
        target: for ``shift``: index of the capability that gains it.
        amount: for ``shift``: weight δ moved, or the weight of the source if that is less.
    """

    kind: Kind
    name: str
    ranks: tuple[int, ...] = ()
    shares: tuple[float, ...] = ()
    source: int = -1
    target: int = -1
    amount: float = 0.0


@dataclass(frozen=True)
class Catalogue:
    """Sparse actions on the top-k needs, four static rules, and shifts between all ordered pairs.

    Keeping and shifting start from the previous allocation; before the first step, from the requirement.

    Args:
        size: |C|.
        k: number of the largest needs that the sparse actions use.
        grid: shares of the larger need in a pair, each in (0, 1).
        shifts: weights δ that a shift moves, each in (0, 1].
        labels: |C| capability names for the candidates' names. None: their indices.
        may_stop: the last candidate ends the episode, and all have a stop entry.

    Raises:
        ReadEnvError: k, a share, a shift or the number of labels is out of range.

    >>> len(Catalogue(8))
    128
    """

    size: int
    k: int = 3
    grid: tuple[float, ...] = (0.25, 0.5, 0.75)
    shifts: tuple[float, ...] = (0.1, 0.25)
    labels: tuple[str, ...] | None = None
    may_stop: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.k <= self.size:
            raise ReadEnvError(f"k must be between 1 and the {self.size} capabilities, got {self.k}")
        if not all(0 < share < 1 for share in self.grid):
            raise ReadEnvError(f"grid must hold shares strictly between 0 and 1, got {self.grid}")
        if not all(0 < shift <= 1 for shift in self.shifts):
            raise ReadEnvError(f"shifts must be above 0 and at most 1, got {self.shifts}")
        if self.labels is not None and len(self.labels) != self.size:
            raise ReadEnvError(f"labels must name all {self.size} capabilities, got {self.labels}")

    def __len__(self) -> int:
        return len(self.candidates)

    @cached_property
    def candidates(self) -> tuple[Candidate, ...]:
        """All candidates, in index order."""
        label = self.labels or tuple(map(str, range(self.size)))
        needs = [Candidate("needs", _needs_name(*parts), *parts) for parts in sparse_actions(self.k, self.grid)]
        rules = [Candidate(kind, kind) for kind in ("task-static", "uniform", "water-filling", "keep")]
        shifts = [
            Candidate("shift", f"shift {amount:g} {label[i]}>{label[j]}", source=i, target=j, amount=amount)
            for amount, i, j in moves(self.size, self.shifts)
        ]
        stop = [Candidate("stop", "stop")] if self.may_stop else []
        return (*needs, *rules, *shifts, *stop)

    @property
    def names(self) -> tuple[str, ...]:
        """Names in index order."""
        return tuple(candidate.name for candidate in self.candidates)

    @cached_property
    def always_applicable(self) -> tuple[int, ...]:
        """Indices that are never masked: the largest need, the four rules and stop."""
        return tuple(i for i, c in enumerate(self.candidates) if c.kind != "shift" and max(c.ranks, default=0) == 0)

    def mask(self, requirement: np.ndarray, profile: np.ndarray, last_allocation: np.ndarray) -> np.ndarray:
        """Mask of the candidates that can be applied.

        Masked are sparse actions with more ranks than the task has needs, and shifts whose source has no weight.

        Args:
            requirement: (|C|,) on the simplex.
            profile: (|C|,) scores in [0, 1]; not used, here for the same signature as ``allocation``.
            last_allocation: (|C|,) on the simplex, or zeros before the first step.

        Returns:
            (n,) boolean array.
        """
        needs = len(ranked_needs(requirement))
        movable = starting_point(requirement, last_allocation) > ROUNDING
        return np.array(
            [bool(movable[c.source]) if c.kind == "shift" else max(c.ranks, default=0) < needs for c in self.candidates]
        )

    def allocation(
        self, index: int, requirement: np.ndarray, profile: np.ndarray, last_allocation: np.ndarray
    ) -> np.ndarray:
        """Weights of a candidate.

        Args:
            index: position in ``candidates``.
            requirement: (|C|,) on the simplex.
            profile: (|C|,) scores in [0, 1].
            last_allocation: (|C|,) on the simplex, or zeros before the first step.

        Returns:
            (|C|,) float64 on the simplex; with ``may_stop``, and its stop entry, 0 or 1.

        Raises:
            ReadEnvError: there is no such candidate, or :meth:`mask` excludes it.
        """
        if not 0 <= index < len(self):
            raise ReadEnvError(f"candidate index must be between 0 and {len(self) - 1}, got {index}")
        candidate = self.candidates[index]
        weights = self._weights(candidate, requirement, profile, last_allocation)
        return np.append(weights, candidate.kind == "stop") if self.may_stop else weights

    def _weights(
        self, candidate: Candidate, requirement: np.ndarray, profile: np.ndarray, last_allocation: np.ndarray
    ) -> np.ndarray:
        match candidate.kind:
            case "needs":
                return sparse(requirement, candidate.ranks, candidate.shares)
            case "task-static":
                return _on_simplex(requirement)
            case "uniform":
                return np.full(self.size, 1 / self.size)
            case "water-filling":
                return water_filling(requirement, profile)
            case "keep" | "stop":
                return starting_point(requirement, last_allocation)
            case "shift":
                start = starting_point(requirement, last_allocation)
                return shifted(start, candidate.source, candidate.target, candidate.amount)


def sparse_actions(k: int, grid: Sequence[float]) -> list[tuple[tuple[int, ...], tuple[float, ...]]]:
    """Ranks and shares of the actions on one or two of the top-k needs.

    >>> sparse_actions(2, [0.25])
    [((0,), (1.0,)), ((1,), (1.0,)), ((0, 1), (0.25, 0.75))]
    """
    corners = [((rank,), (1.0,)) for rank in range(k)]
    return [*corners, *(((i, j), (share, 1 - share)) for i, j in combinations(range(k), 2) for share in grid)]


def moves(size: int, shifts: Sequence[float]) -> Iterator[tuple[float, int, int]]:
    """Amount, source and target of all shifts between ``size`` capabilities.

    >>> list(moves(2, [0.1]))
    [(0.1, 0, 1), (0.1, 1, 0)]
    """
    return ((amount, i, j) for amount in shifts for i, j in permutations(range(size), 2))


def _needs_name(ranks: tuple[int, ...], shares: tuple[float, ...]) -> str:
    if len(ranks) == 1:
        return f"need {ranks[0] + 1}"
    return f"needs {'+'.join(str(rank + 1) for rank in ranks)} at {'/'.join(f'{share:g}' for share in shares)}"


def ranked_needs(requirement: np.ndarray) -> np.ndarray:
    """Indices of the capabilities with positive requirement, largest first, equal ones in suite order.

    >>> ranked_needs(np.array([0.2, 0.0, 0.8]))
    array([2, 0])
    """
    order = np.argsort(-np.asarray(requirement), kind="stable")
    return order[np.asarray(requirement)[order] > 0]


def sparse(requirement: np.ndarray, ranks: tuple[int, ...], shares: tuple[float, ...]) -> np.ndarray:
    """Allocation with ``shares`` on the needs of these ranks and 0 elsewhere, (|C|,).

    Raises:
        ReadEnvError: the task has no need of such a rank.

    >>> sparse(np.array([0.2, 0.5, 0.3]), ranks=(0, 1), shares=(0.75, 0.25)).tolist()
    [0.0, 0.75, 0.25]
    """
    needs = ranked_needs(requirement)
    if max(ranks) >= len(needs):
        raise ReadEnvError(f"the task has {len(needs)} needs, there is none ranked {max(ranks) + 1}")
    weights = np.zeros(len(requirement))
    weights[needs[list(ranks)]] = shares
    return weights


def water_filling(requirement: np.ndarray, profile: np.ndarray) -> np.ndarray:
    """Allocation by unmet need, w ∝ r·(1 − s), or the requirement if all needs are met; (|C|,).

    >>> water_filling(np.array([0.5, 0.5]), np.array([0.8, 0.4]))
    array([0.25, 0.75])
    """
    requirement = _on_simplex(requirement)
    missing = requirement * np.clip(1 - np.asarray(profile, dtype=np.float64), 0, 1)
    # Sums of rounding errors count as 0: dividing by a subnormal sum would leave the simplex.
    return missing / missing.sum() if missing.sum() > ROUNDING else requirement


def shifted(allocation: np.ndarray, source: int, target: int, amount: float) -> np.ndarray:
    """``allocation`` with ``amount``, or all of the source's weight if less, moved from source to target; (|C|,).

    Raises:
        ReadEnvError: the source has no weight.

    >>> shifted(np.array([0.75, 0.25]), source=0, target=1, amount=0.25).tolist()
    [0.5, 0.5]
    """
    if allocation[source] <= ROUNDING:
        raise ReadEnvError(f"capability {source} has no weight to shift, the allocation is {allocation}")
    # A rounding error left behind would count as weight, and the next shift would move nothing else.
    moved = amount if allocation[source] - amount > ROUNDING else allocation[source]
    weights = allocation.copy()
    weights[source] -= moved
    weights[target] += moved
    return weights


def starting_point(requirement: np.ndarray, last_allocation: np.ndarray) -> np.ndarray:
    """Allocation that is kept or perturbed: the last one, or the requirement before the first step; (|C|,).

    >>> starting_point(np.array([0.75, 0.25]), last_allocation=np.zeros(2)).tolist()
    [0.75, 0.25]
    """
    return _on_simplex(last_allocation if np.any(last_allocation) else requirement)


def _on_simplex(weights: np.ndarray) -> np.ndarray:
    weights = np.asarray(weights, dtype=np.float64)  # observations are float32 and sum to 1 only nearly
    return weights / weights.sum()
