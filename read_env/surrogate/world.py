r"""Dynamics of a surrogate: how one step's tokens change a student's capability profile.

With n the step's tokens by capability, s the profile and η the learning-rate factor of the step, every capability c gains
what its own tokens and those of others teach, up to its ceiling, and loses what it forgets::

    drive_c = η^learning_c·(speed_c·ready_c·n_c/(1 + n_c/half_c) + Σ_{i≠c} transfer_ic·n_i)
    ready_c = 1 − dependence_c·(1 − Σ_h helpers_hc·s_h)
    gain_c  = max(ceiling_c − s_c, 0)·(1 − exp(−drive_c))
    wear_c  = η^wearing_c·exp(−n_c/rehearsal_c)·Σ_{i≠c} interference_ic·n_i
    loss_c  = max(s_c − bottom_c, 0)·(1 − exp(−wear_c))

An optimizer such as Adam learns nearly as much at a low rate as at a high one, and forgets less, so the exponents are below 1.
At random, s changes with the s.d. η·drift_c; :class:`read_env.surrogate.model.Surrogate` tells how these changes are correlated over
steps and capabilities. What is measured is s plus the noise of the probes. All functions take numpy arrays
or torch tensors, of one world and student or of many of them along a first axis.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np


@dataclass(frozen=True)
class World:
    """Parameters of the dynamics; every field may have further axes in front.

    Attributes:
        speed: (|C|,) learning from own tokens, per thousand.
        half: (|C|,) thousand tokens of a step at which another one teaches a quarter as much as the first.
        ceiling: (|C|,) score that learning approaches.
        dependence: (|C|,) part of the speed that is missing while the helpers' scores are 0, in [0, 1].
        helpers: (|C|, |C|) weight of helper h for capability c at [h, c]; columns sum to 1. A capability that helps itself
            learns slowly at first.
        transfer: (|C|, |C|) learning of c from a thousand tokens of i at [i, c]; zeros on the diagonal.
        interference: (|C|, |C|) forgetting of c per thousand tokens of i at [i, c]; zeros on the diagonal.
        rehearsal: (|C|,) own tokens, in thousands, at which forgetting falls to 1/e.
        bottom: (|C|,) score that forgetting approaches.
        learning, wearing: (|C|,) exponents of the learning-rate factor in learning and in forgetting, at least 0.
        drift: (|C|,) s.d. of the random change of a step, at a learning-rate factor of 1.
        noise: (|C|,) s.d. of a measured score.
        loss: (|C|,) training loss at a score of 1, nats per token.
        loss_slope: (|C|,) loss that each missing point adds.
    """

    speed: Any
    half: Any
    ceiling: Any
    dependence: Any
    helpers: Any
    transfer: Any
    interference: Any
    rehearsal: Any
    bottom: Any
    learning: Any
    wearing: Any
    drift: Any
    noise: Any
    loss: Any
    loss_slope: Any

    def __getitem__(self, index: Any) -> World:
        """World, or worlds, at an index of the first axis."""
        return World(**{one.name: getattr(self, one.name)[index] for one in fields(self)})

    def to_dict(self) -> dict[str, Any]:
        """Fields by name."""
        return {one.name: getattr(self, one.name) for one in fields(self)}

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> World:
        """World of fields by name, as float32 arrays."""
        return cls(**{one.name: np.asarray(values[one.name], dtype=np.float32) for one in fields(cls)})


def expected(world: World, profile: Any, tokens: Any, rate: Any) -> Any:
    """Profile after a step, without noise.

    Args:
        world: parameters, of one world or of one for each row.
        profile: (…, |C|) scores before it.
        tokens: (…, |C|) tokens in thousands.
        rate: learning-rate factor in [0, 1], a number or (…, 1).

    Example:
        >>> world = plain(3)
        >>> expected(world, np.full(3, 0.2), np.array([1.0, 0.0, 0.0]), 1.0).round(3).tolist()
        [0.256, 0.2, 0.2]
    """
    taught, worn = _mix(tokens, world.transfer), _mix(tokens, world.interference)
    ready = 1 - world.dependence * (1 - _mix(profile, world.helpers))
    drive = rate**world.learning * (world.speed * ready * tokens / (1 + tokens / world.half) + taught)
    wear = rate**world.wearing * _exp(-tokens / world.rehearsal) * worn
    gain = (world.ceiling - profile).clip(0) * (1 - _exp(-drive))
    lost = (profile - world.bottom).clip(0) * (1 - _exp(-wear))
    return profile + gain - lost


def plain(size: int, **changes: Any) -> World:
    """World of |C| = ``size`` independent capabilities that learn alike and forget nothing.

    Args:
        size: |C|.
        changes: fields that are otherwise, numbers or arrays.
    """
    one, none = np.ones(size, np.float32), np.zeros((size, size), np.float32)
    world = World(
        speed=0.08 * one, half=10 * one, ceiling=one, dependence=0 * one, helpers=none + 1 / size, transfer=none,
        interference=none, rehearsal=0.1 * one, bottom=0 * one, learning=one, wearing=one, drift=0 * one, noise=0 * one,
        loss=0.1 * one, loss_slope=one,
    )  # fmt: skip
    shaped = {
        name: np.broadcast_to(np.asarray(value, np.float32), getattr(world, name).shape)
        for name, value in changes.items()
    }
    return replace(world, **shaped)


def _mix(values: Any, matrix: Any) -> Any:
    """Sums over sources; one matrix for all rows, or one for each."""
    return (values[..., None, :] @ matrix)[..., 0, :] if matrix.ndim > values.ndim else values @ matrix


def _exp(value: Any) -> Any:
    return np.exp(value) if isinstance(value, np.ndarray | np.generic) else value.exp()
