"""RLAD: GRPO with the teacher in the denominator of the policy ratio."""

from __future__ import annotations

import torch

from read_env.losses.policy_ratio import policy_ratio_loss, sampled_kl
from read_env.losses.targets import LossOutput, TeacherTargets


def rlad(
    logits: torch.Tensor, batch: TeacherTargets, alpha: float = 0.5, epsilon: float = 0.2,
    delta: float = float("inf"), beta: float = 0.0,
) -> LossOutput:  # fmt: skip
    """:func:`policy_ratio_loss` with ``r = π_S / (π_old^α π_T^(1 − α))``, plus β times :func:`sampled_kl`.

    Each rollout is followed by one optimizer step, so the student that sampled is the one that learns.

    Args:
        logits: (m, V) student logits at the sampled positions.
        batch: sampled tokens, their teacher log-probabilities and advantages.
        alpha: exponent of the old student in the denominator, in [0, 1]; 1 is GRPO.
        epsilon: half-width of the clipping range.
        delta: upper bound of the ratio where the advantage is negative (dual clipping).
        beta: weight of the KL divergence from the teacher.

    Returns:
        (m,) to be minimised; metrics ``clip_fraction`` and ``ratio``.

    Raises:
        ValueError: the batch has no advantages or teacher log-probabilities.

    Reference: RLAD (arXiv 2602.22495).

    Example:
        >>> from dataclasses import replace
        >>> samples = TeacherTargets.from_tokens(torch.tensor([2]))
        >>> samples = replace(samples, teacher_log_probs=torch.tensor([-1.0]), advantages=torch.tensor([0.5]))
        >>> rlad(torch.zeros(1, 3), samples)[1]["ratio"]  # sqrt((1 / 3) / (1 / e))
        tensor([0.9519])
    """
    if batch.advantages is None or batch.teacher_log_probs is None:
        raise ValueError("a policy loss needs on-policy samples: batch.advantages or batch.teacher_log_probs is None")
    log_probs = torch.log_softmax(logits.float(), -1).gather(-1, batch.tokens[:, None])[:, 0]
    per_token, metrics = policy_ratio_loss(
        log_probs, log_probs.detach(), batch.advantages, teacher_log_probs=batch.teacher_log_probs, alpha=alpha,
        epsilon=epsilon, delta=delta,
    )  # fmt: skip
    if beta:
        per_token = per_token + beta * sampled_kl(log_probs, batch.teacher_log_probs)
    return per_token, metrics
