"""Training of the set policy: gradients through the surrogate.

The dynamics of a surrogate are differentiable, and so is the final utility in every allocation of an episode. Many episodes of
different worlds, students and tasks are played at once, and the mean of their final utility is followed uphill: no value
function and no exploration are needed (analytic policy gradient; Degrave et al., "A Differentiable Physics Engine for Deep
Learning in Robotics", 2019).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from read_env.agents.set_network import FIRST_SHARE, allocate, empty_trace, features, initial_weights, noted
from read_env.distillation.student.schedule import learning_rate_factor
from read_env.surrogate.model import Surrogate, rates_of
from read_env.surrogate.wide import BUDGET, draw_requirements, draw_worlds
from read_env.surrogate.world import World, expected

#: Share of the episodes whose utility multiplies the needs.
PRODUCTS = 0.3
#: Share of the episodes in which the policy isn't told so.
_UNTOLD = 0.3


@dataclass(frozen=True, eq=False)
class Batch:
    """Episodes of n worlds that are played at once.

    Attributes:
        worlds: parameters with a first axis of n.
        starts: (n, |C|) latent scores at the start.
        requirements: (n, |C|).
        product: (n,) True where the utility is the product of the needs' scores.
        tokens: (steps,) thousand tokens of every step.
        rates: (steps,) learning-rate factors.
    """

    worlds: World
    starts: np.ndarray
    requirements: np.ndarray
    product: np.ndarray
    tokens: np.ndarray
    rates: np.ndarray


Policy = Callable[[Any, Any, Any], tuple[Any, Any]]


def wide_batches(rng: np.random.Generator, count: int) -> Iterator[Batch]:
    """Endless batches of worlds that are drawn widely: 2 to 16 capabilities, 5 to 30 steps."""
    while True:
        size, steps = int(rng.integers(2, 17)), int(rng.integers(5, 31))
        worlds, starts = draw_worlds(rng, count, size)
        schedule = str(rng.choice(["linear", "constant", "cosine"]))
        rates = rates_of(schedule, 0.02, np.arange(1, steps + 1) / steps)
        yield Batch(
            worlds, starts, draw_requirements(rng, count, size), rng.random(count) < PRODUCTS,
            np.full(steps, BUDGET / steps, np.float32), rates.astype(np.float32),
        )  # fmt: skip


def surrogate_batches(surrogate: Surrogate, rng: np.random.Generator, count: int) -> Iterator[Batch]:
    """Endless batches of a fitted surrogate's worlds, perturbed beyond the fit, from its students."""
    starts = np.array(list(surrogate.starts.values()), np.float32)
    size = surrogate.size
    while True:
        worlds = surrogate.draw_worlds(rng, count)
        # Students between two of the record.
        part = rng.uniform(0, 1, (count, 1))
        first, second = (starts[rng.integers(len(starts), size=count)] for _ in range(2))
        mixed = np.where(rng.random((count, 1)) < 0.5, first, part * first + (1 - part) * second)
        mixed = (mixed + 0.03 * rng.standard_normal(mixed.shape)).clip(0.005, 0.995)
        yield Batch(
            worlds, mixed.astype(np.float32),
            draw_requirements(rng, count, size), rng.random(count) < PRODUCTS,
            (surrogate.tokens / 1000).astype(np.float32), surrogate.rates.astype(np.float32),
        )  # fmt: skip


