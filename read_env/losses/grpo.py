"""Group-relative policy optimisation (GRPO) with the verifiers' rewards."""

from __future__ import annotations

import torch

from read_env.losses.rlad import rlad
from read_env.losses.targets import LossOutput, TeacherTargets


def group_advantages(rewards: torch.Tensor) -> torch.Tensor:
    """``(R − mean) / s.d.`` within each group.

    Args:
        rewards: (groups, samples) rewards of the completions of a prompt.

    Returns:
        (groups, samples) advantages; 0 in a group of one, or whose rewards are all equal (not 0/0). The s.d. is the
        sample's (divisor n − 1).

    Reference: Shao et al., DeepSeekMath (arXiv 2402.03300).

    Example:
        >>> group_advantages(torch.tensor([[0.0, 1.0], [1.0, 1.0]]))
        tensor([[-0.7071,  0.7071],
                [ 0.0000,  0.0000]])
    """
    if rewards.shape[1] < 2:
        return torch.zeros_like(rewards)
    centred = rewards - rewards.mean(dim=1, keepdim=True)
    spread = rewards.std(dim=1, keepdim=True)
    return torch.where(spread > 1e-8, centred / spread.clamp_min(1e-8), torch.zeros_like(centred))


def grpo(
    logits: torch.Tensor, batch: TeacherTargets, epsilon: float = 0.2, delta: float = float("inf"), beta: float = 0.0
) -> LossOutput:
    """``−min(r Â, clip(r, 1 − ε, 1 + ε) Â) + β KL`` with ``r = π_S / π_old``, every token weighted the same.

    With one optimizer step per rollout the ratio is 1 and nothing is clipped: the gradient is the policy
    gradient of the advantages, plus β times that of an estimated KL divergence from the teacher.

    Args:
        logits: (m, V) student logits at the sampled positions.
        batch: sampled tokens, their teacher log-probabilities and advantages.
        epsilon: half-width of the clipping range.
        delta: upper bound of the ratio where the advantage is negative (dual clipping).
        beta: weight of the KL divergence.

    Returns:
        (m,) to be minimised; metrics ``clip_fraction`` and ``ratio``.

    Reference: Shao et al., DeepSeekMath (arXiv 2402.03300).

    Example:
        >>> from dataclasses import replace
        >>> samples = TeacherTargets.from_tokens(torch.tensor([2]))
        >>> samples = replace(samples, teacher_log_probs=torch.tensor([-1.0]), advantages=torch.tensor([0.5]))
        >>> grpo(torch.zeros(1, 3), samples)[0]
        tensor([-0.5000])
    """
    return rlad(logits, batch, alpha=1.0, epsilon=epsilon, delta=delta, beta=beta)
