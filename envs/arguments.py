"""Arguments that the environments share, and the configuration that they make."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from read_env.config import Config, load_preset
from read_env.errors import ReadEnvError


def config_of(
    preset: str, task: str | None, tasks: Sequence[str] | None, students: Sequence[str] | None,
    overrides: Mapping[str, Any] | None, may_stop: bool | None, observe_utility: bool | None,
) -> Config:  # fmt: skip
    """Configuration of an environment's arguments.

    Raises:
        ReadEnvError: arguments that don't go together, or a field that is unknown or out of range.

    Example:
        >>> config_of("micro", "math", None, None, None, True, None).budget.may_stop
        True
    """
    if task is not None and tasks is not None:
        raise ReadEnvError(f"give task or tasks, not both; got task={task!r} and tasks={tasks!r}")
    for kind, value in (("task", tasks), ("student", students)):
        if isinstance(value, str) or (value is not None and not value):
            raise ReadEnvError(f"{kind}s must be a list of at least one {kind}, got {value!r}")
    changes = {**(overrides or {}), **({} if task is None else {"task": task})}
    if may_stop is not None:
        changes["budget"] = {**changes.get("budget", {}), "may_stop": may_stop}
    if observe_utility is not None:
        changes["eval"] = {**changes.get("eval", {}), "observe_utility": observe_utility}
    return load_preset(preset, changes)
