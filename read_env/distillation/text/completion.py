"""Answers of a teacher and training examples of a student."""

from __future__ import annotations

from dataclasses import dataclass, replace

from read_env.capabilities.base import Prompt
from read_env.losses.targets import TeacherTargets

#: Bytes of a token id in a tuple.
_BYTES_OF_ID = 36


@dataclass(frozen=True)
class Answer:
    """Answer of a teacher to one prompt, in the teacher's vocabulary.

    Attributes:
        token_ids: token ids, with the end-of-sequence token unless the answer was cut.
        targets: teacher probabilities at every position.
        skipped: reason why the teacher gives no answer, such as a content filter; empty for an answer.
    """

    token_ids: tuple[int, ...]
    targets: TeacherTargets
    skipped: str = ""

    def __len__(self) -> int:
        return len(self.token_ids)

    @property
    def nbytes(self) -> int:
        """Bytes in memory, about: those of the targets, and a reference and an integer object per token id."""
        return self.targets.nbytes + _BYTES_OF_ID * len(self.token_ids)


@dataclass(frozen=True)
class Example:
    """Prompt and completion in the student's vocabulary: the teacher's answer, or a sample of the student's own.

    Attributes:
        prompt: the prompt.
        prompt_ids: its token ids, chat template included.
        token_ids: the completion's token ids, with the end-of-sequence token unless it was cut.
        targets: teacher probabilities at every position; for samples also advantages and rewards.
    """

    prompt: Prompt
    prompt_ids: tuple[int, ...]
    token_ids: tuple[int, ...]
    targets: TeacherTargets

    def __len__(self) -> int:
        return len(self.token_ids)

    def without_probabilities(self) -> Example:
        """The example with the tokens alone, K = 0."""
        return replace(self, targets=TeacherTargets.from_tokens(self.targets.tokens))
