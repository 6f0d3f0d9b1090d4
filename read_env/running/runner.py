"""One budgeted run, from an initial student to a distilled one, resumable after every step.

Every step is predicted, made, observed, recorded and, when due, followed by a checkpoint. The exam is held before the first
step and after the last one and reaches no agent. A killed run resumes from its last checkpoint to the same bits: the steps
after it are deleted from the records and made again.
"""

from __future__ import annotations

import json
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from read_env import files
from read_env.agents.interaction import transitions
from read_env.errors import ReadEnvError
from read_env.record_files import read_record, read_records
from read_env.records import RunStart, StepRecord, plain
from read_env.running.agents import AgentDriver, build_agent
from read_env.running.callbacks import Callback, Onlookers
from read_env.running.cards import keep_cards
from read_env.running.diagnosis import DiagnosisCallback
from read_env.running.directory import RunDirectory
from read_env.running.external import evaluate_configured
from read_env.running.harness import check_template
from read_env.running.harness_tasks import HarnessTasks, load_tasks
from read_env.running.identity import RunIdentity, fingerprint
from read_env.running.records import MeasuredTask, start_record, step_record, summary_record
from read_env.running.requests import RunRequest, resolved

if TYPE_CHECKING:
    from read_env.config import BudgetConfig, Config
    from read_env.distillation.process import Distillation
    from read_env.envs.distillation import DistillationEnv

#: Largest share of the time that goes into checkpoints. Steps after the last checkpoint are made again on resume.
CHECKPOINT_SHARE = 0.05


@dataclass(frozen=True)
class RunResult:
    """Result of a run.

    Attributes:
        directory: directory of the run.
        summary: content of ``summary.json``.
        resumed_after: number of steps made by an interrupted call; None for a run from the beginning.
        already_finished: an earlier call had finished the run, so nothing was done.
    """

    directory: Path
    summary: Mapping[str, Any]
    resumed_after: int | None = None
    already_finished: bool = False


def make_env(config: Config, **kwargs: Any) -> DistillationEnv:
    """Environment of a resolved configuration. Models are loaded at its first reset.

    Example:
        >>> from read_env.config import Config
        >>> make_env(Config(task="math")).cards[0].name
        'math'
    """
    from read_env.envs.distillation import DistillationEnv

    return DistillationEnv(preset=config.preset, overrides=config.model_dump(exclude={"preset"}), **kwargs)


def run(
    request: RunRequest, *, env: DistillationEnv | None = None, callbacks: Sequence[Callback] = (),
    checkpoint_share: float = CHECKPOINT_SHARE,
) -> RunResult:  # fmt: skip
    """Run a request to its end, or resume it after an interruption.

    Args:
        request: the run.
        env: a loaded environment to reuse; its models must be those of ``request.config``. None: a new one.
        callbacks: called at the start, after every step and at the end. One that raises is let go, with a warning.
        checkpoint_share: largest share of the time that checkpoints may take.

    Raises:
        ReadEnvError: the directory can't be used, a checkpoint is damaged, or a step fails.
    """
    request = resolved(request)
    directory = RunDirectory(request.directory)
    with directory.claim(request.identity, request.recorded, overwrite=request.overwrite):
        if directory.finished:
            files.remove(directory.checkpoint.parent)  # a kill after the summary was written may have left it
            if request.config.eval.external:  # asked for afterwards
                evaluate_configured(directory, request.config, load_tasks(HarnessTasks.of(request.config)))
            return RunResult(directory.path, files.read_json(directory.summary), already_finished=True)
        files.remove(directory.error)
        keep_cards(directory, request.config.suite, [request.config.task])
        onlookers = Onlookers([DiagnosisCallback(directory.path.name, request.recorded), *callbacks])
        try:
            return _run(request, directory, env or make_env(request.config), onlookers, checkpoint_share)
        except Exception:
            with suppress(OSError):  # a full disk, which may be the error itself
                files.write_atomic(directory.error, traceback.format_exc().encode(errors="backslashreplace"))
            raise
        finally:
            onlookers.call("close")


