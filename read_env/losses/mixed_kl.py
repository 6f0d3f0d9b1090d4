"""Forward and reverse KL in one objective, and what decides about the shares of the two."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from read_env.losses.bins import kl, log_bins
from read_env.losses.targets import TeacherTargets


def mixed_kl(student_logits: torch.Tensor, targets: TeacherTargets, alpha: float = 0.5) -> torch.Tensor:
    """``α KL(p ‖ q) + (1 − α) KL(q ‖ p)``.

    Args:
        student_logits: (m, V) student logits at the completion positions.
        targets: top-K log-probabilities and tail of the teacher at these positions.
        alpha: share of the forward direction, in [0, 1]; no gradient goes through it.

    Returns:
        (m,) nats per token.

    Reference: ARKD (arXiv 2606.29869).
    """
    log_p, log_q = log_bins(student_logits, targets)
    return alpha * kl(log_p, log_q) + (1 - alpha) * kl(log_q, log_p)


@dataclass(frozen=True)
class StepState:
    """What an optimizer step saw before it changed anything: means over its tokens.

    Attributes:
        entropy_teacher, entropy_student: nats, over the bins that the divergences use.
        variance_teacher, variance_student: of the probabilities over the vocabulary.
        fkl, rkl: the divergences, nats.
    """

    entropy_teacher: float
    entropy_student: float
    variance_teacher: float
    variance_student: float
    fkl: float
    rkl: float

    def vector(self) -> list[float]:
        """The six numbers in this order: the state of ARKD."""
        return [
            self.entropy_teacher, self.entropy_student, self.variance_teacher, self.variance_student, self.fkl, self.rkl,
        ]  # fmt: skip


@torch.no_grad()
def step_state(student_logits: torch.Tensor, targets: TeacherTargets) -> torch.Tensor:
    """(6, m): the parts of :class:`StepState` for every token, in its order."""
    log_p, log_q = log_bins(student_logits, targets)
    size = student_logits.shape[-1]
    student = torch.softmax(student_logits.float(), dim=-1)

    def entropy(logs: torch.Tensor) -> torch.Tensor:
        probabilities = logs.exp()
        return -torch.where(probabilities > 0, probabilities * logs, torch.zeros_like(logs)).sum(-1)

    def variance(squares: torch.Tensor) -> torch.Tensor:
        return squares.sum(-1) / size - 1 / size**2

    return torch.stack(
        [
            entropy(log_p),
            entropy(log_q),
            # The squares of what lies in the tail are next to nothing.
            variance(targets.top_log_probs.exp().square()),
            variance(student.square()),
            kl(log_p, log_q),
            kl(log_q, log_p),
        ]
    )


class Controller(Protocol):
    """Decides α, step by step."""

    #: Whether ``learn`` will call ``validate``.
    validates: bool

    def alpha(self, progress: float) -> float:
        """α of the coming optimizer step; ``progress`` is the share of the budget that is spent, in [0, 1]."""
        ...

    def learn(self, state: StepState, validate: Callable[[], float]) -> None:
        """Takes note of a finished step.

        Args:
            state: what the step saw.
            validate: measures a divergence that has no α in it on held-out examples, nats per token.
        """
        ...

    def state_dict(self) -> dict[str, Any]:
        """Everything that changes: numbers, lists and tensors."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes back to a ``state_dict``."""
        ...


class Scheduled:
    """Fixed shares, a linear schedule, or the smaller divergence of the step before: the baselines of ARKD.

    Args:
        schedule: ``fixed``, ``linear`` (from ``start`` to ``end`` over the budget) or ``greedy`` (all on the smaller).
        start: α, or its first value.
        end: the last value of a linear schedule.
    """

    validates = False

    def __init__(self, schedule: str, start: float, end: float) -> None:
        self.schedule = schedule
        self.start = start
        self.end = end
        self._greedy = start

    def alpha(self, progress: float) -> float:
        if self.schedule == "greedy":
            return self._greedy
        return self.start if self.schedule == "fixed" else self.start + (self.end - self.start) * progress

    def learn(self, state: StepState, validate: Callable[[], float]) -> None:
        self._greedy = float(state.fkl <= state.rkl)

    def state_dict(self) -> dict[str, Any]:
        return {"greedy": self._greedy}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._greedy = float(state["greedy"])
