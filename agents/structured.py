"""``read-bandit``: an uncertainty-aware contextual bandit that knows what a step is made of.

The published bandit learns one number a step, and twenty of them are too few for
a network. This one learns the |C| changes of the profile, with a
Bayesian linear model of transfer (``transfer_model``), judges an allocation by
where keeping to it would lead (``planning``), and chooses the largest posterior
mean + κ·s.d. A part of every allocation stays with the task's needs, so that a
wrong model costs little. What it knows of transfer belongs to the world and not
to the task: ``learn`` on other tasks and seeds is a warm start.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from pydantic import Field

from read_env.agents.bandit import dev_utility
from read_env.agents.base import Agent, Callback
from read_env.agents.calibration import Calibration
from read_env.agents.candidates import candidates, perturbations
from read_env.agents.observation import Array, Observation, View, parse, to_simplex
from read_env.agents.planning import Situation, UtilityForm, outlook, recognise
from read_env.agents.static import CandidateSettings
from read_env.agents.transfer_model import TransferModel, TransferPrior
from read_env.envs.catalogue import water_filling

if TYPE_CHECKING:
    from typing_extensions import Self

# Planning further than this changes nothing: the profile is near its end by then.
_HORIZON = 40


class ReadBanditSettings(CandidateSettings):
    """Candidates as for the published bandit; the prior is in changes of score per ``chunk_tokens``.

    The prior is what fixed allocations did on the micro world under one profiling seed, in round
    numbers (``scripts/fit_prior.py``). Where strong helpers are likely, a wider ``prior_transfer_sd``
    and more κ find what these would never try.
    """

    kappa: float = Field(default=0.5, ge=0, description="weight of the s.d. of the planned return")
    kappa_decay: float = Field(default=0.7, gt=0, le=1)
    stagnation: float = Field(default=0.0, ge=0, description="gain in dev utility that counts as none")
    mix: float = Field(default=0.15, ge=0, le=1, description="share that stays with the task's needs")
    mix_power: float = Field(default=0.75, ge=0, description="that share is spread ∝ r to this power")
    refinements: int = Field(default=6, ge=0, description="rounds of perturbing the best candidate further")
    warmup: int = Field(default=0, ge=0, description="first steps that probe the whole suite, part by part")
    training_probes: float = Field(default=0.5, ge=0, le=1, description="share of probing steps inside learn")
    steps: int = Field(default=20, ge=1, description="decisions in a budget, until the first step shows it")
    chunk_tokens: int = Field(default=6000, ge=1)
    spillover_beta: float = Field(default=0.5, ge=0)
    prior_learning: float = TransferPrior.learning
    prior_learning_sd: float = Field(default=TransferPrior.learning_sd, gt=0)
    prior_transfer_sd: float = Field(default=TransferPrior.transfer_sd, gt=0)
    prior_neglect: float = TransferPrior.neglect
    prior_neglect_sd: float = Field(default=TransferPrior.neglect_sd, gt=0)
    prior_interference_sd: float = Field(default=TransferPrior.interference_sd, gt=0)
    prior_noise: float = Field(default=TransferPrior.noise, gt=0)
    update: bool = Field(default=True, description="False: plan with what is known, learn nothing")


class ReadBandit(Agent):
    """Learns which capability moves which, and plans the rest of the budget with it."""

    name = "read-bandit"
    settings_type = ReadBanditSettings

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        s = self.settings
        prior = TransferPrior(
            learning=s.prior_learning,
            learning_sd=s.prior_learning_sd,
            transfer_sd=s.prior_transfer_sd,
            neglect=s.prior_neglect,
            neglect_sd=s.prior_neglect_sd,
            interference_sd=s.prior_interference_sd,
            noise=s.prior_noise,
        )
        self.model = TransferModel(self.size, prior)
        self.calibration = Calibration(s.kappa, s.kappa_decay, s.stagnation)
        self._form: UtilityForm = "weighted_mean"
        self._share = 1.0 / s.steps  # of the budget that a step takes
        self._chunks = 1.0
        self._last: tuple[float, float] | None = None
        self._training = False

    def allocate(self, view: View, deterministic: bool) -> Array:
        if self.model.steps < self.settings.warmup:
            order = np.random.default_rng(self.seed).permutation(self.size)
            return self.probe(view, np.array_split(order, self.settings.warmup)[self.model.steps])
        if self._training and self.rng.random() < self.settings.training_probes:
            return self.probe(view, self.rng.permutation(self.size)[: self.rng.integers(1, min(3, self.size) + 1)])
        kappa = self.settings.kappa if view.first else self.calibration.kappa
        situation = Situation(
            requirement=view.requirement,
            profile=np.clip(view.profile, 0.0, 1.0),
            form="weighted_mean" if view.first else self._form,
            steps=min(max(round(view.budget / self._share), 1), _HORIZON),
            chunks=self._chunks,
            spillover_beta=self.settings.spillover_beta,
        )
        posterior = self.model.posterior()

        def best(rows: Array) -> tuple[float, Array, tuple[float, float]]:
            mean, sd = outlook(rows, situation, posterior)
            score = mean + kappa * sd
            choice = int(np.argmax(score))
            return float(score[choice]), rows[choice], (float(mean[choice]), float(sd[choice]))

        score, choice, shown = best(self.candidates(view))
        for _ in range(self.settings.refinements):
            # From far to near: the candidates' own shifts, then a fine one to settle.
            better, row, parts = best(perturbations(choice, (*self.settings.shifts, 0.03)))
            if better <= score:
                break
            score, choice, shown = better, row, parts
        self._last = shown
        safe = to_simplex(view.requirement**self.settings.mix_power)
        return (1 - self.settings.mix) * choice + self.settings.mix * safe

    def probe(self, view: View, sources: npt.NDArray[np.intp]) -> Array:
        """Half on the needs as √r, half on ``sources`` (indices), to see what these do: (|C|,).

        In a warm-up every capability has its turn once, so that each row of Γ has been seen; a
        random draw would leave that to luck.
        """
        turn = np.zeros(self.size)
        turn[sources] = 1.0
        return 0.5 * to_simplex(np.sqrt(view.requirement)) + 0.5 * to_simplex(turn)

    def learn(
        self, env: gym.Env[Any, Any], total_steps: int, callback: Callback | None = None, seed: int | None = None
    ) -> Self:
        """As for every agent, with more exploration than in a run that counts.

        A share ``training_probes`` of the steps goes to random probes: which sources do what can't
        be told apart from allocations that always lean on the same few.
        """
        self._training = True
        try:
            return super().learn(env, total_steps, callback, seed)
        finally:
            self._training = False

    def candidates(self, view: View) -> Array:
        """A(τ) and the static rules, (n, |C|)."""
        rules = [
            to_simplex(view.requirement),
            to_simplex(np.sqrt(view.requirement)),
            water_filling(view.requirement, view.profile),
            np.full(self.size, 1.0 / self.size),
        ]
        return np.vstack([*rules, candidates(view, self.settings.k, self.settings.grid, self.settings.shifts)])

    def observe(
        self,
        observation: Observation,
        action: npt.ArrayLike,
        reward: float,
        next_observation: Observation,
        terminated: bool,
        truncated: bool,
        info: Mapping[str, Any],
    ) -> None:
        """Add the step to the model and the calibration; note how long steps are and what U is."""
        view, after = parse(observation, self.size)[0][0], parse(next_observation, self.size)[0][0]
        tokens = float(info.get("completion_tokens", self.settings.chunk_tokens)) / self.settings.chunk_tokens
        spent = view.budget - after.budget
        # The last step takes what is left and says nothing about the length of the others.
        if spent > 0 and not terminated:
            self._share, self._chunks = spent, tokens
        if "utility" in info:
            self._form = recognise(view.requirement, after.profile, float(info["utility"]))
        if view.first:
            self.calibration.start_episode()
        self.calibration.record(float(reward), dev_utility(info))
        if self.settings.update:
            self.model.update(to_simplex(action), view.profile, after.profile - view.profile, tokens)

    def scalars(self) -> dict[str, float]:
        """κ, the calibration, the noise found; planned mean and uncertainty of the latest choice."""
        slope, offset = self.calibration.line()
        shown = {
            "kappa": self.calibration.kappa,
            "calibration_slope": slope,
            "calibration_offset": offset,
            "noise": float(self.model.posterior().noise.mean()),
        }
        if self._last is not None:
            shown |= {"mean": self._last[0], "uncertainty": self._last[1]}
        return shown

    def state_dict(self) -> dict[str, Any]:
        return {
            **super().state_dict(),
            "model": self.model.state_dict(),
            "calibration": self.calibration.state_dict(),
            "form": self._form,
            "share": self._share,
            "chunks": self._chunks,
            "last": self._last,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self.model.load_state_dict(state["model"])
        self.calibration.load_state_dict(state["calibration"])
        self._form = state["form"]
        self._share, self._chunks = float(state["share"]), float(state["chunks"])
        self._last = None if state["last"] is None else (float(state["last"][0]), float(state["last"][1]))
