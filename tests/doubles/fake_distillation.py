"""A distillation without models: the contract of the real one, made-up dynamics, microseconds a step.

``FakeDistillationEnv`` is the real environment on top of it: for tests of wrappers, agents and
runners, whatever doesn't ask what a real student learns.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from read_env.capabilities import get_suite
from read_env.capabilities.base import Capability, Prompt
from read_env.config import Config
from read_env.distillation.budget import TokenBudget
from read_env.distillation.examples.allocation import normalise_allocation
from read_env.distillation.report import ChunkReport
from read_env.distillation.teachers.cache_use import CacheUse
from read_env.distillation.teachers.evaluation import TeacherScores
from read_env.envs.distillation import DistillationEnv
from read_env.errors import ReadEnvError

#: Every made-up completion has this many tokens, every prompt three times as many.
COMPLETION = 10


class FakeDistillation:
    """Linear signed transfer with saturation and a little seeded noise."""

    overlong: ClassVar[dict[str, int]] = {}
    task: Capability | None = None

    def __init__(self, config: Config) -> None:
        self.config = config
        self.suite = get_suite(config.suite)
        size = len(self.suite)
        # Fixed, so that every test sees one world: diagonals learn, neighbours help, the rest is hurt.
        self.transfer = np.full((size, size), -0.03) + 0.4 * np.eye(size) + 0.1 * np.eye(size, k=1)
        self.reset(config.seed)

    @classmethod
    def load(cls, config: Config) -> FakeDistillation:
        return cls(config)

    def take_task(self, card: Any) -> None:
        self.task = card.task_prompts() if card is not None and card.measured else None

    @property
    def task_score(self) -> float | None:
        """A measured task needs the first capability most, and the third less."""
        return None if self.task is None else float(0.7 * self.profile[0] + 0.3 * self.profile[2])

    def task_dev(self) -> float | None:
        return self.task_score

    def task_exam(self) -> float | None:
        return self.task_score

    def teacher_task_scores(self) -> None:
        return None

    def reset(self, seed: int, start: str = "", card: Any = None) -> np.ndarray:
        self.take_task(card)
        self.seed, self.step_index, self.exhausted = seed, 0, False
        start = start or self.config.models.start
        self._rng = random.Random(seed if start == "even" else f"{seed}/{start}")
        self.budget = TokenBudget(self.config.budget.total_tokens)
        self.profile = np.array([0.2 + 0.4 * self._rng.random() for _ in self.suite])
        return self.profile.copy()

    def step(self, weights: np.ndarray) -> ChunkReport:
        allocation = normalise_allocation(weights, len(self.suite))
        if self.exhausted:
            raise ReadEnvError("the budget is spent")
        affordable = min(self.config.budget.step_tokens, self.budget.left) // COMPLETION
        examples = np.floor(allocation * affordable).astype(np.int64)
        examples[int(np.argmax(allocation))] += affordable - examples.sum()
        tokens = int(examples.sum()) * COMPLETION
        self.budget = self.budget.spend(tokens, 3 * tokens)
        before = self.profile
        change = (tokens / 20_000) * (allocation @ self.transfer)
        change = np.where(change > 0, change * (1 - before), change * before)
        noise = np.array([self._rng.gauss(0, 0.005) for _ in self.suite])
        self.profile = np.clip(before + change + noise, 0, 1)
        self.step_index += 1
        self.exhausted = self.budget.left < COMPLETION
        return ChunkReport(
            step=self.step_index,
            allocation=allocation,
            tokens_by_capability=examples * COMPLETION,
            examples_by_capability=examples,
            cut_by_capability=0 * examples,
            completion_tokens=tokens,
            prompt_tokens=3 * tokens,
            trained_tokens=4 * tokens * self.config.distill.epochs,
            updates=tokens // self.config.distill.tokens_per_update,
            loss=float(1 - self.profile.mean()),
            loss_by_capability=np.where(examples > 0, 1 - self.profile, np.nan),
            divergence_by_capability=np.where(examples > 0, 0.5 - 0.5 * self.profile, np.nan),
            metrics={"grad_norm": 1.0, "topk_mass": 0.99},
            profile_before=before.copy(),
            profile=self.profile.copy(),
            exhausted=self.exhausted,
            seconds=dict.fromkeys(("prompts", "teacher", "cache", "student", "probes", "other"), 0.0),
            cache=CacheUse(blocks_asked=2, blocks_served=1, tokens_asked=80, tokens_served=40),
        )

    def dev_profile(self) -> np.ndarray:
        self.budget = self.budget.count(dev_tokens=COMPLETION)
        return np.clip(self.profile - 0.01, 0, 1)

    def exam(self) -> np.ndarray:
        return self.profile**2

    @property
    def measurement(self) -> FakeDistillation:
        return self

    @property
    def teacher_scores(self) -> TeacherScores:
        scores = np.full(len(self.suite), 0.9)
        return TeacherScores(scores, scores, 10 * COMPLETION, {"1+1": "2"})

    def samples(self) -> list[tuple[Prompt, str]]:
        return [(Prompt("math", "math/0", "1+1", "2", 0.5), f"{self.profile[0]:.2f}")]

    def snapshot(self) -> dict[str, Any]:
        version, internal, gauss = self._rng.getstate()
        return {
            "seed": self.seed, "step_index": self.step_index, "exhausted": self.exhausted,
            "rng": [version, list(internal), gauss], "budget": self.budget.to_dict(), "profile": self.profile.tolist(),
        }  # fmt: skip

    def restore(self, state: dict[str, Any]) -> None:
        self.seed, self.step_index, self.exhausted = state["seed"], state["step_index"], state["exhausted"]
        version, internal, gauss = state["rng"]
        self._rng.setstate((version, tuple(internal), gauss))
        self.budget = TokenBudget(**state["budget"])
        self.profile = np.array(state["profile"])

    def close(self) -> None:
        """Nothing is outside this process."""

    def save_student(self, path: Path | str) -> None:
        Path(path).mkdir(parents=True, exist_ok=True)
        (Path(path) / "config.json").write_text(json.dumps({"profile": self.profile.tolist()}))


class FakeDistillationEnv(DistillationEnv):
    """The real environment over :class:`FakeDistillation`; counts how often it loaded "models"."""

    loaded = 0

    def load_distillation(self) -> Any:
        self.loaded += 1
        return FakeDistillation.load(self.config)
