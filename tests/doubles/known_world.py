"""A world whose parameters are known, and episodes in it."""

from __future__ import annotations

import numpy as np

from read_env.capabilities import get_suite
from read_env.surrogate.model import Surrogate, rates_of
from read_env.surrogate.record import Episodes, Record
from read_env.surrogate.wide import draw_worlds
from read_env.surrogate.world import World, expected, plain

NAMES = ("drill", "composed", "easy", "hard")
STEPS, BUDGET = 8, 16_000


def known_world() -> World:
    """Four capabilities: ``drill`` teaches ``composed``, ``hard`` learns slowly, ``easy`` makes the others forget."""
    transfer, interference = np.zeros((4, 4)), np.zeros((4, 4))
    transfer[0, 1] = 0.2
    interference[2] = [0.05, 0.05, 0.0, 0.05]
    return plain(
        4, speed=[0.3, 0.03, 0.4, 0.02], transfer=transfer, interference=interference, ceiling=[0.9, 0.9, 0.8, 0.9],
        bottom=0.05, loss=0.1, loss_slope=2.0,
    )  # fmt: skip


def recorded(world: World, count: int, seed: int, noise: float = 0.004) -> Record:
    """Episodes of sparse allocations in a world, half of them with a switch, from two students."""
    rng = np.random.default_rng(seed)
    rates = rates_of("linear", 0.0, np.arange(1, STEPS + 1) / STEPS)
    episodes = []
    for number in range(count):
        student = number % 2
        start = now = np.array([0.2, 0.2, 0.3, 0.2]) if student else np.array([0.6, 0.3, 0.2, 0.4])
        steps, shares = [], rng.dirichlet(np.full(4, 0.4))
        for step, rate in enumerate(rates):
            if number % 4 >= 2 and step == STEPS // 2:
                shares = rng.dirichlet(np.full(4, 0.4))
            tokens = shares * BUDGET / STEPS
            loss = (0.1 + 2.0 * (1 - now)) * (tokens > 0)
            now = expected(world, now, tokens / 1000, rate)
            steps.append({"tokens": tokens, "profile": (now + noise * rng.standard_normal(4)).clip(0, 1), "loss": loss})
        episodes.append({"student": f"student {student}", "policy": "sparse", "start": start, "steps": steps})
    return Record(NAMES, BUDGET, BUDGET // STEPS, "linear", 0.0, np.ones(4), Episodes.of(episodes))


def micro_surrogate() -> Surrogate:
    """Surrogate of the micro suite: three drawn worlds without noise, two students, four steps."""
    names = get_suite("micro").names
    worlds, starts = draw_worlds(np.random.default_rng(3), 3, len(names))
    quiet = World.of({**worlds.to_dict(), "noise": 0 * worlds.noise, "drift": 0 * worlds.drift})
    return Surrogate(
        names, 10_000, 2_500, quiet, {"even": starts[0].astype(float), "clerk": starts[1].astype(float)},
        np.full(len(names), 0.9), seen=np.array([np.zeros(len(names)), np.full(len(names), 0.5)]),
        made_from={"tokens": 70_000},
    )  # fmt: skip
