"""GRPO: tokens of samples that the verifier liked better than the rest of their group become likelier."""

from __future__ import annotations

import torch

from read_env.config import DistillConfig
from read_env.losses.policy_ratio import PolicyLoss, policy_ratio_loss, sampled_kl
from read_env.losses.sampled import SampleTokens, log_sampled


def group_advantages(rewards: torch.Tensor) -> torch.Tensor:
    """``(R − mean) / s.d.`` inside each group.

    Args:
        rewards: (groups, samples) of a group's completions.

    Returns:
        (groups, samples). A group whose rewards are all equal, or of one, says nothing: 0, not 0/0. The s.d. is
        the sample's (divisor n − 1).

    Reference: Shao et al., DeepSeekMath (arXiv 2402.03300).
    """
    if rewards.shape[1] < 2:
        return torch.zeros_like(rewards)
    centred = rewards - rewards.mean(dim=1, keepdim=True)
    spread = rewards.std(dim=1, keepdim=True)
    return torch.where(spread > 1e-8, centred / spread.clamp_min(1e-8), torch.zeros_like(centred))


def grpo(
    student_logits: torch.Tensor, tokens: SampleTokens, config: DistillConfig
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Group-relative policy optimisation with the verifiers' reward (arXiv 2402.03300).

    With one optimizer step a rollout the ratio is 1 and nothing is clipped: the plain policy gradient of the
    group's advantages, and ``grpo_beta`` times an estimate of the divergence to the teacher.

    Args:
        student_logits: (m, V) with gradient, at the sampled positions.
        tokens: what was sampled.
        config: ``epsilon``, ``delta`` and ``grpo_beta``.

    Returns:
        (m,) to be minimised; and ``clip_fraction`` and ``ratio``, (m,) each.

    Reference: Shao et al., DeepSeekMath (arXiv 2402.03300); every token weighted the same.
    """
    log_student = log_sampled(student_logits, tokens)
    loss = policy_ratio_loss(
        log_student, log_student.detach(), tokens.advantages, epsilon=config.epsilon, bound=config.delta
    )
    return with_teacher_kl(loss, log_student, tokens, config)


def with_teacher_kl(
    loss: PolicyLoss, log_student: torch.Tensor, tokens: SampleTokens, config: DistillConfig
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """A policy loss with ``grpo_beta`` times the sampled divergence to the teacher, and what is reported of it."""
    per_token = loss.per_token
    if config.grpo_beta:
        per_token = per_token + config.grpo_beta * sampled_kl(log_student, tokens.log_teacher)
    return per_token, {"clip_fraction": loss.clipped.float(), "ratio": loss.ratio}
