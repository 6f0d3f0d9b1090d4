"""Fit of a surrogate's worlds to recorded steps, by gradient descent.

Each world explains both every single step, from the profile measured before it, and every whole episode, from the profile at
its start alone: the second is what a policy is trained on. The worlds differ in the weights of the students and episodes
that they were fitted to, drawn from an exponential distribution (Bayesian bootstrap, Rubin 1981).
"""

from __future__ import annotations

import numpy as np
import torch

from read_env.errors import ReadEnvError
from read_env.surrogate.chance import fit_correlations
from read_env.surrogate.model import Surrogate
from read_env.surrogate.record import Record
from read_env.surrogate.world import World, expected

#: Least number of episodes that a fit takes.
LEAST = 20
#: Parts of the students that are left out in turn, for the random changes.
_FOLDS = 4


def fit(record: Record, count: int = 8, *, iterations: int = 600, seed: int = 0) -> Surrogate:
    """Surrogate of recorded episodes.

    Args:
        record: the episodes.
        count: M, number of worlds.
        iterations: steps of the optimizer.
        seed: seed of the weights.

    Raises:
        ReadEnvError: fewer than :data:`LEAST` episodes.
    """
    episodes = record.episodes
    if len(episodes) < LEAST:
        raise ReadEnvError(f"a surrogate needs at least {LEAST} recorded episodes, got {len(episodes)}")
    data = tensors(record)
    worlds = fit_worlds(data, _weights(episodes.students, count, np.random.default_rng(seed)), iterations)
    unseen = unseen_profiles(data, episodes.students, iterations)
    persistence, correlation = fit_correlations(as_tensors(worlds), data, unseen, seed)
    names = np.unique(episodes.students)
    starts = {str(name): episodes.start[episodes.students == name].mean(0) for name in names}
    scores = np.concatenate([episodes.start, episodes.profiles[episodes.played]])
    return Surrogate(
        capabilities=record.capabilities, total_tokens=record.total_tokens, step_tokens=record.step_tokens, worlds=worlds,
        starts=starts, teacher=record.teacher, lr_scheduler_type=record.lr_scheduler_type, warmup_ratio=record.warmup_ratio,
        seen=np.array([scores.min(0), scores.max(0)]), persistence=persistence, correlation=correlation,
        made_from={
            "episodes": len(episodes), "steps": int(episodes.played.sum()), "tokens": int(episodes.tokens.sum()),
            "students": len(names), "policies": np.unique(episodes.policies).tolist(), "iterations": iterations, "seed": seed,
        },
    )  # fmt: skip


def fit_worlds(data: dict[str, torch.Tensor], weights: torch.Tensor, iterations: int) -> World:
    """Worlds fitted to recorded episodes.

    Args:
        data: of :func:`tensors`.
        weights: (M, E) weights of the episodes, with a mean of 1 in each of M worlds.
        iterations: steps of the optimizer.

    Returns:
        Parameters with a first axis of M, float32 arrays.
    """
    changes = data["profiles"] - data["before"]
    played = data["played"]
    # One s.d. of a step's change, and twice that after an episode, count alike.
    scale = (changes * played[..., None]).flatten(0, 1).std(0).clamp_min(1e-3)
    parameters = _initial(len(weights), data)
    optimizer = torch.optim.Adam(parameters.values(), lr=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=iterations)
    for _ in range(iterations):
        world = _world(parameters)
        single, whole = predictions(world, data)
        off = [(predicted - data["profiles"]) / scale for predicted in (single, whole)]
        error = _robust(off[0]).mean(-1) + _robust(0.5 * off[1]).mean(-1)  # (M, E, T)
        total = (error * played * weights[..., None]).sum() / played.sum()
        optimizer.zero_grad()
        (total + _penalty(world, played.sum())).backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        return _with_noise(_world(parameters), data, weights)


