"""Grouping of a chunk's examples into optimizer steps, and of an optimizer step into forward passes."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np

from read_env.distillation.text.completion import Example

#: Padding tokens beyond which another forward pass begins. A choice: on the micro pair, values from 64 to 512 differ little.
_PASS = 128


def update_groups(
    examples: Sequence[Example], tokens_per_update: int, rng: random.Random, *, group_by_length: bool = False
) -> list[list[Example]]:
    """Split examples at random into optimizer steps of about equal completion tokens.

    Args:
        examples: examples of a chunk, possibly none.
        tokens_per_update: completion tokens per optimizer step.
        rng: order of the examples and of the optimizer steps.
        group_by_length: similar lengths in one optimizer step, in place of a random mixture.

    Returns:
        The examples of every optimizer step, each example once.
    """
    if not examples:  # the step's tokens were fewer than one completion
        return []
    tokens = sum(len(e) for e in examples)
    count = min(len(examples), max(1, round(tokens / tokens_per_update)))
    order = rng.sample(examples, len(examples))
    if group_by_length:
        order.sort(key=lambda e: len(e.prompt_ids) + len(e))
    ends = np.cumsum([len(e) for e in order])
    groups: list[list[Example]] = [[] for _ in range(count)]
    for example, end in zip(order, ends, strict=True):
        groups[min(count - 1, int((end - 1) * count / tokens))].append(example)
    groups = [g for g in groups if g]
    if group_by_length:
        rng.shuffle(groups)  # short and long ones alternate
    return groups


def forward_passes(examples: Sequence[Example], micro_batch_tokens: int) -> list[list[Example]]:
    """Split an optimizer step into forward passes of similar lengths, longest first.

    A pass ends where its padding would cost more than another pass, or where it is full.

    Args:
        examples: examples of the optimizer step.
        micro_batch_tokens: maximum of padded tokens per pass; a single longer example is a pass of its own.
    """
    passes: list[list[Example]] = []
    longest = padding = 0
    for example in sorted(examples, key=lambda e: -len(e.prompt_ids) - len(e)):
        length = len(example.prompt_ids) + len(example)
        padding += longest - length
        if not passes or padding > _PASS or longest * (len(passes[-1]) + 1) > micro_batch_tokens:
            passes.append([])
            longest, padding = length, 0
        passes[-1].append(example)
    return passes
