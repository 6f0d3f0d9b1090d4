"""Generalised Jensen-Shannon divergence between teacher and student."""

from __future__ import annotations

import torch

from read_env.losses.bins import jsd, log_bins
from read_env.losses.targets import LossOutput, TeacherTargets


def jensen_shannon(logits: torch.Tensor, batch: TeacherTargets, beta: float = 0.5) -> LossOutput:
    """``β KL(p ‖ m) + (1 − β) KL(q ‖ m)`` with ``m = β p + (1 − β) q``; at most ln 2.

    At β = 0 and β = 1, where the formula vanishes, it is the limit of its gradient's direction: forward KL
    and reverse KL (the convention of GKD).

    Args:
        logits: (m, V) student logits at the completion positions.
        batch: top-K log-probabilities and tail of the teacher at these positions.
        beta: weight of the teacher in the mixture, in [0, 1].

    Returns:
        (m,) nats per token; no metrics.

    Reference: Agarwal et al., GKD (arXiv 2306.13649), eq. 1; ``gkd`` is this loss on the student's own samples.

    Example:
        >>> batch = TeacherTargets.from_logits(torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([0]), top_k=2)
        >>> jensen_shannon(torch.zeros(1, 3), batch)[0]
        tensor([0.0687])
    """
    return jsd(*log_bins(logits, batch), beta), {}
