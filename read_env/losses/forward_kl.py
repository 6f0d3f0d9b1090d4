"""Forward KL divergence to the teacher, over its top K tokens and one bin for all others."""

from __future__ import annotations

import torch

from read_env.losses.targets import TeacherTargets


def forward_kl(student_logits: torch.Tensor, targets: TeacherTargets) -> torch.Tensor:
    """``sum_k p_k (log p_k - log q_k) + p_tail (log p_tail - log q_tail)``.

    A divergence over K + 1 bins, so never negative, and exactly the KL where K = V; a truncated sum
    without the tail bin would be neither. Convention at the edge: a bin with p = 0 contributes 0.

    Args:
        student_logits: (m, V) student logits at the completion positions.
        targets: top-K log-probabilities and tail of the teacher at these positions.

    Returns:
        (m,) nats per token.

    Reference: Hinton et al., 2015; the K + 1 bins are D1 of TAD (arXiv 2602.20816).
    """
    log_q = torch.log_softmax(student_logits.float(), dim=-1)
    log_q_top = log_q.gather(-1, targets.top_ids)
    p_top = targets.top_log_probs.exp()
    head = torch.where(p_top > 0, p_top * (targets.top_log_probs - log_q_top), torch.zeros_like(p_top)).sum(-1)
    if targets.top_ids.shape[-1] == student_logits.shape[-1]:
        return head
    log_q_tail = torch.logsumexp(log_q.scatter(-1, targets.top_ids, float("-inf")), dim=-1)
    p_tail = targets.log_tail.exp()
    tail = torch.where(p_tail > 0, p_tail * (targets.log_tail - log_q_tail), torch.zeros_like(p_tail))
    return head + tail
