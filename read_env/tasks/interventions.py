"""Allocations of the short runs from which a task's requirement is inferred (arXiv 2605.11290, step 1).

============  ======================================================================================================
``axial``     even shares, with half of all tokens moved to one capability, each capability equally often: the axial
              design for mixtures of J. A. Cornell, "Experiments with Mixtures". Every run keeps all capabilities, so a
              gain is not hidden by what the student forgets
``balanced``  equal shares for one half of the suite: every capability is trained in half of the runs, every two of them
              together in as nearly a quarter as possible
``random``    as published: a random support of one to three capabilities with Dirichlet weights
============  ======================================================================================================
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np

from read_env.errors import ReadEnvError, unknown

Design = Literal["axial", "balanced", "random"]

#: Share of the tokens that an axial intervention moves to one capability.
_RAISED = 0.5
#: Largest support of a random intervention.
_SUPPORT = 3
#: Orders of a block that are tried; the most balanced one is kept.
_TRIES = 200


def interventions(design: str, size: int, count: int, seed: int = 0) -> np.ndarray:
    """(count, |C|) allocations; each row sums to 1.

    Args:
        design: ``axial``, ``balanced`` or ``random``.
        size: |C|, at least 2.
        count: number of allocations.
        seed: seed of the draws. With the same seed, a longer list begins with the shorter one.

    Raises:
        ReadEnvError: an unknown design, one capability or fewer, no intervention, or too few for an axial design.

    >>> interventions("balanced", 4, 4).sum(axis=0)
    array([1., 1., 1., 1.])
    """
    if design not in get_args(Design):
        raise unknown("design of interventions", design, get_args(Design))
    if size < 2 or count < 1:
        raise ReadEnvError(
            f"{count} interventions on {size} capabilities: right would be at least one, on two capabilities or more"
        )
    if design == "axial" and count < size:
        raise ReadEnvError(
            f"identify.interventions is {count}; the design 'axial' has one for each of the {size} capabilities of the suite; right "
            f"would be {size} or a multiple of it, or the design 'balanced'"
        )
    rng = np.random.default_rng(seed)
    rows: list[np.ndarray] = []
    while len(rows) < count:
        if design == "axial":
            block = _axial(size, rng)
        elif design == "balanced":
            block = _balanced(np.array(rows), size, rng)
        else:
            block = _random(size, rng)
        rows += list(block)
    return np.array(rows[:count])


def seeds_of(design: str, size: int, count: int, seeds: Sequence[int]) -> list[int]:
    """Seed of the prompts of each intervention: the same for a block of an axial design, or for two that follow each other.

    Args:
        design: see :func:`interventions`.
        size: |C|.
        count: number of allocations.
        seeds: taken in turn. An axial design has the same allocations in every block, so each further round has new seeds, larger
            by 1,000.

    >>> seeds_of("axial", 2, 6, (0, 1)), seeds_of("random", 2, 6, (0, 1))
    ([0, 0, 1, 1, 1000, 1000], [0, 0, 1, 1, 0, 0])
    """
    axial = design == "axial"
    blocks = [i // (size if axial else 2) for i in range(count)]
    return [seeds[at % len(seeds)] + (1000 * (at // len(seeds)) if axial else 0) for at in blocks]


def _axial(size: int, rng: np.random.Generator) -> np.ndarray:
    """(|C|, |C|): every capability once, in random order."""
    rows = _RAISED * np.eye(size) + (1 - _RAISED) / size
    return np.asarray(rows[rng.permutation(size)])


def _random(size: int, rng: np.random.Generator) -> np.ndarray:
    """(1, |C|): support of one to three capabilities, weights of a flat Dirichlet distribution."""
    chosen = rng.choice(size, rng.integers(1, min(_SUPPORT, size - 1) + 1), replace=False)
    row = np.zeros((1, size))
    row[0, chosen] = rng.dirichlet(np.ones(len(chosen)))
    return row


def _balanced(rows: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """(2, |C|): a half and its complement, chosen so that pairs of capabilities are as independent as possible."""
    before = np.sign(rows - 1e-12) if len(rows) else np.zeros((0, size))
    best, least = np.zeros(size), np.inf
    for _ in range(_TRIES):
        signs = np.full(size, -1.0)
        signs[rng.permutation(size)[: size // 2]] = 1.0
        together = np.vstack([before, signs, -signs])
        products = (together.T @ together)[np.triu_indices(size, 1)]
        badness = float(np.square(products).sum())
        if badness < least:
            best, least = signs, badness
    halves = np.array([best > 0, best < 0], dtype=np.float64)
    return np.asarray(halves / halves.sum(axis=1, keepdims=True))
