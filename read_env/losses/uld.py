"""Universal logit distillation (ULD): probabilities compared by rank, for tokens that two vocabularies don't share."""

from __future__ import annotations

import torch

from read_env.losses.sft import sft
from read_env.losses.targets import LossOutput, TeacherTargets


def uld(logits: torch.Tensor, batch: TeacherTargets, weight: float = 1.0) -> LossOutput:
    """``-log q(y_t) + λ Σ_i |p_(i) − q_(i)|``, with p_(i) and q_(i) the i-th largest probability of either side.

    The sum over ranks is the Wasserstein-1 distance of the paper. It says nothing of which token has a probability, so the
    first term is needed. With fewer than V teacher probabilities the sum is truncated as in :func:`rank_distance`. A
    token without a teacher distribution of its own, within a merged span, has the first term alone.

    Args:
        logits: (m, V) student logits at the completion positions.
        batch: tokens, and top-K log-probabilities and tail of the teacher at these positions, in any vocabulary.
        weight: λ. The default is TRL's ``uld_distillation_weight``.

    Returns:
        (m,) nats per token, plus λ times a distance in [0, 2]; metric ``unmatched_loss``, (m,), that distance.

    Reference: Boizard et al., Towards Cross-Tokenizer Distillation (arXiv 2402.12030); there tokens are paired by
        position, here by spans of equal bytes.

    Example:
        >>> batch = TeacherTargets.from_logits(torch.tensor([[0.0, 1.0, 2.0]]), torch.tensor([2]), top_k=3)
        >>> uld(torch.zeros(1, 3), batch)[1]["unmatched_loss"]
        tensor([0.6638])
    """
    log_likelihood, _ = sft(logits, batch)
    everything = torch.ones_like(batch.top_ids, dtype=torch.bool)
    distance = rank_distance(torch.softmax(logits.float(), dim=-1), batch, everything)
    return log_likelihood + weight * distance, {"unmatched_loss": distance}


def rank_distance(probabilities: torch.Tensor, batch: TeacherTargets, kept: torch.Tensor) -> torch.Tensor:
    """``Σ_i |p_(i) − q_(i)|`` over the ranks that are known, and for the rest the smallest distance that it can have.

    The teacher's probabilities are known at its first k ranks; all its further ones together have at most the tail's
    probability r. The student's further ones have ``Q = Σ_{i>k} q_(i)``, and ``Σ_{i>k} |p_(i) − q_(i)| ≥ max(0, Q − r)``,
    which is what is added. The result is never more than the distance over all ranks, which it equals for K = V.

    Args:
        probabilities: (m, U) student probabilities of the tokens that are compared, in any order.
        batch: top-K log-probabilities and tail of the teacher.
        kept: (m, K) True for the teacher's tokens that are compared.

    Returns:
        (m,) in [0, 2]; 0 where the teacher's distribution is not known.

    Example:
        >>> batch = TeacherTargets.from_logits(torch.tensor([[0.0, 1.0, 2.0]]), torch.tensor([2]), top_k=1)
        >>> rank_distance(torch.tensor([[0.5, 0.25, 0.25]]), batch, torch.tensor([[True]]))  # |.665 − .5| + (.5 − .335)
        tensor([0.3305])
    """
    wide = min(batch.top_ids.shape[-1], probabilities.shape[-1])
    of_student = probabilities.topk(wide, dim=-1).values
    kept = kept & (batch.top_log_probs > float("-inf"))
    of_teacher = torch.where(kept, batch.top_log_probs.exp(), 0.0).sort(dim=-1, descending=True).values
    beyond = of_teacher[:, wide:].sum(-1)  # ranks that the student doesn't have
    ranked = torch.arange(wide, device=kept.device) < kept.sum(-1, keepdim=True)
    known = torch.where(ranked, (of_teacher[:, :wide] - of_student).abs(), 0.0).sum(-1)
    rest = (probabilities.sum(-1) - torch.where(ranked, of_student, 0.0).sum(-1)).clamp_min(0.0)
    return known + beyond + (rest - batch.log_tail.exp()).clamp_min(0.0)
