"""``read-bandit``: contextual bandit with a Bayesian linear transfer model.

The published bandit learns from one reward per step, and twenty of them are too few for a network. This one learns from the
|C| changes of the profile with a Bayesian linear model of transfer (``transfer_model``), plans the return of keeping an
allocation until the end of the budget (``planning``), and takes the largest posterior mean + κ·s.d. A share of every
allocation stays with the task's needs, which limits the cost of a wrong model. The transfer model doesn't depend on the
task, so ``learn`` on other tasks and seeds is a warm start.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import Field

from read_env.agents.bandit import Bandit, BanditSettings
from read_env.agents.candidates import perturbations
from read_env.agents.observation import Array, View, to_simplex
from read_env.agents.planning import PlanningState, UtilityForm, form_of, planned_return
from read_env.agents.transfer_model import TransferModel, TransferPrior
from read_env.envs.catalogue import water_filling

# Steps after which planning changes nothing: the expected profile has converged by then.
_HORIZON = 40


class ReadBanditSettings(BanditSettings):
    """Options; the candidates are those of the published bandit, the prior is in changes of score per ``chunk_tokens``.

    The prior is narrower than the coefficients of the micro world, with which the bandit gains less on the surrogate
    (``scripts/fit_prior.py`` prints both). A wider ``prior_transfer_sd`` and a larger κ explore more, for suites with strong transfer.
    """

    kappa: float = Field(default=0.5, ge=0, description="weight of the s.d. of the planned return")
    mix: float = Field(default=0.15, ge=0, le=1, description="share that stays with the task's needs")
    mix_power: float = Field(default=0.75, ge=0, description="power of r that the mixed-in share is proportional to")
    refinements: int = Field(default=6, ge=0, description="rounds of further perturbations of the best candidate")
    warmup: int = Field(default=0, ge=0, description="first steps, which probe the suite part by part")
    training_probes: float = Field(default=0.5, ge=0, le=1, description="share of probing steps inside learn")
    steps: int = Field(
        default=20, ge=1, description="expected steps per budget, used until the first step shows their length"
    )
    chunk_tokens: int = Field(default=6000, ge=1)
    spillover_beta: float = Field(default=0.5, ge=0)
    cost_lambda: float = Field(default=0.0, ge=0, description="reward.cost_lambda, for the decision to stop")
    prior_learning: float = TransferPrior.learning
    prior_learning_sd: float = Field(default=TransferPrior.learning_sd, gt=0)
    prior_transfer_sd: float = Field(default=TransferPrior.transfer_sd, gt=0)
    prior_neglect: float = TransferPrior.neglect
    prior_neglect_sd: float = Field(default=TransferPrior.neglect_sd, gt=0)
    prior_interference_sd: float = Field(default=TransferPrior.interference_sd, gt=0)
    prior_noise: float = Field(default=TransferPrior.noise, gt=0)


class ReadBandit(Bandit):
    """Contextual bandit with a Bayesian linear transfer model; UCB on the planned return.

    Example:
        >>> obs = dict(requirement=[0.75, 0.25], profile=[0, 0], budget=[1], last_allocation=[0, 0], last_gain=[0, 0])
        >>> int(ReadBandit(["math", "code"]).predict(obs)[0].argmax())
        0
    """

    name = "read-bandit"
    settings_type = ReadBanditSettings
    episode_state = ("calibration", "_form", "_scale", "_share", "_chunks")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        s = self.settings
        prior = TransferPrior(**{part.name: getattr(s, f"prior_{part.name}") for part in fields(TransferPrior)})
        self.model = TransferModel(self.size, prior)
        self._form: UtilityForm = "weighted_mean"
        self._scale = 1.0  # of a utility that is relative to the teacher's
        self._share = 1.0 / s.steps  # of the budget that a step takes
        self._chunks = 1.0

    def allocate(self, view: View, deterministic: bool) -> Array:
        if self.model.steps < self.settings.warmup:
            order = np.random.default_rng(self.seed).permutation(self.size)
            return self.probe(view, np.array_split(order, self.settings.warmup)[self.model.steps])
        # Effects of sources can't be told apart if allocations always use the same few.
        if self.training and self.rng.random() < self.settings.training_probes:
            return self.probe(view, self.rng.permutation(self.size)[: self.rng.integers(1, min(3, self.size) + 1)])
        kappa = self.kappa(view)
        situation, posterior = self._situation(view), self.model.posterior()

        def best(rows: Array) -> tuple[float, Array, tuple[float, float]]:
            mean, sd = planned_return(rows, situation, posterior)
            score = mean + kappa * sd
            choice = int(np.argmax(score))
            return float(score[choice]), rows[choice], (float(mean[choice]), float(sd[choice]))

        score, choice, shown = best(self.candidates(view))
        for _ in range(self.settings.refinements):
            # The candidates' own shifts, then a finer one.
            rows = perturbations(choice, (*self.settings.shifts, 0.03))
            if not len(rows):  # one capability: nothing to move it to
                break
            better, row, parts = best(rows)
            if better <= score:
                break
            score, choice, shown = better, row, parts
        self._last = shown
        safe = to_simplex(view.requirement**self.settings.mix_power)
        return (1 - self.settings.mix) * choice + self.settings.mix * safe

    def stops(self, view: View) -> bool:
        """True if neither the next step nor all that are left promise more than their cost, by their upper bounds."""
        if self.model.steps < self.settings.warmup:
            return False
        rest, posterior, rows = self._situation(view), self.model.posterior(), self.candidates(view)
        for situation in (replace(rest, steps=1), rest):
            mean, sd = planned_return(rows, situation, posterior)
            cost = self.settings.cost_lambda * min(situation.steps * self._share, view.budget)
            if (mean + self.kappa(view) * sd).max() > cost:
                return False
        return True

    def _situation(self, view: View) -> PlanningState:
        return PlanningState(
            requirement=view.requirement,
            profile=np.clip(view.profile, 0.0, 1.0),
            form="weighted_mean" if view.first else self._form,
            steps=min(max(round(view.budget / self._share), 1), _HORIZON),
            chunks=self._chunks,
            spillover_beta=self.settings.spillover_beta,
            scale=1.0 if view.first else self._scale,
        )

    def probe(self, view: View, sources: npt.NDArray[np.intp]) -> Array:
        """Allocation that probes capabilities: half on the needs as √r, half on ``sources`` (indices); (|C|,).

        During warm-up every capability is a source once, so that each row of the transfer matrix is observed.
        """
        turn = np.zeros(self.size)
        turn[sources] = 1.0
        return 0.5 * to_simplex(np.sqrt(view.requirement)) + 0.5 * to_simplex(turn)

    def candidates(self, view: View) -> Array:
        """A(τ) and the static rules, (n, |C|)."""
        rules = [
            to_simplex(view.requirement),
            to_simplex(np.sqrt(view.requirement)),
            water_filling(view.requirement, view.profile),
            np.full(self.size, 1.0 / self.size),
        ]
        return np.vstack([*rules, super().candidates(view)])

    def note(self, view: View, after: View, terminated: bool, info: Mapping[str, Any]) -> None:
        """Read the length of a step and the form of the utility."""
        # The last step takes what is left and says nothing about the length of the others.
        if view.budget > after.budget and not terminated:
            self._share, self._chunks = view.budget - after.budget, self._length(info)
        if "utility" in info:
            self._form, self._scale = form_of(view.requirement, after.profile, info)

    def update(self, view: View, allocation: Array, reward: float, after: View, info: Mapping[str, Any]) -> None:
        self.model.update(allocation, view.profile, after.profile - view.profile, self._length(info))

    def _length(self, info: Mapping[str, Any]) -> float:
        """Length of a step in chunks."""
        return float(info.get("completion_tokens", self.settings.chunk_tokens)) / self.settings.chunk_tokens

    def scalars(self) -> dict[str, float]:
        """Metrics of the bandit, and the estimated noise."""
        return {**super().scalars(), "noise": float(self.model.posterior().noise.mean())}

    def state_dict(self) -> dict[str, Any]:
        own = {"form": self._form, "scale": self._scale, "share": self._share, "chunks": self._chunks}
        return {**super().state_dict(), "model": self.model.state_dict(), **own}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self.model.load_state_dict(state["model"])
        self._form, self._scale = state["form"], float(state.get("scale", 1.0))
        self._share, self._chunks = float(state["share"]), float(state["chunks"])
