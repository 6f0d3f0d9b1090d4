"""RLAD: GRPO whose trust region lies between the old student and the teacher."""

from __future__ import annotations

import torch

from read_env.config import DistillConfig
from read_env.losses.grpo import with_teacher_kl
from read_env.losses.policy_ratio import policy_ratio_loss
from read_env.losses.sampled import SampleTokens, log_sampled


def rlad(
    student_logits: torch.Tensor, tokens: SampleTokens, config: DistillConfig
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """GRPO with the teacher inside the ratio (RLAD's TRRD, arXiv 2602.22495).

    Args:
        student_logits: (m, V) with gradient, at the sampled positions.
        tokens: what was sampled.
        config: ``rlad_alpha`` (1 is GRPO), ``epsilon``, ``delta`` and ``grpo_beta``.

    Returns:
        (m,) to be minimised; and ``clip_fraction`` and ``ratio``, (m,) each.

    Reference: RLAD (arXiv 2602.22495).
    """
    log_student = log_sampled(student_logits, tokens)
    loss = policy_ratio_loss(
        log_student, log_student.detach(), tokens.advantages, log_teacher=tokens.log_teacher,
        alpha=config.rlad_alpha, epsilon=config.epsilon, bound=config.delta,
    )  # fmt: skip
    return with_teacher_kl(loss, log_student, tokens, config)
