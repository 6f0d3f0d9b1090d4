"""ARKD with a correct policy gradient: α is sampled, held for a window, rewarded by a divergence without α.

The published form and its two flaws are in ``arkd_published.py``. Here α is drawn from a Beta policy, held
for a window of optimizer steps, and rewarded by the fall of a held-out divergence that does not contain α.
The policy sees the state of the last step, so that all micro-batches of a step have the same α.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Mapping
from typing import Any

import torch

from read_env.losses.arkd_policy import policy_network
from read_env.losses.controllers import StepState


class ARKD:
    """Controller of α with a Beta policy, trained by REINFORCE on the fall of a held-out divergence.

    The baseline is a running mean, and rewards are scaled by their running deviation: the divergence
    shrinks as the student learns, and its scale must not set the step size.

    Args:
        seed: seed of the initial weights and of the draws.
        learning_rate: learning rate of the policy.
        window: optimizer steps that an α is held for.
        entropy: weight of the policy's entropy.

    Reference: arXiv 2606.29869 for state and mixture; the windows are those of ATESD (arXiv 2605.11458).

    Example:
        >>> ARKD().alpha(progress=0.0)
        0.5
    """

    validates = True

    def __init__(self, seed: int = 0, learning_rate: float = 3e-3, window: int = 5, entropy: float = 0.01) -> None:
        self._draws = random.Random(f"arkd/{seed}")
        self._network = policy_network(2, torch.Generator().manual_seed(seed))
        self._optimizer = torch.optim.Adam(self._network.parameters(), lr=learning_rate)
        self._window = window
        self._entropy = entropy
        self._state: list[float] | None = None  # state in which the held α was drawn
        self._alpha = 0.5
        self._held = 0
        self._before: float | None = None  # held-out divergence at the start of the window
        self._mean, self._square, self._windows = 0.0, 0.0, 0

    def alpha(self, progress: float) -> float:
        return self._alpha

    def learn(self, state: StepState, validate: Callable[[], float]) -> None:
        self._held += 1
        if self._held < self._window and self._before is not None:
            return
        now = validate()
        if self._state is not None and self._before is not None:
            self._update(self._before - now)
        self._before, self._held, self._state = now, 0, list(state)
        with torch.no_grad():
            a, b = self._policy(self._state)
        self._alpha = min(max(self._draws.betavariate(a.item(), b.item()), 1e-3), 1 - 1e-3)

    def _update(self, reward: float) -> None:
        self._windows += 1
        decay = min(0.9, 1 - 1 / self._windows)
        advantage = reward - self._mean if self._windows > 1 else 0.0
        self._mean = decay * self._mean + (1 - decay) * reward
        self._square = decay * self._square + (1 - decay) * advantage**2
        if not self._square:
            return
        assert self._state is not None
        a, b = self._policy(self._state)
        policy = torch.distributions.Beta(a, b)
        scaled = advantage / (self._square**0.5 + 1e-8)
        loss = -policy.log_prob(torch.tensor(self._alpha)) * scaled - self._entropy * policy.entropy()
        self._optimizer.zero_grad()
        loss.backward()
        self._optimizer.step()

    def _policy(self, state: list[float]) -> tuple[torch.Tensor, torch.Tensor]:
        """Both concentrations; values above 1 give one mode inside the interval."""
        raw = self._network(torch.tensor(state))
        first, second = 1 + torch.nn.functional.softplus(raw + 0.5)
        return first, second

    def state_dict(self) -> dict[str, Any]:
        version, internal, gauss = self._draws.getstate()
        return {
            "network": copy.deepcopy(self._network.state_dict()),
            "optimizer": copy.deepcopy(self._optimizer.state_dict()),
            "draws": [version, list(internal), gauss],
            "state": self._state,
            "alpha": self._alpha,
            "held": self._held,
            "before": self._before,
            "running": [self._mean, self._square, self._windows],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._network.load_state_dict(state["network"])
        self._optimizer.load_state_dict(copy.deepcopy(state["optimizer"]))
        version, internal, gauss = state["draws"]
        self._draws.setstate((version, tuple(internal), gauss))
        self._state, self._alpha, self._held = state["state"], state["alpha"], state["held"]
        self._before = state["before"]
        self._mean, self._square, windows = state["running"]
        self._windows = int(windows)
