"""``pretrained:read-bandit``: bandit that plans schedules in the worlds of a fitted surrogate.

``read-bandit`` begins with a prior of a few numbers and plans to keep one allocation. This one begins with a surrogate, that
is, with what recorded runs of other students showed of every capability, and plans the allocations of all steps that are left
(:mod:`read_env.agents.schedules`), again at every step, from the scores that it estimates (:mod:`read_env.agents.particles`).
Uncertainty is the s.d. of the planned return over worlds: κ adds it (upper confidence bound), and with ``thompson`` each step is
planned in one world alone (Thompson sampling).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from pydantic import Field

from read_env.agents.base import Agent, AgentSettings
from read_env.agents.observation import Array, Observation, View, parse
from read_env.agents.particles import Particles
from read_env.agents.planning import UtilityForm, form_of
from read_env.errors import ReadEnvError
from read_env.surrogate.model import SPREAD, Surrogate, rates_of, surrogate_path
from read_env.surrogate.world import World


class SurrogateBanditSettings(AgentSettings):
    """Options."""

    surrogate: str = Field(default="micro", description="surrogate that ships, or a file of read-env surrogate fit")
    kappa: float = Field(default=0.0, ge=0, description="weight of the s.d. of the planned return over worlds")
    thompson: bool = Field(default=False, description="plan each step in one drawn world")
    update: bool = Field(default=True, description="follow the scores, and with `weigh` the worlds, within the run")
    weigh: bool = Field(default=False, description="weigh the worlds by how well they explain the steps so far")
    spread: float = Field(
        default=SPREAD, ge=0, description="s.d. of log speed, transfer and interference between worlds"
    )
    worlds: int = Field(default=64, ge=1, description="worlds that a step is planned in")
    particles: int = Field(default=256, ge=1, description="worlds that are followed")
    iterations: int = Field(default=60, ge=1, description="steps of the search at the first decision")
    refinements: int = Field(default=30, ge=1, description="steps of the search at each later one")
    spillover_beta: float = Field(default=0.5, ge=0)
    cost_lambda: float = Field(default=0.0, ge=0, description="reward.cost_lambda, for the decision to stop")


class SurrogateBandit(Agent):
    """Bandit whose model is a fitted surrogate.

    Raises:
        ReadEnvError: no such surrogate, or one of other capabilities.

    Example:
        >>> from read_env.surrogate.model import Surrogate
        >>> names = Surrogate.load("micro").capabilities
        >>> bandit = SurrogateBandit(names, options={"worlds": 8, "iterations": 10})
        >>> zeros = [0.0] * len(names)
        >>> need = [float(name == "tool_use") for name in names]
        >>> start = dict(requirement=need, profile=[0.3] * len(names), budget=[1], last_allocation=zeros, last_gain=zeros)
        >>> names[bandit.predict(start)[0].argmax()] in ("tool_use", "sums", "prices")
        True
    """

    name = "surrogate-bandit"
    settings_type = SurrogateBanditSettings
    episode_state: ClassVar[tuple[str, ...]] = ("_particles", "_logits", "_form", "_scale", "_share", "_thousands")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        settings = self.settings
        self._surrogate = Surrogate.load(settings.surrogate)
        if self._surrogate.capabilities != self.capabilities:
            raise ReadEnvError(
                f"agent {self.name!r}, option 'surrogate': {settings.surrogate!r} is of the capabilities "
                f"{', '.join(self._surrogate.capabilities)}; here they are {', '.join(self.capabilities)}; right would be a "
                "surrogate of these, from read-env surrogate fit"
            )
        drawn = self._surrogate.draw_worlds(np.random.default_rng(self.seed), settings.particles, settings.spread)
        self._worlds = World(**{name: value[None] for name, value in drawn.to_dict().items()})
        self._particles: Particles | None = None
        self._logits: Array | None = None  # of the steps after the last one
        self._planned = (0.0, 0.0)  # mean and s.d. of the latest plan's return
        self._start()

    def _start(self) -> None:
        """Set form of the utility and length of a step to those of the surrogate, until the first step has shown them."""
        self._form: UtilityForm = "weighted_mean"
        self._scale = 1.0
        self._share = 1 / self._surrogate.steps
        self._thousands = self._surrogate.total_tokens / 1000

    @classmethod
    def files(cls, options: Mapping[str, Any]) -> dict[str, Path]:
        return {
            "agent_options.surrogate": surrogate_path(
                str(options.get("surrogate", SurrogateBanditSettings().surrogate))
            )
        }

    @property
    def tokens_before_run(self) -> int:
        """Completion tokens of the recorded runs behind the surrogate."""
        return int(self._surrogate.made_from.get("tokens", 0))

    def allocate(self, view: View, deterministic: bool) -> Array:
        from read_env.agents.schedules import Horizon, best_schedule, first_schedule  # imports torch

        settings = self.settings
        if view.first:
            self._start()
        if view.first or self._particles is None or not settings.update:
            self._particles = Particles.of(self._worlds, view.profile[None])
        steps = max(1, round(view.budget / self._share))
        logits = self._logits
        if view.first or logits is None or len(logits) != steps:
            logits = first_schedule(view.requirement, steps)
        worlds, scores = self._particles.draw(self.rng, 1 if settings.thompson else settings.worlds)
        tokens = np.full(steps, self._thousands * self._share)
        tokens[-1] += self._thousands * view.budget - tokens.sum()
        horizon = Horizon(
            tokens.clip(0), self._rates(view.budget, steps), view.requirement, self._form, self._scale,
            settings.spillover_beta,
        )  # fmt: skip
        iterations = settings.iterations if view.first else settings.refinements
        found, returns = best_schedule(
            worlds, scores, horizon, logits[None], iterations=iterations, kappa=settings.kappa
        )
        self._planned = float(returns[0, 0]), float(returns[0, 1])
        weights = np.exp(found[0].astype(np.float64) - found[0].max(-1, keepdims=True))
        self._logits = found[0, 1:].astype(np.float64)
        return np.asarray(weights[0] / weights[0].sum())

    def stops(self, view: View) -> bool:
        """True if the schedule that was just planned promises less than what is left costs."""
        return self.settings.cost_lambda > 0 and self._planned[0] < self.settings.cost_lambda * view.budget

    def observe(
        self, observation: Observation, action: npt.ArrayLike, reward: float, next_observation: Observation,
        terminated: bool, truncated: bool, info: Mapping[str, Any],
    ) -> None:  # fmt: skip
        """Follow the scores, and read the length of a step and the form of the utility."""
        if info.get("stopped"):
            return
        view, after = (parse(one, self.size)[0][0] for one in (observation, next_observation))
        taken = view.budget - after.budget
        thousands = float(info.get("completion_tokens", 1000 * self._thousands * taken)) / 1000
        # The last step takes what is left and says nothing about the length of the others.
        if taken > 0 and not terminated:
            self._share, self._thousands = taken, thousands / taken
        if "utility" in info:
            self._form, self._scale = form_of(view.requirement, after.profile, info)
        if self._particles is not None and self.settings.update:
            rate = float(rates_of(*self._schedule, np.array([1 - view.budget, 1 - after.budget]))[1])
            spent = thousands * after.last_allocation
            self._particles = self._particles.after(spent[None], rate, after.profile[None], weigh=self.settings.weigh)

    @property
    def _schedule(self) -> tuple[str, float]:
        return self._surrogate.lr_scheduler_type, self._surrogate.warmup_ratio

    def _rates(self, budget: float, steps: int) -> np.ndarray:
        """Learning-rate factors of the steps that are left."""
        ends = np.minimum(1 - budget + self._share * np.arange(steps + 1), 1.0)
        ends[-1] = 1.0
        return rates_of(*self._schedule, ends)[1:]

    def scalars(self) -> dict[str, float]:
        """Metrics: mean and s.d. over worlds of the planned return."""
        return {"mean": self._planned[0], "uncertainty": self._planned[1]}

    def state_dict(self) -> dict[str, Any]:
        particles = None
        if self._particles is not None:
            particles = {name: getattr(self._particles, name) for name in ("mean", "variance", "log_weights")}
        own = {
            "particles": particles, "logits": self._logits, "planned": list(self._planned), "form": self._form,
            "scale": self._scale, "share": self._share, "thousands": self._thousands,
        }  # fmt: skip
        return {**super().state_dict(), **own}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        kept = state["particles"]
        arrays = None if kept is None else {name: np.asarray(value) for name, value in kept.items()}
        self._particles = None if arrays is None else Particles(self._worlds, **arrays)
        self._logits = None if state["logits"] is None else np.asarray(state["logits"])
        self._planned = float(state["planned"][0]), float(state["planned"][1])
        self._form = state["form"]
        self._scale, self._share, self._thousands = (float(state[name]) for name in ("scale", "share", "thousands"))
