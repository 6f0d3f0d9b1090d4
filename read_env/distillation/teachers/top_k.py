"""Targets from the K most likely tokens of each position, as inference servers give them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from read_env.errors import ReadEnvError
from read_env.losses.targets import TeacherTargets

#: Most likely tokens of one position, by falling probability: (token id, log-probability in nats).
Position = Sequence[tuple[int, float]]

#: Smallest tail: below it, 1 minus a sum of fp32 probabilities has no correct digits.
_TAIL = 2.0**-24
#: Largest sum of probabilities; those of a model in bfloat16 may add up to slightly more than 1.
_MASS = 1.01


def targets_of(
    tokens: Sequence[int], positions: Sequence[Position], *, top_k: int, vocabulary: int, server: str
) -> TeacherTargets:
    """Targets of m tokens.

    The tail is 1 minus the sum of the K probabilities, and at least 6e-8: servers give no sum over the other tokens, and below
    that the difference has no correct digits.

    Args:
        tokens: m token ids.
        positions: m lists of the most likely tokens, at least K each.
        top_k: K.
        vocabulary: V, number of tokens of the tokenizer; ids from V on are rows without a token.
        server: name of the server, for errors.

    Raises:
        ReadEnvError: fewer than K tokens of the vocabulary, or numbers that are no log-probabilities.

    >>> targets_of([3], [[(3, -0.5), (1, -1.0)]], top_k=1, vocabulary=9, server="vLLM").log_tail.exp()
    tensor([0.3935])
    """
    top_ids, top_log_probs, log_tail = [], [], []
    for position in positions:
        known = [(token, log_prob) for token, log_prob in position[:top_k] if token < vocabulary]
        if len(known) < top_k:
            raise ReadEnvError(
                f"models.teacher: {server} gave {len(known)} of the {top_k} most likely tokens at a position; the tokenizer has "
                f"{vocabulary} tokens: right would be a smaller distill.teacher_top_k"
            )
        mass = math.fsum(math.exp(min(log_prob, 700.0)) for _, log_prob in known)
        if not mass <= _MASS:  # also not a number
            raise ReadEnvError(
                f"models.teacher: {server} gave numbers that are no log-probabilities: {known[0][1]:g} for the most likely "
                "token; right would be a server with --logprobs-mode raw_logprobs"
            )
        top_ids.append([token for token, _ in known])
        top_log_probs.append([log_prob for _, log_prob in known])
        log_tail.append(math.log(max(1.0 - mass, _TAIL)) if top_k < vocabulary else float("-inf"))
    shape = (len(tokens), top_k)
    return TeacherTargets(
        torch.tensor(list(tokens), dtype=torch.int64),
        torch.tensor(top_ids, dtype=torch.int64).view(shape),
        torch.tensor(top_log_probs, dtype=torch.float32).view(shape),
        torch.tensor(log_tail, dtype=torch.float32),
    )
