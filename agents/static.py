"""The controls: allocations that no learning went into.

They belong beside every bandit: twenty decisions are few, and a
method that can't be told from these has learned nothing. They keep no state but
a random generator; what they need of the past is in the observation.
"""

from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from read_env.agents.base import Agent, AgentSettings
from read_env.agents.candidates import GRID, SHIFTS, TOP_K, candidates
from read_env.agents.observation import Array, View, to_simplex
from read_env.envs.catalogue import water_filling
from read_env.errors import ReadEnvError, unknown


class Uniform(Agent):
    """w = 1/|C|."""

    name = "uniform"

    def allocate(self, view: View, deterministic: bool) -> Array:
        return np.full(self.size, 1.0 / self.size)


class TaskStatic(Agent):
    """w = r_τ."""

    name = "task-static"

    def allocate(self, view: View, deterministic: bool) -> Array:
        return to_simplex(view.requirement)


class SqrtTask(Agent):
    """w ∝ √r_τ: as task-static, but flatter."""

    name = "sqrt-task"

    def allocate(self, view: View, deterministic: bool) -> Array:
        return to_simplex(np.sqrt(view.requirement))


class WaterFillingSettings(AgentSettings):
    """When the shares are computed: from the first profile only, or anew at each step."""

    when: Literal["start", "each"] = "each"


class WaterFilling(Agent):
    """w ∝ r_τ·(1 − s): where a need is still unmet."""

    name = "water-filling"
    settings_type = WaterFillingSettings

    def allocate(self, view: View, deterministic: bool) -> Array:
        if self.settings.when == "start" and not view.first:
            return to_simplex(view.last_allocation)  # what was computed at the start
        return water_filling(view.requirement, view.profile)


class FixedSettings(AgentSettings):
    """Weights by capability, such as ``"math=2 code=1"``; one that isn't named gets nothing. None named: all the same."""

    shares: str = ""


class Fixed(Agent):
    """The same given allocation at every step."""

    name = "fixed"
    settings_type = FixedSettings

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]
        weights = np.zeros(self.size) if self.settings.shares.strip() else np.ones(self.size)
        for part in self.settings.shares.split():
            capability, _, value = part.partition("=")
            if capability not in self.capabilities:
                raise unknown("capability", capability, self.capabilities)
            try:
                weights[self.capabilities.index(capability)] = float(value)
            except ValueError:
                raise ReadEnvError(f"agent 'fixed', option 'shares': {part!r} should read capability=weight") from None
        if not (np.isfinite(weights).all() and (weights >= 0).all() and weights.any()):
            raise ReadEnvError(
                f"agent 'fixed', option 'shares' is {self.settings.shares!r}: weights must be finite, "
                "not negative and not all zero"
            )
        self._allocation = to_simplex(weights)

    def allocate(self, view: View, deterministic: bool) -> Array:
        return self._allocation


class OneHotSettings(AgentSettings):
    """Which capability gets everything; by default the one with the largest requirement."""

    capability: str | None = None


class OneHot(Agent):
    """The whole budget on one capability: the paper's baselines, and the rows of a transfer matrix."""

    name = "one-hot"
    settings_type = OneHotSettings

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]
        chosen = self.settings.capability
        if chosen is not None and chosen not in self.capabilities:
            raise unknown("capability", chosen, self.capabilities)

    def allocate(self, view: View, deterministic: bool) -> Array:
        chosen = self.settings.capability
        index = int(np.argmax(view.requirement)) if chosen is None else self.capabilities.index(chosen)
        return np.eye(self.size)[index]


class RoundRobin(Agent):
    """One capability a step, in the suite's order."""

    name = "round-robin"

    def allocate(self, view: View, deterministic: bool) -> Array:
        turn = 0 if view.first else (int(np.argmax(view.last_allocation)) + 1) % self.size
        return np.eye(self.size)[turn]


class CandidateSettings(AgentSettings):
    """The candidate set A(τ): see ``read_env.agents.candidates``."""

    k: int = Field(default=TOP_K, ge=1)
    grid: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = GRID
    shifts: tuple[Annotated[float, Field(gt=0, le=1)], ...] = SHIFTS


class RandomCandidate(Agent):
    """Uniformly among the candidates that the published bandit chooses from.

    The draw *is* the policy, so ``deterministic`` changes nothing; the seed repeats it.
    """

    name = "random-candidate"
    settings_type = CandidateSettings

    def allocate(self, view: View, deterministic: bool) -> Array:
        rows = candidates(view, self.settings.k, self.settings.grid, self.settings.shifts)
        return rows[self.rng.integers(len(rows))]
