"""One budgeted run, from an initial student to a distilled one, resumable after every step.

The loop is ``agent.predict → env.step → agent.observe → record → checkpoint``. The exam is held
before the first step and after the last one and reaches no agent. A killed run goes on from its
last checkpoint to the same bits: the steps after it are deleted from the records and made again.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from read_env import files
from read_env.errors import ReadEnvError
from read_env.running.agents import AgentDriver, AgentSpec, build_agent
from read_env.running.directory import RunDirectory
from read_env.running.identity import RunIdentity
from read_env.running.records import start_record, step_record, summary_record
from read_env.running.tensors import from_tensors, to_tensors

if TYPE_CHECKING:
    from read_env.config import Config
    from read_env.distillation.process import Distillation
    from read_env.envs.distillation import DistillationEnv

#: At most this share of the time goes into checkpoints; what lies after the last one is run again.
CHECKPOINT_SHARE = 0.05


class Watcher(Protocol):
    """Something that follows a run and changes nothing about it: a display, TensorBoard."""

    def started(self, start: Mapping[str, Any], steps: Sequence[Mapping[str, Any]]) -> None:
        """The run begins or goes on after ``steps``."""

    def stepped(self, record: Mapping[str, Any]) -> None:
        """A step is finished and on record."""

    def finished(self, summary: Mapping[str, Any]) -> None:
        """The budget is spent."""

    def close(self) -> None:
        """The run ended, well or not."""


@dataclass(frozen=True)
class RunRequest:
    """What to run, and where.

    Attributes:
        config: the resolved configuration; its ``agent`` fields are ``agent``'s name and options.
        agent: the agent.
        directory: where records, checkpoint and student go.
        exam_at: completion tokens after which the exam is held during the run (transfer matrices).
        overwrite: delete what another run left in the directory.
    """

    config: Config
    agent: AgentSpec
    directory: Path
    exam_at: tuple[int, ...] = ()
    overwrite: bool = False

    @property
    def identity(self) -> RunIdentity:
        """What a resumed run must agree with."""
        return RunIdentity.of_run(self.config, agent_path=self.agent.path, exam_at=list(self.exam_at))


@dataclass(frozen=True)
class RunResult:
    """A finished run.

    Attributes:
        directory: its directory.
        summary: the content of ``summary.json``.
        resumed_after: steps that were on record already; None for a run from the beginning.
        already_finished: nothing was run, the summary was there.
    """

    directory: Path
    summary: Mapping[str, Any]
    resumed_after: int | None = None
    already_finished: bool = False


def make_env(config: Config, **kwargs: Any) -> DistillationEnv:
    """The environment of a resolved configuration. Models load at its first reset."""
    from read_env.envs.distillation import DistillationEnv

    return DistillationEnv(preset=config.preset, overrides=config.model_dump(exclude={"preset"}), **kwargs)


def run(
    request: RunRequest, *, env: DistillationEnv | None = None, watchers: Sequence[Watcher] = (),
    checkpoint_share: float = CHECKPOINT_SHARE,
) -> RunResult:  # fmt: skip
    """Runs ``request`` to its end, or goes on where an earlier call was interrupted.

    Args:
        request: what to run.
        env: a loaded environment to use again; its models must be those of ``request.config``.
        watchers: told of every step.
        checkpoint_share: share of the time that checkpoints may take.

    Raises:
        ReadEnvError: if the directory can't be used, a checkpoint is damaged, or a step fails.
    """
    directory = RunDirectory(request.directory)
    config = request.config.model_dump(mode="json")
    with directory.claim(request.identity, config, overwrite=request.overwrite):
        if directory.finished:
            files.remove(directory.checkpoint.parent)  # a kill between the two may have left it
            return RunResult(directory.path, files.read_json(directory.summary), already_finished=True)
        files.remove(directory.error)
        loop = _Loop(request, directory, env or make_env(request.config), checkpoint_share)
        try:
            resumed_after = loop.begin()
            for watcher in watchers:
                watcher.started(loop.start, loop.steps)
            while not loop.terminated:
                record = loop.step()
                for watcher in watchers:
                    watcher.stepped(record)
                loop.save_if_due()
            summary = loop.end()
            for watcher in watchers:
                watcher.finished(summary)
        except Exception:
            files.write_atomic(directory.error, traceback.format_exc().encode())
            raise
        finally:
            for watcher in watchers:
                watcher.close()
    return RunResult(directory.path, summary, resumed_after)


class _Loop:
    """The state of one run between its steps."""

    def __init__(
        self, request: RunRequest, directory: RunDirectory, env: DistillationEnv, checkpoint_share: float
    ) -> None:
        self.request = request
        self.directory = directory
        self.env = env
        self.terminated = False
        self.start: dict[str, Any] = {}
        self.steps: list[dict[str, Any]] = []
        self.observation: dict[str, np.ndarray] = {}
        self._checkpoint_share = checkpoint_share
        self._checkpoint_seconds = 0.0
        self._saved_at = time.monotonic()

    def begin(self) -> int | None:
        """Resets the environment, or restores the last checkpoint; the number of steps on record then."""
        config = self.request.config
        saved = self.directory.load_checkpoint(expected=self.directory.begun)
        self.observation, info = self.env.reset(seed=config.seed, options={"task": config.task})
        self.agent = AgentDriver(build_agent(self.request.agent, self.env.suite, config.seed), self.request.agent.label)
        if saved is None:
            profile = info["profile"]
            exam, dev_profile = _start_exam(self.env, profile), _distillation(self.env).dev_profile()
            self.start = start_record(self.env.card, self.env.suite, profile, exam, dev_profile)
            files.write_json(self.directory.start, self.start)
            # From here on there is always a checkpoint: steps on record without one are an error.
            self._save()
            return None
        self.start = files.read_json(self.directory.start)
        self.steps = files.keep_lines(self.directory.steps, saved["step"])
        with self.directory.fitting_checkpoint():
            self.env.restore(saved["env"])
            self.agent.restore(saved["agent"])
            self.observation = from_tensors(saved["observation"])
            self.terminated = bool(saved["terminated"])
        self._saved_at = time.monotonic()
        return len(self.steps)

    def step(self) -> dict[str, Any]:
        """One decision, its chunk and its record."""
        before = self.observation
        action = self.agent.predict(before, first=not self.steps)
        self.observation, reward, terminated, truncated, info = self.env.step(action)
        self.terminated = terminated or truncated
        self.agent.observe(before, action, float(reward), self.observation, terminated, truncated, info)
        report = self.env.last_report
        assert report is not None, "a step leaves its report"
        record = step_record(info, float(reward), report, self.agent.scalars(), self._exam_if_due())
        files.append_line(self.directory.steps, record)
        self.steps.append(record)
        return record

    def save_if_due(self) -> None:
        """A checkpoint, unless the last one is so recent that it would cost more than its share."""
        due = time.monotonic() - self._saved_at >= self._checkpoint_seconds / self._checkpoint_share
        if due or self.terminated:
            self._save()

    def end(self) -> dict[str, Any]:
        """Final exam, student and summary."""
        distillation = _distillation(self.env)
        # The last step's exam, where transfer asked for one, is the final one.
        exam = self.steps[-1].get("exam") if self.steps else None
        exam = distillation.exam() if exam is None else np.array(exam)
        with files.whole_folder(self.directory.student) as folder:
            distillation.save_student(folder)
        summary = summary_record(
            self.request.config, self.env.card, self.env.suite, label=self.request.agent.label,
            tokens_before_run=self.request.agent.tokens_before_run, budget=distillation.budget, start=self.start,
            steps=self.steps, exam=exam,
        )  # fmt: skip
        files.write_json(self.directory.summary, summary)
        # Student and optimizer state are large, and a finished run is not run again.
        files.remove(self.directory.checkpoint.parent)
        return summary

    def _save(self) -> None:
        started = time.monotonic()
        self.directory.save_checkpoint(
            {
                "step": len(self.steps),
                "terminated": self.terminated,
                "observation": to_tensors(self.observation),
                "agent": self.agent.snapshot(),
                "env": self.env.snapshot(),
            }
        )
        self._saved_at = time.monotonic()
        self._checkpoint_seconds = self._saved_at - started

    def _exam_if_due(self) -> np.ndarray | None:
        """The exam where a budget of ``exam_at`` has been reached in this step."""
        budget, step = self.request.config.budget, len(self.steps) + 1
        # The chunks' nominal ends: whole examples make the tokens spent miss them by part of a completion.
        before, after = ((step - 1) * budget.total_tokens / budget.steps, step * budget.total_tokens / budget.steps)
        due = any(before < asked <= after or (self.terminated and asked > before) for asked in self.request.exam_at)
        return _distillation(self.env).exam() if due else None


_START_EXAMS: dict[tuple[bytes, str], list[float]] = {}


def _start_exam(env: DistillationEnv, profile: np.ndarray) -> np.ndarray:
    """The exam of the student that ``env`` was just reset to, (|C|,).

    A worker starts many runs from one student. Its exam is held once: the profile to the last bit
    stands for the student, since two students that differ anywhere differ in some likelihood.
    """
    key = (profile.tobytes(), env.config.eval.model_dump_json())
    if key not in _START_EXAMS:
        distillation = _distillation(env)
        before = distillation.budget
        _START_EXAMS[key] = distillation.exam().tolist()
        # Whether the exam was held or known already must not show in the run's ledger.
        distillation.budget = before
    return np.array(_START_EXAMS[key])


def _distillation(env: DistillationEnv) -> Distillation:
    if env.distillation is None:
        raise ReadEnvError("the environment was closed while its run was going on")
    return env.distillation
