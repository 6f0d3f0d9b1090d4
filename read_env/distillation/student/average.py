"""Exponential moving average of a student's weights.

At a high learning rate the scores of a student move by more than it learns in a step. The average over the last updates has
nearly the scores that the student would have after a decay of the rate, so that its changes show what was learnt (as in
"Scaling laws and compute-optimal training beyond fixed training durations", arXiv 2405.18392).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch


class WeightAverage:
    """Average a ← d·a + (1 − d)·w of trained weights w, updated after every optimizer step.

    Args:
        parameters: the weights, by name.
        decay: d, in [0, 1); with 0 there is no average.

    Example:
        >>> weight = torch.nn.Parameter(torch.tensor([0.0]))
        >>> average = WeightAverage({"weight": weight}, decay=0.75)
        >>> weight.data += 4
        >>> average.update()
        >>> with average.in_place():
        ...     print(weight.item())
        1.0
        >>> weight.item()
        4.0
    """

    def __init__(self, parameters: Mapping[str, torch.nn.Parameter], decay: float) -> None:
        self._parameters = parameters
        self._decay = decay
        self._average: dict[str, torch.Tensor] = {}
        self.reset()

    @torch.no_grad()
    def reset(self) -> None:
        """Set the average to the weights."""
        if self._decay > 0:
            self._average = {name: p.detach().clone() for name, p in self._parameters.items()}

    @torch.no_grad()
    def update(self) -> None:
        """Take the present weights into the average."""
        for name, value in self._average.items():
            value.lerp_(self._parameters[name].detach(), 1.0 - self._decay)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Context in which the model has the average in place of its weights. They must not be trained inside."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def state_dict(self) -> dict[str, torch.Tensor]:
        """The average, by name; empty without one."""
        return dict(self._average)

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, torch.Tensor]) -> None:
        """Restore a ``state_dict``; an empty one sets the average to the weights."""
        self.reset()
        for name, value in state.items():
            if name in self._average:
                self._average[name].copy_(value)

    @torch.no_grad()
    def _swap(self) -> None:
        for name, value in self._average.items():  # by value: other tensors may be views of a shard's storage
            parameter = self._parameters[name]
            trained = parameter.detach().clone()
            parameter.copy_(value)
            value.copy_(trained)
