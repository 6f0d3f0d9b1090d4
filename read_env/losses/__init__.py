"""Distillation objectives, one file each.

An objective is a pure function ``loss(student_logits, targets) -> (m,)``: nats for each of the m
completion tokens of a batch. What the teacher said about them is a :class:`TeacherTargets`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from read_env.config import DistillConfig
from read_env.errors import unknown
from read_env.losses.forward_kl import forward_kl
from read_env.losses.jensen_shannon import jensen_shannon
from read_env.losses.reverse_kl import reverse_kl
from read_env.losses.sft import sft
from read_env.losses.skew_kl import skew_forward_kl, skew_reverse_kl
from read_env.losses.tail_aware import tail_aware
from read_env.losses.targets import TeacherTargets

__all__ = [
    "Loss",
    "TeacherTargets",
    "forward_kl",
    "get_loss",
    "jensen_shannon",
    "loss_names",
    "reverse_kl",
    "sft",
    "skew_forward_kl",
    "skew_reverse_kl",
    "tail_aware",
]

Loss = Callable[[torch.Tensor, TeacherTargets], torch.Tensor]

#: Name -> function, and which field of the configuration fills which of its arguments.
_LOSSES: dict[str, tuple[Callable[..., torch.Tensor], dict[str, str]]] = {
    "sft": (sft, {}),
    "fkl": (forward_kl, {}),
    "rkl": (reverse_kl, {}),
    "jsd": (jensen_shannon, {"beta": "jsd_beta"}),
    "skew-fkl": (skew_forward_kl, {"alpha": "skew_alpha"}),
    "skew-rkl": (skew_reverse_kl, {"alpha": "skew_alpha"}),
    "tad": (tail_aware, {"top": "tad_top", "beta": "tad_beta"}),
}


def loss_names() -> tuple[str, ...]:
    """Names that :func:`get_loss` knows."""
    return tuple(_LOSSES)


def get_loss(name: str, config: DistillConfig | None = None) -> Loss:
    """The objective of that name, with its parameters from ``config``.

    Raises:
        ReadEnvError: if there is none; the message lists the known ones.
    """
    if name not in _LOSSES:
        raise unknown("loss", name, _LOSSES)
    function, fields = _LOSSES[name]
    config = config or DistillConfig()
    given: dict[str, Any] = {argument: getattr(config, field) for argument, field in fields.items()}
    return partial(function, **given) if given else function


def describe_loss(name: str) -> str:
    """What an objective is, in a line."""
    return (_LOSSES[name][0].__doc__ or "").partition("\n")[0]
