"""Reward of a step and its parts (arXiv 2605.11290)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from read_env.capabilities.base import Suite
from read_env.config import RewardConfig
from read_env.tasks import TaskCard, essential


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
    config: RewardConfig, card: TaskCard, suite: Suite, before: np.ndarray, after: np.ndarray, cost: float,
    teacher: Sequence[float] | np.ndarray | None = None,
) -> Reward:  # fmt: skip
    """Reward of a step that changed the profile from ``before`` to ``after``.

    Args:
        config: form of the gain, β, φ, λ and the number of essential capabilities.
        card: the task.
        suite: index order of the profiles.
        before: (|C|,) scores before the step.
        after: (|C|,) scores after it.
        cost: share of the total budget spent by the step.
        teacher: (|C|,) the teacher's scores on the same split, as for ``TaskCard.utility``.

    Example:
        >>> from read_env.capabilities.micro import MICRO
        >>> from read_env.tasks import load_task
        >>> reward_of(RewardConfig(), load_task("math", MICRO), MICRO, np.zeros(10), np.full(10, 0.5), cost=0.1).gain
        0.5
    """
    requirement = card.requirement_vector(suite)
    change = after - before
    drop = np.maximum(-change, 0.0)
    needed = essential(requirement, config.essential_k)
    if config.form == "linear":
        gain = float(requirement @ change)
    else:
        gain = card.utility(after, suite, teacher) - card.utility(before, suite, teacher)
    spillover = float(requirement[needed] @ drop[needed])
    forgetting = float(drop[~needed].mean()) if (~needed).any() else 0.0
    value = gain - config.spillover_beta * spillover - config.forgetting_beta * forgetting - config.cost_lambda * cost
    return Reward(value, gain, spillover, float(cost), forgetting)
