"""Distillation objectives, one file each.

An objective is a pure function ``loss(student_logits, targets) -> (m,)``: nats for each of the m
completion tokens of a batch. What the teacher said about them is a :class:`TeacherTargets`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch

from read_env.config import DistillConfig
from read_env.errors import unknown
from read_env.losses.arkd import ARKD
from read_env.losses.arkd_published import PublishedARKD
from read_env.losses.forward_kl import forward_kl
from read_env.losses.gkd import gkd
from read_env.losses.grpo import grpo
from read_env.losses.jensen_shannon import jensen_shannon
from read_env.losses.mixed_kl import Controller, Scheduled, StepState, mixed_kl, step_state
from read_env.losses.reverse_kl import reverse_kl
from read_env.losses.rlad import rlad
from read_env.losses.sampled import SampleTokens
from read_env.losses.sft import sft
from read_env.losses.skew_kl import skew_forward_kl, skew_reverse_kl
from read_env.losses.tail_aware import tail_aware, tail_mass
from read_env.losses.targets import TeacherTargets

__all__ = [
    "ON_POLICY",
    "Controller",
    "Loss",
    "Objective",
    "SampleTokens",
    "StepState",
    "TeacherTargets",
    "check_loss",
    "forward_kl",
    "get_loss",
    "jensen_shannon",
    "loss_names",
    "needs_probabilities",
    "reverse_kl",
    "sft",
    "skew_forward_kl",
    "skew_reverse_kl",
    "step_state",
    "tail_aware",
]

Loss = Callable[[torch.Tensor, TeacherTargets], torch.Tensor]
OnPolicyLoss = Callable[[torch.Tensor, SampleTokens, DistillConfig], tuple[torch.Tensor, dict[str, torch.Tensor]]]

#: Name -> objective on the student's own samples: (m, V) logits, the samples and the parameters in; (m,) out, and
#: what is reported of it.
ON_POLICY: dict[str, OnPolicyLoss] = {"gkd": gkd, "grpo": grpo, "rlad": rlad}


@dataclass(frozen=True)
class Objective:
    """A loss with its parameters.

    Attributes:
        function: the loss.
        parameters: keyword arguments of it.
        whole: functions of all targets of an optimizer step, by the argument that takes their value.
        controller: decides about the argument ``alpha`` and learns from every step; None for most.
    """

    function: Callable[..., torch.Tensor]
    parameters: Mapping[str, Any]
    whole: Mapping[str, Callable[[TeacherTargets], Any]] = field(default_factory=dict)
    controller: Controller | None = None

    def __call__(self, student_logits: torch.Tensor, targets: TeacherTargets) -> torch.Tensor:
        """(m,) nats per token, where these targets are the whole step and nothing is spent yet."""
        return self.over(targets)(student_logits, targets)

    def over(self, targets: TeacherTargets, progress: float = 0.0) -> Loss:
        """The loss for pieces of an optimizer step whose tokens are ``targets``: the same however it is cut.

        Args:
            targets: of the whole step.
            progress: share of the budget that is spent, in [0, 1].
        """
        measured = {name: measure(targets) for name, measure in self.whole.items()}
        if self.controller is not None:
            measured["alpha"] = self.controller.alpha(progress)
        return partial(self.function, **self.parameters, **measured)


#: Name -> function, and which field of the configuration fills which of its arguments.
_LOSSES: dict[str, tuple[Callable[..., torch.Tensor], dict[str, str]]] = {
    "sft": (sft, {}),
    "fkl": (forward_kl, {}),
    "rkl": (reverse_kl, {}),
    "jsd": (jensen_shannon, {"beta": "jsd_beta"}),
    "skew-fkl": (skew_forward_kl, {"alpha": "skew_alpha"}),
    "skew-rkl": (skew_reverse_kl, {"alpha": "skew_alpha"}),
    "tad": (tail_aware, {"top": "tad_top_k", "beta": "tad_beta"}),
    "mixed-kl": (mixed_kl, {}),
    "arkd-published": (mixed_kl, {}),
    "arkd": (mixed_kl, {}),
}


def loss_names() -> tuple[str, ...]:
    """Names that ``distill.loss`` may have."""
    return (*_LOSSES, *ON_POLICY)


def check_loss(name: str) -> None:
    """Whether there is an objective of that name.

    Raises:
        ReadEnvError: if there is none; the message lists the known ones.
    """
    if name not in loss_names():
        raise unknown("loss", name, loss_names())


def get_loss(name: str, config: DistillConfig | None = None, seed: int = 0) -> Objective:
    """The objective of that name, with its parameters from ``config``.

    Args:
        name: one of ``loss_names()`` that is not in ``ON_POLICY``.
        config: the defaults if not given.
        seed: of what an objective draws or learns.

    Raises:
        ReadEnvError: if there is none; the message lists the known ones.
    """
    check_loss(name)
    function, fields = _LOSSES[name]
    config = config or DistillConfig()
    given = {argument: getattr(config, name_) for argument, name_ in fields.items()}
    if name == "tad":
        return Objective(function, given, whole={"mean_mass": partial(tail_mass, top=config.tad_top_k)})
    return Objective(function, given, controller=_controller(name, config, seed))


def _controller(name: str, config: DistillConfig, seed: int) -> Controller | None:
    if name == "mixed-kl":
        return Scheduled(config.mixed_kl_schedule, config.mixed_kl_start, config.mixed_kl_end)
    if name == "arkd-published":
        return PublishedARKD(seed)
    return ARKD(seed) if name == "arkd" else None


def needs_probabilities(name: str) -> bool:
    """Whether an objective compares the teacher's probabilities, and not only its text."""
    return name != "sft"


def describe_loss(name: str) -> str:
    """What an objective is, in a line."""
    learned: dict[str, type] = {"arkd-published": PublishedARKD, "arkd": ARKD}
    described: Any = learned.get(name) or ON_POLICY.get(name) or _LOSSES[name][0]
    return (described.__doc__ or "").partition("\n")[0]
