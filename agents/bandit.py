"""Base class of the contextual bandits: candidates, κ with its calibration, and the metrics of the latest choice."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from pydantic import Field

from read_env.agents.base import Agent
from read_env.agents.calibration import Calibration
from read_env.agents.candidates import candidates
from read_env.agents.observation import Array, Observation, View, parse, to_simplex
from read_env.agents.static import CandidateSettings


class BanditSettings(CandidateSettings):
    """Options of all bandits."""

    kappa: float = Field(default=1.0, ge=0, description="weight of the uncertainty of a candidate")
    kappa_decay: float = Field(default=0.7, gt=0, le=1)
    stagnation: float = Field(default=0.0, ge=0, description="gain in dev utility that still counts as stagnation")
    update: bool = Field(default=True, description="False: predict without learning")


class Bandit(Agent):
    """Agent that takes the candidate with the largest mean + κ·uncertainty of its reward."""

    settings_type = BanditSettings
    episode_state: ClassVar[tuple[str, ...]] = ("calibration",)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        s = self.settings
        self.calibration = Calibration(s.kappa, s.kappa_decay, s.stagnation)
        self._last: tuple[float, float] | None = None  # mean and uncertainty of the latest choice

    def candidates(self, view: View) -> Array:
        """A(τ), (n, |C|)."""
        return candidates(view, self.settings.k, self.settings.grid, self.settings.shifts)

    def kappa(self, view: View) -> float:
        """κ for a step: reset at the start of an episode."""
        return self.settings.kappa if view.first else self.calibration.kappa

    def observe(
        self, observation: Observation, action: npt.ArrayLike, reward: float, next_observation: Observation,
        terminated: bool, truncated: bool, info: Mapping[str, Any],
    ) -> None:  # fmt: skip
        """Update the calibration and, with the option ``update``, the model."""
        view, after = (parse(one, self.size)[0][0] for one in (observation, next_observation))
        if view.first:
            self.calibration.start_episode()
        self.calibration.record(float(reward), None if info.get("dev_utility") is None else float(info["dev_utility"]))
        if info.get("stopped"):  # without a step there is nothing to learn from
            return
        self.note(view, after, terminated, info)
        if self.settings.update:
            self.update(view, to_simplex(np.asarray(action)[: self.size]), float(reward), after, info)

    def note(self, view: View, after: View, terminated: bool, info: Mapping[str, Any]) -> None:
        """Read from a step what is no part of the model: the observations before and after it, and its info."""

    def update(self, view: View, allocation: Array, reward: float, after: View, info: Mapping[str, Any]) -> None:
        """Update the model with a step: the observation before it, its allocation and reward, and what followed."""

    def scalars(self) -> dict[str, float]:
        """Metrics: κ, the calibration, and mean and uncertainty of the latest choice."""
        slope, offset = self.calibration.line()
        shown = {"kappa": self.calibration.kappa, "calibration_slope": slope, "calibration_offset": offset}
        return shown if self._last is None else {**shown, "mean": self._last[0], "uncertainty": self._last[1]}

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "calibration": self.calibration.state_dict(), "last": self._last}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self.calibration.load_state_dict(state["calibration"])
        self._last = None if state["last"] is None else (float(state["last"][0]), float(state["last"][1]))
