"""Random part of a surrogate's episodes: simulation of it, and the fit of its correlations.

The random changes of successive steps are correlated, as are those of different capabilities within a step. Both widen the
distribution of what an episode ends with, and leave that of a single step as it is. They are estimated after the worlds and the
s.d. of a step, from whole episodes of students that a fit did not see.
"""

from __future__ import annotations

import numpy as np
import torch

from read_env.surrogate.model import factors_of
from read_env.surrogate.world import World, expected

#: Persistences that are tried; the one that fits lies between two of them.
_TRIED = np.linspace(0.0, 0.9, 10)


def simulated(
    world: World, data: dict[str, torch.Tensor], normals: torch.Tensor, factors: tuple[np.ndarray, np.ndarray]
) -> torch.Tensor:
    """Profiles measured after every step of simulated episodes, (M, E, T, |C|), from the profiles at their start.

    Args:
        world: of :func:`read_env.surrogate.fit.as_tensors`.
        data: of :func:`read_env.surrogate.fit.tensors`.
        normals: (2, M, E, T, |C|) standard normal numbers, for the random changes and for the noise of the probes.
        factors: of :func:`read_env.surrogate.model.factors_of`.
    """
    tokens, rates = data["tokens"], data["rates"]
    over_steps, over_capabilities = (torch.tensor(factor, dtype=torch.float32) for factor in factors)
    changes = over_steps @ normals[0] @ over_capabilities
    now, measured = data["start"].expand(len(world.speed), -1, -1), []
    for step in range(tokens.shape[1]):
        now = expected(world, now, tokens[:, step].expand_as(now), rates[:, step, None])
        now = (now + rates[:, step, None] * world.drift * changes[:, :, step]).clamp(0, 1)
        measured.append((now + world.noise * normals[1, :, :, step]).clamp(0, 1))
    return torch.stack(measured, dim=2)


def fit_correlations(
    worlds: World, data: dict[str, torch.Tensor], unseen: np.ndarray, seed: int
) -> tuple[float, np.ndarray]:
    """Persistence and correlation of the random changes.

    The correlation is that of the residuals at the end of the episodes, somewhat nearer to 0 with few episodes. The persistence is
    the one with which episodes that are simulated in the worlds have the variance of those residuals.

    Args:
        worlds: with drift and noise, of :func:`read_env.surrogate.fit.as_tensors`.
        data: of :func:`read_env.surrogate.fit.tensors`.
        unseen: (E, |C|) expected profiles at the end of every episode, by worlds that were fitted to other students.
        seed: seed of the simulation.
    """
    episodes, last = np.arange(len(unseen)), data["played"].sum(1).long().numpy() - 1
    residuals = data["profiles"].numpy()[episodes, last] - unseen
    variance = (residuals**2).mean(0).clip(1e-10)
    scaled, (count, size) = residuals / np.sqrt(variance), residuals.shape
    correlation = scaled.T @ scaled / (count + size)
    np.fill_diagonal(correlation, 1.0)
    normals = torch.randn((2, len(worlds.speed), *data["tokens"].shape), generator=torch.Generator().manual_seed(seed))

    def ends(normals: torch.Tensor, tried: float) -> np.ndarray:
        factors = factors_of(tried, correlation, normals.shape[3])
        return simulated(worlds, data, normals, factors).numpy()[:, episodes, last]

    # Around the mean over the worlds: that they differ is part of the variance.
    expected_ends = ends(torch.zeros_like(normals), 0.0).mean(0)
    ratios = [
        float((((ends(normals, tried) - expected_ends) ** 2).mean((0, 1)) / variance).mean())
        for tried in _TRIED.tolist()
    ]
    return float(np.interp(1.0, ratios, _TRIED)), correlation
