"""Tail-aware divergence (TAD): forward KL with the part beyond the top tokens weighted up."""

from __future__ import annotations

import torch

from read_env.losses.bins import kl, log_bins
from read_env.losses.targets import TeacherTargets


def tail_aware(
    student_logits: torch.Tensor,
    targets: TeacherTargets,
    top: int = 10,
    beta: float | None = 2.0,
    mean_mass: float | None = None,
) -> torch.Tensor:
    """``D1 + (β / mean a) a D2``, a = the teacher's mass beyond its ``top`` tokens, the mean over the batch.

    D1 is the divergence over the top tokens and one bin for the tail, D2 that of the tails, each
    normalised to one. What targets keep beyond ``top`` is the tail's detail: with all V tokens kept
    D2 is the published one, with fewer its last bin stands for the tokens that were not kept. Where
    the mean of a is 0 there is no tail, and D1 stands alone.

    Args:
        student_logits: (m, V) student logits at the completion positions.
        targets: top-K log-probabilities and tail of the teacher, K > ``top``.
        top: tokens that count as the head.
        beta: weight of the tail; None takes 1 in place of the bracket, which makes the whole the forward KL.
        mean_mass: the mean of a over the whole optimizer step, where this is a piece of one.

    Returns:
        (m,) nats per token.

    Raises:
        ValueError: targets keep no more than ``top`` tokens and not the whole vocabulary.

    Reference: arXiv 2602.20816; best there: top = 10, β = 2.
    """
    log_p, log_q = log_bins(student_logits, targets)
    if log_p.shape[-1] < min(top + 2, student_logits.shape[-1]):
        raise ValueError(
            f"distill.tad_top_k is {top}, but only {targets.top_ids.shape[-1]} teacher probabilities are kept a token "
            "(distill.teacher_top_k): right would be more of them, so that the tail has an inside"
        )
    log_tail_p, log_tail_q = (torch.logsumexp(x[:, top:], dim=-1, keepdim=True) for x in (log_p, log_q))
    if log_p.shape[-1] <= top:  # a vocabulary without a tail
        return kl(log_p, log_q)
    first = kl(torch.cat([log_p[:, :top], log_tail_p], -1), torch.cat([log_q[:, :top], log_tail_q], -1))
    mass = log_tail_p[:, 0].exp()
    # A certain teacher has no tail: nothing to normalise there.
    inside = torch.where(mass > 0, kl(log_p[:, top:] - log_tail_p.clamp_min(-1e30), log_q[:, top:] - log_tail_q), 0.0)
    if beta is None:
        return first + mass * inside
    mean = mass.mean().item() if mean_mass is None else mean_mass
    return first + beta / max(mean, torch.finfo(mass.dtype).tiny) * mass * inside


def tail_mass(targets: TeacherTargets, top: int) -> float:
    """The teacher's mean probability beyond its ``top`` tokens."""
    tail = torch.cat([targets.top_log_probs[:, top:], targets.log_tail[:, None]], dim=-1)
    return float(tail.exp().sum(-1).mean())
