"""Generalised Jensen-Shannon divergence to the teacher: between forward and reverse KL."""

from __future__ import annotations

import torch

from read_env.losses.bins import kl, log_bins, log_mix
from read_env.losses.targets import TeacherTargets


def jensen_shannon(student_logits: torch.Tensor, targets: TeacherTargets, beta: float = 0.5) -> torch.Tensor:
    """``β KL(p ‖ m) + (1 − β) KL(q ‖ m)`` with ``m = β p + (1 − β) q``; bounded by ln 2.

    At the ends, where the formula itself vanishes, it is what its gradient tends to: forward KL at
    β = 0 and reverse KL at β = 1 (the convention of GKD).

    Args:
        student_logits: (m, V) student logits at the completion positions.
        targets: top-K log-probabilities and tail of the teacher at these positions.
        beta: weight of the teacher, in [0, 1].

    Returns:
        (m,) nats per token.

    Reference: Agarwal et al., GKD (arXiv 2306.13649), eq. 1.
    """
    log_p, log_q = log_bins(student_logits, targets)
    if beta == 0:
        return kl(log_p, log_q)
    if beta == 1:
        return kl(log_q, log_p)
    log_m = log_mix(beta, log_p, log_q)
    return beta * kl(log_p, log_m) + (1 - beta) * kl(log_q, log_m)
