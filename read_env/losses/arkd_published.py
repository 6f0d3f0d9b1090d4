"""ARKD as published: the share of forward KL comes from a network that is trained on its own mixture.

Two flaws are kept for comparison. α is a deterministic output, so ``−log α · A`` is not a score-function
gradient; and the reward ``−(α·FKL + (1 − α)·RKL)`` contains the action, so that its optimum puts all weight
on the smaller divergence, regardless of the student's progress. ``arkd.py`` corrects both.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import torch

from read_env.losses.arkd_policy import policy_network
from read_env.losses.controllers import StepState


class PublishedARKD:
    """Controller ``α = sigmoid(f(state))``, trained by ``−log α · A − 0.01 · H(α)``.

    The reward is −(α·FKL + (1 − α)·RKL), and A its difference from a moving average with factor 0.99.

    Args:
        seed: seed of the initial weights.
        learning_rate: learning rate of f; 1e-4 in the paper.

    Reference: arXiv 2606.29869.

    Example:
        >>> PublishedARKD().alpha(progress=0.0)
        0.5
    """

    validates = False

    def __init__(self, seed: int = 0, learning_rate: float = 1e-4) -> None:
        self._network = policy_network(1, torch.Generator().manual_seed(seed))
        self._optimizer = torch.optim.Adam(self._network.parameters(), lr=learning_rate)
        self._state: list[float] | None = None
        self._alpha = 0.5
        self._average: float | None = None

    def alpha(self, progress: float) -> float:
        if self._state is not None:
            with torch.no_grad():
                self._alpha = torch.sigmoid(self._network(torch.tensor(self._state))).item()
        return self._alpha

    def learn(self, state: StepState, validate: Callable[[], float]) -> None:
        reward = -(self._alpha * state.fkl + (1 - self._alpha) * state.rkl)
        if self._state is not None and self._average is not None:
            alpha = torch.sigmoid(self._network(torch.tensor(self._state)))[0].clamp(1e-6, 1 - 1e-6)
            entropy = -(alpha * alpha.log() + (1 - alpha) * (1 - alpha).log())
            loss = -alpha.log() * (reward - self._average) - 0.01 * entropy
            self._optimizer.zero_grad()
            loss.backward()
            self._optimizer.step()
        self._average = reward if self._average is None else 0.99 * self._average + 0.01 * reward
        self._state = list(state)

    def state_dict(self) -> dict[str, Any]:
        return {
            "network": copy.deepcopy(self._network.state_dict()),
            "optimizer": copy.deepcopy(self._optimizer.state_dict()),
            "state": self._state,
            "alpha": self._alpha,
            "average": self._average,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._network.load_state_dict(state["network"])
        self._optimizer.load_state_dict(copy.deepcopy(state["optimizer"]))
        self._state, self._alpha, self._average = state["state"], state["alpha"], state["average"]
