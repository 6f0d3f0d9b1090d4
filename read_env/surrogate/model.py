"""Fitted surrogate: several possible worlds of one suite, student profiles to start from, and the budget, in one JSON file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from read_env import files
from read_env.digests import content_digest
from read_env.distillation.student.schedule import learning_rate_factor
from read_env.errors import ReadEnvError, unknown
from read_env.surrogate.world import World

FORMAT = 3
#: The format before the correlations of the random changes, which are 0 in its files.
_UNCORRELATED = 2
#: Parameters that differ between the worlds of a fit and those of :meth:`Surrogate.draw_worlds`, and by how much.
_PERTURBED = ("speed", "transfer", "interference")
SPREAD = 0.3
#: Surrogates that ship, by name: files of the package.
SHIPPED: Mapping[str, str] = {"micro": "assets/micro/surrogate.json"}


@dataclass(frozen=True, eq=False)
class Surrogate:
    """Fitted surrogate of one suite, pair of models and budget.

    Attributes:
        capabilities: |C| names in the suite's order.
        total_tokens: the budget B, completion tokens.
        step_tokens: completion tokens of a step.
        worlds: parameters with a first axis of M fits, each to other episodes of the record. Where they differ, the record
            doesn't tell; an episode is played in one of them, drawn at its reset.
        starts: starting student -> (|C|,) profile at the reset.
        teacher: (|C|,) scores of the teacher on the probes, by which a ``product`` is divided.
        lr_scheduler_type, warmup_ratio: schedule of the learning rate, as in section ``distill``.
        seen: (2, |C|) lowest and highest score of the record, by capability.
        persistence: correlation of the random changes of two successive steps, in [0, 1).
        correlation: (|C|, |C|) correlation of the random changes of different capabilities in a step. None: they are independent.
        made_from: facts about the record and the fit, JSON values.
    """

    capabilities: tuple[str, ...]
    total_tokens: int
    step_tokens: int
    worlds: World
    starts: Mapping[str, np.ndarray]
    teacher: np.ndarray
    lr_scheduler_type: str = "linear"
    warmup_ratio: float = 0.02
    seen: np.ndarray = field(default_factory=lambda: np.array([0.0, 1.0]))
    persistence: float = 0.0
    correlation: np.ndarray | None = None
    made_from: Mapping[str, Any] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """|C|."""
        return len(self.capabilities)

    @property
    def count(self) -> int:
        """Number of worlds, M."""
        return len(self.worlds.speed)

    @property
    def steps(self) -> int:
        """Steps of an episode."""
        return max(1, round(self.total_tokens / self.step_tokens))

    @cached_property
    def tokens(self) -> np.ndarray:
        """(steps,) completion tokens of every step; they sum to B."""
        ends = np.minimum(np.arange(1, self.steps + 1) * self.step_tokens, self.total_tokens)
        ends[-1] = self.total_tokens
        return np.diff(ends, prepend=0)

    @cached_property
    def rates(self) -> np.ndarray:
        """(steps,) learning-rate factor of every step, see :func:`rates_of`."""
        ends = np.cumsum(self.tokens) / self.total_tokens
        return rates_of(self.lr_scheduler_type, self.warmup_ratio, ends)

    @cached_property
    def factors(self) -> tuple[np.ndarray, np.ndarray]:
        """Factors of an episode's random changes, see :func:`factors_of`."""
        return factors_of(
            self.persistence, np.eye(self.size) if self.correlation is None else self.correlation, self.steps
        )

    def draw_worlds(self, rng: np.random.Generator, count: int, spread: float = SPREAD) -> World:
        """Worlds beyond the fits: drawn from them, with speeds, transfer and interference perturbed.

        Args:
            rng: generator.
            count: number of worlds, n.
            spread: s.d. of the logarithm of the factors.

        Returns:
            Parameters with a first axis of n.
        """
        drawn = self.worlds[rng.integers(self.count, size=count)]
        perturbed = {
            name: values * np.exp(spread * rng.standard_normal(values.shape))
            for name, values in drawn.to_dict().items()
            if name in _PERTURBED
        }
        return World.of({**drawn.to_dict(), **perturbed})

    def save(self, path: str | Path) -> None:
        """Write the surrogate to a file."""
        worlds = {
            name: np.asarray(value, np.float64).round(6).tolist() for name, value in self.worlds.to_dict().items()
        }
        values = {
            "format": FORMAT, "capabilities": list(self.capabilities), "total_tokens": self.total_tokens,
            "step_tokens": self.step_tokens, "lr_scheduler_type": self.lr_scheduler_type, "warmup_ratio": self.warmup_ratio,
            "teacher": np.round(self.teacher, 4).tolist(), "seen": np.round(self.seen, 4).tolist(),
            "starts": {name: np.round(start, 4).tolist() for name, start in self.starts.items()},
            "persistence": round(self.persistence, 4),
            "correlation": None if self.correlation is None else np.round(self.correlation, 4).tolist(),
            "made_from": dict(self.made_from), "worlds": worlds,
        }  # fmt: skip
        files.write_json(Path(path), values)

    @classmethod
    def load(cls, name_or_path: str | Path) -> Surrogate:
        """Surrogate of a shipped name, or of a file.

        Raises:
            ReadEnvError: no such name or file, or a file that is no surrogate of this format.
        """
        path = surrogate_path(str(name_or_path))
        return _read(path) if str(name_or_path) in SHIPPED else _parse(files.read_json(path), path)