def played(policy: Policy, batch: Batch, rng: torch.Generator, memory: int) -> torch.Tensor:
    """Gain of utility, (n,), when a policy plays the episodes of a batch.

    Args:
        policy: row features, whole features and memory -> (n, |C|) shares and the next memory.
        batch: the episodes.
        rng: generator of the noise.
        memory: width of the policy's memory.
    """
    worlds = World(**{name: torch.from_numpy(np.asarray(value)) for name, value in batch.worlds.to_dict().items()})
    requirement, latent = torch.from_numpy(batch.requirements), torch.from_numpy(batch.starts)
    product = torch.from_numpy(batch.product)
    count, size = latent.shape

    def measured(values: torch.Tensor) -> torch.Tensor:
        return (values + worlds.noise * torch.randn(values.shape, generator=rng)).clamp(0, 1)

    def utility(values: torch.Tensor) -> torch.Tensor:
        needed = requirement > 0
        relative = (values / worlds.ceiling.clamp_min(0.05)).clamp(1e-3, 1)
        return torch.where(
            product, torch.where(needed, relative.log(), 0.0).sum(-1).exp(), (requirement * values).sum(-1)
        )

    seen = first = measured(latent)
    last = gain = torch.zeros(count, size)
    trace = empty_trace(last)
    state = torch.zeros(count, size, memory)
    told = torch.where(torch.rand(count, generator=rng) < _UNTOLD, 0.0, product * 2.0 - 1.0)
    before, shares = utility(latent), batch.tokens / batch.tokens.sum()
    for step, (tokens, rate) in enumerate(zip(batch.tokens.tolist(), batch.rates.tolist(), strict=True)):
        left = torch.full((count,), float(1 - shares[:step].sum()))
        # Neither the form of the utility nor the length of a step is known before the first one.
        form = told if step else torch.zeros(count)
        share = torch.full((count,), float(shares[step]) if step else FIRST_SHARE)
        row, whole = features(requirement, seen, first, last, gain, trace, left, share, form)
        last, state = policy(row, whole, state)
        latent = expected(worlds, latent, last * tokens, rate)
        latent = (latent + rate * worlds.drift * torch.randn(latent.shape, generator=rng)).clamp(0, 1)
        now = measured(latent)
        seen, gain = now, now - seen
        trace = noted(trace, requirement, last, gain, torch.full((count,), float(shares[step])))
    return utility(latent) - before


def rule(power: float, missing: float) -> Policy:
    """Static rule w ∝ r^power·(1 − s)^missing as a policy."""

    def policy(row: torch.Tensor, whole: torch.Tensor, memory: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        requirement, profile = row[..., 0], row[..., 1]
        shares = requirement**power * (1.0001 - profile) ** missing * (requirement > 0)
        return shares / shares.sum(-1, keepdim=True), memory

    return policy


def train(
    batches: Iterator[Batch], *, iterations: int, hidden: int = 32, names: int = 0, learning_rate: float = 3e-3,
    seed: int = 0, weights: Mapping[str, np.ndarray] | None = None, progress: tuple[int, int] | None = None,
    moments: dict[str, Any] | None = None, report: Callable[[int, float, float], None] | None = None,
) -> dict[str, np.ndarray]:  # fmt: skip
    """Weights of a set policy, trained on batches of episodes.

    Args:
        batches: the episodes.
        iterations: optimizer steps, a batch each.
        hidden: width of the network.
        names: |C| of a policy for one suite, 0 for any.
        learning_rate: highest learning rate.
        seed: seed of weights and noise.
        weights: weights to begin with; None: new ones.
        progress: steps before these and steps of the whole training, for the learning rate. None: these are the whole.
        moments: averages of the optimizer at the end of an earlier part, by weight; changed in place to those at the end of
            this one. None: it begins without.
        report: called with the iteration, the mean gain, and that of w = r, every fifty iterations.
    """
    first = weights or initial_weights(hidden, names, np.random.default_rng(seed))
    trained = {name: torch.tensor(value, requires_grad=True) for name, value in first.items()}
    width = trained["new_bias"].shape[0]
    optimizer = torch.optim.Adam(trained.values(), lr=learning_rate)
    if moments:
        kept = {
            index: {key: torch.tensor(value) for key, value in moments[name].items()}
            for index, name in enumerate(trained)
        }
        optimizer.load_state_dict({**optimizer.state_dict(), "state": kept})
    done, whole = progress or (0, iterations)
    rng = torch.Generator().manual_seed(seed)
    requirement_alone = rule(1.0, 0.0)

    def policy(row: torch.Tensor, whole: torch.Tensor, memory: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return allocate(trained, row, whole, memory)

    sums = np.zeros(2)
    for iteration in range(1, iterations + 1):
        batch = next(batches)
        with torch.no_grad():
            reference = played(requirement_alone, batch, rng, 1)
        gains = played(policy, batch, rng, width)
        # Tasks in which there is much to gain don't drown those in which there is little.
        loss = -(gains / (reference.abs() + 0.03)).mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained.values(), 1.0)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * learning_rate_factor("cosine", min(1.0, (done + iteration) / whole), 0.1)
        optimizer.step()
        sums += float(gains.detach().mean()), float(reference.mean())
        if report and iteration % 50 == 0:
            report(iteration, *(sums / 50))
            sums[:] = 0
    if moments is not None:
        ended = optimizer.state_dict()["state"]
        moments |= {
            name: {key: value.numpy().copy() for key, value in ended[index].items()}
            for index, name in enumerate(trained)
        }
    return {name: value.detach().numpy() for name, value in trained.items()}
