"""Minari data sets of recorded runs, with their spaces, environment and metadata.

The storage format is Arrow: it keeps strings and NaN in infos, and needs pyarrow, which the extra ``data`` has as well;
HDF5 would need h5py.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gymnasium.envs.registration import EnvSpec, spec

from read_env import __version__
from read_env.envs.spaces import spaces_of
from read_env.errors import ReadEnvError

if TYPE_CHECKING:
    from read_env.reporting.runs import Run
    from read_env.reporting.transitions import Trajectory
    from read_env.running.tool_requests import ExportRequest

ENVIRONMENT = "ReadEnv/Distillation-v0"

#: Fields in which the episodes of one environment may differ: those of the agent, and those that a reset sets.
_OF_AN_EPISODE = ("agent", "agent_options", "task", "seed")


def check_name(name: str) -> None:
    """Check that a data set can be written under a name.

    Raises:
        ReadEnvError: the extra is missing, the name is no id of Minari, or there is such a data set already.
    """
    try:
        import pyarrow  # noqa: F401
        from minari.dataset.minari_dataset import parse_dataset_id
        from minari.storage import get_dataset_path
    except ImportError as error:
        raise ReadEnvError(
            f"format: minari needs the packages minari and pyarrow ({error}): pip install 'read-env[minari]'"
        ) from None
    try:
        parse_dataset_id(name)
    except (TypeError, ValueError):  # a missing version is a TypeError
        raise ReadEnvError(
            f"out: {name!r} is no id of a Minari data set; right would be NAME-v0 or NAMESPACE/NAME-v0, in letters, "
            "digits, - and _, with at least two in the namespace"
        ) from None
    path = get_dataset_path(name)
    if path.exists():
        raise ReadEnvError(
            f"out: the data set {name} exists in {path}, and no export replaces it; right would be another name or "
            f"version (--out); minari.delete_dataset({name!r}) deletes it"
        )


def write(trajectories: tuple[Trajectory, ...], name: str, request: ExportRequest) -> tuple[Path, str]:
    """Write a local data set.

    Args:
        trajectories: one for each episode.
        name: id of the data set, which :func:`check_name` has accepted.
        request: author, permalink and description.

    Returns:
        Its folder, and the reason why ``recover_environment`` can't make the environment, empty if it can.

    Raises:
        ReadEnvError: the episodes have different spaces.
    """
    import minari
    from minari.dataset.minari_dataset import parse_dataset_id
    from minari.dataset.minari_storage import MinariStorage
    from minari.namespace import create_namespace, list_local_namespaces
    from minari.storage import get_dataset_path

    check_one_space(trajectories)
    suite, first = trajectories[0].run.begun.suite, trajectories[0]
    action_space, observation_space = spaces_of(len(suite), first.may_stop, "utility" in first.observations)
    env_spec, reason = None, ""
    try:
        env_spec = environment_of([trajectory.run for trajectory in trajectories])
    except ReadEnvError as error:
        reason = str(error)

    namespace = parse_dataset_id(name)[0]
    if namespace is not None and namespace not in list_local_namespaces():
        create_namespace(namespace)
    path = get_dataset_path(name)
    # Minari passes over folders whose name begins with a dot, so that a kill leaves no damaged data set in its list.
    with tempfile.TemporaryDirectory(prefix=".export-", dir=path.parent) as temporary:
        folder = Path(temporary) / path.name
        folder.mkdir()
        storage = MinariStorage.new(
            folder / "data",
            observation_space=observation_space,
            action_space=action_space,
            env_spec=env_spec,
            data_format="arrow",
        )
        metadata = _metadata(trajectories, request, reason)
        storage.update_metadata({"dataset_id": name, "minari_version": minari.__version__, **metadata})
        # Minari reads all episodes with one schema; records of earlier versions lack some values.
        infos = [name for name in first.infos if all(name in trajectory.infos for trajectory in trajectories)]
        storage.update_episodes(_buffer(trajectory, infos) for trajectory in trajectories)
        storage.update_episode_metadata(map(_episode_metadata, trajectories))
        folder.rename(path)
    return path, reason


def check_one_space(trajectories: tuple[Trajectory, ...]) -> None:
    """Check that the runs have the same observation and action space.

    Raises:
        ReadEnvError: two runs differ in their suite, ``budget.may_stop`` or ``eval.observe_utility``; it names both.
    """
    first = trajectories[0]
    for other in trajectories[1:]:
        for field, one, two in [
            ("suite", list(first.run.begun.suite), list(other.run.begun.suite)),
            ("budget.may_stop", first.may_stop, other.may_stop),
            ("eval.observe_utility", "utility" in first.observations, "utility" in other.observations),
        ]:
            if one != two:
                raise ReadEnvError(
                    f"directories: the episodes of a Minari data set have the same spaces, but {field} is {one} in "
                    f"{first.run.path} and {two} in {other.run.path}; right would be a data set for each, or "
                    "--format parquet"
                )


def environment_of(runs: Sequence[Run]) -> EnvSpec:
    """Specification of the environment of the runs, with the tasks and starting students of all of them.

    Raises:
        ReadEnvError: the configurations differ in more than agent, task, starting student and seed, or the environment
            can't be made from them here.
    """
    from read_env.envs.distillation import DistillationEnv

    shared = [_shared_settings(run) for run in runs]
    for run, settings in zip(runs, shared, strict=True):
        if difference := _difference(shared[0], settings):
            raise ReadEnvError(f"the configurations of {runs[0].path} and {run.path} differ: {difference}")
    tasks = list(dict.fromkeys(str(run.config["task"]) for run in runs))
    students = list(dict.fromkeys(str(run.section("models")["start"]) for run in runs if run.section("models")))
    overrides = dict(shared[0])
    arguments: dict[str, Any] = {"preset": overrides.pop("preset"), "overrides": overrides}
    if len(tasks) == 1:
        overrides["task"] = tasks[0]
    else:
        arguments["tasks"] = tasks
    if len(students) > 1:
        arguments["students"] = students
    elif students:
        overrides["models"] = {**overrides["models"], "start": students[0]}
    env = DistillationEnv(**arguments)  # reads suite and cards, loads no model
    suite = runs[0].begun.suite
    if env.suite.names != suite:
        raise ReadEnvError(f"the capabilities of suite {env.config.suite!r} are not those of {runs[0].path} any more")
    found = copy.deepcopy(spec(ENVIRONMENT))
    found.kwargs = arguments
    return found


def _shared_settings(run: Run) -> dict[str, Any]:
    """Configuration without the fields of one episode."""
    for name in ("preset", "task"):
        if name not in run.config:
            raise ReadEnvError(f"{run.path / 'config.json'}: field {name!r} is missing")
    shared = {name: value for name, value in run.config.items() if name not in _OF_AN_EPISODE}
    if "models" in shared:
        shared["models"] = {name: value for name, value in run.section("models").items() if name != "start"}
    return shared


def _difference(one: Mapping[str, Any], other: Mapping[str, Any], section: str = "") -> str:
    """First field that differs, with both values; empty if none does."""
    for name in dict.fromkeys([*one, *other]):
        a, b = one.get(name), other.get(name)
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            if found := _difference(a, b, f"{section}{name}."):
                return found
        elif a != b:
            return f"{section}{name} is {a!r} and {b!r}"
    return ""


def _buffer(trajectory: Trajectory, infos: Sequence[str]) -> Any:
    from minari.data_collector.episode_buffer import EpisodeBuffer

    kept = {name: trajectory.infos[name] for name in infos}
    options = {"task": str(trajectory.run.config.get("task", trajectory.run.task)), "student": _student(trajectory)}
    return EpisodeBuffer(
        seed=trajectory.run.seed,
        options=options,
        observations=dict(trajectory.observations),
        actions=trajectory.actions,
        rewards=trajectory.rewards.tolist(),
        terminations=trajectory.terminations.tolist(),
        truncations=[False] * len(trajectory),
        # A column of scalars is a list, as the collector makes them.
        infos={name: values if values.ndim > 1 else values.tolist() for name, values in kept.items()},
    )


def _episode_metadata(trajectory: Trajectory) -> dict[str, Any]:
    run, end = trajectory.run, trajectory.run.ended
    return {
        "run": str(run.path),
        "agent": run.agent,
        "task": str(trajectory.infos["task"][0]),
        "student": _student(trajectory),
        "requirement": run.begun.requirement.tolist(),
        "budget": end.budget,
        "tokens_before_run": end.tokens_before_run,
        "exam_utility_start": end.exam_utility_start,
        "exam_utility": end.exam_utility,
        "derived_from": end.derived_from,  # name of the run whose steps these are, judged by another task
        "rewards_sum": float(trajectory.rewards.sum()),
    }


def _student(trajectory: Trajectory) -> str:
    return str(trajectory.infos["student"][0])


def _metadata(trajectories: tuple[Trajectory, ...], request: ExportRequest, reason: str) -> dict[str, Any]:
    runs = [trajectory.run for trajectory in trajectories]
    agents, tasks = (", ".join(dict.fromkeys(values)) for values in ([r.agent for r in runs], [r.task for r in runs]))
    made = "" if not reason else f" The environment can't be recovered: {reason}."
    description = f"{len(runs)} episodes of {ENVIRONMENT}, recorded by read-env. Tasks: {tasks}.{made}"
    given = {name: getattr(request, name) for name in ("author", "author_email", "code_permalink")}
    return {
        "algorithm_name": agents,
        "description": request.description or description,
        "capabilities": list(runs[0].begun.suite),
        "requirements": [f"read-env>={__version__}"],
        **{name: {value} if name.startswith("author") else value for name, value in given.items() if value},
    }
