"""Derived runs: one run serves several tasks if the agent acts alike in all of them.

Such an agent spends the same tokens for every task, so the student's profile after every step is the same. Utility, reward
and its parts are computed from the profile and differ.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from read_env import files
from read_env.records import RunStart, RunSummary, StepRecord
from read_env.running.callbacks import Onlookers
from read_env.running.directory import RunDirectory
from read_env.running.external import write_curves
from read_env.running.records import judgement
from read_env.running.requests import RunRequest
from read_env.running.runner import RunResult
from read_env.running.tensorboard import TensorBoardCallback

if TYPE_CHECKING:
    from read_env.capabilities.base import Suite
    from read_env.running.agents import AgentSpec
    from read_env.tasks.card import TaskCard

_TASK_FREE = ("uniform", "round-robin")


def shared_key(agent: AgentSpec, card: TaskCard, suite: Suite) -> str | None:
    """Part of the task that an agent's allocations depend on; None if it may be anything. Equal keys mean equal runs."""
    if agent.path is not None or card.measured:  # its utility is in no other run's records
        return None
    if agent.name in _TASK_FREE:
        return "any task"
    if agent.name == "one-hot":
        # In float32, as the agent sees it, so that ties are broken alike.
        largest = int(np.argmax(card.requirement_vector(suite).astype(np.float32)))
        return str(agent.options.get("capability") or suite.names[largest])
    return None


def derive(source: RunRequest, target: RunRequest) -> RunResult:
    """Write the records of ``target`` from those of ``source``: the same run, judged by another task.

    Args:
        source: a finished run with the same ``shared_key``.
        target: the same configuration with another task.
    """
    from read_env.capabilities import get_suite
    from read_env.envs.reward import reward_of
    from read_env.tasks import load_task

    origin, directory = RunDirectory(source.directory), RunDirectory(target.directory)
    config = target.config
    with directory.claim(target.identity, config.model_dump(mode="json"), overwrite=target.overwrite):
        if directory.finished:
            return RunResult(directory.path, files.read_json(directory.summary), already_finished=True)
        suite = get_suite(config.suite)
        card = load_task(config.task, suite)

        start = files.read_json(origin.start)
        teacher = start.get("teacher_profile")
        utility = lambda profile: card.utility(profile, suite, teacher)  # noqa: E731
        start |= {
            "task": target.task_name,
            "requirement": card.requirement_vector(suite).tolist(),
            "utility_form": card.utility_form,
            "description": card.description,
            **_judged(start, utility),
        }
        requirement = card.requirement_vector(suite)
        steps: list[dict[str, Any]] = []
        before, value = np.array(start["profile"]), start["utility"]
        for record in files.read_lines(origin.steps):
            after = np.array(record["profile"])
            utilities = value, utility(after)
            reward = reward_of(config.reward, requirement, (before, after), utilities, record["cost"])
            parts = {name: getattr(reward, name) for name in ("gain", "spillover", "forgetting")}
            steps.append(
                StepRecord(**{**record, "reward": reward.value, **parts, **_judged(record, utility)}).to_json()
            )
            before, value = after, utilities[1]
        summary = files.read_json(origin.summary)
        summary |= {"task": target.task_name, "derived_from": source.directory.name}
        summary |= judgement(card, suite, config.reward.essential_k, start, steps, summary["exam"])
        start, summary = RunStart(**start).to_json(), RunSummary(**summary).to_json()

        files.write_json(directory.start, start)
        lines = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in steps)
        files.write_text(directory.steps, lines)
        if origin.student.exists():
            with files.whole_folder(directory.student) as folder:
                shutil.copytree(origin.student, folder, dirs_exist_ok=True)
        if origin.external.exists():
            shutil.copy(origin.external, directory.external)
        curves = Onlookers([TensorBoardCallback(target)])
        curves.call("on_run_start", start, [])
        for record in steps:
            curves.call("on_step", record)
        curves.call("on_run_end", summary)
        curves.call("close")
        write_curves(directory)
        files.write_json(directory.summary, summary)
    return RunResult(directory.path, summary)


def _judged(record: Mapping[str, Any], utility: Any) -> dict[str, float]:
    """Utilities of the profiles in a record."""
    pairs = (("profile", "utility"), ("dev_profile", "dev_utility"))
    return {name: utility(np.array(record[profile])) for profile, name in pairs if record.get(profile) is not None}
