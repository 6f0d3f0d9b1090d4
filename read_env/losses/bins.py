"""Both distributions over the same bins: the teacher's top K tokens and one for all others.

A divergence over bins is a divergence: never negative, and at most that over single tokens, which it
equals where K = V. A sum over the top K alone is neither, and clamping it at 0 hides that.
"""

from __future__ import annotations

import torch

from read_env.losses.targets import TeacherTargets


def log_bins(student_logits: torch.Tensor, targets: TeacherTargets) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probabilities of the teacher and of the student over the bins.

    Args:
        student_logits: (m, V) student logits at the completion positions.
        targets: top-K log-probabilities and tail of the teacher at these positions.

    Returns:
        ``log p`` and ``log q``, both (m, K + 1), the tail last; (m, V) without a tail where K = V.
    """
    log_q = torch.log_softmax(student_logits.float(), dim=-1)
    top = log_q.gather(-1, targets.top_ids)
    if targets.top_ids.shape[-1] == student_logits.shape[-1]:
        return targets.top_log_probs, top
    tail = torch.logsumexp(log_q.scatter(-1, targets.top_ids, float("-inf")), dim=-1, keepdim=True)
    log_p = torch.cat([targets.top_log_probs, targets.log_tail[:, None]], dim=-1)
    return log_p, torch.cat([top, tail], dim=-1)


def kl(log_a: torch.Tensor, log_b: torch.Tensor) -> torch.Tensor:
    """``KL(a ‖ b)`` over the last axis, in nats; a bin with a = 0 contributes 0, value and gradient."""
    a = log_a.exp()
    return torch.where(a > 0, a * (log_a - log_b), torch.zeros_like(a)).sum(-1)


def log_mix(share: float, log_a: torch.Tensor, log_b: torch.Tensor) -> torch.Tensor:
    """``log(share · a + (1 − share) · b)`` for a share in (0, 1)."""
    first = log_a + torch.log(torch.tensor(share))
    return torch.logaddexp(first, log_b + torch.log1p(torch.tensor(-share)))
