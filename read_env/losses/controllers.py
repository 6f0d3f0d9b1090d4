"""Controllers of the share α of forward KL: the protocol, the state of an optimizer step, fixed schedules."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import torch

from read_env.losses.bins import kl, log_bins
from read_env.losses.targets import TeacherTargets


class StepState(NamedTuple):
    """State of an optimizer step before the weights change: means over its tokens, the input of ARKD.

    Attributes:
        entropy_teacher, entropy_student: entropies over the bins that the divergences use, nats.
        variance_teacher, variance_student: variances of the probabilities over the vocabulary.
        fkl, rkl: forward and reverse KL, nats.
    """

    entropy_teacher: Any
    entropy_student: Any
    variance_teacher: Any
    variance_student: Any
    fkl: Any
    rkl: Any


@torch.no_grad()
def step_state(logits: torch.Tensor, batch: TeacherTargets) -> StepState:
    """State of every token, (m,) each, from (m, V) student logits.

    Example:
        >>> batch = TeacherTargets.from_logits(torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([0]), top_k=2)
        >>> step_state(torch.zeros(1, 3), batch).entropy_student  # log 3
        tensor([1.0986])
    """
    log_p, log_q = log_bins(logits, batch)
    size = logits.shape[-1]
    student = torch.softmax(logits.float(), dim=-1)

    def entropy(logs: torch.Tensor) -> torch.Tensor:
        probabilities = logs.exp()
        return -torch.where(probabilities > 0, probabilities * logs, torch.zeros_like(logs)).sum(-1)

    def variance(squares: torch.Tensor) -> torch.Tensor:
        return squares.sum(-1) / size - 1 / size**2

    return StepState(
        entropy(log_p),
        entropy(log_q),
        variance(batch.top_log_probs.exp().square()),  # squares of the tail's probabilities are negligible
        variance(student.square()),
        kl(log_p, log_q),
        kl(log_q, log_p),
    )


class Controller(Protocol):
    """Sets α for each optimizer step."""

    #: True if ``learn`` calls ``validate``.
    validates: bool

    def alpha(self, progress: float) -> float:
        """α of the next optimizer step; ``progress`` is the share of the budget spent so far, in [0, 1]."""
        ...

    def learn(self, state: StepState, validate: Callable[[], float]) -> None:
        """Update after an optimizer step.

        Args:
            state: state of the step, floats.
            validate: measures a divergence without α on held-out examples, nats per token.
        """
        ...

    def state_dict(self) -> dict[str, Any]:
        """State as numbers, lists and tensors."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a ``state_dict``."""
        ...


class Scheduled:
    """Fixed share, linear schedule, or all on the smaller divergence of the last step: baselines of ARKD.

    Args:
        schedule: ``fixed``, ``linear`` (from ``start`` to ``end`` over the budget) or ``greedy``.
        start: α, or its first value.
        end: last value of a linear schedule.

    Example:
        >>> Scheduled("linear", start=1.0, end=0.0).alpha(progress=0.25)
        0.75
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
