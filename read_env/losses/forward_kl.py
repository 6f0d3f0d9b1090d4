"""Forward KL divergence from the teacher."""

from __future__ import annotations

import torch

from read_env.losses.bins import kl, log_bins
from read_env.losses.targets import LossOutput, TeacherTargets


def forward_kl(logits: torch.Tensor, batch: TeacherTargets) -> LossOutput:
    """``KL(p ‖ q) = sum_k p_k (log p_k - log q_k)`` over the K + 1 bins: mode-covering.

    Args:
        logits: (m, V) student logits at the completion positions.
        batch: top-K log-probabilities and tail of the teacher at these positions.

    Returns:
        (m,) nats per token; metric ``fkl``, the same values.

    Reference: Hinton et al., 2015; the K + 1 bins are D1 of TAD (arXiv 2602.20816).

    Example:
        >>> batch = TeacherTargets.from_logits(torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([0]), top_k=2)
        >>> forward_kl(torch.zeros(1, 3), batch)[0]
        tensor([0.2662])
    """
    log_p, log_q = log_bins(logits, batch)
    per_token = kl(log_p, log_q)
    return per_token, {"fkl": per_token}
