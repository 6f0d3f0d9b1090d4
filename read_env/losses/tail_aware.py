"""Tail-aware divergence (TAD): forward KL with a larger weight on the tokens beyond the top ones."""

from __future__ import annotations

import torch

from read_env.losses.bins import kl, log_bins
from read_env.losses.targets import LossOutput, TeacherTargets


def tail_aware(
    logits: torch.Tensor, batch: TeacherTargets, top: int = 10, beta: float | None = 2.0, mean_mass: float | None = None
) -> LossOutput:
    """``D1 + (β / mean a) a D2`` with a = the teacher's probability beyond its ``top`` tokens.

    D1 is the forward KL over the top tokens and one bin for the tail, D2 that within the tail, normalised
    on both sides. The tokens kept beyond ``top`` are the tail's detail: with all V tokens kept D2 is the
    published one, with fewer its last bin stands for those not kept. Without a tail D1 is the loss.

    Args:
        logits: (m, V) student logits at the completion positions.
        batch: top-K log-probabilities and tail of the teacher at these positions, K > ``top``.
        top: number of most likely tokens that form the head.
        beta: weight of the tail; None replaces the bracket by 1, which gives the forward KL.
        mean_mass: mean of a over the whole optimizer step; None: over these m tokens.

    Returns:
        (m,) nats per token; no metrics.

    Raises:
        ValueError: the batch keeps at most ``top`` tokens, and not the whole vocabulary.

    Reference: arXiv 2602.20816; its best values: top = 10, β = 2.

    Example:
        >>> batch = TeacherTargets.from_logits(torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([0]), top_k=3)
        >>> tail_aware(torch.zeros(1, 3), batch, top=1, beta=1.0)[0]
        tensor([0.3400])
    """
    log_p, log_q = log_bins(logits, batch)
    if log_p.shape[-1] < min(top + 2, logits.shape[-1]):
        raise ValueError(
            f"distill.tad_top_k is {top}, but distill.teacher_top_k keeps only {batch.top_ids.shape[-1]} teacher "
            "probabilities per token; right would be a teacher_top_k above tad_top_k"
        )
    log_tail_p, log_tail_q = (torch.logsumexp(x[:, top:], dim=-1, keepdim=True) for x in (log_p, log_q))
    if log_p.shape[-1] <= top:  # a vocabulary without a tail
        return kl(log_p, log_q), {}
    first = kl(torch.cat([log_p[:, :top], log_tail_p], -1), torch.cat([log_q[:, :top], log_tail_q], -1))
    mass = log_tail_p[:, 0].exp()
    # Tail probability 0 can't be normalised: its divergence is 0.
    inside = torch.where(mass > 0, kl(log_p[:, top:] - log_tail_p.clamp_min(-1e30), log_q[:, top:] - log_tail_q), 0.0)
    if beta is None:
        return first + mass * inside, {}
    mean = mass.mean().item() if mean_mass is None else mean_mass
    return first + beta / max(mean, torch.finfo(mass.dtype).tiny) * mass * inside, {}


def tail_mass(batch: TeacherTargets, top: int) -> float:
    """Mean probability of the teacher beyond its ``top`` tokens, over all tokens of the batch.

    Example:
        >>> batch = TeacherTargets.from_logits(torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([0]), top_k=2)
        >>> round(tail_mass(batch, top=1), 3)
        0.335
    """
    tail = torch.cat([batch.top_log_probs[:, top:], batch.log_tail[:, None]], dim=-1)
    return float(tail.exp().sum(-1).mean())
