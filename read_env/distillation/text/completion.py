"""What a teacher says, and what a student learns from it."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from read_env.capabilities.base import Prompt
from read_env.losses.targets import TeacherTargets


@dataclass(frozen=True)
class Answer:
    """A teacher's answer to one prompt, in its own vocabulary.

    Attributes:
        token_ids: with the end-of-sequence token unless it was cut.
        targets: the teacher's likely tokens at every position.
    """

    token_ids: tuple[int, ...]
    targets: TeacherTargets

    def __len__(self) -> int:
        return len(self.token_ids)


@dataclass(frozen=True)
class Example:
    """A prompt with its answer, in the student's vocabulary.

    Attributes:
        prompt: what was asked.
        prompt_ids: the same as the student reads it.
        token_ids: the answer, with the end-of-sequence token unless it was cut.
        targets: the teacher's likely tokens at every position of the answer.
    """

    prompt: Prompt
    prompt_ids: tuple[int, ...]
    token_ids: tuple[int, ...]
    targets: TeacherTargets

    def __len__(self) -> int:
        return len(self.token_ids)


@dataclass(frozen=True)
class Sample:
    """A completion of the student's own; the m below counts its tokens.

    Attributes:
        prompt: what was asked.
        prompt_ids: the same as the student reads it.
        token_ids: what the student said, with the end-of-sequence token unless it was cut.
        targets: the teacher's likely tokens at the same positions.
        log_teacher: (m,) log-probabilities of the tokens under the teacher.
        advantage: how much better than its group, in standard deviations.
        reward: 1 if the verifier accepts it, else 0.
    """

    prompt: Prompt
    prompt_ids: tuple[int, ...]
    token_ids: tuple[int, ...]
    targets: TeacherTargets
    log_teacher: torch.Tensor
    advantage: float
    reward: float

    def __len__(self) -> int:
        return len(self.token_ids)