def _run(
    request: RunRequest, directory: RunDirectory, env: DistillationEnv, onlookers: Onlookers, share: float
) -> RunResult:
    config, agent = request.config, request.agent
    tasks = HarnessTasks.of(config)
    external = load_tasks(tasks)  # before any token is spent
    saved = directory.load_checkpoint(expected=directory.begun)
    observation, info = env.reset(seed=config.seed, options={"task": config.task, "student": config.models.start})
    driver = AgentDriver(build_agent(agent, env.suite, config.seed, env.may_stop), agent.label)
    distillation = _distillation(env)
    if external:
        check_template(tasks, distillation.student.encoder.tokenizer)
    steps: list[dict[str, Any]] = []
    terminated = False
    left: dict[str, Any] = {"left_tokens": 0} if env.may_stop else {}

    def state() -> dict[str, Any]:
        return {
            "step": len(steps), "terminated": terminated, "agent": driver.state_dict(), "env": env.snapshot(),
            **({"left": left} if left else {}),
        }  # fmt: skip

    if saved is None:
        profile = info["profile"]
        exam, task_exam = _start_exam(env, profile)
        start = start_record(
            config, env.card, env.suite, profile, exam, distillation.dev_profile(), distillation.measurement.teacher_scores,
            distillation.measurement.samples(), distillation.overlong, _measured_task(distillation, task_exam),
        )  # fmt: skip
        files.write_json(directory.start, start)
        # From here on there is always a checkpoint: recorded steps without one are an error.
        directory.save_checkpoint(state)
    else:
        start = read_record(directory.start, RunStart).to_json()
        files.keep_lines(directory.steps, saved["step"])
        if saved["step"]:
            steps = [step.to_json() for step in read_records(directory.steps, StepRecord, len(start["suite"]))[0]]
        with directory.fitting_checkpoint():
            observation, _ = env.restore(saved["env"])
            driver.load_state_dict(saved["agent"])
            terminated, left = bool(saved["terminated"]), dict(saved.get("left", {}))
    resumed_after = None if saved is None else len(steps)
    onlookers.call("on_run_start", start, steps)

    loop = transitions(driver, env, observation=observation, first=not steps, deterministic=True)
    while not terminated:
        transition = next(loop)
        observation, terminated = dict(transition.next_observation), transition.done
        if transition.info.get("stopped"):
            measured = {name: plain(transition.info[name]) for name in ("dev_profile", "dev_utility")}
            left = {"left_tokens": transition.info["budget_left"], **measured}
            directory.save_checkpoint(state)
            break
        assert env.last_report is not None, "a step leaves its report"
        due = _exam_due(config.budget, request.exam_at, len(steps) + 1, terminated)
        exams = (distillation.exam(), distillation.task_exam()) if due else (None, None)
        record = step_record(transition.info, transition.reward, env.last_report, driver.scalars(), *exams)
        files.append_line(directory.steps, record)
        steps.append(record)
        # Before the checkpoint, after which the step isn't made again; after the last step it is ``student``.
        if request.keep and len(steps) % request.keep == 0 and not terminated:
            with files.whole_folder(directory.kept_student(len(steps))) as folder:
                distillation.save_student(folder)
        onlookers.call("on_step", record)
        if terminated or directory.checkpoint_due(share):
            directory.save_checkpoint(state)

    # Where the exam was held in the last step, for a transfer matrix, it is the final one.
    last = steps[-1].get("exam") if steps else None
    exam = distillation.exam() if last is None else np.array(last)
    task_exam = distillation.task_exam() if last is None else steps[-1].get("task_exam")
    with files.whole_folder(directory.student) as folder:
        distillation.save_student(folder)
    evaluate_configured(directory, config, external)
    if left.get("left_tokens") and config.eval.score_unspent:
        left |= _played_on(env, start)
    before = agent.tokens_before_run + driver.agent.tokens_before_run + env.card.tokens_before_run
    summary = summary_record(
        config, env.card, env.suite, label=agent.label, tokens_before_run=before,
        budget=distillation.budget, start=start, steps=steps, exam=exam, samples=distillation.measurement.samples(),
        left=left, task_exam=task_exam,
    )  # fmt: skip
    files.write_json(directory.summary, summary)
    # Student and optimizer state are large, and a finished run is not resumed.
    files.remove(directory.checkpoint.parent)
    onlookers.call("on_run_end", summary)
    return RunResult(directory.path, summary, resumed_after)


def _exam_due(budget: BudgetConfig, exam_at: Sequence[int], step: int, terminated: bool) -> bool:
    """True if a budget of ``exam_at`` is reached in this step.

    Counted in nominal step ends: as examples are whole, the tokens spent miss them by part of a completion.
    """
    before, after = ((step - 1) * budget.total_tokens / budget.steps, step * budget.total_tokens / budget.steps)
    return any(before < asked <= after or (terminated and asked > before) for asked in exam_at)


def _played_on(env: DistillationEnv, start: Mapping[str, Any]) -> dict[str, float]:
    """Utility after the rest of the budget is spent by w = r; the student is restored afterwards."""
    distillation = _distillation(env)
    stopped = distillation.snapshot()
    try:
        while not distillation.exhausted:
            distillation.step(env.requirement.astype(np.float32))  # the precision of actions
        profile, score = distillation.profile, distillation.task_score
        exam, task_exam = distillation.exam(), distillation.task_exam()
    finally:
        distillation.restore(stopped)
    return {
        "left_utility": env.card.utility(profile, env.suite, start.get("teacher_profile"), score),
        "left_exam_utility": env.card.utility(exam, env.suite, start.get("teacher_exam"), task_exam),
    }


_START_EXAMS: dict[tuple[str, bytes], tuple[list[float], float | None]] = {}


def _start_exam(env: DistillationEnv, profile: np.ndarray) -> tuple[np.ndarray, float | None]:
    """Exam of the student that ``env`` was just reset to, (|C|,), and of the task's own prompts.

    A worker starts many runs from one student, whose exam is held once: for the same models by content, the same suite and
    the same settings of decoding and evaluation. The profile is part of the key as well, and of a measured task the content of its
    card and prompts.
    """
    identity = RunIdentity.of_many("exam", env.config).to_json()
    for section in ("preset", "budget", "reward"):  # no exam before the first step depends on them
        identity["settings"].pop(section)
    card = fingerprint(env.card) if env.card.measured else None
    key = (json.dumps([identity, env.student, card], sort_keys=True), profile.tobytes())
    if key not in _START_EXAMS:
        distillation = _distillation(env)
        before = distillation.budget
        _START_EXAMS[key] = distillation.exam().tolist(), distillation.task_exam()
        # The ledger must not depend on whether the exam was held or known.
        distillation.budget = before
    exam, task_exam = _START_EXAMS[key]
    return np.array(exam), task_exam


def _measured_task(distillation: Distillation, exam: float | None) -> MeasuredTask | None:
    """Scores on the task's own prompts at the start; ``exam`` is that of the exam."""
    if distillation.task is None or distillation.task_score is None or exam is None:
        return None
    teacher = distillation.measurement.teacher_task_scores()
    return MeasuredTask(distillation.task_score, distillation.task_dev(), exam, distillation.task.graded, teacher)


def _distillation(env: DistillationEnv) -> Distillation:
    if env.distillation is None:
        raise ReadEnvError("the environment was closed while its run was going on")
    return env.distillation
