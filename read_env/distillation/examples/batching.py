"""Which examples of a chunk go into one optimizer step together."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np

from read_env.distillation.text.completion import Example


def update_groups(examples: Sequence[Example], tokens_per_update: int, rng: random.Random) -> list[list[Example]]:
    """Optimizer steps of about as many completion tokens each, sequences of like length together.

    Args:
        examples: of a chunk; none gives no step.
        tokens_per_update: completion tokens of one step.
        rng: breaks ties in length, and orders the steps.

    Returns:
        The examples of every step, each example once, in random order of the steps: short and long take turns.
    """
    if not examples:  # a step too small for one completion
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
