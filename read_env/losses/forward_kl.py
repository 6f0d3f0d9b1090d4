"""Forward KL divergence to the teacher, over its top K tokens and one bin for all others."""

from __future__ import annotations

import torch

from read_env.losses.bins import kl, log_bins
from read_env.losses.targets import TeacherTargets


def forward_kl(student_logits: torch.Tensor, targets: TeacherTargets) -> torch.Tensor:
    """``KL(p ‖ q) = sum_k p_k (log p_k - log q_k)``, the tail among the k: covers all that the teacher would say.

    Args:
        student_logits: (m, V) student logits at the completion positions.
        targets: top-K log-probabilities and tail of the teacher at these positions.

    Returns:
        (m,) nats per token.

    Reference: Hinton et al., 2015; the K + 1 bins are D1 of TAD (arXiv 2602.20816).
    """
    log_p, log_q = log_bins(student_logits, targets)
    return kl(log_p, log_q)
