"""Training on a surrogate."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_runs import fake_env
from known_world import micro_surrogate
from rich.console import Console

from read_env import files
from read_env.agents import load_agent, make_agent
from read_env.capabilities import get_suite
from read_env.config import Config
from read_env.envs.surrogate_vector import SurrogateVectorEnv
from read_env.errors import ReadEnvError
from read_env.running.agents import AgentSpec
from read_env.running.fit_surrogate import fit_surrogate
from read_env.running.requests import TrainingRequest
from read_env.running.surrogate_training import _parts, mean_returns
from read_env.running.tool_requests import SurrogateRequest
from read_env.running.training import train

TASKS = ("math", "agent")
QUIET = Console(file=io.StringIO())


@pytest.fixture
def surrogate(tmp_path: Path) -> str:
    path = tmp_path / "known.json"
    micro_surrogate().save(path)
    return str(path)


def request_of(agent: str, surrogate: str, out: Path, steps: int, envs: int = 1) -> TrainingRequest:
    config = AgentSpec.parse(agent).configure(Config(task=TASKS[0]))
    return TrainingRequest(config, TASKS, steps, out, envs=envs, on=surrogate)


def test_sb3_learns_in_many_environments_and_its_episodes_are_recorded(surrogate: str, tmp_path: Path) -> None:
    result = train(request_of("sb3:PPO,n_steps=8", surrogate, tmp_path / "t", 2560, envs=16), QUIET)
    record = files.read_json(tmp_path / "t" / "training.json")
    assert record["steps"] == 2560 and record["episodes"] == result.episodes == 640
    assert record["tokens_before_run"] == result.tokens_before_run == 70_000, "those of the recorded runs"
    episodes = files.read_lines(tmp_path / "t" / "episodes.jsonl")
    assert len(episodes) == 640 and {one["task"] for one in episodes} == set(TASKS) and episodes[0]["steps"] == 4
    assert load_agent(result.agent).name == "sb3:PPO"


@pytest.mark.parametrize("agent", ["read-bandit", "sb3-contrib:MaskablePPO"])
def test_other_agents_learn_in_one_environment(surrogate: str, tmp_path: Path, agent: str) -> None:
    result = train(request_of(agent, surrogate, tmp_path / "t", 40), QUIET)
    assert result.episodes == 10 and result.tokens_before_run == 70_000
    with pytest.raises(ReadEnvError, match="learns in one environment of a surrogate; envs must be 1, not 2"):
        train(request_of(agent, surrogate, tmp_path / "u", 40, envs=2), QUIET)


def test_the_set_policy_learns_through_the_worlds_and_goes_on_after_an_interruption(
    surrogate: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from read_env.agents.set_network import initial_weights
    from read_env.agents.set_policy import SetPolicy, save_weights

    save_weights(tmp_path / "new.zip", initial_weights(8, 0, np.random.default_rng(0)), (), {})
    request = request_of(f"set-policy,weights={tmp_path / 'new.zip'}", surrogate, tmp_path / "t", 64 * 4 * 60, envs=64)
    calls, learn = [], SetPolicy.learn_on_surrogate

    def interrupted(self: Any, *arguments: Any, **keywords: Any) -> None:
        calls.append(keywords["progress"])
        if len(calls) == 8:
            raise KeyboardInterrupt
        learn(self, *arguments, **keywords)

    monkeypatch.setattr(SetPolicy, "learn_on_surrogate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(request, QUIET)
    train(request, QUIET)
    assert calls[7] == calls[8] and calls[8][0] > 0, "it goes on where it was"
    trained = load_agent(tmp_path / "t" / "agent.zip")
    envs = SurrogateVectorEnv(256, surrogate, tasks=TASKS)
    static = make_agent("task-static", capabilities=get_suite("micro").names)
    assert mean_returns(trained, envs, 9).mean() > mean_returns(static, envs, 9).mean()


def test_a_training_goes_on_with_real_models_and_both_parts_are_finished_once(surrogate: str, tmp_path: Path) -> None:
    request = replace(request_of("read-bandit", surrogate, tmp_path / "t", 8), then_steps=6)
    result = train(request, QUIET, env_factory=fake_env)
    assert result.agent == tmp_path / "t" / "real" / "agent.zip" and (tmp_path / "t" / "agent.zip").exists()
    first, second = (files.read_json(path / "training.json") for path in (tmp_path / "t", tmp_path / "t" / "real"))
    assert (first["steps"], second["steps"]) == (8, 6)
    assert second["tokens_before_run"] > first["tokens_before_run"] == 70_000
    assert load_agent(result.agent).model.steps == 14  # type: ignore[attr-defined]
    assert train(request, QUIET, env_factory=fake_env).already_finished


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"on": ""}, "needs --on with a surrogate to begin with; got then-steps 6 and on ''"),
        ({"then_steps": -1}, "then-steps must not be negative"),
    ],
)
def test_what_can_not_go_on_with_real_models_is_refused(
    surrogate: str, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    request = replace(request_of("read-bandit", surrogate, tmp_path / "t", 8), then_steps=6)
    with pytest.raises(ReadEnvError, match=message):
        train(replace(request, **changes), QUIET)
    with pytest.raises(ReadEnvError, match="'pretrained-any' is trained by gradients through a surrogate alone"):
        train(replace(request_of("pretrained:any", surrogate, tmp_path / "u", 256), then_steps=6), QUIET)
    assert not (tmp_path / "u").exists()


def test_parts_of_a_training_are_what_is_left_of_it() -> None:
    assert sum(_parts(25_600, 0, 64)) == 25_600 and len(_parts(25_600, 0, 64)) == 20
    assert all(part % 64 == 0 for part in _parts(25_600, 0, 64))
    first = _parts(25_600, 0, 64)[0]
    assert sum(_parts(25_600, 3 * first, 64)) == 25_600 - 3 * first
    assert _parts(7, 0, 1) == [1] * 7 and _parts(40, 40, 1) == []


def test_a_policy_of_the_real_environment_alone_is_refused(tmp_path: Path) -> None:
    agent = make_agent("pretrained:any", capabilities=get_suite("micro").names)
    with pytest.raises(
        ReadEnvError, match="trained by gradients through a surrogate; right would be read-env train --on"
    ):
        agent.learn(fake_env(Config(task="math")), 4)


def test_a_surrogate_is_fitted_to_recorded_runs(small: Config, tmp_path: Path) -> None:
    from fake_runs import play

    from read_env.running.requests import RunRequest

    folders = []
    for seed in range(21):
        agent = ("uniform", "task-static", "water-filling")[seed % 3]
        config = AgentSpec.parse(agent).configure(small).model_copy(update={"task": "math", "seed": seed})
        play(RunRequest(config, tmp_path / f"run{seed}"))
        folders.append(tmp_path / f"run{seed}")
    request = SurrogateRequest("fit", tuple(folders), tmp_path / "mine.json", worlds=2, iterations=20)
    done = fit_surrogate(request)
    facts = done.surrogate.made_from
    assert (
        facts["episodes"] == 21
        and facts["tokens"] == 21 * 600
        and facts["policies"] == ["task-static", "uniform", "water-filling"]
    )
    assert done.surrogate.total_tokens == 600 and list(done.surrogate.starts) == ["even"]
    envs = SurrogateVectorEnv(4, str(tmp_path / "mine.json"), task="math")
    assert np.isfinite(mean_returns(make_agent("uniform", capabilities=get_suite("micro").names), envs, 0)).all()
    with pytest.raises(ReadEnvError, match="at least 20 recorded episodes, got 3"):
        fit_surrogate(SurrogateRequest("fit", tuple(folders[:3]), tmp_path / "few.json"))
    with pytest.raises(ReadEnvError, match="right would be a .json file"):
        fit_surrogate(SurrogateRequest("fit", tuple(folders), tmp_path / "mine"))
    other = small.model_copy(update={"task": "math", "budget": small.budget.model_copy(update={"total_tokens": 700})})
    play(RunRequest(AgentSpec.parse("uniform").configure(other), tmp_path / "other"))
    with pytest.raises(
        ReadEnvError, match=r"budget.total_tokens is 700, that of .* 600; right would be runs that share it"
    ):
        fit_surrogate(SurrogateRequest("fit", (*folders, tmp_path / "other"), tmp_path / "mixed.json"))
