"""Likelihood of prompts with several right completions.

A score that asks for the reference alone would punish every other right choice. At each token of the reference, all tokens
count that continue one of the right completions there, given the reference before them. A model that puts all its
probability on right tokens scores 1, however it divides it among them.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch

from read_env.capabilities.base import Prompt
from read_env.distillation.text.encoding import Encoder


def other_tokens(encoder: Encoder, prompt: Prompt, ids: Sequence[int]) -> list[tuple[int, int]]:
    """Right tokens beside those of the reference.

    Args:
        encoder: encoder of the model that is scored.
        prompt: prompt with its right completions.
        ids: token ids of its reference.

    Returns:
        (position in ``ids``, token id), sorted.

    Example:
        >>> from read_env.distillation.loading import load
        >>> encoder = load("embedded:micro/student").encoder
        >>> prompt = Prompt("mixing", "any", "mix A B", "AB", 0.0, {"completions": ["AB", "BA"]})
        >>> others = other_tokens(encoder, prompt, encoder.completions(["AB"])[0])
        >>> [(at, encoder.text([token])) for at, token in others]
        [(0, 'B')]
    """
    texts = prompt.completions
    if len(texts) < 2:
        return []
    found: list[tuple[int, int]] = []
    right = encoder.completions(texts, [prompt.text] * len(texts))
    for at, token in enumerate(ids):
        right = [other for other in right if len(other) > at and (at == 0 or other[at - 1] == ids[at - 1])]
        found += [(at, other) for other in sorted({other[at] for other in right} - {token})]
    return found


def in_batch(others: Sequence[Sequence[tuple[int, int]]], lengths: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Other right tokens of a batch: (m,) indices into its targets, and (m,) token ids.

    Args:
        others: result of :func:`other_tokens` for each sequence.
        lengths: targets of each sequence.

    Example:
        >>> in_batch([[], [(1, 7)]], lengths=[3, 2])
        (tensor([4]), tensor([7]))
    """
    starts = itertools.accumulate(lengths, initial=0)
    pairs = [(start + at, token) for start, row in zip(starts, others, strict=False) for at, token in row]
    at, tokens = torch.tensor(pairs, dtype=torch.long).reshape(-1, 2).unbind(1)
    return at, tokens


def log_right(
    logits: torch.Tensor, targets: torch.Tensor, others: tuple[torch.Tensor, torch.Tensor], start: int = 0
) -> torch.Tensor:
    """(m,) log-probability of a right token, nats.

    Args:
        logits: (m, V).
        targets: (m,) tokens of the references.
        others: result of :func:`in_batch` for the whole batch.
        start: index in the batch of the first of these targets.

    Example:
        >>> log_right(torch.zeros(1, 4), torch.tensor([2]), (torch.tensor([0]), torch.tensor([3]))).exp()
        tensor([0.5000])
    """
    log_p = -torch.nn.functional.cross_entropy(logits, targets, reduction="none")
    at, tokens = others
    inside = (at >= start) & (at < start + len(targets))
    if not bool(inside.any()):
        return log_p
    at, tokens = (at[inside] - start).to(logits.device), tokens[inside].to(logits.device)
    other_p = (logits[at, tokens] - logits[at].logsumexp(-1)).exp()
    return log_p.exp().index_add(0, at, other_p).log()
