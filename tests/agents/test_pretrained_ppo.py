"""PPO that ships."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from read_env.agents import load_agent, make_agent
from read_env.envs.surrogate_vector import SurrogateVectorEnv
from read_env.errors import ReadEnvError
from read_env.surrogate.model import Surrogate

NAMES = Surrogate.load("micro").capabilities


def returns(name: str) -> np.ndarray:
    envs = SurrogateVectorEnv(512, "micro", tasks=["tutor", "bookkeeper", "auditor"])
    observations, _ = envs.reset(seed=5)
    agent, total, ended = make_agent(name, capabilities=NAMES), np.zeros(512), False
    while not ended:
        actions, _ = agent.predict(observations, deterministic=True)
        observations, rewards, ends, _, _ = envs.step(actions)
        total, ended = total + rewards, bool(ends.all())
    return total


def test_it_gains_more_than_the_requirement_in_the_surrogate() -> None:
    ahead = returns("pretrained:ppo") - returns("task-static")
    assert ahead.mean() > 4 * ahead.std() / np.sqrt(len(ahead))


def test_a_saved_one_acts_the_same(tmp_path: Path) -> None:
    agent = make_agent("pretrained:ppo", capabilities=NAMES, seed=3)
    assert agent.tokens_before_run == Surrogate.load("micro").made_from["tokens"]
    agent.save(tmp_path / "agent.zip")
    zeros = np.zeros(10)
    start = {
        "requirement": np.eye(10)[3],
        "profile": zeros + 0.3,
        "budget": [1.0],
        "last_allocation": zeros,
        "last_gain": zeros,
    }
    again = load_agent(tmp_path / "agent.zip")
    assert (again.predict(start, deterministic=True)[0] == agent.predict(start, deterministic=True)[0]).all()
    stopping = make_agent("pretrained:ppo", capabilities=NAMES, may_stop=True).predict(start, deterministic=True)[0]
    assert stopping.shape == (11,) and stopping[-1] == 0


def test_another_suite_or_width_is_refused() -> None:
    with pytest.raises(ReadEnvError, match="right would be pretrained:any"):
        make_agent("pretrained:ppo", capabilities=["math", "code"])
    with pytest.raises(ReadEnvError, match="option 'hidden' is 3; right would be 128"):
        make_agent("pretrained:ppo", capabilities=NAMES, options={"hidden": 3})
