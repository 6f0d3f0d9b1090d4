"""Static rules and other controls that learn nothing.

Comparisons include them as baselines, since a run has only about twenty steps to learn from. Their only state is a random
generator; the past that they need is in the observation.
"""

from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from read_env.agents.base import Agent, AgentSettings
from read_env.agents.candidates import GRID, SHIFTS, TOP_K, candidates
from read_env.agents.observation import Array, View, to_simplex
from read_env.envs.catalogue import water_filling
from read_env.errors import ReadEnvError, unknown


class RuleSettings(AgentSettings):
    """Options: ``floor`` is a share that every capability keeps, w = floor + (1 − |C|·floor)·w of the rule; ``stop_at`` is the
    share of B after which the rule stops, where ``budget.may_stop`` allows it.
    """

    floor: float = Field(default=0.0, ge=0)
    stop_at: float = Field(default=1.0, gt=0, le=1)


class Rule(Agent):
    """Static rule, whose shares may be raised to a floor.

    Raises:
        ReadEnvError: |C| times the floor is above 1, or ``stop_at`` is below 1 without a stop entry in the actions.
    """

    settings_type = RuleSettings

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._free = max(0.0, 1.0 - self.size * self.settings.floor)
        if self.size * self.settings.floor > 1.0 + 1e-9:  # a floor of 1/|C| is rounded
            raise ReadEnvError(
                f"agent {self.name!r}, option 'floor' is {self.settings.floor}: right would be at most 1/{self.size}, as all "
                f"{self.size} capabilities get it"
            )

        if self.settings.stop_at < 1 and not self.may_stop:
            raise ReadEnvError(
                f"agent {self.name!r}, option 'stop_at' is {self.settings.stop_at}: right would be budget.may_stop = true with it"
            )

    def stops(self, view: View) -> bool:
        return 1.0 - view.budget >= self.settings.stop_at - 1e-6  # observations are float32

    def shares(self, view: View) -> Array:
        """Shares before the floor, (|C|,) on the simplex."""
        raise NotImplementedError

    def allocate(self, view: View, deterministic: bool) -> Array:
        return self.settings.floor + self._free * self.shares(view)


class Uniform(Agent):
    """Equal weights, w = 1/|C|.

    Example:
        >>> obs = dict(requirement=[1, 0], profile=[0, 0], budget=[1], last_allocation=[0, 0], last_gain=[0, 0])
        >>> Uniform(["math", "code"]).predict(obs)[0].tolist()
        [0.5, 0.5]
    """

    name = "uniform"

    def allocate(self, view: View, deterministic: bool) -> Array:
        return np.full(self.size, 1.0 / self.size)


class TaskStatic(Rule):
    """Allocation equal to the requirement, w = r_τ.

    Example:
        >>> obs = dict(requirement=[0.75, 0.25], profile=[0, 0], budget=[1], last_allocation=[0, 0], last_gain=[0, 0])
        >>> TaskStatic(["math", "code"]).predict(obs)[0].tolist()
        [0.75, 0.25]
    """

    name = "task-static"

    def shares(self, view: View) -> Array:
        return to_simplex(view.requirement)


class SqrtTask(Rule):
    """Allocation by the square root of the requirement, w ∝ √r_τ, flatter than task-static.

    Example:
        >>> obs = dict(requirement=[0.9, 0.1], profile=[0, 0], budget=[1], last_allocation=[0, 0], last_gain=[0, 0])
        >>> SqrtTask(["math", "code"]).predict(obs)[0].round(2).tolist()
        [0.75, 0.25]
    """

    name = "sqrt-task"

    def shares(self, view: View) -> Array:
        return to_simplex(np.sqrt(view.requirement))


class WaterFillingSettings(RuleSettings):
    """Options: ``when="start"`` computes the shares from the first profile only, ``"each"`` at every step."""

    when: Literal["start", "each"] = "each"


class WaterFilling(Rule):
    """Allocation by unmet need, w ∝ r_τ·(1 − s).

    Example:
        >>> obs = dict(requirement=[0.75, 0.25], profile=[1, 0], budget=[1], last_allocation=[0, 0], last_gain=[0, 0])
        >>> WaterFilling(["math", "code"]).predict(obs)[0].tolist()
        [0.0, 1.0]
    """

    name = "water-filling"
    settings_type = WaterFillingSettings

    def allocate(self, view: View, deterministic: bool) -> Array:
        if self.settings.when == "start" and not view.first:
            return to_simplex(view.last_allocation)
        return super().allocate(view, deterministic)

    def shares(self, view: View) -> Array:
        return water_filling(view.requirement, view.profile)


