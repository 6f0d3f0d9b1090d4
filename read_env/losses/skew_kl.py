"""Skewed KL divergences: one side is mixed into the other, which bounds the ratio."""

from __future__ import annotations

import torch

from read_env.losses.bins import kl, log_bins, log_mix
from read_env.losses.targets import TeacherTargets


def skew_forward_kl(student_logits: torch.Tensor, targets: TeacherTargets, alpha: float = 0.1) -> torch.Tensor:
    """``KL(p ‖ α p + (1 − α) q)``, at most −ln α; forward KL at α = 0.

    Args:
        student_logits: (m, V) student logits at the completion positions.
        targets: top-K log-probabilities and tail of the teacher at these positions.
        alpha: share of the first distribution in the second, in [0, 1).

    Returns:
        (m,) nats per token.

    Reference: Ko et al., DistiLLM (arXiv 2402.03898), with α = 0.1.
    """
    log_p, log_q = log_bins(student_logits, targets)
    return kl(log_p, log_mix(alpha, log_p, log_q) if alpha else log_q)


def skew_reverse_kl(student_logits: torch.Tensor, targets: TeacherTargets, alpha: float = 0.1) -> torch.Tensor:
    """``KL(q ‖ α q + (1 − α) p)``, at most −ln α; reverse KL at α = 0. Arguments as for :func:`skew_forward_kl`."""
    log_p, log_q = log_bins(student_logits, targets)
    return kl(log_q, log_mix(alpha, log_q, log_p) if alpha else log_p)
