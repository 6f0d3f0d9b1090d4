"""Training over episodes and tasks: exact steps, tokens on record, agents that go on to be used."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import numpy as np
import pytest
from fake_runs import TASKS, contents, curves, fake_env, kill_on_call, killed
from fake_runs import play_training as play
from fake_runs import training_request as request_of

from read_env import files
from read_env.agents import load_agent
from read_env.config import BudgetConfig, Config
from read_env.errors import ReadEnvError
from read_env.running.agents import AgentSpec
from read_env.running.requests import RunRequest, TrainingRequest
from read_env.running.runner import run


@pytest.mark.parametrize("agent", ["read-bandit-published", "grid-searched", "sb3:PPO"])
def test_training_makes_the_steps_it_is_given_and_counts_their_tokens(
    small: Config, tmp_path: Path, agent: str
) -> None:
    result = play(request_of(small, agent, tmp_path / "training"))
    record = files.read_json(tmp_path / "training" / "training.json")
    assert (record["steps"], record["episodes"]) == (20, 3)
    assert result.tokens_before_run == record["tokens_before_run"] == 2000
    episodes = files.read_lines(tmp_path / "training" / "episodes.jsonl")
    assert [episode["steps"] for episode in episodes] == [6, 6, 6]
    assert {episode["task"] for episode in episodes} <= set(TASKS)
    assert load_agent(result.agent).name == agent
    assert play(request_of(small, agent, tmp_path / "training")).already_finished


def test_the_curves_have_a_point_for_each_update_the_last_one_included(small: Config, tmp_path: Path) -> None:
    play(request_of(small, "sb3:PPO,n_steps=5", tmp_path / "ppo"))
    assert [step for step, _ in curves(tmp_path / "ppo")["train/loss"]] == [6, 11, 16, 20]
    play(request_of(small, "sb3:SAC,learning_starts=8", tmp_path / "sac"))
    found = [step for step, _ in curves(tmp_path / "sac")["train/actor_loss"]]
    assert found[0] in (9, 10) and found == sorted(found) and found[-1] == 20 and len(found) >= 10


@pytest.mark.parametrize("agent", ["task-static,stop_at=0.5", "read-bandit", "sb3:PPO", "sb3-contrib:MaskablePPO"])
def test_training_where_an_episode_may_be_stopped(small: Config, tmp_path: Path, agent: str) -> None:
    budget = small.budget.model_copy(update={"may_stop": True})
    result = play(request_of(small, agent, tmp_path / "training", budget=budget))
    episodes = files.read_lines(tmp_path / "training" / "episodes.jsonl")
    steps = [(episode["steps"], episode["completion_tokens"]) for episode in episodes]
    assert all(tokens in (100 * count, 100 * (count - 1)) for count, tokens in steps), "a stop spends nothing"
    if agent.startswith("task-static"):
        assert set(steps) == {(4, 300)}
    assert load_agent(result.agent).may_stop
    config = small.model_copy(update={"budget": budget, "agent": str(result.agent), "task": "tutor"})
    assert "left_tokens" in run(RunRequest(config, tmp_path / "run"), env=fake_env(config)).summary


def test_a_trained_agent_is_named_by_its_training_and_reports_its_tokens(small: Config, tmp_path: Path) -> None:
    play(request_of(small, "read-bandit-published", tmp_path / "training"))
    for path in (tmp_path / "training", tmp_path / "training" / "agent.zip"):
        spec = AgentSpec.parse(str(path))
        assert (spec.label, spec.tokens_before_run) == ("read-bandit-published-trained", 2000)
    config = small.model_copy(update={"agent": spec.name})
    request = RunRequest(config, tmp_path / "run")
    summary = run(request, env=fake_env(config)).summary
    assert (summary["agent"], summary["tokens_before_run"]) == ("read-bandit-published-trained", 2000)


@pytest.mark.parametrize(
    ("agent", "stop_after"),
    [
        ("read-bandit-published", 8),
        ("read-bandit", 8),
        ("read-bandit", 12),
        *(("random-candidate", stop_after) for stop_after in (1, 8, 12, 19)),
    ],
)
def test_an_interrupted_training_ends_with_the_same_bits(
    small: Config, tmp_path: Path, agent: str, stop_after: int
) -> None:
    play(request_of(small, agent, tmp_path / "whole"))
    play(request_of(small, agent, tmp_path / "parts"), stop_after)
    play(request_of(small, agent, tmp_path / "parts"))
    one, other = (
        {name: data for name, data in contents(tmp_path / folder).items() if "tensorboard" not in name}
        for folder in ("whole", "parts")
    )
    assert one == other


@pytest.mark.skipif(os.name == "nt", reason="forks")
@pytest.mark.parametrize("agent", ["random-candidate", "grid-searched"])
def test_a_training_killed_at_any_write_ends_with_the_same_agent(small: Config, tmp_path: Path, agent: str) -> None:
    small = small.model_copy(update={"budget": BudgetConfig(total_tokens=200, step_tokens=100)})
    play(request_of(small, agent, tmp_path / "whole", steps=5))
    expected = {name: (tmp_path / "whole" / name).read_bytes() for name in ("agent.zip", "training.json")}
    moments = 0
    for moment in range(1, 200):
        request = request_of(small, agent, tmp_path / f"parts{moment}", steps=5)

        def work(moment: int = moment, request: TrainingRequest = request) -> None:
            kill_on_call(files.os, "fsync", moment)
            play(request)

        code = killed(work)
        assert code in (0, -signal.SIGKILL)
        play(request)
        found = {name: (request.directory / name).read_bytes() for name in expected}
        assert found == expected, f"killed at write {moment}"
        if code == 0:
            break
        moments += 1
    assert moments >= 10


def test_an_interrupted_sb3_training_goes_on_from_its_last_episode(small: Config, tmp_path: Path) -> None:
    play(request_of(small, "sb3:PPO", tmp_path / "training"), stop_after=15)
    assert len(files.read_lines(tmp_path / "training" / "episodes.jsonl")) == 2
    play(request_of(small, "sb3:PPO", tmp_path / "training"))
    record = files.read_json(tmp_path / "training" / "training.json")
    assert (record["steps"], record["episodes"], record["tokens_before_run"]) == (20, 3, 2000)


@pytest.mark.parametrize("stop_after", [3, 12, 15])
def test_an_interrupted_grid_search_finds_the_same(small: Config, tmp_path: Path, stop_after: int) -> None:
    play(request_of(small, "grid-searched", tmp_path / "whole"))
    play(request_of(small, "grid-searched", tmp_path / "parts"), stop_after)
    play(request_of(small, "grid-searched", tmp_path / "parts"))
    one, other = (load_agent(tmp_path / folder / "agent.zip").state_dict() for folder in ("whole", "parts"))
    assert np.array_equal(one["results"], other["results"]) and len(one["results"]) == 3
    assert (one["round"], one["next"], one["first_seed"]) == (other["round"], other["next"], other["first_seed"])


def test_training_episodes_are_not_those_of_runs(small: Config, tmp_path: Path) -> None:
    play(request_of(small, "uniform", tmp_path / "training"))
    request = RunRequest(small.model_copy(update={"agent": "uniform"}), tmp_path / "run")
    start = run(request, env=fake_env(small)).summary["utility_start"]
    assert not np.isclose(start, files.read_lines(tmp_path / "training" / "episodes.jsonl")[0]["utility_start"])


def test_a_training_of_other_tasks_or_steps_is_refused(small: Config, tmp_path: Path) -> None:
    play(request_of(small, "uniform", tmp_path / "training"))
    with pytest.raises(ReadEnvError, match="steps: 20 in the folder, 21 in this command"):
        play(request_of(small, "uniform", tmp_path / "training", steps=21))
    with pytest.raises(ReadEnvError, match="steps must be above 0"):
        play(request_of(small, "uniform", tmp_path / "other", steps=0))
