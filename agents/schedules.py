"""Planning of schedules: the allocations of all steps that are left, by gradients through the worlds of a surrogate."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from read_env.agents.planning import UtilityForm
from read_env.surrogate.world import World, expected

#: Learning rate of the search.
_RATE = 0.3
#: Share that every capability begins with besides its requirement, so that the gradient can find it.
FLOOR = 0.02


@dataclass(frozen=True)
class Horizon:
    """Remaining steps of an episode, and the terms of its return.

    Attributes:
        tokens: (steps,) tokens of every step, in thousands.
        rates: (steps,) learning-rate factors.
        requirement: (|C|,) r, or (n, |C|).
        form: form of the utility.
        scale: factor of a ``product``.
        spillover_beta: weight of expected losses on needs.
    """

    tokens: np.ndarray
    rates: np.ndarray
    requirement: np.ndarray
    form: UtilityForm = "weighted_mean"
    scale: float = 1.0
    spillover_beta: float = 0.0


def first_schedule(requirement: np.ndarray, steps: int) -> np.ndarray:
    """Logits (…, steps, |C|) with which every step follows the requirement, and nothing has no share."""
    return np.repeat(np.log(requirement + FLOOR)[..., None, :], steps, axis=-2)


def best_schedule(
    worlds: World, scores: np.ndarray, horizon: Horizon, logits: np.ndarray, *, iterations: int, kappa: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Schedule with the highest mean return over worlds, plus κ times its s.d.

    Args:
        worlds: parameters with axes (n, N) in front: N worlds for each of n episodes.
        scores: (n, N, |C|) true scores in them.
        horizon: the steps that are left.
        logits: (n, steps, |C|) schedule to begin with.
        iterations: steps of the optimizer.
        kappa: weight of the s.d.

    Returns:
        (n, steps, |C|) logits of the shares, and (n, 2) mean and s.d. of the return over the worlds.
    """
    there = World(**{name: torch.from_numpy(np.asarray(value, np.float32)) for name, value in worlds.to_dict().items()})
    start = torch.from_numpy(np.asarray(scores, np.float32))
    requirement = torch.from_numpy(np.asarray(horizon.requirement, np.float32)).expand(len(start), -1)[:, None]
    searched = torch.tensor(np.asarray(logits, np.float32), requires_grad=True)
    optimizer = torch.optim.Adam([searched], lr=_RATE, betas=(0.8, 0.95))

    def utility(values: torch.Tensor) -> torch.Tensor:
        if horizon.form == "weighted_mean":
            return (requirement * values).sum(-1)
        powers = requirement if horizon.form == "geometric_mean" else (requirement > 0).float()
        return (horizon.scale * (powers * values.clamp_min(1e-3).log()).sum(-1).exp()).clamp(max=1.0)

    def returns() -> torch.Tensor:
        shares, now = torch.softmax(searched, -1), start
        lost = torch.zeros(start.shape[:2])
        for step, (tokens, rate) in enumerate(zip(horizon.tokens.tolist(), horizon.rates.tolist(), strict=True)):
            after = expected(there, now, (shares[:, step] * tokens)[:, None].expand_as(now), rate)
            if horizon.spillover_beta:
                lost = lost + (requirement * (now - after).clamp_min(0)).sum(-1)
            now = after
        return utility(now) - utility(start) - horizon.spillover_beta * lost

    for _ in range(iterations):
        found = returns()
        value = found.mean(1) + kappa * found.std(1, unbiased=False) if kappa else found.mean(1)
        optimizer.zero_grad()
        (-value.sum()).backward()
        optimizer.step()
    with torch.no_grad():
        found = returns()
    return searched.detach().numpy(), torch.stack([found.mean(1), found.std(1, unbiased=False)], -1).numpy()
