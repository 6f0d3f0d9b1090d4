"""What an on-policy objective gets: the student's own samples, token by token."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from read_env.losses.targets import TeacherTargets


@dataclass(frozen=True)
class SampleTokens:
    """The tokens of several samples, one after the other; the m below counts them.

    Every rollout is followed by one optimizer step, so the student that sampled is the one that learns.

    Attributes:
        targets: the teacher's likely tokens at their positions; ``targets.tokens`` are the sampled ones.
        log_teacher: (m,) log-probabilities of the sampled tokens under the teacher.
        advantages: (m,) of the sample that a token is in.
    """

    targets: TeacherTargets
    log_teacher: torch.Tensor
    advantages: torch.Tensor


def log_sampled(student_logits: torch.Tensor, tokens: SampleTokens) -> torch.Tensor:
    """(m,) log-probabilities of the sampled tokens under the student, from its (m, V) logits."""
    return torch.log_softmax(student_logits.float(), -1).gather(-1, tokens.targets.tokens[:, None])[:, 0]
