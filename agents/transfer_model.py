"""Bayesian linear model of transfer: the effect of a step's tokens on each capability.

By Proposition 1 of the paper (arXiv 2605.11290) the change of the profile is linear in the allocation, so each step gives
|C| observations in place of one reward. For each destination capability c, with w the allocation, s the profile and n the
length of the step in units of ``chunk_tokens``::

    Δs_c = n·(1 − s_c)·[g(w_c)·γ_cc + Σ_{c'≠c} w_c'·γ_c'c]
         + n·s_c·[q(w_c)·φ_cc + Σ_{c'≠c} w_c'·φ_c'c] + noise

- γ are gains, which vanish as s_c approaches 1. g is concave with g(0) = 0 and g(1) = 1: the second half of a step spent
  on one capability teaches less than the first.
- φ are losses, which vanish as s_c approaches 0. q falls from 1 at w_c = 0 to nearly 0 at w_c = .1, since a little
  rehearsal prevents forgetting. φ_cc (usually negative) is the loss of a capability without tokens, and φ_c'c the
  interference of source c'.

The model is linear in γ and φ with a Gaussian prior, so the posterior has a closed form and its statistics add up over
steps, episodes and tasks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from read_env.agents.observation import Array

# Half-saturation of learning within a step, and the share at which neglect has fallen to 1/e. Neither is fitted, since
# twenty steps can't tell them from the slopes.
_LEARNING_HALF = 1.0
_REHEARSAL = 0.05
# Number of steps that the prior of the noise counts for.
_NOISE_WEIGHT = 10.0


@dataclass(frozen=True)
class TransferPrior:
    """Prior of the transfer model, in changes of score per ``chunk_tokens``.

    Attributes:
        learning, learning_sd: mean and s.d. of γ_cc.
        transfer_sd: s.d. of γ_c'c around 0.
        neglect, neglect_sd: mean and s.d. of φ_cc.
        interference_sd: s.d. of φ_c'c around 0.
        noise: s.d. of one measured change.
    """

    learning: float = 0.08
    learning_sd: float = 0.06
    transfer_sd: float = 0.015
    neglect: float = -0.03
    neglect_sd: float = 0.02
    interference_sd: float = 0.015
    noise: float = 0.015


@dataclass(frozen=True)
class Posterior:
    """Posterior of the transfer model.

    Attributes:
        mean: (|C|, 2|C|): row c holds γ_c'c for every source c', then φ_c'c.
        covariance: (|C|, 2|C|, 2|C|).
        noise: s.d. of one measured change, (|C|,).
    """

    mean: Array
    covariance: Array
    noise: Array


class TransferModel:
    """Sufficient statistics of the observed steps.

    Args:
        size: |C|.
        prior: the prior.

    >>> model = TransferModel(2, TransferPrior())
    >>> model.update(allocation=np.array([1.0, 0.0]), profile=np.zeros(2), change=np.array([0.2, 0.0]))
    >>> float(model.posterior().mean[0, 0]) > TransferPrior.learning
    True
    """

    def __init__(self, size: int, prior: TransferPrior) -> None:
        self.size = size
        self.prior = prior
        # In units of the prior's noise variance: precision, precision·mean, and yᵀy.
        self._gram = np.zeros((size, 2 * size, 2 * size))
        self._moment = np.zeros((size, 2 * size))
        self._square = np.zeros(size)
        self.steps = 0
        own = np.eye(size, dtype=bool)
        mean = np.hstack([np.where(own, prior.learning, 0.0), np.where(own, prior.neglect, 0.0)])
        sd = np.hstack(
            [
                np.where(own, prior.learning_sd, prior.transfer_sd),
                np.where(own, prior.neglect_sd, prior.interference_sd),
            ]
        )
        self._prior_mean = mean
        self._prior_gram = np.einsum("cf,fg->cfg", (prior.noise / sd) ** 2, np.eye(2 * size))
        self._posterior: Posterior | None = None

    def update(self, allocation: Array, profile: Array, change: Array, chunks: float = 1.0) -> None:
        """Add one step: w and s before it, Δs after it (each (|C|,)), and its length in chunks."""
        x = features(allocation[None], chunks * (1 - profile)[None], chunks * profile[None])[0]
        self._gram += x[:, :, None] * x[:, None, :]
        self._moment += x * change[:, None]
        self._square += change**2
        self.steps += 1
        self._posterior = None

    def posterior(self) -> Posterior:
        """Normal-inverse-gamma posterior of every destination, cached until the next step."""
        if self._posterior is None:
            precision = self._prior_gram + self._gram
            inverse = np.linalg.inv(precision)
            pull = np.einsum("cfg,cg->cf", self._prior_gram, self._prior_mean)
            mean = np.einsum("cfg,cg->cf", inverse, pull + self._moment)
            residual = (
                self._square
                + np.einsum("cf,cf->c", self._prior_mean, pull)
                - np.einsum("cf,cfg,cg->c", mean, precision, mean)
            )
            variance = (_NOISE_WEIGHT * self.prior.noise**2 + np.maximum(residual, 0.0)) / (_NOISE_WEIGHT + self.steps)
            self._posterior = Posterior(mean, inverse * variance[:, None, None], np.sqrt(variance))
        return self._posterior

    def state_dict(self) -> dict[str, Any]:
        return {"gram": self._gram, "moment": self._moment, "square": self._square, "steps": self.steps}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._gram = np.array(state["gram"], dtype=np.float64).reshape(self._gram.shape)
        self._moment = np.array(state["moment"], dtype=np.float64).reshape(self._moment.shape)
        self._square = np.array(state["square"], dtype=np.float64).reshape(self._square.shape)
        self.steps = int(state["steps"])
        self._posterior = None


def learning_curve(share: Array) -> Array:
    """Learning curve g: gain of a share of a step's tokens, relative to all of them.

    >>> learning_curve(np.array([0.0, 1.0]))
    array([0., 1.])
    """
    return share * (1 + _LEARNING_HALF) / (share + _LEARNING_HALF)


def neglect(share: Array) -> Array:
    """Neglect q of a capability by its share: 1 without tokens, falling towards 0.

    >>> neglect(np.array([0.0, 0.5])).round(2)
    array([1., 0.])
    """
    return np.exp(-share / _REHEARSAL)


def features(allocations: Array, room: Array, held: Array) -> Array:
    """Regressors of every destination.

    Args:
        allocations: (n, |C|).
        room: (n, |C|), Σ over steps of chunks·(1 − s).
        held: (n, |C|), Σ over steps of chunks·s.

    Returns:
        (n, |C|, 2|C|), ordered as ``Posterior.mean``.

    >>> features(np.eye(3), room=np.ones((3, 3)), held=np.ones((3, 3))).shape
    (3, 3, 6)
    """
    size = allocations.shape[1]
    index = np.arange(size)
    sources = np.repeat(allocations[:, None, :], size, axis=1)  # (n, destination, source)
    gained, lost = sources * room[:, :, None], sources * held[:, :, None]
    gained[:, index, index] = learning_curve(allocations) * room
    lost[:, index, index] = neglect(allocations) * held
    return np.concatenate([gained, lost], axis=2)


def rates(allocations: Array, mean: Array) -> tuple[Array, Array]:
    """Factors of 1 − s and of s in the expected change of the profile, both (n, |C|).

    Args:
        allocations: (n, |C|).
        mean: coefficients, (|C|, 2|C|).

    >>> mean = np.array([[0.5, 0.0, 0.0, 0.0], [0.25, 0.5, 0.0, 0.0]])
    >>> rates(np.array([[1.0, 0.0]]), mean)[0].tolist()
    [[0.5, 0.25]]
    """
    size = allocations.shape[1]
    gain, loss = mean[:, :size], mean[:, size:]
    return (
        learning_curve(allocations) * np.diagonal(gain) + allocations @ (gain - np.diag(np.diagonal(gain))).T,
        neglect(allocations) * np.diagonal(loss) + allocations @ (loss - np.diag(np.diagonal(loss))).T,
    )
