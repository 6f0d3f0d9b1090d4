"""Calibration of the probe reward at dev checkpoints (arXiv 2605.11290).

Bandits learn from the reward on the probes. Every few steps the environment also measures the utility on the dev split. The
calibration fits an affine map from the cumulative probe reward to the change of the dev utility, and multiplies κ by a
factor below 1 at each checkpoint at which the dev utility stagnates.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np


class Calibration:
    """Dev checkpoints of the current episode.

    The first checkpoint is the reference: x is the probe reward accumulated since it, y the dev utility minus that of the
    first checkpoint. ``line`` fits y ≈ slope·x + offset by least squares over all checkpoints, (0, 0) included. With fewer
    than two different x, the slope is 1 and the offset 0.

    The line is for display only. A positive slope scales mean and uncertainty alike, so that the choice of the largest
    μ + κσ stays the same; the sources don't say that the line feeds back into the reward model.

    Args:
        kappa: κ at the start of each episode.
        decay: factor on κ at a checkpoint without progress (0.7 in the paper).
        tolerance: gain in dev utility over the best earlier checkpoint that still counts as stagnation. The sources give
            no value.

    >>> calibration = Calibration(kappa=1.0)
    >>> for reward, utility in ((0.0, 0.5), (0.1, 0.7), (0.1, 0.6)):
    ...     calibration.record(reward, utility)
    >>> calibration.kappa
    0.7
    """

    def __init__(self, kappa: float, decay: float = 0.7, tolerance: float = 0.0) -> None:
        self.initial_kappa = kappa
        self.decay = decay
        self.tolerance = tolerance
        self.start_episode()

    def start_episode(self) -> None:
        """Forget the checkpoints and reset κ, since stagnation belongs to one student."""
        self.kappa = self.initial_kappa
        self.proxy = 0.0
        self.points: list[tuple[float, float]] = []  # cumulative proxy reward, dev utility

    def record(self, reward: float, dev_utility: float | None) -> None:
        """Add the reward of a step and, at a checkpoint, the dev utility measured after it."""
        self.proxy += reward
        if dev_utility is None:
            return
        if self.points and dev_utility <= max(utility for _, utility in self.points) + self.tolerance:
            self.kappa *= self.decay
        self.points.append((self.proxy, dev_utility))

    def line(self) -> tuple[float, float]:
        """Slope and offset of the change of dev utility over the cumulative probe reward."""
        if len(self.points) < 2:
            return 1.0, 0.0
        x, y = (np.array(self.points) - self.points[0]).T
        spread = x - x.mean()
        if not (spread @ spread) > 1e-12:
            return 1.0, 0.0
        slope = float(spread @ (y - y.mean()) / (spread @ spread))
        return slope, float(y.mean() - slope * x.mean())

    def state_dict(self) -> dict[str, Any]:
        return {"kappa": self.kappa, "proxy": self.proxy, "points": [list(point) for point in self.points]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.kappa, self.proxy = float(state["kappa"]), float(state["proxy"])
        self.points = [(float(x), float(y)) for x, y in state["points"]]
