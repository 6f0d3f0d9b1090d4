"""History of an episode, for rendering and snapshots, and the info of its steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from read_env.envs.reward import Reward

if TYPE_CHECKING:  # importing it for real loads torch
    from read_env.distillation.report import ChunkReport

_PARTS = ("gain", "spillover", "cost", "forgetting")
_COUNTS = ("completion_tokens", "prompt_tokens", "trained_tokens", "updates")


@dataclass(frozen=True)
class Point:
    """State after one step, or at the start.

    Attributes:
        spent: completion tokens of the budget spent so far.
        allocation: |C| shares of the step; zeros at the start.
        profile: |C| scores after it.
        utility: U_τ after it.
    """

    spent: int
    allocation: tuple[float, ...]
    profile: tuple[float, ...]
    utility: float


def step_info(report: ChunkReport, reward: Reward, gain: np.ndarray) -> dict[str, Any]:
    """Part of ``info`` that describes a step.

    Args:
        report: report of the step.
        reward: its reward.
        gain: (|C|,) change of the profile.
    """
    return {
        **{part: getattr(reward, part) for part in _PARTS},
        "profile_gain": gain,
        "allocation": np.array(report.allocation),
        "tokens_by_capability": np.array(report.tokens_by_capability, dtype=np.int64),
        **{name: int(getattr(report, name)) for name in _COUNTS},
        "loss": float(report.loss),
        "loss_by_capability": np.nan_to_num(report.loss_by_capability),
        "divergence_by_capability": np.nan_to_num(report.divergence_by_capability),
    }


def stop_info(size: int) -> dict[str, Any]:
    """Part of ``info`` that describes a stop, zeros for |C| = ``size`` capabilities.

    Example:
        >>> stop_info(2)["allocation"], stop_info(2)["stopped"]
        (array([0., 0.]), True)
    """
    vectors = ("profile_gain", "allocation", "loss_by_capability", "divergence_by_capability")
    return {
        "stopped": True,
        **dict.fromkeys((*_PARTS, "loss"), 0.0),
        **dict.fromkeys(_COUNTS, 0),
        "tokens_by_capability": np.zeros(size, dtype=np.int64),
        **{name: np.zeros(size) for name in vectors},
    }
