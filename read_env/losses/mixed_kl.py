"""Mixture of forward and reverse KL."""

from __future__ import annotations

import torch

from read_env.losses.bins import kl, log_bins
from read_env.losses.targets import LossOutput, TeacherTargets


def mixed_kl(logits: torch.Tensor, batch: TeacherTargets, alpha: float = 0.5) -> LossOutput:
    """``α KL(p ‖ q) + (1 − α) KL(q ‖ p)``.

    Args:
        logits: (m, V) student logits at the completion positions.
        batch: top-K log-probabilities and tail of the teacher at these positions.
        alpha: share of forward KL, in [0, 1]; set per optimizer step by a ``Controller``, without gradient.

    Returns:
        (m,) nats per token; metrics ``fkl`` and ``rkl``.

    Reference: ARKD (arXiv 2606.29869).

    Example:
        >>> batch = TeacherTargets.from_logits(torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([0]), top_k=2)
        >>> mixed_kl(torch.zeros(1, 3), batch, alpha=0.5)[0]
        tensor([0.2876])
    """
    log_p, log_q = log_bins(logits, batch)
    forward, reverse = kl(log_p, log_q), kl(log_q, log_p)
    return alpha * forward + (1 - alpha) * reverse, {"fkl": forward, "rkl": reverse}
