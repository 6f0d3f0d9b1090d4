"""Observations of agents: the environment's Dict observation, checked and in float64.

``parse`` accepts one observation or a batch of them (from a vector environment) and names the field that is missing or has
the wrong shape. ``KEYS`` is the order of the parts in a single vector.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from read_env.errors import ReadEnvError

Array = npt.NDArray[np.float64]
Observation = Mapping[str, Any]

#: Parts of an observation; all are (|C|,) except ``budget``, which is (1,).
KEYS = ("requirement", "profile", "budget", "last_allocation", "last_gain")


@dataclass(frozen=True)
class View:
    """One observation (the context x_t of arXiv 2605.11290), in float64.

    Attributes:
        requirement: r_τ on the simplex, (|C|,).
        profile: probe scores s_t in [0, 1], (|C|,).
        budget: share of the token budget that is left, in [0, 1].
        last_allocation: w_{t−1}, (|C|,); zeros before the first step.
        last_gain: s_t − s_{t−1}, (|C|,); zeros before the first step.

    >>> view = View(np.array([0.75, 0.25]), np.zeros(2), 1.0, last_allocation=np.zeros(2), last_gain=np.zeros(2))
    >>> view.first, view.vector().shape
    (True, (9,))
    """

    requirement: Array
    profile: Array
    budget: float
    last_allocation: Array
    last_gain: Array

    @property
    def first(self) -> bool:
        """True for the first observation of an episode."""
        return not self.last_allocation.any()

    def vector(self) -> Array:
        """All parts in the order of ``KEYS``, (4|C| + 1,)."""
        return np.concatenate([np.atleast_1d(getattr(self, key)) for key in KEYS], dtype=np.float64)


def parse(observation: Observation, size: int) -> tuple[list[View], bool]:
    """Split an observation into its rows.

    Args:
        observation: mapping with ``KEYS``; every value (n,) or, batched, (b, n).
        size: |C|.

    Returns:
        The rows, and True if the observation was a batch.

    Raises:
        ReadEnvError: a part is missing, has a wrong shape or holds NaN or infinity.

    >>> obs = dict(requirement=[[1, 0]], profile=[[0, 0]], budget=[[1]], last_allocation=[[0, 0]], last_gain=[[0, 0]])
    >>> views, batched = parse(obs, size=2)
    >>> views[0].requirement.tolist(), batched
    ([1.0, 0.0], True)
    """
    if not isinstance(observation, Mapping):
        raise ReadEnvError(
            f"an agent needs the environment's Dict observation with {', '.join(KEYS)}, "
            f"not {type(observation).__name__}; leave FlattenObservation out"
        )
    parts: dict[str, Array] = {}
    for key in KEYS:
        if key not in observation:
            raise ReadEnvError(f"observation has no {key!r}; it has: {', '.join(map(str, observation)) or 'nothing'}")
        value = np.asarray(observation[key], dtype=np.float64)
        width = 1 if key == "budget" else size
        if value.ndim not in (1, 2) or value.shape[-1] != width:
            raise ReadEnvError(
                f"observation {key!r} has shape {value.shape}; right would be ({width},) or (n, {width})"
            )
        if not np.isfinite(value).all():
            raise ReadEnvError(f"observation {key!r} is not finite: {value.tolist()}")
        parts[key] = value
    lengths = {key: len(value) if value.ndim == 2 else None for key, value in parts.items()}
    if len(set(lengths.values())) > 1:
        raise ReadEnvError(f"observation mixes batch sizes: {lengths}")
    batched = parts["budget"].ndim == 2
    rows = {key: np.atleast_2d(value) for key, value in parts.items()}
    rows["budget"] = rows["budget"][:, 0]
    return [View(**dict(zip(KEYS, row, strict=True))) for row in zip(*rows.values(), strict=True)], batched


def to_simplex(weights: npt.ArrayLike) -> Array:
    """Non-negative weights (|C|,) divided by their sum; all zero gives the uniform allocation.

    Raises:
        ReadEnvError: a weight is negative or not finite.

    >>> to_simplex([1, 3])
    array([0.25, 0.75])
    """
    values = np.asarray(weights, dtype=np.float64)
    if values.ndim != 1 or not np.isfinite(values).all() or (values < 0).any():
        raise ReadEnvError(f"allocation weights must be finite and not negative, not {values.tolist()}")
    if not values.any():
        return np.full(len(values), 1.0 / len(values))
    values = values / values.max()  # the sum of large weights may overflow
    return values / values.sum()
