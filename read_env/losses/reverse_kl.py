"""Reverse KL divergence to the teacher, over its top K tokens and one bin for all others."""

from __future__ import annotations

import torch

from read_env.losses.bins import kl, log_bins
from read_env.losses.targets import TeacherTargets


def reverse_kl(student_logits: torch.Tensor, targets: TeacherTargets) -> torch.Tensor:
    """``KL(q ‖ p) = sum_k q_k (log q_k - log p_k)``, the tail among the k: says only what the teacher would say.

    Args:
        student_logits: (m, V) student logits at the completion positions.
        targets: top-K log-probabilities and tail of the teacher at these positions.

    Returns:
        (m,) nats per token.

    Reference: Gu et al., MiniLLM, 2023 (there on the student's own samples).
    """
    log_p, log_q = log_bins(student_logits, targets)
    return kl(log_q, log_p)
