"""Both distributions over K + 1 bins: the teacher's top K tokens and one bin for all others.

A divergence over bins is never negative and at most the divergence over single tokens, which it equals
where K = V. The sum over the top K alone has neither property, and clamping it at 0 hides that.
"""

from __future__ import annotations

import torch

from read_env.losses.targets import TeacherTargets


def log_bins(logits: torch.Tensor, batch: TeacherTargets) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probabilities of the teacher and of the student over the bins.

    Args:
        logits: (m, V) student logits at the completion positions.
        batch: top-K log-probabilities and tail of the teacher at these positions.

    Returns:
        ``log p`` and ``log q``, both (m, K + 1), the tail last; (m, V) without a tail where K = V.

    Example:
        >>> batch = TeacherTargets.from_logits(torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([0]), top_k=1)
        >>> [log.exp().tolist() for log in log_bins(torch.zeros(1, 3), batch)]  # doctest: +ELLIPSIS
        [[[0.665..., 0.334...]], [[0.333..., 0.666...]]]
    """
    log_q = torch.log_softmax(logits.float(), dim=-1)
    top = log_q.gather(-1, batch.top_ids)
    if batch.top_ids.shape[-1] == logits.shape[-1]:
        return batch.top_log_probs, top
    tail = torch.logsumexp(log_q.scatter(-1, batch.top_ids, float("-inf")), dim=-1, keepdim=True)
    log_p = torch.cat([batch.top_log_probs, batch.log_tail[:, None]], dim=-1)
    return log_p, torch.cat([top, tail], dim=-1)


def kl(log_a: torch.Tensor, log_b: torch.Tensor) -> torch.Tensor:
    """``KL(a ‖ b)`` over the last axis, nats; a bin with a = 0 contributes 0 to value and gradient.

    Example:
        >>> kl(torch.tensor([0.0, 1.0]).log(), torch.tensor([0.5, 0.5]).log())  # log 2
        tensor(0.6931)
    """
    a = log_a.exp()
    return torch.where(a > 0, a * (log_a - log_b), torch.zeros_like(a)).sum(-1)


def log_mix(share: float, log_a: torch.Tensor, log_b: torch.Tensor) -> torch.Tensor:
    """``log(share · a + (1 − share) · b)`` for a share in (0, 1).

    Example:
        >>> log_mix(0.5, torch.tensor([0.25, 0.75]).log(), torch.tensor([0.5, 0.5]).log()).exp()
        tensor([0.3750, 0.6250])
    """
    first = log_a + torch.log(torch.tensor(share))
    return torch.logaddexp(first, log_b + torch.log1p(torch.tensor(-share)))


def jsd(log_p: torch.Tensor, log_q: torch.Tensor, beta: float) -> torch.Tensor:
    """``β KL(p ‖ m) + (1 − β) KL(q ‖ m)`` with ``m = β p + (1 − β) q`` over the last axis, nats; see ``jensen_shannon``.

    Example:
        >>> jsd(torch.tensor([0.5, 0.5]).log(), torch.tensor([0.25, 0.75]).log(), beta=0)
        tensor(0.1438)
    """
    if beta == 0:
        return kl(log_p, log_q)
    if beta == 1:
        return kl(log_q, log_p)
    log_m = log_mix(beta, log_p, log_q)
    return beta * kl(log_p, log_m) + (1 - beta) * kl(log_q, log_m)
