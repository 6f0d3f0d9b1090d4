"""Bootstrap ensemble of two-layer MLPs, the published bandit's reward model (arXiv 2605.11290).

All members are trained and evaluated at once, in numpy and with a hand-written gradient (checked against autograd in the
tests): for twenty observations, the overhead of a tensor library is several times the arithmetic. A refit of 200 Adam steps
takes milliseconds for three reasons, which change the result in the last bits at most:

- Bootstrap resamples enter as counts per observation. All members share one input matrix, their first layers are one
  matrix, and their output layers are the blocks of a block-diagonal matrix: five matrix products per step.
- Inputs that don't vary in the history are left out: standardised they are zero, so that their weights get no gradient.
- Parameters are one flat vector, which Adam updates in place.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from read_env.agents.observation import Array

# Adam's own defaults (Kingma & Ba 2015, and torch).
_BETA1, _BETA2, _EPS = 0.9, 0.999, 1e-8


@dataclass(frozen=True)
class EnsembleConfig:
    """Size of the ensemble and its training; the defaults are the published values."""

    members: int = 5
    hidden: int = 64
    learning_rate: float = 1e-3
    updates: int = 200


@dataclass(frozen=True)
class FittedEnsemble:
    """Trained ensemble in standardised units, with the scales that undo them.

    Attributes:
        columns: indices of the inputs that are used.
        input_mean, input_scale: mean and scale of these inputs.
        target_mean, target_scale: mean and scale of the reward.
        w1: first layers of all members side by side, (inputs + 1, J·hidden); the last row is the bias.
        w2, b2: output layers, block-diagonal (J·hidden, J) and (J,).
    """

    columns: np.ndarray
    input_mean: np.ndarray
    input_scale: np.ndarray
    target_mean: float
    target_scale: float
    w1: np.ndarray
    w2: np.ndarray
    b2: np.ndarray

    def members(self, inputs: Array) -> Array:
        """Predictions of all members in reward units, (n, J) for inputs (n, features)."""
        x = ((inputs[:, self.columns] - self.input_mean) / self.input_scale).astype(np.float32)
        outputs = np.maximum(x @ self.w1[:-1] + self.w1[-1], 0.0) @ self.w2 + self.b2
        return outputs.astype(np.float64) * self.target_scale + self.target_mean

    def predict(self, inputs: Array) -> tuple[Array, Array]:
        """μ and σ: mean and *sample* standard deviation over the members, both (n,)."""
        outputs = self.members(inputs)
        return outputs.mean(axis=1), outputs.std(axis=1, ddof=1)


def blocks(members: int, hidden: int) -> np.ndarray:
    """Mask of a block-diagonal output layer: 1 at its weights, 0 elsewhere; (J·h, J) float32.

    Example:
        >>> blocks(members=2, hidden=2).tolist()
        [[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]]
    """
    return np.kron(np.eye(members), np.ones((hidden, 1))).astype(np.float32)


def initial_parameters(inputs: int, config: EnsembleConfig, rng: np.random.Generator) -> list[np.ndarray]:
    """Initial w1 (with the bias as its last row), w2 and b2 from torch's distribution for linear layers, U(±1/√fan-in).

    Example:
        >>> [array.shape for array in initial_parameters(3, EnsembleConfig(), np.random.default_rng(0))]
        [(4, 320), (320, 5), (5,)]
    """
    width = config.members * config.hidden
    first, second = 1 / np.sqrt(max(inputs, 1)), 1 / np.sqrt(config.hidden)
    return [
        rng.uniform(-first, first, (inputs + 1, width)).astype(np.float32),
        rng.uniform(-second, second, (width, 1)).astype(np.float32) * blocks(config.members, config.hidden),
        rng.uniform(-second, second, config.members).astype(np.float32),
    ]


class Workspace:
    """Buffers of ``gradient``, which are reused: at this size, allocating memory takes as long as filling it."""

    def __init__(self, count: int, members: int, hidden: int) -> None:
        self.h = np.empty((count, members * hidden), np.float32)
        self.dh = np.empty_like(self.h)
        self.df = np.empty((count, members), np.float32)
        self.active = np.empty(self.h.shape, bool)
        # maximum(array, array) is vectorised; maximum(array, 0.0) takes five times as long.
        self.zero = np.zeros_like(self.h)
        self.blocks = blocks(members, hidden)


def gradient(
    parameters: list[np.ndarray],
    x: np.ndarray,
    y: np.ndarray,
    counts: np.ndarray,
    out: list[np.ndarray],
    space: Workspace,
) -> None:
    """Gradient of Σ_j mean over member j's resample of (f_j(x) − y)², written into ``out``.

    Args:
        parameters: w1 (d + 1, J·h), whose last row is the bias; w2 (J·h, J), block-diagonal; b2 (J,). float32.
        x: standardised inputs with a column of ones, (n, d + 1).
        y: standardised rewards, (n, 1).
        counts: (n, J), number of times that each member's resample drew each observation, times 2/n.
        out: arrays shaped like ``parameters``.
        space: buffers for n observations.
    """
    w1, w2, b2 = parameters
    h, dh, df = space.h, space.dh, space.df
    np.dot(x, w1, out=h)
    np.maximum(h, space.zero, out=h)
    np.dot(h, w2, out=df)
    df += b2
    df -= y
    df *= counts
    np.dot(h.T, df, out=out[1])
    out[1] *= space.blocks
    np.add.reduce(df, axis=0, out=out[2])
    np.dot(df, w2.T, out=dh)
    np.greater(h, space.zero, out=space.active)
    dh *= space.active
    np.dot(x.T, dh, out=out[0])


def fit(inputs: Array, targets: Array, config: EnsembleConfig, rng: np.random.Generator) -> FittedEnsemble:
    """Train an ensemble from initial weights, each member on its own bootstrap resample.

    Args:
        inputs: (n, features), raw units; n ≥ 1.
        targets: (n,) rewards.
        config: sizes and training settings.
        rng: resamples and initial weights; the same generator state gives the same ensemble.

    Returns:
        The fitted ensemble. With constant targets it predicts that constant, plus what the
        fresh weights leave in it.

    Example:
        >>> fit(np.eye(2), np.array([0.0, 1.0]), EnsembleConfig(), np.random.default_rng(0)).members(np.eye(2)).shape
        (2, 5)
    """
    count = len(inputs)
    spread = inputs.std(axis=0)
    columns = np.flatnonzero(spread > 1e-8)
    mean, scale = inputs[:, columns].mean(axis=0), spread[columns]
    target_mean, target_scale = float(targets.mean()), float(targets.std())
    target_scale = target_scale if target_scale > 1e-8 else 1e-8
    x = np.ones((count, len(columns) + 1), np.float32)
    x[:, :-1] = (inputs[:, columns] - mean) / scale
    y = ((targets - target_mean) / target_scale).astype(np.float32)[:, None]
    draws = rng.integers(count, size=(config.members, count))
    counts = np.stack([np.bincount(row, minlength=count) for row in draws], axis=1).astype(np.float32) * np.float32(
        2 / count
    )

    fresh = initial_parameters(len(columns), config, rng)
    flat = np.concatenate([part.ravel() for part in fresh])
    slope = np.empty_like(flat)
    parameters, gradients = _views(flat, fresh), _views(slope, fresh)
    space = Workspace(count, config.members, config.hidden)
    # Adam with both moments kept undivided by (1 − β): two passes over memory fewer a step.
    first, second, work = np.zeros_like(flat), np.zeros_like(flat), np.empty_like(flat)
    for step in range(1, config.updates + 1):
        gradient(parameters, x, y, counts, gradients, space)
        first *= _BETA1
        first += slope
        slope *= slope
        second *= _BETA2
        second += slope
        root = float(np.sqrt((1 - _BETA2) / (1 - _BETA2**step)))
        np.sqrt(second, out=work)
        work += _EPS / root
        np.divide(first, work, out=work)
        work *= config.learning_rate * (1 - _BETA1) / (1 - _BETA1**step) / root
        flat -= work
    return FittedEnsemble(columns, mean, scale, target_mean, target_scale, *parameters)


def _views(flat: np.ndarray, like: list[np.ndarray]) -> list[np.ndarray]:
    """Pieces of ``flat`` in the shapes of ``like``, sharing its memory."""
    bounds = np.cumsum([part.size for part in like])[:-1]
    return [piece.reshape(part.shape) for piece, part in zip(np.split(flat, bounds), like, strict=True)]
