"""Distillation for a task of one's own, in stages: check, interventions, run with its exams, and the student with its card.

Every stage keeps its results on disk and takes what is there: the interventions in the cache (:mod:`read_env.running.identify`),
the run in its directory.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from read_env.capabilities import get_suite
from read_env.running.cards import kept_card
from read_env.running.check import Checked, check, processes_that_fit
from read_env.running.directory import RunDirectory
from read_env.running.display import RunDisplay
from read_env.running.identify import CARD, described, identified, is_finished, kept_request
from read_env.running.requests import DistillRequest, RunRequest, resolved
from read_env.running.room import Fit
from read_env.running.runner import RunResult, run
from read_env.running.tensorboard import TensorBoardCallback
from read_env.tasks import load_task

if TYPE_CHECKING:
    from rich.console import Console

    from read_env.config import Config


@dataclass(frozen=True)
class Stage:
    """Part of the work that is still to be done.

    Attributes:
        name: name of the stage.
        what: what it does, in a few words.
        tokens: completion tokens that it trains on, at most.
        seconds: estimate from the measured speed, without probes and exams; None if the speed is not known.
    """

    name: str
    what: str
    tokens: int = 0
    seconds: float | None = None

    @property
    def cost(self) -> str:
        """Text of tokens and time.

        >>> Stage("run", "10 steps", 12_000, 90.0).cost, Stage("exam", "128 prompts").cost
        ('10 steps; 12,000 completion tokens, at least 0:01:30', '128 prompts')
        """
        if not self.tokens:
            return self.what
        about = "" if self.seconds is None else f", at least {timedelta(seconds=round(self.seconds))}"
        return f"{self.what}; {self.tokens:,} completion tokens{about}"


@dataclass(frozen=True)
class Distilled:
    """Result of :func:`distill`.

    Attributes:
        request: the run.
        result: its result; None after a dry run.
        checked: result of the check; None where an interrupted run went on.
        stages: the stages as they were planned.
    """

    request: RunRequest
    result: RunResult | None
    checked: Checked | None
    stages: tuple[Stage, ...]


def plan(
    config: Config,
    directory: Path,
    checked: Checked | None,
    processes: int,
    describe: str = "",
    own: Path | None = None,
) -> list[Stage]:
    """Stages that are still to be done after the check.

    Args:
        config: resolved configuration.
        directory: directory of the run.
        checked: result of the check. None: times are not estimated.
        processes: worker processes of the interventions; 0: as many as fit.
        describe: description of the task.
        own: card that the run began with; None: it has not begun, or its task has a requirement.
    """
    speed = None if checked is None or checked.speed is None else checked.speed.seconds
    stages = []
    asked = None if own else kept_request(config, config.task, processes, describe)
    if own is not None:
        stages.append(Stage("needs", f"those that the run began with ({own})"))
    elif asked is not None and is_finished(asked):
        stages.append(Stage("needs", f"inferred by an earlier command ({asked.directory / CARD})"))
    elif asked is not None:
        runs = asked.runs(config.task)
        left = [one for one in runs.values() if not RunDirectory(one.directory).finished]
        tokens = sum(one.config.budget.total_tokens for one in left)
        fit = Fit(processes, "") if processes else processes_that_fit(config)
        workers = min(fit.processes, len(left))
        seconds = None if speed is None else speed * tokens / workers
        reason = f" ({fit.reason})" if fit.reason and workers < len(left) else ""
        stages.append(Stage("needs", f"{len(left)} interventions, {workers} at a time{reason}", tokens, seconds))
    else:
        stages.append(Stage("needs", "known from the card"))
    budget, sizes = config.budget, config.eval
    seconds = None if speed is None else speed * budget.total_tokens
    of_task = f", {sizes.task_exam} of the task" if load_task(config.task, get_suite(config.suite)).measured else ""
    exam = f"exam before and after ({sizes.exam} prompts of each capability{of_task}, at most)"
    what = f"{budget.steps} steps by {config.agent}, {exam}"
    return [
        *stages,
        Stage("run", what, budget.total_tokens, seconds),
        Stage("student", f"{directory / 'student'}, with its card"),
    ]


def distill(request: DistillRequest, console: Console) -> Distilled:
    """Check, infer the needs, and run; what an interrupted call did is not done again.

    Args:
        request: task, models and budget.
        console: console that shows the stages and their progress.

    Raises:
        ReadEnvError: a task that is not there or can't be measured, an intervention that failed, a configuration that a run would
            refuse, or the errors of :func:`read_env.running.identify.identify` and :func:`read_env.running.runner.run`.
    """
    config = request.configured
    card = load_task(config.task, get_suite(config.suite))
    if request.describe:
        card = described(card, request.describe)
    config = request.run(config).agent.configure(config)
    request_of = request.run(config)
    directory = None if request.overwrite else RunDirectory(request_of.directory)
    begun, checked = directory is not None and directory.begun, None
    own = None if directory is None or card.identified else kept_card(directory, card)
    if not begun or request.dry_run:
        console.print("stage 1 of 4, check: models, prompts, lengths and memory", highlight=False)
        checked = check(config)
        if not checked.ready:
            return Distilled(request_of, None, checked, ())
    config = resolved(request_of).config
    stages = plan(config, request_of.directory, checked, request.processes, request.describe, own)
    if request.dry_run:
        return Distilled(request_of, None, checked, tuple(stages))
    progress = _Progress(stages, console)
    progress.begin("needs")
    task = identified(config, config.task, request.processes, request.describe, directory=directory)
    progress.begin("run")
    final = request.run(config.model_copy(update={"task": task}))
    budget = config.budget.total_tokens
    shown = [
        RunDisplay(f"{final.agent.label} on {final.task_name}, seed {config.seed}", budget, console),
        TensorBoardCallback(final),
    ]
    result = run(final, callbacks=shown)
    progress.begin("student")
    return Distilled(final, result, checked, tuple(stages))


class _Progress:
    """Lines at the beginning of each stage, with an estimate of what is left.

    The estimate of a stage is scaled by how long the finished ones took beside their own.
    """

    def __init__(self, stages: Sequence[Stage], console: Console) -> None:
        self._stages, self._console = stages, console
        self._started, self._at = time.monotonic(), 0

    def begin(self, name: str) -> None:
        """Show that a stage begins."""
        self._at = next(i for i, stage in enumerate(self._stages) if stage.name == name)
        done = sum(stage.seconds or 0.0 for stage in self._stages[: self._at])
        taken, ahead = time.monotonic() - self._started, [s.seconds for s in self._stages[self._at :] if s.tokens]
        left = ""
        if ahead and None not in ahead:
            scale = taken / done if done else 1.0
            seconds = scale * sum(second or 0.0 for second in ahead)
            left = f"; about {timedelta(seconds=round(seconds))} left in all"
        stage = self._stages[self._at]
        self._console.print(
            f"stage {self._at + 2} of {len(self._stages) + 1}, {stage.name}: {stage.cost}{left}",
            highlight=False, soft_wrap=True,
        )  # fmt: skip
