"""A teacher's answer, as it goes through the cache to the student."""

from __future__ import annotations

from dataclasses import dataclass

from read_env.losses.targets import TeacherTargets


@dataclass(frozen=True)
class Completion:
    """A teacher's answer to one prompt.

    Attributes:
        prompt_ids: what was asked.
        token_ids: what came back, with the end-of-sequence token unless it was cut.
        targets: the teacher's likely tokens at every position of the completion.
    """

    prompt_ids: tuple[int, ...]
    token_ids: tuple[int, ...]
    targets: TeacherTargets

    def __len__(self) -> int:
        return len(self.token_ids)
