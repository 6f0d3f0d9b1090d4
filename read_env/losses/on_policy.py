"""Objectives on the student's own samples: GKD, GRPO and RLAD."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from read_env.config import DistillConfig
from read_env.losses.jensen_shannon import jensen_shannon
from read_env.losses.policy_ratio import policy_ratio_loss, sampled_kl
from read_env.losses.targets import TeacherTargets

#: Name -> what it is, in a line.
ON_POLICY = {
    "gkd": "Generalised Jensen-Shannon divergence to the teacher on the student's own samples (arXiv 2306.13649).",
    "grpo": "Group-relative policy optimisation with the verifiers' reward (arXiv 2402.03300).",
    "rlad": "GRPO with the teacher inside the ratio (RLAD's TRRD, arXiv 2602.22495).",
}


@dataclass(frozen=True)
class SampleTokens:
    """The tokens of several samples, one after the other; the m below counts them.

    Attributes:
        targets: the teacher's likely tokens at their positions; ``targets.tokens`` are the sampled ones.
        log_old: (m,) log-probabilities under the student that sampled them.
        log_teacher: (m,) under the teacher.
        advantages: (m,) of the sample that a token is in.
    """

    targets: TeacherTargets
    log_old: torch.Tensor
    log_teacher: torch.Tensor
    advantages: torch.Tensor


def on_policy_loss(
    name: str, student_logits: torch.Tensor, tokens: SampleTokens, config: DistillConfig
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """The loss of every sampled token, and what is reported of it.

    Args:
        name: one of ``ON_POLICY``.
        student_logits: (m, V) with gradient.
        tokens: what was sampled.
        config: ``jsd_beta``, ``clip_epsilon``, ``ratio_bound``, ``rlad_alpha`` and ``kl_beta``.

    Returns:
        (m,) to be minimised; and ``clip_fraction`` and ``ratio``, (m,) each, where there is a ratio.
    """
    if name == "gkd":
        return jensen_shannon(student_logits, tokens.targets, config.jsd_beta), {}
    log_student = torch.log_softmax(student_logits.float(), -1).gather(-1, tokens.targets.tokens[:, None])[:, 0]
    loss = policy_ratio_loss(
        log_student, tokens.log_old, tokens.advantages, log_teacher=tokens.log_teacher,
        alpha=config.rlad_alpha if name == "rlad" else 1.0, epsilon=config.clip_epsilon, bound=config.ratio_bound,
    )  # fmt: skip
    per_token = loss.per_token
    if config.kl_beta:
        per_token = per_token + config.kl_beta * sampled_kl(log_student, tokens.log_teacher)
    return per_token, {"clip_fraction": loss.clipped.float(), "ratio": loss.ratio}
