"""Tasks of the LM Evaluation Harness (package ``lm-eval``), looked up and loaded with their data sets.

Python code that a task would execute is refused: programs that a model writes, and metrics that are downloaded from the hub.
"""

from __future__ import annotations

import difflib
import importlib.metadata
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from read_env.errors import ReadEnvError

if TYPE_CHECKING:
    from read_env.config import Config


@dataclass(frozen=True)
class HarnessTasks:
    """Tasks, and the settings that their results depend on.

    Attributes:
        names: names of tasks, groups or tags.
        include_path: folder with further tasks as YAML files; empty for none.
        num_fewshot: examples in the prompt. None: as each task has it.
        limit: prompts per task, the first ones. None: all.
        chat_template: prompts are rendered by the model's chat template.
        trust_remote_code: metrics may be Python code from the hub.
    """

    names: tuple[str, ...]
    include_path: str = ""
    num_fewshot: int | None = None
    limit: int | None = None
    chat_template: bool = False
    trust_remote_code: bool = False

    @classmethod
    def of(cls, config: Config) -> HarnessTasks:
        """Tasks of a configuration, ``eval.external``."""
        asked = config.eval
        return cls(
            asked.external, asked.external_include_path, chat_template=asked.external_chat_template,
            trust_remote_code=config.models.trust_remote_code,
        )  # fmt: skip


def version() -> str:
    """Version of lm-eval.

    Raises:
        ReadEnvError: it isn't installed.
    """
    try:
        import lm_eval  # noqa: F401
    except ImportError as error:
        raise ReadEnvError(
            f"evaluation on tasks of lm-eval needs the package lm-eval ({error}); pip install 'read-env[evaluate]'"
        ) from None
    return importlib.metadata.version("lm_eval")


def load_tasks(tasks: HarnessTasks) -> dict[str, Any]:
    """Load all tasks and their data sets. Done before a run, it finds mistakes before tokens are spent.

    Returns:
        Name -> lm-eval's objects of the task, group or tag.

    Raises:
        ReadEnvError: lm-eval isn't installed, a task is unknown, can't be loaded or executes code.
    """
    if tasks.names:
        version()
    return {name: _load(tasks, name) for name in tasks.names}


def _load(tasks: HarnessTasks, name: str) -> Any:
    """Objects of a task, group or tag, with their data sets."""
    manager = _manager(tasks.include_path, name)
    _check_known(manager, tasks, name)
    for one in _settings(manager.task_index, name):
        if one.get("unsafe_code"):
            raise _runs_programs(name, str(one.get("task", name)))
    with quiet(), _metrics_of_the_hub(name, tasks.trust_remote_code):
        try:
            loaded = manager.load([name])
        except Exception as error:  # of datasets, of the hub, and of the Python code of a task
            raise ReadEnvError(
                f"task {name!r} of lm-eval could not be loaded ({type(error).__name__}: {reason_of(error)}). Its data set comes "
                "from the hub unless the task names local files: without a connection, right would be a data set that is in "
                "the cache of $HF_HOME, or a task with dataset_path: json and data_files"
            ) from error
    for task_name, task in loaded["tasks"].items():
        if getattr(task, "UNSAFE_CODE", False):
            raise _runs_programs(name, task_name)
        shots = task.get_config("num_fewshot")
        # As in lm_eval.simple_evaluate: a task that is made without examples keeps none.
        if shots is None or (tasks.num_fewshot is not None and shots != 0):
            task.set_config(key="num_fewshot", value=tasks.num_fewshot or 0)
        task.set_fewshot_seed(seed=1234)
    return loaded


def _manager(include_path: str, name: str) -> Any:
    """Index of the tasks in a folder, which is fast; unless the name is a single task of it, of lm-eval's as well."""
    folder = os.path.expanduser(include_path)
    if folder and not Path(folder).is_dir():
        raise ReadEnvError(
            f"include path {include_path!r}: no such folder; right would be a folder with tasks in *.yaml"
        )
    from lm_eval.tasks import TaskManager

    with quiet():
        own = TaskManager(include_path=folder, include_defaults=False) if folder else None
    entry = own and own.task_index.get(name)
    return own if entry and isinstance((entry.cfg or {}).get("task"), str) else _whole_index(folder)


@lru_cache(maxsize=4)
def _whole_index(folder: str) -> Any:
    """Index of all tasks. It takes many seconds, since lm-eval reads thousands of YAML files."""
    from lm_eval.tasks import TaskManager

    with quiet():
        return TaskManager(include_path=folder or None)


def _check_known(manager: Any, tasks: HarnessTasks, name: str) -> None:
    if name not in manager.all_tasks:
        close = ", ".join(difflib.get_close_matches(name, manager.all_tasks, 5, 0.5))
        raise ReadEnvError(
            f"unknown task {name!r}: lm-eval {version()} and include path {tasks.include_path!r} have none of this name"
            f"{f'; close to it: {close}' if close else ''}; lm-eval ls tasks prints all"
        )


def _settings(index: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    """Settings in the YAML files of a task, and of all members of a group or tag. Nothing of them is executed."""
    found: list[Mapping[str, Any]] = []
    seen = set()

    def visit(item: Any) -> None:
        if isinstance(item, str):
            entry = index.get(item)
            if entry is not None and item not in seen:
                seen.add(item)
                visit(entry.cfg or {"task": sorted(entry.tags)})  # a tag has no file
        elif isinstance(item, Mapping):
            found.append(item)
            for members in (item.get("task"), item.get("group")):
                for member in members if isinstance(members, list) else [members]:
                    visit(member)

    visit(name)
    return found


def _runs_programs(asked: str, task: str) -> ReadEnvError:
    of = f" of {asked!r}" if asked != task else ""
    return ReadEnvError(
        f"task {task!r}{of} executes programs that the student writes, with your rights, and is refused; right would be "
        "another task, or lm-eval itself on the student's folder, in a container"
    )


@contextmanager
def _metrics_of_the_hub(name: str, allowed: bool) -> Iterator[None]:
    """Refuse metrics of the package ``evaluate``, which are Python files of the hub, unless they are allowed."""
    import evaluate

    original, refused = evaluate.load, list[str]()

    def refuse(path: str, *arguments: Any, **options: Any) -> Any:
        refused.append(path)
        raise ReadEnvError(path)

    evaluate.load = original if allowed else refuse
    try:
        yield
    except ReadEnvError:
        if not refused:
            raise
    finally:
        evaluate.load = original
    if refused:  # lm-eval may have caught the error
        raise ReadEnvError(
            f"task {name!r} of lm-eval has the metric {refused[0]!r}, which is Python code from the hub; right would be "
            "another task, or trust_remote_code where you trust it"
        )


@contextmanager
def quiet() -> Iterator[None]:
    """Hide lm-eval's remarks about models and tasks that were given as they should be."""
    logger = logging.getLogger("lm_eval")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def reason_of(error: Exception) -> str:
    r"""Text of an error in one line of at most 300 characters.

    >>> reason_of(ValueError("no such\n  metric"))
    'no such metric'
    """
    return " ".join(str(error).split())[:300]
