"""Learning-rate schedules over the progress through the budget. They have no state but the progress itself."""

from __future__ import annotations

import math

#: Share of the budget over which ``wsd`` falls (Hägele et al., "Scaling Laws and Compute-Optimal Training Beyond Fixed
#: Training Durations", 2024: a fifth).
_DECAY = 0.2


def learning_rate_factor(schedule: str, progress: float, warmup_ratio: float = 0.0) -> float:
    """Factor of the peak learning rate, in [0, 1].

    Args:
        schedule: ``constant``; ``linear`` or ``cosine``: to 0 at the end of the budget; ``wsd`` (warm-up, stable, decay):
            constant, and linear to 0 over the last fifth.
        progress: share of the budget spent, in [0, 1].
        warmup_ratio: share of the budget over which the rate rises from 0, in [0, 1).

    >>> [learning_rate_factor("linear", progress, warmup_ratio=0.5) for progress in (0.25, 0.5, 0.75, 1.0)]
    [0.5, 1.0, 0.5, 0.0]
    """
    if progress < warmup_ratio:
        return progress / warmup_ratio
    left = min(1.0, (1 - progress) / (1 - warmup_ratio))
    if schedule == "linear":
        return left
    if schedule == "cosine":
        return 0.5 * (1 - math.cos(math.pi * left))
    if schedule == "wsd":
        return min(1.0, left / _DECAY)
    return 1.0
