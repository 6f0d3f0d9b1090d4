"""How agents are named on the command line, and how a run brings them back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_runs import Make, contents, play, watched_env

from read_env.errors import ReadEnvError
from read_env.running.agents import AgentSpec
from read_env.running.runner import run

MODULE = """
import random
import numpy as np

class Drifting:
    '''Learns from every reward; has no state_dict.'''
    def __init__(self, seed=0):
        self.weights = np.ones(10)
    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        count = 0 if state is None else state
        return self.weights + count, count + 1
    def observe(self, observation, action, reward, next_observation, terminated, truncated, info):
        self.weights[info["step"] % 10] += 1 + 10 * abs(reward)

class Unsteady:
    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        return np.array([random.random() for _ in range(10)]), state
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "my_agents_of_test_agents.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    return "my_agents_of_test_agents"


def test_options_are_read_from_the_name() -> None:
    spec = AgentSpec.parse("read-bandit-published,kappa=0.5,warm-up=3", {"published": "true"})
    assert spec.name == "read-bandit-published"
    assert dict(spec.options) == {"kappa": 0.5, "warm_up": 3, "published": True}
    assert AgentSpec.parse("one-hot,capability=math").label == "one-hot,capability=math"
    assert "__" not in AgentSpec.parse("one-hot,capability=tool__use").label.replace("one-hot", "")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("read-bandt", "did you mean 'read-bandit'"),
        ("uniform,kappa", "'kappa' should read option=value"),
        ("nowhere/agent.zip", "path of a saved agent"),
    ],
)
def test_what_is_no_agent_is_explained(text: str, message: str) -> None:
    with pytest.raises(ReadEnvError, match=message):
        AgentSpec.parse(text)


def test_somebodys_learning_agent_is_resumed_by_showing_it_again_what_it_saw(request_for: Make, module: str) -> None:
    whole, parts = (request_for(f"{module}:Drifting", folder) for folder in ("whole", "parts"))
    play(whole)
    play(parts, stop_after=4)
    assert play(parts).resumed_after == 4
    assert contents(whole.directory) == contents(parts.directory)


def test_an_agent_that_decides_otherwise_when_asked_again_is_not_resumed_silently(
    request_for: Make, module: str
) -> None:
    request = request_for(f"{module}:Unsteady")
    play(request, stop_after=2)
    with pytest.raises(ReadEnvError, match="state_dict/load_state_dict"):
        play(request)


def test_state_of_a_policy_is_carried_from_step_to_step(request_for: Make, module: str) -> None:
    seen: list[Any] = []
    request = request_for(f"{module}:Drifting")
    run(request, env=watched_env(request.config, lambda action: seen.append(np.array(action))))
    assert [action.min() for action in seen] == [1, 2, 3, 4, 5, 6]
