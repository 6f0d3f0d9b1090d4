"""Reverse KL divergence from the teacher."""

from __future__ import annotations

import torch

from read_env.losses.bins import kl, log_bins
from read_env.losses.targets import LossOutput, TeacherTargets


def reverse_kl(logits: torch.Tensor, batch: TeacherTargets) -> LossOutput:
    """``KL(q ‖ p) = sum_k q_k (log q_k - log p_k)`` over the K + 1 bins: mode-seeking.

    Args:
        logits: (m, V) student logits at the completion positions.
        batch: top-K log-probabilities and tail of the teacher at these positions.

    Returns:
        (m,) nats per token; metric ``rkl``, the same values.

    Reference: Gu et al., MiniLLM, 2023 (there on the student's own samples).

    Example:
        >>> batch = TeacherTargets.from_logits(torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([0]), top_k=2)
        >>> reverse_kl(torch.zeros(1, 3), batch)[0]
        tensor([0.3090])
    """
    log_p, log_q = log_bins(logits, batch)
    per_token = kl(log_q, log_p)
    return per_token, {"rkl": per_token}