class FixedSettings(RuleSettings):
    """Options: ``shares`` are weights by capability, such as ``"math=2 code=1"``, 0 for the others."""

    shares: str = ""


class Fixed(Rule):
    """Given allocation, the same at every step.

    Example:
        >>> obs = dict(requirement=[1, 0], profile=[0, 0], budget=[1], last_allocation=[0, 0], last_gain=[0, 0])
        >>> Fixed(["math", "code"], options={"shares": "math=3 code=1"}).predict(obs)[0].tolist()
        [0.75, 0.25]
    """

    name = "fixed"
    settings_type = FixedSettings

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._allocation: Array | None = None
        if not self.settings.shares.strip():
            return  # an error once it acts, so that it can be listed and made by name
        weights = np.zeros(self.size)
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

    def check_task(self, requirement: Array) -> None:
        if self._allocation is None:
            shares = " ".join(f"{name}={weight}" for name, weight in zip(self.capabilities[:2], (2, 1), strict=False))
            raise ReadEnvError(
                f"agent 'fixed' has no allocation; right would be 'fixed,shares={shares}', or agent uniform or task-static"
            )

    def shares(self, view: View) -> Array:
        self.check_task(view.requirement)
        assert self._allocation is not None
        return self._allocation


class OneHotSettings(RuleSettings):
    """Options: ``capability`` gets all tokens, or all above the floor. None: the one with the largest requirement."""

    capability: str | None = None


class OneHot(Rule):
    """All weight on one capability, as in the paper's baselines and the rows of a transfer matrix.

    Example:
        >>> obs = dict(requirement=[0.75, 0.25], profile=[0, 0], budget=[1], last_allocation=[0, 0], last_gain=[0, 0])
        >>> OneHot(["math", "code"]).predict(obs)[0].tolist()
        [1.0, 0.0]
    """

    name = "one-hot"
    settings_type = OneHotSettings

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        chosen = self.settings.capability
        if chosen is not None and chosen not in self.capabilities:
            raise unknown("capability", chosen, self.capabilities)

    def shares(self, view: View) -> Array:
        chosen = self.settings.capability
        index = int(np.argmax(view.requirement)) if chosen is None else self.capabilities.index(chosen)
        return np.eye(self.size)[index]


class RoundRobin(Rule):
    """One capability per step, in the suite's order.

    Example:
        >>> obs = dict(requirement=[1, 0], profile=[0, 0], budget=[1], last_allocation=[1, 0], last_gain=[0, 0])
        >>> RoundRobin(["math", "code"]).predict(obs)[0].tolist()
        [0.0, 1.0]
    """

    name = "round-robin"

    def shares(self, view: View) -> Array:
        turn = 0 if view.first else (int(np.argmax(view.last_allocation)) + 1) % self.size
        return np.eye(self.size)[turn]


class CandidateSettings(AgentSettings):
    """Options of the candidate set A(τ) (:mod:`read_env.agents.candidates`)."""

    k: int = Field(default=TOP_K, ge=1)
    grid: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = GRID
    shifts: tuple[Annotated[float, Field(gt=0, le=1)], ...] = SHIFTS


class RandomCandidate(Agent):
    """Random draw from the candidates of the published bandit.

    ``deterministic`` changes nothing, since the draw is the policy; the seed repeats it.

    Example:
        >>> obs = dict(requirement=[1, 0], profile=[0, 0], budget=[1], last_allocation=[0, 0], last_gain=[0, 0])
        >>> first, again = (RandomCandidate(["math", "code"], seed=3).predict(obs)[0].tolist() for _ in range(2))
        >>> first == again
        True
    """

    name = "random-candidate"
    settings_type = CandidateSettings

    def allocate(self, view: View, deterministic: bool) -> Array:
        rows = candidates(view, self.settings.k, self.settings.grid, self.settings.shifts)
        return rows[self.rng.integers(len(rows))]
