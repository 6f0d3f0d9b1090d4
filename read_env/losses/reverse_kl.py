"""Reverse KL divergence to the teacher, over its top K tokens and one bin for all others."""

from __future__ import annotations

import torch

from read_env.losses.targets import TeacherTargets


def reverse_kl(student_logits: torch.Tensor, targets: TeacherTargets) -> torch.Tensor:
    """``sum_k q_k (log q_k - log p_k) + q_tail (log q_tail - log p_tail)``.

    Over the same K + 1 bins as ``forward_kl``, so never negative, and exactly the KL where K = V.

    Args:
        student_logits: (m, V) student logits at the completion positions.
        targets: top-K log-probabilities and tail of the teacher at these positions.

    Returns:
        (m,) nats per token.
    """
    log_q = torch.log_softmax(student_logits.float(), dim=-1)
    log_q_top = log_q.gather(-1, targets.top_ids)
    head = (log_q_top.exp() * (log_q_top - targets.top_log_probs)).sum(-1)
    if targets.top_ids.shape[-1] == student_logits.shape[-1]:
        return head
    log_q_tail = torch.logsumexp(log_q.scatter(-1, targets.top_ids, float("-inf")), dim=-1)
    return head + log_q_tail.exp() * (log_q_tail - targets.log_tail)