def unseen_profiles(data: dict[str, torch.Tensor], students: np.ndarray, iterations: int) -> np.ndarray:
    """Expected profiles at the end of every episode, (E, |C|), by worlds that were fitted without its student.

    With fewer students than folds, they are fitted without the episode.
    """
    _, unit = np.unique(students, return_inverse=True)
    if unit.max() + 1 < _FOLDS:
        unit = np.arange(len(unit))
    fold = unit % _FOLDS
    kept = np.arange(_FOLDS)[:, None] != fold
    worlds = fit_worlds(data, torch.tensor(kept / kept.mean(1, keepdims=True), dtype=torch.float32), iterations)
    _, whole = predictions(as_tensors(worlds), data)
    return whole.numpy()[fold, np.arange(len(fold)), data["played"].sum(1).long().numpy() - 1]


def tensors(record: Record) -> dict[str, torch.Tensor]:
    """Arrays of a record as float32 tensors; tokens in thousands."""
    episodes = record.episodes
    names = ("start", "tokens", "profiles", "losses", "played", "before")
    arrays = {name: getattr(episodes, name) for name in names}
    arrays |= {"tokens": episodes.tokens / 1000, "rates": record.rates}
    return {name: torch.tensor(np.asarray(value, np.float32)) for name, value in arrays.items()}


def as_tensors(worlds: World) -> World:
    """Worlds for :func:`predictions`: M of them, (M, 1, |C|) and (M, |C|, |C|)."""
    arrays = {name: np.asarray(value) for name, value in worlds.to_dict().items()}
    return World(**{n: torch.tensor(value if value.ndim == 3 else value[:, None]) for n, value in arrays.items()})


