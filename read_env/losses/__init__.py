"""Distillation objectives: one pure function per file, and the registry of names.

Every objective has the signature ``loss(logits, batch, **parameters) -> (per_token, metrics)``: (m, V)
student logits with gradient and the :class:`TeacherTargets` of the same m completion tokens in; (m,) nats
per token and a dict of (m,) metrics out. ``Objective.bind`` fills the parameters from the configuration.
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
from read_env.losses.controllers import Controller, Scheduled, StepState, step_state
from read_env.losses.forward_kl import forward_kl
from read_env.losses.gold import gold
from read_env.losses.grpo import grpo
from read_env.losses.jensen_shannon import jensen_shannon
from read_env.losses.mixed_kl import mixed_kl
from read_env.losses.reverse_kl import reverse_kl
from read_env.losses.rlad import rlad
from read_env.losses.sft import sft
from read_env.losses.skew_kl import skew_forward_kl, skew_reverse_kl
from read_env.losses.tail_aware import tail_aware, tail_mass
from read_env.losses.targets import LossOutput, TeacherTargets
from read_env.losses.uld import uld

__all__ = [
    "OBJECTIVES",
    "Controller",
    "Loss",
    "LossOutput",
    "Objective",
    "StepState",
    "TeacherTargets",
    "forward_kl",
    "get_objective",
    "gold",
    "grpo",
    "jensen_shannon",
    "loss_names",
    "mixed_kl",
    "reverse_kl",
    "rlad",
    "sft",
    "skew_forward_kl",
    "skew_reverse_kl",
    "step_state",
    "tail_aware",
    "uld",
]

#: Objective with its parameters bound: ``loss(logits, batch) -> (per_token, metrics)``.
Loss = Callable[[torch.Tensor, TeacherTargets], LossOutput]


@dataclass(frozen=True)
class Objective:
    """Registered distillation objective.

    Attributes:
        summary: one-line description.
        function: loss with the common signature.
        parameters: fields of ``DistillConfig`` by the argument of ``function`` that they fill.
        on_policy: trained on the student's own samples in place of the teacher's completions.
        needs_probabilities: compares the teacher's probabilities, so text alone is not enough, and without
            ``aligns_spans`` both need the same vocabulary.
        aligns_spans: compares them at spans of equal bytes where the vocabularies differ.
        step_statistics: functions of all targets of an optimizer step by the argument that takes their value, so that
            the loss does not depend on the size of micro-batches.
        controller: makes the controller of the argument ``alpha`` from the configuration and a seed; None for most.
    """

    summary: str
    function: Callable[..., LossOutput]
    parameters: Mapping[str, str] = field(default_factory=dict)
    on_policy: bool = False
    needs_probabilities: bool = True
    aligns_spans: bool = False
    step_statistics: Mapping[str, Callable[[TeacherTargets, DistillConfig], Any]] = field(default_factory=dict)
    controller: Callable[[DistillConfig, int], Controller] | None = None

    def bind(self, config: DistillConfig) -> Loss:
        """Loss with its parameters from the configuration.

        Example:
            >>> loss = OBJECTIVES["jsd"].bind(DistillConfig(jsd_beta=1.0))
            >>> batch = TeacherTargets.from_logits(torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([0]), top_k=2)
            >>> loss(torch.zeros(1, 3), batch)[0]
            tensor([0.3090])
        """
        return partial(self.function, **{name: getattr(config, source) for name, source in self.parameters.items()})


_POLICY = {"epsilon": "epsilon", "delta": "delta", "beta": "grpo_beta"}

#: Objectives by the name that ``distill.loss`` takes.
OBJECTIVES: dict[str, Objective] = {
    "sft": Objective(
        "Supervised fine-tuning: negative log-likelihood of the teacher's tokens.", sft, needs_probabilities=False
    ),
    "fkl": Objective("Forward KL divergence, mode-covering.", forward_kl),
    "rkl": Objective("Reverse KL divergence, mode-seeking.", reverse_kl),
    "jsd": Objective(
        "Generalised Jensen-Shannon divergence, between forward and reverse KL.", jensen_shannon, {"beta": "jsd_beta"}
    ),
    "skew-fkl": Objective(
        "Skewed forward KL (DistiLLM): bounded by −ln skew_alpha.", skew_forward_kl, {"alpha": "skew_alpha"}
    ),
    "skew-rkl": Objective(
        "Skewed reverse KL (DistiLLM): bounded by −ln skew_alpha.", skew_reverse_kl, {"alpha": "skew_alpha"}
    ),
    "tad": Objective(
        "Tail-aware divergence: forward KL with a larger weight on the tail.",
        tail_aware,
        {"top": "tad_top_k", "beta": "tad_beta"},
        step_statistics={"mean_mass": lambda batch, config: tail_mass(batch, config.tad_top_k)},
    ),
    "mixed-kl": Objective(
        "Mixture of forward and reverse KL with fixed, linear or greedy shares.",
        mixed_kl,
        controller=lambda config, seed: Scheduled(config.mixed_kl_schedule, config.mixed_kl_start, config.mixed_kl_end),
    ),
    "arkd-published": Objective(
        "Mixture of forward and reverse KL, its share learned as published in ARKD.",
        mixed_kl,
        controller=lambda config, seed: PublishedARKD(seed),
    ),
    "arkd": Objective(
        "Mixture of forward and reverse KL, its share learned from a held-out divergence.",
        mixed_kl,
        controller=lambda config, seed: ARKD(seed),
    ),
    "gold": Objective(
        "Hybrid of GOLD for two vocabularies: Jensen-Shannon on shared tokens, by rank on the others.",
        gold,
        {"beta": "jsd_beta"},
        aligns_spans=True,
    ),
    "uld": Objective(
        "Universal logit distillation: sft plus the distance of sorted probabilities, for two vocabularies.",
        uld,
        aligns_spans=True,
    ),
    "gkd": Objective(
        "Jensen-Shannon divergence on the student's own samples (GKD, λ = 1).",
        jensen_shannon,
        {"beta": "jsd_beta"},
        on_policy=True,
    ),
    "grpo": Objective("Group-relative policy optimisation with the verifiers' rewards.", grpo, _POLICY, on_policy=True),
    "rlad": Objective(
        "GRPO with the teacher in the denominator of the policy ratio.",
        rlad,
        {"alpha": "rlad_alpha", **_POLICY},
        on_policy=True,
    ),
}


def loss_names() -> tuple[str, ...]:
    """Names that ``distill.loss`` takes.

    Example:
        >>> loss_names()[:4]
        ('sft', 'fkl', 'rkl', 'jsd')
    """
    return tuple(OBJECTIVES)


def get_objective(name: str) -> Objective:
    """Registered objective of that name.

    Raises:
        ReadEnvError: unknown name; the message lists the known ones.

    Example:
        >>> get_objective("gkd").on_policy
        True
    """
    if name not in OBJECTIVES:
        raise unknown("loss", name, loss_names())
    return OBJECTIVES[name]
