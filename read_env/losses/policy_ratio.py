"""Clipped policy ratio of GRPO and RLAD, with the sampled KL divergence from the teacher.

All functions use the sampled tokens alone; no distribution over the vocabulary is needed.
"""

from __future__ import annotations

import torch

from read_env.losses.targets import LossOutput

#: Largest log-ratio that is exponentiated: beyond it a float32 overflows, and 0 · inf is NaN.
_MAX_LOG_RATIO = 60.0


def policy_ratio_loss(
    log_probs: torch.Tensor, old_log_probs: torch.Tensor, advantages: torch.Tensor, *,
    teacher_log_probs: torch.Tensor | None = None, alpha: float = 1.0, epsilon: float = 0.2,
    delta: float = float("inf"),
) -> LossOutput:  # fmt: skip
    """``−min(r Â, clip(r, 1 − ε, 1 + ε) Â)`` with ``r = π_S / (π_old^α π_T^(1 − α))``.

    α = 1 is GRPO. With α < 1 (RLAD's trust region ratio) the ratio differs from 1 at the first update, so
    clipping acts from the start. The minimum bounds the loss only where Â > 0: for a sampled token with
    Â < 0 and a teacher probability near 0, ratio and loss have no limit but ``delta`` (dual clipping).

    Args:
        log_probs: (m,) log-probabilities of the sampled tokens under the student, with gradient.
        old_log_probs: (m,) the same under the student that sampled them.
        advantages: (m,) advantage of the completion that each token is in.
        teacher_log_probs: (m,) the same under the teacher; needed where α < 1.
        alpha: exponent of the old student in the denominator, in [0, 1].
        epsilon: half-width of the clipping range.
        delta: upper bound of the ratio where Â < 0; infinite as published.

    Returns:
        (m,) to be minimised; metrics ``ratio``, (m,) policy ratio, and ``clip_fraction``, (m,) 1 where the clipped
        branch was taken and the token gets no gradient, else 0.

    Raises:
        ValueError: α < 1 without ``teacher_log_probs``.

    Reference: RLAD (arXiv 2602.22495); its α and ε were not found: 0.5 and 0.2 are this project's defaults.
    Dual clipping: Ye et al., 2020 (arXiv 1912.09729).

    Example:
        >>> old, new = torch.tensor([0.5, 0.5]).log(), torch.tensor([0.9, 0.5]).log()
        >>> policy_ratio_loss(new, old, torch.ones(2))[0]  # the ratio 1.8 is clipped to 1.2
        tensor([-1.2000, -1.0000])
    """
    anchor = alpha * old_log_probs
    if alpha < 1:
        if teacher_log_probs is None:
            raise ValueError(f"alpha is {alpha}, which puts the teacher into the ratio: teacher_log_probs is missing")
        anchor = anchor + (1 - alpha) * teacher_log_probs
    ratio = (log_probs - anchor.detach()).clamp(max=_MAX_LOG_RATIO).exp()
    free, bounded = ratio * advantages, ratio.clamp(1 - epsilon, 1 + epsilon) * advantages
    objective = torch.minimum(free, bounded)
    limited = torch.where(advantages < 0, torch.maximum(objective, delta * advantages), objective)
    clipped = (bounded.detach() < free.detach()) | (limited.detach() > objective.detach())
    return -limited, {"clip_fraction": clipped.float(), "ratio": ratio.detach()}


def sampled_kl(log_probs: torch.Tensor, reference_log_probs: torch.Tensor) -> torch.Tensor:
    """Unbiased, non-negative estimate of KL(π_S ‖ π_ref) from the student's own tokens, (m,) nats.

    ``ρ − log ρ − 1`` with ``ρ = π_ref / π_S`` at the sampled token. Its expectation under π_S is the KL, but
    the expectation of its gradient is that of KL(π_ref ‖ π_S), as in published GRPO; both vanish at π_S = π_ref.

    Reference: Schulman, Approximating KL divergence, 2020 (k3); used by GRPO.

    Example:
        >>> sampled_kl(torch.tensor([0.5]).log(), torch.tensor([0.25]).log())  # 0.5 + log 2 − 1
        tensor([0.1931])
    """
    log_rho = reference_log_probs.detach() - log_probs
    return log_rho.exp() - log_rho - 1
