"""The clipped policy ratio of GRPO and RLAD, and the divergence estimated beside it.

Everything here is about the sampled tokens alone: no distribution over the vocabulary is needed.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

#: Log of the largest ratio that is computed: beyond it a float32 overflows, and 0 · inf is not a number.
_LARGEST_LOG_RATIO = 60.0


@dataclass(frozen=True)
class PolicyLoss:
    """A loss for each sampled token, and what its clipping did.

    Attributes:
        per_token: (m,) to be minimised.
        ratio: (m,) the ratio, without gradient.
        clipped: (m,) bool, where the clipped branch was taken and the token got no gradient.
    """

    per_token: torch.Tensor
    ratio: torch.Tensor
    clipped: torch.Tensor


def policy_ratio_loss(
    log_student: torch.Tensor,
    log_old: torch.Tensor,
    advantages: torch.Tensor,
    *,
    log_teacher: torch.Tensor | None = None,
    alpha: float = 1.0,
    epsilon: float = 0.2,
    bound: float = float("inf"),
) -> PolicyLoss:
    """``−min(r Â, clip(r, 1 − ε, 1 + ε) Â)`` with ``r = π_S / (π_old^α π_T^(1 − α))``.

    α = 1 is GRPO. With α < 1 (RLAD's trust region ratio) the ratio is not 1 at the first update, so
    clipping acts from the start: log its share. The minimum bounds the loss only where Â > 0: a sampled
    token with Â < 0 to which the teacher gives next to no probability has a ratio, and a loss, without
    limit. ``bound`` is one (dual clipping).

    Args:
        log_student: (m,) log-probabilities of the sampled tokens under the student, with gradient.
        log_old: (m,) the same under the student that sampled them.
        advantages: (m,) the advantage of the completion that each token is in.
        log_teacher: (m,) the same under the teacher; needed where α < 1.
        alpha: share of the old student in the denominator, in [0, 1].
        epsilon: half-width of the trust region.
        bound: where Â < 0 the ratio counts as at most this; infinite as published.

    Returns:
        The loss of every token, the ratio and what was clipped.

    Raises:
        ValueError: α < 1 without a teacher.

    Reference: RLAD (arXiv 2602.22495); its α and ε were not found: 0.5 and 0.2 are this project's defaults.
    Dual clipping: Ye et al., 2020 (arXiv 1912.09729).
    """
    anchor = alpha * log_old
    if alpha < 1:
        if log_teacher is None:
            raise ValueError(f"alpha is {alpha}, so the teacher is in the ratio: log_teacher is missing")
        anchor = anchor + (1 - alpha) * log_teacher
    ratio = (log_student - anchor.detach()).clamp(max=_LARGEST_LOG_RATIO).exp()
    free, bounded = ratio * advantages, ratio.clamp(1 - epsilon, 1 + epsilon) * advantages
    objective = torch.minimum(free, bounded)
    limited = torch.where(advantages < 0, torch.maximum(objective, bound * advantages), objective)
    clipped = (bounded.detach() < free.detach()) | (limited.detach() > objective.detach())
    return PolicyLoss(-limited, ratio.detach(), clipped)


def sampled_kl(log_student: torch.Tensor, log_reference: torch.Tensor) -> torch.Tensor:
    """An unbiased, never negative estimate of KL(π_S ‖ π_ref) from the student's own tokens, (m,) nats.

    ``ρ − log ρ − 1`` with ``ρ = π_ref / π_S`` at the sampled token; its expectation under π_S is the KL. The
    expectation of its gradient is that of the other direction, KL(π_ref ‖ π_S), as in GRPO as published: the value
    measures one divergence and the pull is along the other; both vanish at π_S = π_ref.

    Reference: Schulman, Approximating KL divergence, 2020 (his k3); used by GRPO.
    """
    log_rho = log_reference.detach() - log_student
    return log_rho.exp() - log_rho - 1
