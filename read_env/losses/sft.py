"""Supervised fine-tuning on the teacher's completions (sequence-level distillation)."""

from __future__ import annotations

import torch

from read_env.losses.targets import TeacherTargets


def sft(student_logits: torch.Tensor, targets: TeacherTargets) -> torch.Tensor:
    """Negative log-likelihood of the teacher's tokens, ``-log q(y_t)``.

    Args:
        student_logits: (m, V) student logits at the completion positions.
        targets: the teacher's tokens, m of them.

    Returns:
        (m,) nats per token.

    Reference: Kim and Rush, Sequence-Level Knowledge Distillation, 2016.
    """
    return torch.nn.functional.cross_entropy(student_logits.float(), targets.tokens, reduction="none")
