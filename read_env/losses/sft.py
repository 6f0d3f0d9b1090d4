"""Supervised fine-tuning on the teacher's completions (sequence-level distillation)."""

from __future__ import annotations

import torch

from read_env.losses.targets import LossOutput, TeacherTargets


def sft(logits: torch.Tensor, batch: TeacherTargets) -> LossOutput:
    """Negative log-likelihood of the teacher's tokens, ``-log q(y_t)``.

    Args:
        logits: (m, V) student logits at the completion positions.
        batch: (m,) tokens of the teacher; its probabilities are not used.

    Returns:
        (m,) nats per token; no metrics.

    Reference: Kim and Rush, Sequence-Level Knowledge Distillation, 2016.

    Example:
        >>> sft(torch.zeros(1, 3), TeacherTargets.from_tokens(torch.tensor([2])))[0]  # log 3
        tensor([1.0986])
    """
    return torch.nn.functional.cross_entropy(logits.float(), batch.tokens, reduction="none"), {}
