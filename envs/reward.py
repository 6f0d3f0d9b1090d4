"""Reward of a step and its parts (arXiv 2605.11290)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from read_env.config import RewardConfig
from read_env.tasks import essential


@dataclass(frozen=True)
class Reward:
    """Reward of one step.

    Attributes:
        value: gain − β·spillover − φ·forgetting − λ·cost.
        gain: ΔU (form ``utility``) or r·Δs (form ``linear``).
        spillover: Σ over the essential capabilities of r_c·max(−Δs_c, 0).
        cost: share of B that the step spent.
        forgetting: mean of max(−Δs_c, 0) over the other capabilities.
    """

    value: float
    gain: float
    spillover: float
    cost: float
    forgetting: float


def reward_of(
    config: RewardConfig, requirement: np.ndarray, profiles: tuple[np.ndarray, np.ndarray], utilities: tuple[float, float],
    cost: float,
) -> Reward:  # fmt: skip
    """Reward of a step.

    Args:
        config: form of the gain, β, φ, λ and the number of essential capabilities.
        requirement: (|C|,) r of the task.
        profiles: (|C|,) scores before and after the step.
        utilities: U_τ before and after it.
        cost: share of the total budget spent by the step.

    Example:
        >>> r = np.array([0.75, 0.25])
        >>> reward_of(RewardConfig(), r, (np.array([0.5, 0.5]), np.array([0.7, 0.4])), (0.5, 0.625), cost=0.1)
        Reward(value=0.1125, gain=0.125, spillover=0.024999999999999994, cost=0.1, forgetting=0.0)
    """
    before, after = profiles
    change = after - before
    drop = np.maximum(-change, 0.0)
    needed = essential(requirement, config.essential_k)
    gain = float(requirement @ change) if config.form == "linear" else utilities[1] - utilities[0]
    spillover = float(requirement[needed] @ drop[needed])
    forgetting = float(drop[~needed].mean()) if (~needed).any() else 0.0
    value = gain - config.spillover_beta * spillover - config.forgetting_beta * forgetting - config.cost_lambda * cost
    return Reward(value, gain, spillover, float(cost), forgetting)
