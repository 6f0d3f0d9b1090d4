"""The fixed catalogue of candidate allocations: A(τ) of ReAD (arXiv 2605.11290), plus the static controls.

An index means the same in every task, state and episode: "the needs ranked 1 and 2 at .25/.75" or
"move .1 from code to math". What it comes to in weights depends on the task's requirement, on the
profile and on the previous allocation. Everything here is a pure function of these three.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import combinations, permutations
from typing import Literal

import numpy as np

from read_env.errors import ReadEnvError

Kind = Literal["needs", "task-static", "uniform", "water-filling", "keep", "shift"]

#: Weights below this are rounding (observations are float32): too little to be moved.
_DUST = 1e-6


@dataclass(frozen=True)
class Candidate:
    """One entry of the catalogue.

    Attributes:
        kind: which function below makes the weights.
        name: short text for logs and plots.
        ranks: for ``needs``: ranks of the needed capabilities, 0 for the largest need.
        shares: for ``needs``: the weight of each of them; they sum to 1.
        source: for ``shift``: index of the capability that gives.
        target: for ``shift``: index of the capability that receives.
        amount: for ``shift``: weight δ moved, or what the source has if that is less.
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

    Keeping and shifting start from the previous allocation; before the first one, from the
    requirement (task-static). For eight capabilities and the defaults these are 128 candidates.

    Args:
        size: |C|.
        k: how many of the largest needs the sparse actions use.
        grid: shares of the better ranked need in a pair, each in (0, 1).
        shifts: weights δ that a shift moves, each in (0, 1].
        labels: |C| capability names for the candidates' names; indices without.

    Raises:
        ReadEnvError: if k, a share, a shift or the number of labels is out of range.
    """

    size: int
    k: int = 3
    grid: tuple[float, ...] = (0.25, 0.5, 0.75)
    shifts: tuple[float, ...] = (0.1, 0.25)
    labels: tuple[str, ...] | None = None

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
        """Every candidate, in index order."""
        label = self.labels or tuple(map(str, range(self.size)))
        corners = [Candidate("needs", f"need {i + 1}", (i,), (1.0,)) for i in range(self.k)]
        pairs = [
            Candidate("needs", f"needs {i + 1}+{j + 1} at {share:g}/{1 - share:g}", (i, j), (share, 1 - share))
            for i, j in combinations(range(self.k), 2)
            for share in self.grid
        ]
        rules = [Candidate(kind, kind) for kind in ("task-static", "uniform", "water-filling", "keep")]
        shifts = [
            Candidate("shift", f"shift {amount:g} {label[i]}>{label[j]}", source=i, target=j, amount=amount)
            for amount in self.shifts
            for i, j in permutations(range(self.size), 2)
        ]
        return (*corners, *pairs, *rules, *shifts)

    @property
    def names(self) -> tuple[str, ...]:
        """Names in index order."""
        return tuple(candidate.name for candidate in self.candidates)

    @cached_property
    def always_applicable(self) -> tuple[int, ...]:
        """Indices that no task and no state can mask out: the largest need and the four rules."""
        return tuple(i for i, c in enumerate(self.candidates) if c.kind != "shift" and max(c.ranks, default=0) == 0)

    def mask(self, requirement: np.ndarray, profile: np.ndarray, last_allocation: np.ndarray) -> np.ndarray:
        """Which candidates can be applied.

        A sparse action can't when the task has fewer needs than its ranks ask for, and a shift
        can't when its source has no weight; everything else always can.

        Args:
            requirement: (|C|,) on the simplex.
            profile: (|C|,) scores in [0, 1]; masks nothing, part of the signature for symmetry.
            last_allocation: (|C|,) on the simplex, or zeros before the first step.

        Returns:
            (n,) boolean array.
        """
        needs = len(ranked_needs(requirement))
        movable = starting_point(requirement, last_allocation) > _DUST
        return np.array(
            [bool(movable[c.source]) if c.kind == "shift" else max(c.ranks, default=0) < needs for c in self.candidates]
        )

    def allocation(
        self, index: int, requirement: np.ndarray, profile: np.ndarray, last_allocation: np.ndarray
    ) -> np.ndarray:
        """The weights that a candidate comes to.

        Args:
            index: position in ``candidates``.
            requirement: (|C|,) on the simplex.
            profile: (|C|,) scores in [0, 1].
            last_allocation: (|C|,) on the simplex, or zeros before the first step.

        Returns:
            (|C|,) float64 on the simplex.

        Raises:
            ReadEnvError: if there is no such candidate or it can't be applied here (see :meth:`mask`).
        """
        if not 0 <= index < len(self):
            raise ReadEnvError(f"candidate index must be between 0 and {len(self) - 1}, got {index}")
        candidate = self.candidates[index]
        match candidate.kind:
            case "needs":
                return sparse(requirement, candidate.ranks, candidate.shares)
            case "task-static":
                return _on_simplex(requirement)
            case "uniform":
                return np.full(self.size, 1 / self.size)
            case "water-filling":
                return water_filling(requirement, profile)
            case "keep":
                return starting_point(requirement, last_allocation)
            case "shift":
                start = starting_point(requirement, last_allocation)
                return shifted(start, candidate.source, candidate.target, candidate.amount)


def ranked_needs(requirement: np.ndarray) -> np.ndarray:
    """Indices of the capabilities with positive requirement, largest first, equal ones in suite order."""
    order = np.argsort(-np.asarray(requirement), kind="stable")
    return order[np.asarray(requirement)[order] > 0]


def sparse(requirement: np.ndarray, ranks: tuple[int, ...], shares: tuple[float, ...]) -> np.ndarray:
    """``shares`` on the needs of these ranks, nothing elsewhere: (|C|,).

    Raises:
        ReadEnvError: if the task has fewer needs than the ranks ask for.
    """
    needs = ranked_needs(requirement)
    if max(ranks) >= len(needs):
        raise ReadEnvError(f"the task has {len(needs)} needs, there is none ranked {max(ranks) + 1}")
    weights = np.zeros(len(requirement))
    weights[needs[list(ranks)]] = shares
    return weights


def water_filling(requirement: np.ndarray, profile: np.ndarray) -> np.ndarray:
    """What is needed and still missing, w ∝ r·(1 − s); the requirement when nothing is missing. (|C|,)."""
    requirement = _on_simplex(requirement)
    missing = requirement * np.clip(1 - np.asarray(profile, dtype=np.float64), 0, 1)
    # Compared with dust: dividing by a subnormal sum would leave the simplex.
    return missing / missing.sum() if missing.sum() > _DUST else requirement


def shifted(allocation: np.ndarray, source: int, target: int, amount: float) -> np.ndarray:
    """``amount`` of weight moved from source to target, or all of the source's if that is less: (|C|,).

    Raises:
        ReadEnvError: if the source has no weight to give.
    """
    if allocation[source] <= _DUST:
        raise ReadEnvError(f"capability {source} has no weight to shift, the allocation is {allocation}")
    # Dust left behind would count as a weight, and the next shift would move nothing worth a step.
    moved = amount if allocation[source] - amount > _DUST else allocation[source]
    weights = allocation.copy()
    weights[source] -= moved
    weights[target] += moved
    return weights


def starting_point(requirement: np.ndarray, last_allocation: np.ndarray) -> np.ndarray:
    """The allocation that is kept or perturbed: the last one, before the first step the requirement. (|C|,)."""
    return _on_simplex(last_allocation if np.any(last_allocation) else requirement)


def _on_simplex(weights: np.ndarray) -> np.ndarray:
    weights = np.asarray(weights, dtype=np.float64)  # observations are float32 and sum to 1 only nearly
    return weights / weights.sum()
