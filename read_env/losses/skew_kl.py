"""Skewed KL divergences: mixing one side into the other bounds the ratio of the two."""

from __future__ import annotations

import torch

from read_env.losses.bins import kl, log_bins, log_mix
from read_env.losses.targets import LossOutput, TeacherTargets


def skew_forward_kl(logits: torch.Tensor, batch: TeacherTargets, alpha: float = 0.1) -> LossOutput:
    """``KL(p ‖ α p + (1 − α) q)``, at most −ln α; forward KL at α = 0.

    Args:
        logits: (m, V) student logits at the completion positions.
        batch: top-K log-probabilities and tail of the teacher at these positions.
        alpha: share of the first distribution in the second, in [0, 1).

    Returns:
        (m,) nats per token; no metrics.

    Reference: Ko et al., DistiLLM (arXiv 2402.03898), with α = 0.1.

    Example:
        >>> batch = TeacherTargets.from_logits(torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([0]), top_k=2)
        >>> skew_forward_kl(torch.zeros(1, 3), batch)[0]
        tensor([0.2165])
    """
    log_p, log_q = log_bins(logits, batch)
    return kl(log_p, log_mix(alpha, log_p, log_q) if alpha else log_q), {}


def skew_reverse_kl(logits: torch.Tensor, batch: TeacherTargets, alpha: float = 0.1) -> LossOutput:
    """``KL(q ‖ α q + (1 − α) p)``, at most −ln α; reverse KL at α = 0.

    Args, result and reference as for :func:`skew_forward_kl`.

    Example:
        >>> batch = TeacherTargets.from_logits(torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([0]), top_k=2)
        >>> skew_reverse_kl(torch.zeros(1, 3), batch)[0]
        tensor([0.2345])
    """
    log_p, log_q = log_bins(logits, batch)
    return kl(log_q, log_mix(alpha, log_q, log_p) if alpha else log_p), {}
