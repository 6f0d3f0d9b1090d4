"""Rollouts: completions sampled from the student, scored by the teacher, graded by the verifiers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from read_env.capabilities.base import Prompt, Suite
from read_env.distillation.student.student import Student
from read_env.distillation.teachers.base import ScoringTeacher, Teachers, scoring
from read_env.distillation.text.completion import Example
from read_env.losses.grpo import group_advantages


def sample_rollouts(
    prompts: Sequence[Prompt], student: Student, teacher: ScoringTeacher | Teachers, suite: Suite, *, num_generations: int,
    max_new_tokens: int, seed: int,
) -> list[Example]:  # fmt: skip
    """Sample ``num_generations`` completions per prompt at temperature 1, in order, with scores and rewards.

    Args:
        prompts: prompts, one group of samples each.
        student: the student that samples.
        teacher: teacher with the student's vocabulary, or teachers by capability.
        suite: capabilities whose verifiers give the rewards, 1 or 0.
        num_generations: samples per prompt.
        max_new_tokens: maximum length of a sample, tokens.
        seed: seed of the draws.
    """
    repeated = [prompt for prompt in prompts for _ in range(num_generations)]
    texts = [prompt.text for prompt in repeated]
    encoder = student.encoder
    prompt_ids = encoder.prompts(texts)

    completion_ids = student.sample(prompt_ids, max_new_tokens, seed)
    rewards = torch.tensor([
        float(suite[prompt.capability].verify(prompt, encoder.text(ids)))
        for prompt, ids in zip(repeated, completion_ids, strict=True)
    ])  # fmt: skip
    advantages = group_advantages(rewards.view(len(prompts), num_generations)).flatten()
    teachers = teacher if isinstance(teacher, Teachers) else Teachers(teacher)
    # A teacher scores its own end of a turn in place of the student's.
    names = [prompt.capability for prompt in repeated]
    ends = [scoring(teachers.of(name)).encoder.eos_id for name in names]
    scored = [
        [end if token == encoder.eos_id else token for token in ids]
        for end, ids in zip(ends, completion_ids, strict=True)
    ]
    found = teachers.score(texts, scored, names)
    scores = [targets.swap_ids(encoder.eos_id, end) for end, targets in zip(ends, found, strict=True)]
    return [
        Example(
            prompt, tuple(prompt_ids[row]), tuple(ids),
            replace(targets, advantages=advantages[row].repeat(len(ids)), rewards=rewards[row].repeat(len(ids))),
        )
        for row, (prompt, ids, targets) in enumerate(zip(repeated, completion_ids, scores, strict=True))
    ]  # fmt: skip
