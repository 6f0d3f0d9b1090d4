"""Distillation objectives, one file each.

An objective is a pure function ``loss(student_logits, targets) -> (m,)``: nats for each of the m
completion tokens of a batch. What the teacher said about them is a :class:`TeacherTargets`.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from read_env.errors import unknown
from read_env.losses.forward_kl import forward_kl
from read_env.losses.reverse_kl import reverse_kl
from read_env.losses.sft import sft
from read_env.losses.targets import TeacherTargets

__all__ = ["Loss", "TeacherTargets", "forward_kl", "get_loss", "loss_names", "reverse_kl", "sft"]

Loss = Callable[[torch.Tensor, TeacherTargets], torch.Tensor]

_LOSSES: dict[str, Loss] = {"sft": sft, "fkl": forward_kl, "rkl": reverse_kl}


def loss_names() -> tuple[str, ...]:
    """Names that :func:`get_loss` knows."""
    return tuple(_LOSSES)


def get_loss(name: str) -> Loss:
    """The objective of that name.

    Raises:
        ReadEnvError: if there is none; the message lists the known ones.
    """
    if name not in _LOSSES:
        raise unknown("loss", name, _LOSSES)
    return _LOSSES[name]