def predictions(world: World, data: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Expected profiles after every step, (M, E, T, |C|): from the one measured before it, and from that at the episode's start.

    Args:
        world: of :func:`as_tensors`.
        data: of :func:`tensors`.
    """
    tokens, rates, before = data["tokens"], data["rates"], data["before"]
    count, size = len(world.speed), tokens.shape[-1]
    flat = expected(
        world,
        before.reshape(1, -1, size).expand(count, -1, -1),
        tokens.reshape(1, -1, size).expand(count, -1, -1),
        rates.reshape(-1, 1),
    )
    now = data["start"].expand(count, -1, -1)
    played = []
    for step in range(tokens.shape[1]):
        now = expected(world, now, tokens[:, step].expand(count, -1, -1), rates[:, step, None])
        played.append(now)
    return flat.reshape(count, *tokens.shape), torch.stack(played, dim=2)


def _initial(count: int, data: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Unconstrained parameters."""
    size = data["start"].shape[-1]
    highest = torch.quantile(data["profiles"].flatten(0, 1), 0.995, dim=0).clamp(0.05, 0.98)
    lowest = torch.quantile(data["profiles"].flatten(0, 1), 0.005, dim=0).clamp(0.005, 0.9)
    one, square = torch.ones(size), torch.ones(size, size)
    values = {
        "speed": -2.0 * one, "half": 1.0 * one, "ceiling": torch.logit(highest), "dependence": -2.0 * one,
        "helpers": 0.0 * square, "transfer": -5.0 * square, "interference": -4.0 * square, "rehearsal": -2.0 * one,
        "bottom": torch.logit(lowest), "learning": torch.zeros(1), "wearing": torch.zeros(1),
    }  # fmt: skip
    return {
        name: value.expand(count, *value.shape).clone().contiguous().requires_grad_() for name, value in values.items()
    }


def _world(raw: dict[str, torch.Tensor]) -> World:
    """Parameters of unconstrained ones, (M, 1, |C|) and (M, |C|, |C|)."""
    size = raw["speed"].shape[-1]
    other = 1 - torch.eye(size)
    helpers = torch.softmax(raw["helpers"], dim=-2)
    one = {name: value[:, None].expand(-1, -1, size) for name, value in raw.items() if value.ndim == 2}
    none = torch.zeros_like(one["speed"])
    return World(
        speed=one["speed"].exp(), half=one["half"].exp(), ceiling=one["ceiling"].sigmoid(),
        dependence=one["dependence"].sigmoid(), helpers=helpers, transfer=raw["transfer"].exp() * other,
        interference=raw["interference"].exp() * other, rehearsal=one["rehearsal"].exp(), bottom=one["bottom"].sigmoid(),
        learning=one["learning"].sigmoid(), wearing=one["wearing"].sigmoid(),
        drift=none, noise=none, loss=none, loss_slope=none,
    )  # fmt: skip


def _penalty(world: World, steps: torch.Tensor) -> torch.Tensor:
    """Preference for few transfers, little interference and independent capabilities, per recorded step."""
    sparse = world.transfer.sum() / 0.01 + world.interference.sum() / 0.02 + world.dependence.sum()
    wide = (world.speed.log() + 2.5).square().sum() / 4 + (world.half.log() - 1).square().sum() / 2
    wide = wide + (world.rehearsal.log() + 2).square().sum() / 2
    return (sparse + wide) / steps


def _with_noise(world: World, data: dict[str, torch.Tensor], weights: torch.Tensor) -> World:
    """World with the s.d. of drift and probes, and the line of the losses, as arrays with a first axis of M.

    The residual of an episode has the variance drift²·Σ η² + 2·noise², that of a step drift²·η² + 2·noise².
    """
    single, whole = predictions(world, data)
    played, squares = data["played"], data["rates"].square()

    def mean(values: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
        kept = at * weights[..., None]
        return (values * kept[..., None]).sum((1, 2)) / kept.sum((1, 2))[..., None]

    last = played * (played.cumsum(1) == played.sum(1, keepdim=True))
    steps, episodes = squares[..., None], squares.cumsum(1)[..., None]
    # Two equations for two unknowns.
    one, all_steps = (mean((p - data["profiles"]).square(), at) for p, at in ((single, played), (whole, last)))
    of_step, of_episode = mean(steps, played), mean(episodes, last)
    drift = ((all_steps - one) / (of_episode - of_step).clamp_min(0.1)).clamp_min(1e-8).minimum(one / of_step)
    noise = ((one - drift * of_step) / 2).clamp_min(1e-8)
    loss, slope = _loss_lines(data)
    count = len(world.speed)
    parts = {name: value[:, 0] if value.shape[1] == 1 else value for name, value in world.to_dict().items()}
    parts |= {
        "drift": drift.sqrt(),
        "noise": noise.sqrt(),
        "loss": loss.expand(count, -1),
        "loss_slope": slope.expand(count, -1),
    }
    return World(**{name: value.numpy().astype(np.float32) for name, value in parts.items()})


def _loss_lines(data: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Training loss at a score of 1 and by missing point, (|C|,) each, not negative: least squares over the tokens."""
    before, level, slope = data["before"], [], []
    for c in range(before.shape[-1]):
        weight = (data["tokens"][..., c] * data["played"]).flatten()
        x, y = 1 - before[..., c].flatten(), data["losses"][..., c].flatten()
        total = weight.sum().clamp_min(1e-9)
        mean_x, mean_y = (weight * x).sum() / total, (weight * y).sum() / total
        steep = (weight * (x - mean_x) * (y - mean_y)).sum() / (weight * (x - mean_x).square()).sum().clamp_min(1e-9)
        steep = steep.clamp(0.0, float(mean_y / mean_x.clamp_min(1e-6)))
        slope.append(steep)
        level.append(mean_y - steep * mean_x)
    return torch.stack(level), torch.stack(slope)


def _robust(off: torch.Tensor) -> torch.Tensor:
    """Half square near 0, linear beyond 2 (Huber)."""
    return torch.nn.functional.huber_loss(off, torch.zeros_like(off), reduction="none", delta=2.0)


def _weights(students: np.ndarray, count: int, rng: np.random.Generator) -> torch.Tensor:
    """(M, E) weights of the episodes; the first world takes all alike."""
    names, of = np.unique(students, return_inverse=True)
    drawn = rng.exponential(size=(count, len(names)))[:, of] * rng.exponential(size=(count, len(of)))
    drawn[0] = 1.0
    return torch.tensor((drawn / drawn.mean(1, keepdims=True)).astype(np.float32))