def rates_of(schedule: str, warmup_ratio: float, ends: np.ndarray) -> np.ndarray:
    """Mean learning-rate factor of every step.

    Args:
        schedule: name of the schedule.
        warmup_ratio: share of the budget over which the rate rises.
        ends: (steps,) share of the budget spent at the end of every step.

    Example:
        >>> rates_of("linear", 0.0, np.array([0.5, 1.0])).round(3).tolist()
        [0.75, 0.25]
    """
    begins = np.concatenate([[0.0], ends[:-1]])
    points = begins[:, None] + (ends - begins)[:, None] * (np.arange(16) + 0.5) / 16
    return np.array([[learning_rate_factor(schedule, float(x), warmup_ratio) for x in row] for row in points]).mean(1)


def factors_of(persistence: float, correlation: np.ndarray, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Matrices L, (steps, steps), and K, (|C|, |C|), that make independent numbers z, (steps, |C|), correlated ones L @ z @ K.

    Args:
        persistence: correlation of two successive steps, in [0, 1); that of steps k apart is its k-th power.
        correlation: (|C|, |C|) correlation of the capabilities.
        steps: number of steps.

    Example:
        >>> over_steps, over_capabilities = factors_of(0.6, np.eye(2), 3)
        >>> over_steps.round(2).tolist()
        [[1.0, 0.0, 0.0], [0.6, 0.8, 0.0], [0.36, 0.48, 0.8]]
    """
    number = np.arange(steps)
    return np.linalg.cholesky(persistence ** np.abs(number[:, None] - number)), np.linalg.cholesky(correlation).T


def surrogate_digest(name_or_path: str) -> str:
    """Digest of the content of a surrogate."""
    return content_digest(surrogate_path(name_or_path))


def surrogate_path(text: str) -> Path:
    """File of a shipped surrogate, or of a path.

    Raises:
        ReadEnvError: neither a shipped surrogate nor a ``.json`` file that exists.
    """
    if text in SHIPPED:
        return Path(str(resources.files("read_env") / SHIPPED[text]))
    if not text.endswith(".json"):
        raise unknown("surrogate", text, [*SHIPPED, "a .json file"])
    path = Path(text).expanduser()
    if not path.is_file():
        raise ReadEnvError(f"surrogate {text!r}: no such file")
    return path


@lru_cache(maxsize=4)
def _read(path: Path) -> Surrogate:
    return _parse(files.read_json(path), path)


def _parse(values: Mapping[str, Any], path: Path) -> Surrogate:
    if values.get("format") not in (_UNCORRELATED, FORMAT):
        raise ReadEnvError(
            f"{path} has surrogate format {values.get('format')!r}; this version reads formats {_UNCORRELATED} and {FORMAT}"
        )
    try:
        made = Surrogate(
            capabilities=tuple(map(str, values["capabilities"])), total_tokens=int(values["total_tokens"]),
            step_tokens=int(values["step_tokens"]), worlds=World.of(values["worlds"]),
            starts={name: np.array(start, np.float64) for name, start in values["starts"].items()},
            teacher=np.array(values["teacher"], np.float64), lr_scheduler_type=str(values["lr_scheduler_type"]),
            warmup_ratio=float(values["warmup_ratio"]), seen=np.array(values["seen"], np.float64),
            persistence=float(values.get("persistence", 0.0)),
            correlation=None if values.get("correlation") is None else np.array(values["correlation"], np.float64),
            made_from=dict(values["made_from"]),
        )  # fmt: skip
        made.rates, made.factors  # noqa: B018  (an error in the schedule or the correlations)
    except (KeyError, TypeError, ValueError, AttributeError, ZeroDivisionError, np.linalg.LinAlgError) as error:
        raise ReadEnvError(f"{path} is no surrogate: {type(error).__name__} {error}") from None
    size = made.size
    shapes = {
        made.worlds.speed.shape[-1],
        made.worlds.transfer.shape[-1],
        len(made.teacher),
        *map(len, made.starts.values()),
        *made.factors[1].shape,
    }
    if shapes != {size} or not made.starts or made.worlds.speed.ndim != 2:
        raise ReadEnvError(f"{path} is no surrogate: its arrays don't fit its {size} capabilities")
    return made
