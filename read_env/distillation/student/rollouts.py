"""What a student says itself: sampled, scored by the teacher, graded by the verifiers."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from read_env.capabilities.base import Prompt, Suite
from read_env.distillation.models.decoding import sample
from read_env.distillation.models.memory import in_halves
from read_env.distillation.student.student import Student
from read_env.distillation.teachers.base import ScoringTeacher
from read_env.distillation.text.completion import Sample
from read_env.distillation.text.encoding import Encoder
from read_env.losses.grpo import group_advantages


def roll_out(
    prompts: Sequence[Prompt], student: Student, teacher: ScoringTeacher, suite: Suite, *, group: int,
    max_new_tokens: int, seed: int,
) -> list[Sample]:  # fmt: skip
    """``group`` samples of each prompt, in order, scored and graded.

    Args:
        prompts: what the student is asked.
        student: at temperature 1, as it is now.
        teacher: shares the student's vocabulary.
        suite: whose verifiers give the rewards.
        group: samples a prompt.
        max_new_tokens: samples are cut here.
        seed: of the draws.
    """
    texts = [prompt.text for prompt in prompts for _ in range(group)]
    repeated = [prompt for prompt in prompts for _ in range(group)]
    encoder = student.encoder
    prompt_ids = encoder.prompts(texts)

    def draw(places: Sequence[int]) -> list[list[int]]:
        return sample(
            student.model, [prompt_ids[place] for place in places], max_new_tokens=max_new_tokens,
            eos_id=encoder.eos_id, pad_id=encoder.pad_id, vocabulary=encoder.vocabulary, seed=seed + places[0],
        )  # fmt: skip

    with student.placement.computing():
        said = in_halves(
            range(len(texts)), draw, "the student answers prompts", "a smaller distill.max_completion_tokens"
        )
    rewards = grade(repeated, said, encoder, suite)
    advantages = group_advantages(torch.tensor(rewards).view(len(prompts), group)).flatten().tolist()
    scored = teacher.score(texts, said)
    return [
        Sample(prompt, tuple(ids), tuple(tokens), targets, theirs, advantage, reward)
        for prompt, ids, tokens, (targets, theirs), advantage, reward in zip(
            repeated, prompt_ids, said, scored, advantages, rewards, strict=True
        )
    ]


def grade(prompts: Sequence[Prompt], said: Sequence[Sequence[int]], encoder: Encoder, suite: Suite) -> list[float]:
    """1 for every completion that the capability's verifier accepts, else 0."""
    return [
        float(suite[prompt.capability].verify(prompt, encoder.text(tokens)))
        for prompt, tokens in zip(prompts, said, strict=True)
    ]
