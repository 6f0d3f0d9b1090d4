"""Worker: makes runs one after another with one loaded environment, and reports their steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from read_env.running.callbacks import Callback
from read_env.running.display import largest_shares
from read_env.running.pool import Report
from read_env.running.requests import RunRequest
from read_env.running.runner import RunResult, make_env, run
from read_env.running.tensorboard import TensorBoardCallback

if TYPE_CHECKING:
    from read_env.envs.distillation import DistillationEnv

EnvFactory = Callable[..., "DistillationEnv"]


@dataclass(frozen=True)
class StepEvent:
    """A run made a step: completion tokens spent so far, utility, and a text of the allocation."""

    spent: int
    utility: float
    shares: str = ""


class Worker:
    """Makes runs one after another with one loaded environment: ``work`` of :func:`read_env.running.pool.map_jobs`.

    Runs of one seed see the same prompts, so that a worker which stays with a seed has the teacher's answers in memory.

    Args:
        env_factory: makes the environment of a configuration; for worker processes a function of a module.
    """

    def __init__(self, env_factory: EnvFactory = make_env) -> None:
        self._factory = env_factory
        self._env: DistillationEnv | None = None
        self._key: dict[str, Any] = {}

    def __call__(self, request: RunRequest, report: Report) -> RunResult:
        """Make a run, and report a :class:`StepEvent` after each step."""
        # A reset changes task, starting student and seed; everything else needs another environment.
        fields = dict.fromkeys(("task", "agent", "agent_options", "seed"), True)
        key = request.config.model_dump(exclude={**fields, "models": {"start"}})
        try:
            if self._env is None or key != self._key:
                self._env, self._key = self._factory(request.config), key
            curves = TensorBoardCallback(request)
            return run(request, env=self._env, callbacks=[_StepReporter(report), curves])
        except Exception:
            # The state of a failed run must not reach the next one.
            self._env = None
            raise


class _StepReporter(Callback):
    """Reports the steps of a run as events."""

    def __init__(self, report: Report) -> None:
        self._report = report

    def on_run_start(self, start: Mapping[str, Any], steps: Sequence[Mapping[str, Any]]) -> None:
        self._suite = start["suite"]
        if steps:
            self.on_step(steps[-1])
        else:
            self._report(StepEvent(0, start["utility"]))

    def on_step(self, record: Mapping[str, Any]) -> None:
        shares = largest_shares(self._suite, record["allocation"])
        self._report(StepEvent(record["budget_spent"], record["utility"], shares))
