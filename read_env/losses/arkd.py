"""ARKD's learned shares of forward and reverse KL: the published form, and one whose learning is sound.

The published form has two flaws. Its α is a deterministic output, so ``−log α · A`` is no
score-function gradient; and its reward ``−(α·FKL + (1 − α)·RKL)`` contains the action, so that the
myopic optimum is to put everything on the smaller divergence, whatever that does to the student. The
corrected form draws α from a Beta policy, holds it for a window of optimizer steps, and is rewarded
by how far a divergence without α in it fell on held-out examples.

Both see the state of the step before, not of the step itself, so that a step cut into pieces has one α.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any

import torch

from read_env.losses.mixed_kl import StepState

_INPUTS = 6
_HIDDEN = 16


def _network(outputs: int, generator: torch.Generator) -> torch.nn.Sequential:
    """Three layers. The paper counts 525 parameters and names no widths; these are 401 with one output."""
    network = torch.nn.Sequential(
        torch.nn.Linear(_INPUTS, _HIDDEN), torch.nn.Tanh(), torch.nn.Linear(_HIDDEN, _HIDDEN), torch.nn.Tanh(),
        torch.nn.Linear(_HIDDEN, outputs),
    )  # fmt: skip
    with torch.no_grad():
        for parameter in network.parameters():
            bound = parameter.shape[-1] ** -0.5 if parameter.dim() == 2 else 0.0
            parameter.uniform_(-bound, bound, generator=generator)
    return network


class PublishedARKD:
    """α = sigmoid(f(state)), trained by ``−log α · A − 0.01 · H(α)`` as published.

    The reward is −(α·FKL + (1 − α)·RKL), A its difference from an average with factor 0.99.

    Args:
        seed: of the first weights.
        learning_rate: of f; 1e-4 in the paper.

    Reference: arXiv 2606.29869.
    """

    validates = False

    def __init__(self, seed: int = 0, learning_rate: float = 1e-4) -> None:
        self._network = _network(1, torch.Generator().manual_seed(seed))
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
        self._state = state.vector()

    def state_dict(self) -> dict[str, Any]:
        return {
            "network": _copied(self._network.state_dict()),
            "optimizer": _copied(self._optimizer.state_dict()),
            "state": self._state,
            "alpha": self._alpha,
            "average": self._average,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._network.load_state_dict(state["network"])
        self._optimizer.load_state_dict(_copied(state["optimizer"]))
        self._state, self._alpha, self._average = state["state"], state["alpha"], state["average"]


class ARKD:
    """α from a Beta policy, held for a window, rewarded by the fall of a held-out divergence without α.

    REINFORCE with a running mean as baseline and rewards scaled by their running deviation, so that
    the divergence's own scale, which shrinks as the student learns, doesn't set the step size.

    Args:
        seed: of the first weights and of the draws.
        learning_rate: of the policy.
        window: optimizer steps that one α is held for.
        entropy: weight of the policy's entropy.

    Reference: arXiv 2606.29869 for state and mixture; the windows are those of ATESD (arXiv 2605.11458).
    """

    validates = True

    def __init__(self, seed: int = 0, learning_rate: float = 3e-3, window: int = 5, entropy: float = 0.01) -> None:
        self._draws = random.Random(f"arkd/{seed}")
        self._network = _network(2, torch.Generator().manual_seed(seed))
        self._optimizer = torch.optim.Adam(self._network.parameters(), lr=learning_rate)
        self._window = window
        self._entropy = entropy
        self._state: list[float] | None = None  # that the held α was drawn in
        self._alpha = 0.5
        self._held = 0
        self._before: float | None = None  # the divergence when the window began
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
        self._before, self._held, self._state = now, 0, state.vector()
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
        """Both concentrations, each above 1: one mode, inside the interval."""
        raw = self._network(torch.tensor(state))
        first, second = 1 + torch.nn.functional.softplus(raw + 0.5)
        return first, second

    def state_dict(self) -> dict[str, Any]:
        version, internal, gauss = self._draws.getstate()
        return {
            "network": _copied(self._network.state_dict()),
            "optimizer": _copied(self._optimizer.state_dict()),
            "draws": [version, list(internal), gauss],
            "state": self._state,
            "alpha": self._alpha,
            "held": self._held,
            "before": self._before,
            "running": [self._mean, self._square, self._windows],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._network.load_state_dict(state["network"])
        self._optimizer.load_state_dict(_copied(state["optimizer"]))
        version, internal, gauss = state["draws"]
        self._draws.setstate((version, tuple(internal), gauss))
        self._state, self._alpha, self._held = state["state"], state["alpha"], state["held"]
        self._before = state["before"]
        self._mean, self._square, windows = state["running"]
        self._windows = int(windows)


def _copied(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.detach().clone()
    if isinstance(value, dict):
        return {key: _copied(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_copied(item) for item in value]
    return value
