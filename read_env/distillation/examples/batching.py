"""Grouping of a chunk's examples into optimizer steps."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np

from read_env.distillation.text.completion import Example


def update_groups(examples: Sequence[Example], tokens_per_update: int, rng: random.Random) -> list[list[Example]]:
    """Split examples into optimizer steps of about equal completion tokens, similar lengths together.

    Args:
        examples: examples of a chunk, possibly none.
        tokens_per_update: completion tokens per optimizer step.
        rng: breaks ties in length and shuffles the steps, so that short and long ones alternate.

    Returns:
        The examples of every optimizer step, each example once.
    """
    if not examples:  # the step's tokens were fewer than one completion
        return []
    tokens = sum(len(e) for e in examples)
    count = min(len(examples), max(1, round(tokens / tokens_per_update)))
    shuffled = rng.sample(examples, len(examples))
    by_length = sorted(shuffled, key=lambda e: len(e.prompt_ids) + len(e))
    ends = np.cumsum([len(e) for e in by_length])
    groups: list[list[Example]] = [[] for _ in range(count)]
    for example, end in zip(by_length, ends, strict=True):
        groups[min(count - 1, int((end - 1) * count / tokens))].append(example)
    groups = [g for g in groups if g]
    rng.shuffle(groups)
    return groups
