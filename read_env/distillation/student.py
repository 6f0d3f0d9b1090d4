"""The student: model, optimizer, and one optimizer step at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from read_env.config import DistillConfig
from read_env.distillation.completion import Completion
from read_env.distillation.encoding import Encoder, collate, completion_logits
from read_env.distillation.models import no_progress_bars
from read_env.errors import DivergedError
from read_env.losses import TeacherTargets, forward_kl, get_loss, reverse_kl

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class UpdateStats:
    """One optimizer step.

    Attributes:
        loss: mean of the objective, nats per completion token.
        grad_norm: before clipping.
        top_mass: mean teacher probability covered by the kept tokens.
        fkl, rkl: mean divergences from the teacher before the step, both ways, whatever the objective is.
        tokens: completion tokens.
    """

    loss: float
    grad_norm: float
    top_mass: float
    fkl: float
    rkl: float
    tokens: int


class Student:
    """A Hugging Face model that learns from teacher completions.

    Args:
        model: trained in place.
        encoder: its tokenizer.
        config: objective, learning rate, clipping.
    """

    def __init__(self, model: PreTrainedModel, encoder: Encoder, config: DistillConfig) -> None:
        self.model = model
        self.encoder = encoder
        self.config = config
        self._loss = get_loss(config.loss, config)
        self._initial = _clone(model.state_dict())
        self.optimizer = self._fresh_optimizer()

    def reset(self) -> None:
        """Back to the initial student S_0 with a fresh optimizer."""
        self.model.load_state_dict(self._initial)
        self.optimizer = self._fresh_optimizer()

    def update(self, examples: Sequence[Completion]) -> UpdateStats:
        """One optimizer step on the completion tokens of ``examples``, every token weighted the same.

        Raises:
            DivergedError: the loss or gradient is not finite, or the loss exceeds ``max_loss``.
        """
        batch = collate([e.prompt_ids for e in examples], [e.token_ids for e in examples], self.encoder.pad_id)
        targets = TeacherTargets.concatenate([e.targets for e in examples])
        # Never in train mode: dropout would draw from a generator that no snapshot holds.
        logits = completion_logits(self.model, batch)
        loss = self._loss(logits, targets).mean()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.grad_clip)
        value, grad_norm = loss.item(), norm.item()
        if not (value <= self.config.max_loss and grad_norm < float("inf")):  # NaN fails both comparisons
            raise DivergedError(
                f"the student update diverged: loss {value} nats per token (distill.max_loss is {self.config.max_loss}), "
                f"gradient norm {grad_norm}; lower distill.learning_rate (now {self.config.learning_rate})"
            )
        self.optimizer.step()
        with torch.no_grad():
            # One of the two is the objective as a rule, and known already.
            fkl, rkl = (
                value if self._loss is divergence else divergence(logits, targets).mean().item()
                for divergence in (forward_kl, reverse_kl)
            )
        return UpdateStats(value, grad_norm, targets.top_mass.mean().item(), fkl, rkl, len(batch.targets))

    def snapshot(self) -> dict[str, Any]:
        """Weights and optimizer state, copied."""
        return {"model": _clone(self.model.state_dict()), "optimizer": _clone(self.optimizer.state_dict())}

    def restore(self, state: dict[str, Any]) -> None:
        """Exactly the weights and optimizer state of a snapshot."""
        self.model.load_state_dict(state["model"])
        self.optimizer = self._fresh_optimizer()
        self.optimizer.load_state_dict(_clone(state["optimizer"]))
        self.model.eval()

    def save(self, path: Path | str) -> None:
        """Model and tokenizer in Hugging Face form."""
        with no_progress_bars():
            self.model.save_pretrained(path)
            self.encoder.tokenizer.save_pretrained(path)

    def _fresh_optimizer(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(
            self.model.parameters(), lr=self.config.learning_rate, weight_decay=self.config.weight_decay, fused=True
        )


def _clone(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.detach().clone()
    if isinstance(value, dict):
        return {key: _clone(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_clone(item) for item in value]
    return value
