"""Transitions rebuilt from records are those that the environment returned, to the bit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_runs import SMALL, fake_env
from micro import micro_config
from synthetic_records import write_run, write_training

import read_env
from read_env.config import Config, load_preset
from read_env.envs.distillation import DistillationEnv
from read_env.record_files import RecordError
from read_env.reporting import load_run
from read_env.reporting.transitions import Trajectory, load_trajectories, trajectory_of
from read_env.running.agents import AgentSpec
from read_env.running.requests import RunRequest
from read_env.running.runner import make_env, run

#: What ``reset`` and ``step`` returned, and the actions.
Recording = tuple[list[tuple[Any, ...]], list[np.ndarray]]


def recorded(config: Config, agent: str, folder: Path, make: Any = fake_env) -> Recording:
    """Makes a run, and records what its environment returned."""
    config = AgentSpec.parse(agent).configure(config)
    env: DistillationEnv = make(config)
    returned: list[tuple[Any, ...]] = []
    actions: list[np.ndarray] = []
    reset, step = env.reset, env.step

    def watched_step(action: np.ndarray) -> tuple[Any, ...]:
        actions.append(action)
        returned.append(step(action))
        return returned[-1]

    env.reset = lambda **given: returned.append(reset(**given)) or returned[-1]  # type: ignore[method-assign]
    env.step = watched_step  # type: ignore[method-assign, assignment]
    run(RunRequest(config, folder), env=env)
    return returned, actions


def small(task: str = "bookkeeper", **sections: Any) -> Config:
    merged = {name: {**SMALL.get(name, {}), **sections[name]} for name in sections}
    return load_preset("micro", {**SMALL, **merged, "task": task})


def assert_as_returned(found: Trajectory, recording: Recording) -> None:
    (first, at_reset), *steps = recording[0]
    observations = [first, *(made[0] for made in steps)]
    assert set(found.observations) == set(first)
    for name, values in found.observations.items():
        assert values.dtype == np.float32
        np.testing.assert_array_equal(values, np.array([seen[name] for seen in observations]), err_msg=name)
    assert found.rewards.tolist() == [made[1] for made in steps]
    assert found.terminations.tolist() == [made[2] for made in steps]
    assert not any(made[3] for made in steps)
    infos = [at_reset, *(made[4] for made in steps)]
    assert set(found.infos) == set().union(*infos)
    for number, info in enumerate(infos):
        for name, values in found.infos.items():
            row = values[number]
            if name in info:
                np.testing.assert_array_equal(row, info[name], err_msg=f"{name} of step {number}", strict=False)
                assert values.dtype.kind == np.asarray(info[name]).dtype.kind, name
            elif name.startswith("dev_"):
                assert np.isnan(row).all()
            else:
                assert number == 0 and not np.any(row), name


def assert_same_allocations(found: Trajectory, recording: Recording) -> None:
    size = len(found.run.begun.suite)
    assert found.actions.shape == (len(recording[1]), len(recording[1][0])) and found.actions.dtype == np.float32
    for row, given, made in zip(found.actions, recording[1], recording[0][1:], strict=True):
        np.testing.assert_array_equal(row[:size], made[4]["allocation"].astype(np.float32))
        if not made[4].get("stopped"):
            np.testing.assert_allclose(row[:size], given[:size] / given[:size].sum(), rtol=1e-5)
        assert row[size:].tolist() == given[size:].tolist()


def test_a_run_of_real_models_comes_back_as_the_environment_returned_it(tmp_path: Path) -> None:
    recording = recorded(micro_config(), "water-filling", tmp_path / "run", make_env)
    found = trajectory_of(load_run(tmp_path / "run"))
    assert len(found) == 3
    assert_as_returned(found, recording)
    assert_same_allocations(found, recording)


@pytest.mark.parametrize(
    ("agent", "sections", "count"),
    [
        ("task-static", {}, 6),
        ("read-bandit", {"eval": {"observe_utility": True}, "reward": {"cost_lambda": 0.1}}, 6),
        ("task-static", {"models": {"start": "clerk"}}, 6),
        ("task-static", {"task": "code-reviewer", "reward": {"forgetting_beta": 0.2}}, 6),
        ("task-static", {"budget": {"may_stop": True}}, 6),
        ("task-static,stop_at=0.3", {"budget": {"may_stop": True}}, 3),
        ("read-bandit,cost_lambda=9", {"budget": {"may_stop": True}}, 1),
    ],
)
def test_settings_and_stops_come_back(agent: str, sections: dict[str, Any], count: int, tmp_path: Path) -> None:
    recording = recorded(small(**sections), agent, tmp_path / "run")
    found = trajectory_of(load_run(tmp_path / "run"))
    assert len(found) == count
    assert_as_returned(found, recording)
    assert_same_allocations(found, recording)


def test_the_frame_has_a_row_for_each_transition(tmp_path: Path) -> None:
    returned, _ = recorded(small(), "task-static", tmp_path / "run")
    frame = read_env.load_transitions(tmp_path / "run")
    assert list(frame["transition"]) == [1, 2, 3, 4, 5, 6]
    assert frame["reward"].tolist() == [made[1] for made in returned[1:]]
    last = frame.iloc[-1]
    assert last["terminated"] and not last["truncated"] and last["info/budget_left"] == 0
    assert frame["info/dev_profile"].isna().tolist() == [True, False] * 3
    for i in range(6):
        np.testing.assert_array_equal(frame["observation/profile"][i], returned[i][0]["profile"])
        np.testing.assert_array_equal(frame["next_observation/profile"][i], returned[i + 1][0]["profile"])
        np.testing.assert_array_equal(frame["info/profile"][i], returned[i + 1][4]["profile"])
    assert frame["observation/utility"].isna().all() and frame["info/stopped"].isna().all()
    assert frame["capabilities"][0][:2] == ["general_knowledge", "steerability"]


def test_runs_that_have_not_finished_are_left_out_by_name(tmp_path: Path) -> None:
    write_run(tmp_path / "c/runs/done", steps=3)
    write_run(tmp_path / "c/runs/begun", steps=3, stop_after=2)
    trajectories, skipped = load_trajectories(tmp_path / "c")
    assert [trajectory.run.path.name for trajectory in trajectories] == ["done"]
    assert [line.split(", ")[0] for line in skipped] == ["begun: unfinished: 2 steps"]


def test_records_of_earlier_versions_lack_the_updates(tmp_path: Path) -> None:
    found = trajectory_of(load_run(write_run(tmp_path / "run", steps=3)))
    assert not {"updates", "loss_by_capability", "divergence_by_capability"} & set(found.infos)
    assert set(found.infos["student"]) == {"even"}
    assert read_env.load_transitions(tmp_path / "run")["info/updates"].isna().all()


def test_what_has_no_transitions_is_refused(tmp_path: Path) -> None:
    begun = write_run(tmp_path / "begun", steps=3, stop_after=2)
    done = write_run(tmp_path / "done", steps=3)
    training = write_training(tmp_path / "training", 3)
    for sources, message in [
        ((begun,), r"begun: no run has finished \(begun: unfinished: 2 steps, "),
        ((training,), r"training: a training keeps episodes without their steps; right would be the directory of a run"),
        ((done, tmp_path / "done"), r"done: named twice; right would be each run once"),
        ((), "sources: no run has finished"),
        ((tmp_path / "nowhere",), "no such run directory"),
    ]:  # fmt: skip
        with pytest.raises(RecordError, match=message):
            read_env.load_transitions(*sources)
    summary = json.loads((done / "summary.json").read_text())
    (done / "summary.json").write_text(json.dumps({**summary, "steps": 0}))
    (done / "steps.jsonl").write_text("")
    with pytest.raises(RecordError, match=r"summary.json: steps is 0, expected at least one step or a stop"):
        read_env.load_transitions(done)


def test_the_documentation_names_every_column(tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "docs/records.md").read_text()
    columns = read_env.load_transitions(write_run(tmp_path / "run", steps=3)).columns
    assert [name for name in columns if f"`{name}`" not in text and not name.startswith("next_observation/")] == []
