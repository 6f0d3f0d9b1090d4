"""What the cheap probe reward is worth, measured at development checkpoints (arXiv 2605.11290).

A bandit learns from the reward on the probes. Every few steps the environment
also measures the utility on the dev split. From these, two things: an affine map
from the cumulative proxy reward to the measured change of the dev utility, and
how fast exploration should end: κ shrinks each time the dev utility stagnates.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np


class Calibration:
    """The dev checkpoints of the present episode.

    The first checkpoint is the reference: from then on, x = proxy reward accumulated since it,
    y = dev utility − that of the first checkpoint. ``slope`` and ``offset`` are the least-squares
    line y ≈ slope·x + offset over all checkpoints, (0, 0) included; with fewer than two different
    x they are 1 and 0, which takes the proxy at its word.

    The map is applied to predictions that are shown. A positive slope scales mean and uncertainty
    alike and so leaves the choice of the largest μ + κσ as it is; the sources don't say that the
    map feeds back into the reward model, and here it doesn't.

    Args:
        kappa: κ at the start of each episode.
        decay: factor on κ at a checkpoint without progress (the paper: 0.7).
        tolerance: a checkpoint stagnates unless it beats the best one before it by more than
            this. The sources give no number.
    """

    def __init__(self, kappa: float, decay: float = 0.7, tolerance: float = 0.0) -> None:
        self.initial_kappa = kappa
        self.decay = decay
        self.tolerance = tolerance
        self.start_episode()

    def start_episode(self) -> None:
        """Forget the checkpoints and put κ back: stagnation is the matter of one student."""
        self.kappa = self.initial_kappa
        self.proxy = 0.0
        self.points: list[tuple[float, float]] = []  # cumulative proxy reward, dev utility

    def record(self, reward: float, dev_utility: float | None) -> None:
        """Add one step's reward; at a checkpoint also the dev utility measured after it."""
        self.proxy += reward
        if dev_utility is None:
            return
        if self.points and dev_utility <= max(utility for _, utility in self.points) + self.tolerance:
            self.kappa *= self.decay
        self.points.append((self.proxy, dev_utility))

    def line(self) -> tuple[float, float]:
        """(slope, offset) of dev utility change over cumulative proxy reward."""
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
