"""Worlds drawn widely, to train a policy that has to adapt to a suite that it never saw.

No number here comes from a fit: speeds span two orders of magnitude, ceilings, helpers, interference and noise are drawn anew for
every world.
"""

from __future__ import annotations

import numpy as np

from read_env.surrogate.world import World

#: Budget of a drawn world, in thousand tokens: the unit in which its speeds are stated.
BUDGET = 24.0


def draw_worlds(rng: np.random.Generator, count: int, size: int) -> tuple[World, np.ndarray]:
    """Worlds of |C| = ``size`` capabilities, and a student of each.

    Args:
        rng: generator.
        count: number of worlds, n.
        size: |C|.

    Returns:
        Parameters with a first axis of n, and (n, |C|) profiles of the starting students.

    Example:
        >>> worlds, starts = draw_worlds(np.random.default_rng(0), 4, 6)
        >>> worlds.transfer.shape, starts.shape
        ((4, 6, 6), (4, 6))
    """
    shape, square = (count, size), (count, size, size)
    other = 1 - np.eye(size)
    # Worlds differ in how much their capabilities differ.
    spread = rng.uniform(0.2, 1.3, (count, 1))
    speed = np.exp(np.log(0.12) + rng.normal(0, 0.4, (count, 1)) + spread * rng.standard_normal(shape))
    stuck = rng.random(shape) < rng.uniform(0, 0.2, (count, 1))  # the teacher is too weak, or the student too small
    speed = np.where(stuck, 0.02 * speed, speed)
    ceiling = np.where(rng.random(shape) < 0.5, rng.uniform(0.85, 1.0, shape), rng.uniform(0.3, 1.0, shape))
    bottom = ceiling * rng.uniform(0, 0.3, shape)

    dependent = rng.random(shape) < rng.uniform(0, 0.4, (count, 1))
    dependence = np.where(dependent, rng.uniform(0.3, 1.0, shape), 0.0)
    helpers = rng.random(square) ** 6 + 1e-6
    helpers = helpers / helpers.sum(1, keepdims=True)

    # A drill teaches some others up to twice as fast as their own tokens do.
    drill = rng.random((count, size, 1)) < rng.uniform(0, 0.3, (count, 1, 1))
    taught = (rng.random(square) < 0.4) * drill * rng.uniform(0.2, 2.0, square)
    faint = rng.random(square) * rng.uniform(0, 0.15, (count, 1, 1))
    transfer = (taught + faint) * speed[:, None, :] * other

    interference = rng.exponential(1.0, square) * np.exp(rng.normal(np.log(0.01), 1.0, (count, 1, 1))) * other
    rehearsal = np.exp(rng.normal(np.log(0.1), 0.7, shape)) + 0 * speed
    level = rng.beta(1.2, 2.0, shape)
    # A past that knows some capabilities already.
    level = np.where(rng.random(shape) < rng.uniform(0, 0.5, (count, 1)), rng.beta(6, 1.5, shape), level)
    starts = bottom + (ceiling - bottom) * level
    noise = np.exp(rng.normal(np.log(0.008), 0.5, (count, 1))) * rng.uniform(0.5, 1.5, shape)
    # A low learning rate teaches somewhat less and unlearns less.
    learning, wearing = rng.uniform(0.0, 1.0, (count, 1)) + 0 * speed, rng.uniform(0.5, 1.0, (count, 1)) + 0 * speed
    world = World(
        speed=speed, half=np.exp(rng.normal(np.log(3.0), 0.8, shape)), ceiling=ceiling, dependence=dependence,
        helpers=helpers, transfer=transfer, interference=interference, rehearsal=rehearsal, bottom=bottom,
        learning=learning, wearing=wearing, drift=noise, noise=noise, loss=0.1 + 0 * speed, loss_slope=1 + 0 * speed,
    )  # fmt: skip
    return World.of(world.to_dict()), starts.astype(np.float32)


def draw_requirements(rng: np.random.Generator, count: int, size: int) -> np.ndarray:
    """(n, |C|) requirements: one to five needs, of equal or different weights.

    Example:
        >>> draw_requirements(np.random.default_rng(0), 3, 4).sum(1).round(3).tolist()
        [1.0, 1.0, 1.0]
    """
    needs = rng.integers(1, min(5, size) + 1, count)
    rank = rng.random((count, size)).argsort(1).argsort(1)
    weights = np.where(rng.random((count, 1)) < 0.3, 1.0, rng.gamma(1.5, 1.0, (count, size)) + 0.05)
    weights = np.where(rank < needs[:, None], weights, 0.0)
    return (weights / weights.sum(1, keepdims=True)).astype(np.float32)
