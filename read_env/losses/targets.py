"""What the teacher said about the completion tokens of a batch."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class TeacherTargets:
    """Teacher completions with their most likely tokens.

    Attributes:
        tokens: (m,) int64, the teacher's own tokens.
        top_ids: (m, K) int64, its K most likely tokens, by falling probability.
        top_log_probs: (m, K) float, their log-probabilities in nats.
        log_tail: (m,) float, log of the probability of all other tokens; ``-inf`` where K = V.
    """

    tokens: torch.Tensor
    top_ids: torch.Tensor
    top_log_probs: torch.Tensor
    log_tail: torch.Tensor

    @classmethod
    def from_logits(cls, logits: torch.Tensor, tokens: torch.Tensor, top_k: int) -> TeacherTargets:
        """Targets from (m, V) teacher logits; K = min(top_k, V)."""
        log_probs = torch.log_softmax(logits.float(), dim=-1)
        top = torch.topk(log_probs, min(top_k, log_probs.shape[-1]), dim=-1)
        # The tail is summed, not taken as 1 - sum(top): that difference of near-equal numbers has no digits left.
        tail = torch.logsumexp(log_probs.scatter(-1, top.indices, float("-inf")), dim=-1)
        return cls(tokens, top.indices, top.values, tail)

    @classmethod
    def of_text(cls, tokens: torch.Tensor) -> TeacherTargets:
        """Tokens about whose probabilities nothing is known: K = 0, for objectives on the text alone."""
        count = len(tokens)
        return cls(tokens, torch.empty(count, 0, dtype=torch.int64), torch.empty(count, 0), torch.zeros(count))

    @classmethod
    def concatenate(cls, parts: list[TeacherTargets]) -> TeacherTargets:
        """The targets of several sequences, in order."""
        return cls(*(torch.cat(values) for values in zip(*map(_fields, parts), strict=True)))

    @classmethod
    def stack(cls, steps: list[TeacherTargets]) -> TeacherTargets:
        """(n, T, …) targets of n sequences from T decoding steps of (n, …)."""
        return cls(*(torch.stack(values, dim=1) for values in zip(*map(_fields, steps), strict=True)))

    def to(self, device: torch.device | str) -> TeacherTargets:
        """The same targets on another device."""
        return TeacherTargets(*(values.to(device) for values in _fields(self)))

    def part(self, index: tuple[int | slice, ...]) -> TeacherTargets:
        """Own copy, on the CPU, of what ``index`` selects: a view would keep the whole block in memory."""
        return TeacherTargets(*(values[index].cpu().clone() for values in _fields(self)))

    @property
    def top_mass(self) -> torch.Tensor:
        """(m,) probability covered by the K kept tokens."""
        return self.top_log_probs.exp().sum(-1)


def _fields(targets: TeacherTargets) -> tuple[torch.Tensor, ...]:
    return targets.tokens, targets.top_ids, targets.top_log_probs, targets.log_tail
