"""Generalised knowledge distillation: a divergence to the teacher where the student goes itself."""

from __future__ import annotations

import torch

from read_env.config import DistillConfig
from read_env.losses.jensen_shannon import jensen_shannon
from read_env.losses.sampled import SampleTokens


def gkd(
    student_logits: torch.Tensor, tokens: SampleTokens, config: DistillConfig
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Generalised Jensen-Shannon divergence to the teacher on the student's own samples (arXiv 2306.13649).

    No gradient goes through the sampling, and no reward is needed.

    Args:
        student_logits: (m, V) with gradient, at the sampled positions.
        tokens: what was sampled.
        config: ``jsd_beta``.

    Returns:
        (m,) nats per token, and nothing more to report.

    Reference: Agarwal et al., GKD (arXiv 2306.13649), with all data on-policy (λ = 1).
    """
    return jensen_shannon(student_logits, tokens.targets, config.jsd_beta), {}
