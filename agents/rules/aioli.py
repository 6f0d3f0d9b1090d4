"""``aioli``: tokens where they lower all losses most, by a linear law that is estimated within the run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from read_env.agents.observation import Array, View
from read_env.agents.rules.base import LiteratureRule, LiteratureSettings, softmax, surprisal
from read_env.errors import ReadEnvError


class AioliSettings(LiteratureSettings):
    """Options: ``estimate`` of A is a ``sweep`` of perturbed mixtures, or a ``regression`` on all steps so far.

    ``eta`` is the step size. A sweep has the weight ``one_hot`` on one capability in turn, and is repeated after
    ``hold`` steps with its result; ``gamma`` is the share of the earlier sweeps in the average. The regression has the
    penalty ``ridge``, and gives the share ``explore`` to one capability in turn.
    """

    estimate: Literal["sweep", "regression"] = "sweep"
    eta: float = Field(default=0.2, ge=0)
    gamma: float = Field(default=0.1, ge=0, lt=1)
    one_hot: float = Field(default=0.75, gt=0, le=1)
    hold: int = Field(default=10, ge=1)
    ridge: float = Field(default=0.01, gt=0)
    explore: float = Field(default=0.25, ge=0, le=1)


class Aioli(LiteratureRule):
    """Aioli: weights by the linear law G = A w of the fall G of the losses, w_i ∝ exp(η Σ_j ν_j Ā_ji).

    A sweep allocates p^(i), the weight h on i and the rest evenly, for each i in the suite's order, and notes G_ji, the
    fall of ℓ_j in that step; A solves P·A_j = G_j, the rows of P being the allocations. A negative smallest entry is
    subtracted from A, and A divided by its sum; Ā = (1 − γ) A + γ Ā over the sweeps. ν = m·r with
    ``objective="requirement"``, m the number of needs, else 1. ``estimate="regression"`` has, instead of sweeps,
    A = Σ G wᵀ (Σ w wᵀ + ridge·I)⁻¹ over all steps of the episode, and w mixed with a capability in turn, without which
    all w would be alike and A undetermined. ℓ is the probe surprisal.

    Degenerate cases: one sweep takes |C| steps, half of a run of twenty. Ā has |C|² entries with the sum 1, so for the
    mean no weight is more than e^η times another: with η = .2 the rule is nearly uniform. A single step moves a score
    by little more than the noise of the probes, and the subtraction lifts every entry by the most negative one.

    Source: arXiv 2411.05735 and its release. Defaults: h .75 (the paper: .625 to .75), γ .1, η .2 (.2 to 1), one step
    for each mixture; hold, ridge and explore are ours.

    Raises:
        ReadEnvError: ``one_hot`` is not above 1/|C|, the share that makes all mixtures of a sweep equal.

    Example:
        >>> obs = dict(requirement=[1, 0], profile=[0, 0], budget=[1], last_allocation=[0, 0], last_gain=[0, 0])
        >>> Aioli(["math", "code"]).predict(obs)[0].tolist()  # the first mixture of the sweep
        [0.75, 0.25]
    """

    name = "aioli"
    settings_type = AioliSettings
    episode_state: ClassVar[tuple[str, ...]] = ("_steps", "_mixtures", "_falls", "_average", "_sweeps")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.size > 1 and self.settings.one_hot < 1 / self.size + 1e-6:
            raise ReadEnvError(
                f"agent {self.name!r}, option 'one_hot' is {self.settings.one_hot}: "
                f"right would be above 1/{self.size}, the uniform share"
            )

    def start_episode(self) -> None:
        self._steps = 0
        self._sweeps = 0
        # Of the current sweep, one row each for its mixtures and what they did; for the regression, sums of products.
        self._mixtures = np.zeros((self.size, self.size))
        self._falls = np.zeros((self.size, self.size))
        self._average = np.zeros((self.size, self.size))  # Ā

    def shares(self, view: View) -> Array:
        step, average = (0, np.zeros_like(self._average)) if view.first else (self._steps, self._average)
        weights = softmax(self.settings.eta * (self.importance(view) @ average))
        if self.settings.estimate == "regression":
            turn = np.eye(self.size)[step % self.size]
            mixed: Array = (1 - self.settings.explore) * weights + self.settings.explore * turn
            return mixed
        place = self._place(step)
        return weights if place is None else self._perturbed(place)

    def _place(self, step: int) -> int | None:
        """Place of a step in its sweep; None while its result is held."""
        place = step % (self.size + self.settings.hold)
        return place if place < self.size else None

    def _perturbed(self, index: int) -> Array:
        if self.size == 1:
            return np.ones(1)
        mixture = np.full(self.size, (1 - self.settings.one_hot) / (self.size - 1))
        mixture[index] = self.settings.one_hot
        return mixture

    def update(self, view: View, allocation: Array, after: View, info: Mapping[str, Any]) -> None:
        fall = surprisal(view.profile) - surprisal(after.profile)
        place = self._place(self._steps)
        self._steps += 1
        if self.settings.estimate == "regression":
            self._mixtures = self._mixtures + np.outer(allocation, allocation)
            self._falls = self._falls + np.outer(allocation, fall)
            penalised = self._mixtures + self.settings.ridge * np.eye(self.size)
            self._average = _normalised(np.asarray(np.linalg.solve(penalised, self._falls).T, dtype=np.float64))
        elif place is not None:
            self._mixtures, self._falls = self._mixtures.copy(), self._falls.copy()
            self._mixtures[place], self._falls[place] = allocation, fall
            if place == self.size - 1:
                # Least squares, as a floor can make the mixtures that were really allocated equal.
                solution = np.linalg.lstsq(self._mixtures, self._falls, rcond=None)[0]
                gamma = self.settings.gamma if self._sweeps else 0.0
                self._average = (1 - gamma) * _normalised(
                    np.asarray(solution.T, dtype=np.float64)
                ) + gamma * self._average
                self._sweeps += 1


def _normalised(law: Array) -> Array:
    """A without negative entries and with the sum 1; zeros where all entries are equal to 0."""
    shifted = law - min(float(law.min()), 0.0)
    total = float(shifted.sum())
    return shifted / total if total > 0 else np.zeros_like(law)
