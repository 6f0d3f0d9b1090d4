"""Particles: possible worlds of the student at hand, and in each of them an estimate of its true scores.

A step's change of capability c depends on the column c of a world alone, so that every capability weighs the worlds by itself
(Rao-Blackwellised particle filter; Doucet et al., 2000): in each of them a Kalman filter follows the score, and the weight is the
likelihood of what was measured.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from read_env.surrogate.world import World, expected

#: Variance that every measured score has at least, also in a world without noise.
_LEAST = 1e-6


@dataclass(frozen=True, eq=False)
class Particles:
    """P worlds for each of n episodes.

    Attributes:
        worlds: parameters with axes (n, P) in front.
        mean, variance: (n, P, |C|) estimate of the true scores.
        log_weights: (n, P, |C|), up to a constant.
    """

    worlds: World
    mean: np.ndarray
    variance: np.ndarray
    log_weights: np.ndarray

    @classmethod
    def of(cls, worlds: World, profile: np.ndarray) -> Particles:
        """Particles at the start of episodes.

        Args:
            worlds: parameters with axes (n, P) in front.
            profile: (n, |C|) measured scores.
        """
        mean = np.broadcast_to(profile[:, None], worlds.noise.shape)
        return cls(worlds, mean, worlds.noise**2, np.zeros(mean.shape))

    def after(self, tokens: np.ndarray, rate: float, profile: np.ndarray, *, weigh: bool = True) -> Particles:
        """Particles after a step.

        Args:
            tokens: (n, |C|) tokens of the step, in thousands.
            rate: its learning-rate factor.
            profile: (n, |C|) scores measured after it.
            weigh: change the weights; False: the estimates alone.
        """
        world = self.worlds
        ahead = expected(world, self.mean, np.broadcast_to(tokens[:, None], self.mean.shape), rate)
        spread = self.variance + (rate * world.drift) ** 2
        total = spread + world.noise**2 + _LEAST
        off = profile[:, None] - ahead
        part = spread / total
        weights = self.log_weights - 0.5 * (off**2 / total + np.log(total)) if weigh else self.log_weights
        return replace(self, mean=(ahead + part * off).clip(0, 1), variance=(1 - part) * spread, log_weights=weights)

    def weights(self) -> np.ndarray:
        """(n, P, |C|) weights, which sum to 1 over the particles.

        Example:
            >>> from read_env.surrogate.world import plain
            >>> slow, fast = (plain(1, speed=speed, noise=0.01, drift=0.01).to_dict() for speed in (0.1, 0.2))
            >>> worlds = World.of({name: np.stack([slow[name], fast[name]])[None] for name in slow})
            >>> particles = Particles.of(worlds, np.array([[0.5]]))
            >>> particles.after(np.array([[1.0]]), 1.0, np.array([[0.6]])).weights().round().ravel().tolist()
            [0.0, 1.0]
        """
        found = np.exp(self.log_weights - self.log_weights.max(1, keepdims=True))
        return found / found.sum(1, keepdims=True)

    def draw(self, rng: np.random.Generator, count: int) -> tuple[World, np.ndarray]:
        """Worlds put together from columns drawn by their weights, and the scores in them.

        Args:
            rng: generator.
            count: number of worlds for each episode.

        Returns:
            Parameters with axes (n, count) in front, and (n, count, |C|) true scores.
        """
        n, _, size = self.mean.shape
        points = (np.arange(count) + rng.random((n, 1, size)).transpose(0, 2, 1)) / count  # stratified: (n, |C|, count)
        ends = self.weights().cumsum(1).transpose(0, 2, 1)
        index = (points[..., None] >= ends[:, :, None]).sum(-1).clip(max=ends.shape[2] - 1)
        index = rng.permuted(index, axis=2).transpose(0, 2, 1)
        scores = np.take_along_axis(self.mean, index, 1) + rng.standard_normal(index.shape) * np.sqrt(
            np.take_along_axis(self.variance, index, 1)
        )
        return World(**{name: _columns(value, index) for name, value in self.worlds.to_dict().items()}), scores.clip(
            0, 1
        )


def _columns(values: Any, index: np.ndarray) -> np.ndarray:
    """Values (n, P, …, |C|) of the particle at ``index`` (n, count, |C|) of every capability."""
    return np.take_along_axis(values, index if values.ndim == 3 else index[:, :, None], 1)
