"""Inputs of an objective for the completion tokens of a batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

#: Result of an objective: (m,) nats per token to be minimised, and metrics by name, (m,) each.
LossOutput = tuple[torch.Tensor, dict[str, torch.Tensor]]


@dataclass(frozen=True)
class TeacherTargets:
    """Completion tokens with the teacher's probabilities; for on-policy samples also their scores.

    Attributes:
        tokens: (m,) int64 completion tokens: the teacher's own, or those that the student sampled.
        top_ids: (m, K) int64 ids of the teacher's K most likely tokens, by falling probability.
        top_log_probs: (m, K) float log-probabilities of these, nats.
        log_tail: (m,) float log of the teacher's probability of all other tokens; ``-inf`` where K = V.
        teacher_log_probs: (m,) log-probabilities of ``tokens`` under the teacher, nats; None if the teacher wrote them.
        advantages: (m,) advantage of the sample that a token is in; None off-policy.
        rewards: (m,) reward of that sample, in [0, 1]; None off-policy.
        span_tokens: (m,) int64 number of tokens in the merged span that ends at this one; 0 where none does. None with
            one vocabulary, as are the next two.
        span_log_probs: (m,) log-probability of that span under the teacher, nats; 0 where none ends.
        unshared: (V,) True for tokens of the student that the teacher's vocabulary doesn't have.

    With two vocabularies the ids are the student's, and -1 stands for a token that the student doesn't have. At a token
    without a teacher distribution the K log-probabilities are ``-inf`` and the tail is 0: all its mass is in the tail.

    Example:
        >>> teacher_logits = torch.tensor([[2.0, 1.0, 0.0]])
        >>> TeacherTargets.from_logits(teacher_logits, tokens=torch.tensor([0]), top_k=2).top_log_probs.exp()
        tensor([[0.6652, 0.2447]])
    """

    tokens: torch.Tensor
    top_ids: torch.Tensor
    top_log_probs: torch.Tensor
    log_tail: torch.Tensor
    teacher_log_probs: torch.Tensor | None = None
    advantages: torch.Tensor | None = None
    rewards: torch.Tensor | None = None
    span_tokens: torch.Tensor | None = None
    span_log_probs: torch.Tensor | None = None
    unshared: torch.Tensor | None = None

    @classmethod
    def from_logits(cls, logits: torch.Tensor, tokens: torch.Tensor, top_k: int) -> TeacherTargets:
        """Targets from (m, V) teacher logits and (m,) tokens; K = min(top_k, V)."""
        log_probs = torch.log_softmax(logits.float(), dim=-1)
        top = torch.topk(log_probs, min(top_k, log_probs.shape[-1]), dim=-1)
        # The tail is summed, not taken as 1 - sum(top): that difference of near-equal numbers has no digits left.
        tail = torch.logsumexp(log_probs.scatter(-1, top.indices, float("-inf")), dim=-1)
        return cls(tokens, top.indices, top.values, tail)

    @classmethod
    def from_tokens(cls, tokens: torch.Tensor) -> TeacherTargets:
        """Targets from (m,) tokens alone, K = 0: for objectives that need no probabilities."""
        count = len(tokens)
        return cls(tokens, torch.empty(count, 0, dtype=torch.int64), torch.empty(count, 0), torch.zeros(count))

    @classmethod
    def concatenate(cls, parts: Sequence[TeacherTargets]) -> TeacherTargets:
        """Targets of several sequences, in order."""
        return cls._combine(parts, torch.cat)

    @classmethod
    def stack(cls, steps: Sequence[TeacherTargets]) -> TeacherTargets:
        """(n, T, …) targets of n sequences from T decoding steps of (n, …)."""
        return cls._combine(steps, lambda values: torch.stack(values, dim=1))

    def to(self, device: torch.device | str) -> TeacherTargets:
        """Targets on another device."""
        moved = self._map(lambda values: values.to(device))
        return moved if self.unshared is None else replace(moved, unshared=self.unshared.to(device))

    def __getitem__(self, positions: slice) -> TeacherTargets:
        """View of the targets at these positions."""
        return self._map(lambda values: values[positions])

    def part(self, index: tuple[int | slice, ...]) -> TeacherTargets:
        """Copy of the selected targets on the CPU; a view would keep the whole block in memory."""
        return self._map(lambda values: values[index].cpu().clone())

    def swap_ids(self, one: int, other: int) -> TeacherTargets:
        """Copy in which two token ids change places, with their probabilities.

        Example:
            >>> TeacherTargets.from_tokens(torch.tensor([5, 2])).swap_ids(2, 3).tokens
            tensor([5, 3])
        """
        if one == other:
            return self

        def swap(ids: torch.Tensor) -> torch.Tensor:
            return torch.where(ids == one, other, torch.where(ids == other, one, ids))

        return replace(self, tokens=swap(self.tokens), top_ids=swap(self.top_ids))

    @property
    def top_mass(self) -> torch.Tensor:
        """(m,) probability of the K kept tokens together."""
        return self.top_log_probs.exp().sum(-1)

    @property
    def nbytes(self) -> int:
        """Bytes of the values per token."""
        return sum(values.nbytes for values in self._per_token() if values is not None)

    @property
    def known(self) -> torch.Tensor:
        """(m,) True where the teacher's distribution is known; False at other tokens of a pair with two vocabularies."""
        return self.top_log_probs[:, 0] > float("-inf")

    @property
    def joined(self) -> torch.Tensor | None:
        """(m,) True for tokens in the merged span of the token before; None with one vocabulary."""
        if self.span_tokens is None:
            return None
        joined = torch.zeros_like(self.tokens, dtype=torch.bool)
        for end in self.span_tokens.gt(1).nonzero()[:, 0].tolist():
            joined[end - int(self.span_tokens[end]) + 2 : end + 1] = True
        return joined

    @classmethod
    def _combine(
        cls, parts: Sequence[TeacherTargets], function: Callable[[tuple[torch.Tensor, ...]], torch.Tensor]
    ) -> TeacherTargets:
        columns: Any = zip(*(part._per_token() for part in parts), strict=True)
        combined: Any = (None if column[0] is None else function(column) for column in columns)
        return replace(cls(*combined), unshared=parts[0].unshared)

    def _map(self, function: Callable[[torch.Tensor], torch.Tensor]) -> TeacherTargets:
        mapped: Any = (None if values is None else function(values) for values in self._per_token())
        return replace(TeacherTargets(*mapped), unshared=self.unshared)

    def _per_token(self) -> list[torch.Tensor | None]:
        """Values of the fields with one entry per token: all but ``unshared``, the last one."""
        return list(vars(self).values())[:-1]
