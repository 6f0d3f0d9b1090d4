"""Evaluation of a run's students on tasks of lm-eval: the distilled student, and those that ``run --keep`` saved on the way.

The results are kept in ``external.json`` after every task, for the report and for TensorBoard (``external/TASK/METRIC``).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from read_env import files
from read_env.config import Config, ModelConfig
from read_env.errors import ReadEnvError
from read_env.record_files import read_external
from read_env.records import ExternalEvaluation, ExternalRecord
from read_env.running.directory import RunDirectory
from read_env.running.harness import BATCH_SIZE, evaluate, no_progress_bars
from read_env.running.harness_tasks import HarnessTasks, version
from read_env.running.tensorboard import Curves


def run_of(reference: str) -> tuple[RunDirectory | None, str]:
    """The run that a reference names, and one of its students, empty for all of them; no run for another model.

    Example:
        >>> run_of("embedded:micro/student")
        (None, '')
    """
    path = Path(os.path.expanduser(reference))
    for folder in (path, *list(path.parents)[:2]):
        run, student = RunDirectory(folder), path.relative_to(folder).as_posix()
        if run.identity.exists() and student in (".", "student", *(_name(run, one) for one in run.kept_students())):
            kind = files.read_json(run.identity).get("kind")
            if kind != "run":
                raise ReadEnvError(
                    f"{path} holds a {kind}, and evaluate needs a student; right would be one of its runs"
                )
            return run, student.removeprefix(".")
    return None, ""


def evaluate_run(
    run: RunDirectory, models: ModelConfig, tasks: HarnessTasks, loaded: Mapping[str, Any], *, student: str = "",
    again: bool = False, batch_size: int = BATCH_SIZE,
) -> list[ExternalEvaluation]:  # fmt: skip
    """Evaluate students of a run; an interrupted evaluation goes on after the last finished task.

    Args:
        run: directory of the run, which this process uses alone.
        models: device, dtype and attention.
        tasks: the tasks and their settings.
        loaded: the same tasks from :func:`read_env.running.harness_tasks.load_tasks`.
        student: one of its students; empty: all of them.
        again: evaluate again what is on record with the same settings.
        batch_size: requests per batch; on out-of-memory it is halved.

    Returns:
        The evaluations, those on record included.

    Raises:
        ReadEnvError: the run has no student yet, or one can't be evaluated.
    """
    record = {one.key: one for one in read_external(run.path).evaluations}
    asked = []
    for name, step in _students(run, student).items():
        found = None
        for task, of_task in loaded.items():
            key = (name, task, tasks.num_fewshot, tasks.limit, tasks.chat_template)
            if again or key not in record:
                found = found or _load(str(run.path / name), models)
                record[key] = _evaluation(found, name, step, tasks, task, of_task, batch_size)
                value = ExternalRecord(evaluations=tuple(record.values()))
                files.write_json(run.external, value.to_json())
            asked.append(record[key])
    write_curves(run)
    return asked


def evaluate_model(
    reference: str, models: ModelConfig, tasks: HarnessTasks, loaded: Mapping[str, Any], batch_size: int = BATCH_SIZE
) -> list[ExternalEvaluation]:
    """Evaluate a model that belongs to no run; arguments as in :func:`evaluate_run`."""
    found = _load(reference, models)
    return [_evaluation(found, reference, 0, tasks, task, loaded[task], batch_size) for task in loaded]


def evaluate_configured(run: RunDirectory, config: Config, loaded: Mapping[str, Any]) -> None:
    """Evaluate the students of a run on ``eval.external``, without progress bars; what is on record is not done again."""
    if config.eval.external:
        with no_progress_bars():
            evaluate_run(run, config.models, HarnessTasks.of(config), loaded)


def write_curves(run: RunDirectory) -> None:
    """Write the record as TensorBoard curves, in place of earlier ones; the x axis is the student's step."""
    folder = run.tensorboard / "external"
    files.remove(folder)
    points = {
        (one.step, f"external/{task}/{metric}"): score.value
        for one in read_external(run.path).evaluations
        for task, result in one.results.items()
        for metric, score in result.metrics.items()
        if score.value is not None
    }
    curves = Curves(folder, 0)
    for (step, tag), value in sorted(points.items()):
        curves.write({tag: value}, step)
    curves.close()


def rows(evaluations: Iterable[ExternalEvaluation]) -> list[tuple[str, str]]:
    """Rows of a table: task and metric, and value, standard error and student."""
    return [
        (
            f"{task} {metric}",
            f"{'none' if score.value is None else f'{score.value:.4f}'}"
            f"{'' if score.stderr is None else f' ± {score.stderr:.4f}'}   {one.student}",
        )
        for one in evaluations
        for task, result in one.results.items()
        for metric, score in result.metrics.items()
    ]


def _evaluation(
    found: Any, student: str, step: int, tasks: HarnessTasks, task: str, of_task: Any, batch_size: int
) -> ExternalEvaluation:
    return ExternalEvaluation(
        student=student, step=step, asked=task, num_fewshot=tasks.num_fewshot, limit=tasks.limit,
        chat_template=tasks.chat_template, lm_eval=version(),
        results=evaluate(found.model, found.encoder.tokenizer, tasks, of_task, batch_size),
    )  # fmt: skip


def _load(reference: str, models: ModelConfig) -> Any:
    from read_env.distillation.loading import load

    return load(reference, models)


def _students(run: RunDirectory, chosen: str) -> dict[str, int]:
    """Folder in the run -> steps that the student had made; kept ones first."""
    found = {_name(run, path): int(path.name.removeprefix("step-")) for path in run.kept_students()}
    if run.student.is_dir():
        found[_name(run, run.student)] = len(files.read_lines(run.steps)) if run.steps.exists() else 0
    if not found:
        raise ReadEnvError(
            f"{run.path} has no student: its run has not finished, or a comparison deleted it (--keep-students keeps all)"
        )
    return {name: step for name, step in found.items() if chosen in ("", name)}


def _name(run: RunDirectory, student: Path) -> str:
    return student.relative_to(run.path).as_posix()
