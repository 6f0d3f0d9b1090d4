"""Tasks, students and surrogate of an environment without models, as names and as numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from read_env.capabilities import get_suite
from read_env.capabilities.base import Suite
from read_env.config import RewardConfig
from read_env.envs.arguments import config_of
from read_env.errors import ReadEnvError, unknown
from read_env.surrogate.model import Surrogate
from read_env.tasks import TaskCard, essential, load_task
from read_env.tasks.card import CEILING_FLOOR, SCORE_FLOOR

MEAN, GEOMETRIC, PRODUCT = 0, 1, 2
_FLOOR = np.array(SCORE_FLOOR)


@dataclass(frozen=True, eq=False)
class Goal:
    """Task as numbers; those of a batch have a first axis.

    Attributes:
        requirement: (|C|,) r.
        form: ``MEAN``, ``GEOMETRIC`` or ``PRODUCT``.
        ceiling: product of the teacher's scores on the needs, for ``PRODUCT``; 1 otherwise.
        losses: (|C|, 2) weights of the drops in spillover and in forgetting.
    """

    requirement: np.ndarray
    form: int
    ceiling: float
    losses: np.ndarray

    @classmethod
    def of(cls, card: TaskCard, suite: Suite, teacher: np.ndarray, config: RewardConfig) -> Goal:
        """Goal of a card. A measured utility is approximated by the geometric mean of the needs."""
        requirement = card.requirement_vector(suite)
        forms = {"weighted_mean": MEAN, "geometric_mean": GEOMETRIC, "product": PRODUCT, "measured": GEOMETRIC}
        form = forms[card.utility_form]
        needed = essential(requirement, config.essential_k)
        others = ~needed / max(1, (~needed).sum())
        ceiling = float(np.maximum(teacher[requirement > 0], CEILING_FLOOR).prod()) if form == PRODUCT else 1.0
        return cls(requirement, form, ceiling, np.column_stack([requirement * needed, others]))

    def utility(self, profile: np.ndarray) -> float:
        """U_τ of a profile, (|C|,)."""
        if self.form == MEAN:
            return float(self.requirement.dot(profile))
        if self.form == PRODUCT:
            return min(1.0, float(profile[self.requirement > 0].prod()) / self.ceiling)
        return float(np.exp(self.requirement.dot(np.log(np.fmax(profile, _FLOOR)))))


def utilities(goals: Goals, profiles: np.ndarray) -> np.ndarray:
    """U_τ of every row, (n,), for goals of a batch and (n, |C|) profiles."""
    found = np.einsum("nc,nc->n", goals.requirement, profiles)
    if goals.product.any():
        rows = goals.product
        parts = np.where(goals.requirement[rows] > 0, profiles[rows], 1.0)
        found[rows] = np.minimum(1.0, parts.prod(1) / goals.ceiling[rows])
    if goals.geometric.any():
        rows = goals.geometric
        logs = np.log(np.maximum(profiles[rows], SCORE_FLOOR))
        found[rows] = np.exp(np.einsum("nc,nc->n", goals.requirement[rows], logs))
    return found


@dataclass(eq=False)
class Goals:
    """Goals of a batch of n environments; rows are overwritten where an episode begins.

    Attributes:
        requirement: (n, |C|).
        product, geometric: (n,) masks of the forms.
        ceiling: (n,).
        spillover, forgetting: (n, |C|) weights of the drops.
    """

    requirement: np.ndarray
    product: np.ndarray
    geometric: np.ndarray
    ceiling: np.ndarray
    spillover: np.ndarray
    forgetting: np.ndarray

    @classmethod
    def of(cls, goals: list[Goal], dtype: type = np.float32) -> Goals:
        """Goals of a list, one row each."""
        forms = np.array([goal.form for goal in goals])
        return cls(
            requirement=np.array([goal.requirement for goal in goals], dtype), product=forms == PRODUCT,
            geometric=forms == GEOMETRIC, ceiling=np.array([goal.ceiling for goal in goals], dtype),
            spillover=np.array([goal.losses[:, 0] for goal in goals], dtype),
            forgetting=np.array([goal.losses[:, 1] for goal in goals], dtype),
        )  # fmt: skip

    def __getitem__(self, index: np.ndarray) -> Goals:
        return Goals(**{name: value[index] for name, value in vars(self).items()})

    def replace(self, rows: np.ndarray, others: Goals) -> None:
        """Overwrite rows."""
        for name, value in vars(self).items():
            value[rows] = getattr(others, name)


class Setting:
    """Surrogate, configuration, tasks and students of an environment, one or a vector of them.

    Attributes:
        surrogate: the surrogate.
        config: configuration of the suite and the reward.
        suite: capabilities.
        cards: tasks, one drawn for each episode.
        students: starting students, one drawn for each episode.
    """

    def __init__(self, surrogate: Surrogate, config: Any, tasks: Sequence[str], students: Sequence[str] | None) -> None:
        self.surrogate, self.config, self.suite = surrogate, config, get_suite(config.suite)
        if self.suite.names != surrogate.capabilities:
            raise ReadEnvError(
                f"the surrogate's capabilities are {', '.join(surrogate.capabilities)}, those of suite {config.suite!r} "
                f"{', '.join(self.suite.names)}; right would be the preset of the recorded runs"
            )
        self.cards = tuple(load_task(name, self.suite) for name in tasks)
        for card in self.cards:
            card.requirement_vector(self.suite)
        self.students = tuple(map(self.student, students or surrogate.starts))

    @classmethod
    def of(
        cls, surrogate: str, preset: str, task: str | None, tasks: Sequence[str] | None, students: Sequence[str] | None,
        overrides: Mapping[str, Any] | None, may_stop: bool | None, observe_utility: bool | None,
    ) -> Setting:  # fmt: skip
        """Setting of the arguments of an environment.

        Raises:
            ReadEnvError: arguments that don't go together, or unknown names.
        """
        config = config_of(preset, task, tasks, students, overrides, may_stop, observe_utility)
        return cls(Surrogate.load(surrogate), config, tasks or [config.task], students)

    def student(self, name: str) -> str:
        """The name, if the surrogate has such a starting student."""
        if name not in self.surrogate.starts:
            raise unknown("starting student of the surrogate", name, list(self.surrogate.starts))
        return name

    def goal(self, card: TaskCard) -> Goal:
        """Task as numbers."""
        return Goal.of(card, self.suite, self.surrogate.teacher, self.config.reward)
