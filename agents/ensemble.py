"""A bootstrap ensemble of two-layer MLPs: the published bandit's reward model (arXiv 2605.11290).

All members are trained and evaluated at once. Written with numpy and a gradient
by hand (ten lines, checked against autograd in the tests): at twenty
observations a tensor library's overhead is several times the arithmetic. Three
things make a refit of 200 Adam steps take milliseconds, none of which changes
what is computed but in the last bits:

- A bootstrap resample enters as how often each observation was drawn, so all
  members share one input matrix and their first layers are one matrix product.
- Inputs that don't vary in the history are left out: standardised they are
  zero, their weights get no gradient and never move.
- Parameters lie in one flat vector, which Adam updates in place.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from read_env.agents.observation import Array

# Adam's own defaults (Kingma & Ba 2015, and torch).
_BETA1, _BETA2, _EPS = 0.9, 0.999, 1e-8


@dataclass(frozen=True)
class EnsembleConfig:
    """J members, their width and their training; the defaults are the published values."""

    members: int = 5
    hidden: int = 64
    learning_rate: float = 1e-3
    updates: int = 200


@dataclass(frozen=True)
class FittedEnsemble:
    """A trained ensemble, in standardised units with the scales to undo them.

    Attributes:
        columns: indices of the inputs that are used.
        input_mean, input_scale: of these inputs.
        target_mean, target_scale: of the reward.
        w1: first layers of all members side by side, (inputs + 1, J·hidden); the last row is the bias.
        w2, b2: output layers, (J, hidden) and (J,).
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
        """Every member's prediction in reward units, (n, J) for inputs (n, features)."""
        x = ((inputs[:, self.columns] - self.input_mean) / self.input_scale).astype(np.float32)
        hidden = np.maximum(x @ self.w1[:-1] + self.w1[-1], 0.0)
        outputs = np.einsum("njh,jh->nj", hidden.reshape(len(x), *self.w2.shape), self.w2) + self.b2
        return outputs.astype(np.float64) * self.target_scale + self.target_mean

    def predict(self, inputs: Array) -> tuple[Array, Array]:
        """μ and σ: mean and *sample* standard deviation over the members, both (n,)."""
        outputs = self.members(inputs)
        return outputs.mean(axis=1), outputs.std(axis=1, ddof=1)


def initial_parameters(inputs: int, config: EnsembleConfig, rng: np.random.Generator) -> list[np.ndarray]:
    """Fresh w1 (with the bias as its last row), w2, b2: torch's bounds for linear layers, U(±1/√fan-in)."""
    first, second = 1 / np.sqrt(max(inputs, 1)), 1 / np.sqrt(config.hidden)
    return [
        rng.uniform(-first, first, (inputs + 1, config.members * config.hidden)).astype(np.float32),
        rng.uniform(-second, second, (config.members, config.hidden)).astype(np.float32),
        rng.uniform(-second, second, config.members).astype(np.float32),
    ]


class Workspace:
    """Buffers for ``gradient``: at this size, allocating memory costs as much as filling it."""

    def __init__(self, count: int, members: int, hidden: int) -> None:
        self.h = np.empty((count, members * hidden), np.float32)
        self.dh = np.empty_like(self.h)
        self.mask = np.empty(self.h.shape, np.int32)
        # maximum(array, array) is vectorised; maximum(array, 0.0) takes five times as long.
        self.zero = np.zeros_like(self.h)


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
        parameters: w1 (d + 1, J·h), whose last row is the bias; w2 (J, h); b2 (J,). float32.
        x: standardised inputs with a column of ones, (n, d + 1).
        y: standardised rewards, (n, 1).
        counts: (n, J), how often each member's resample drew each observation, times 2/n.
        out: arrays shaped like ``parameters``.
        space: buffers for n observations.
    """
    w1, w2, b2 = parameters
    members, hidden = w2.shape
    h, dh = space.h, space.dh
    np.matmul(x, w1, out=h)
    # The rectifier's derivative as a bit mask: all ones where h ≥ 0, from the sign bit.
    np.right_shift(h.view(np.int32), 31, out=space.mask)
    np.invert(space.mask, out=space.mask)
    np.maximum(h, space.zero, out=h)
    by_member = h.reshape(-1, members, hidden).transpose(1, 0, 2)  # (J, n, h), a view
    df = np.matmul(by_member, w2[:, :, None])[:, :, 0].T  # (n, J)
    df += b2
    df -= y
    df *= counts
    np.matmul(df.T[:, None, :], by_member, out=out[1].reshape(members, 1, hidden))
    np.add.reduce(df, axis=0, out=out[2])
    np.multiply(df[:, :, None], w2, out=dh.reshape(-1, members, hidden))
    np.bitwise_and(dh.view(np.int32), space.mask, out=dh.view(np.int32))
    np.matmul(x.T, dh, out=out[0])


def fit(inputs: Array, targets: Array, config: EnsembleConfig, rng: np.random.Generator) -> FittedEnsemble:
    """Train an ensemble from fresh weights, each member on its own bootstrap resample.

    Args:
        inputs: (n, features), raw units; n ≥ 1.
        targets: (n,) rewards.
        config: sizes and training settings.
        rng: resamples and initial weights; the same generator state gives the same ensemble.

    Returns:
        The fitted ensemble. With constant targets it predicts that constant, plus what the
        fresh weights leave in it.
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
