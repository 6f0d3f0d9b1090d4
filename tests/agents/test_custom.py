"""Agents of other people: fifteen lines, found by import path or entry point."""

from __future__ import annotations

import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from read_env.agents import agent_names, load_agent, make_agent, storage
from read_env.agents.custom import CustomAgent
from read_env.errors import ReadEnvError

# A whole custom agent: gives most to what gained most in the last step.
MODULE = '''
import numpy as np

class Momentum:
    """Follows the last gain."""
    def __init__(self, capabilities, seed=0, temperature=0.05):
        self.size, self.temperature, self.seen = len(capabilities), temperature, 0
    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        weights = observation["requirement"] * np.exp(observation["last_gain"] / self.temperature)
        return weights / weights.sum(axis=-1, keepdims=True), state
    def observe(self, observation, action, reward, next_observation, terminated, truncated, info):
        self.seen += 1
    def state_dict(self):
        return {"seen": self.seen}
    def load_state_dict(self, state):
        self.seen = state["seen"]

class Bare:
    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        return observation["requirement"], state

class Forgetful(Bare):
    def learn(self, env, total_steps, callback=None):
        self.first = env.reset()[0]["requirement"] * 0 + env.reset()[0]["profile"]

class Wrong:
    pass

number = 3
'''


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with the module in it; it is not on Python's path."""
    (tmp_path / "momentum_agent.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    monkeypatch.delitem(sys.modules, "momentum_agent", raising=False)
    return tmp_path


def test_weights_alone_never_stop(here: Path, toy: Any) -> None:
    env = toy(may_stop=True)
    agent = make_agent("momentum_agent:Momentum", env=env)
    agent.learn(env, 3, seed=0)
    assert [action.shape for action in env.actions] == [(9,)] * 3 and not any(action[8] for action in env.actions)


def test_an_agent_by_import_path_runs_learns_and_is_saved(here: Path, toy: Any, names: tuple[str, ...]) -> None:
    agent = make_agent("momentum_agent:Momentum", capabilities=names, options={"temperature": 0.5}, seed=1)
    assert isinstance(agent, CustomAgent) and agent.inner.temperature == 0.5
    env = toy()
    agent.learn(env, 7, seed=0)
    assert env.taken == agent.inner.seen == 7
    observation, _ = env.reset(seed=1)
    action, _ = agent.predict(observation)
    assert action.dtype == np.float32 and action.sum() == pytest.approx(1)
    agent.save(here / "saved")
    loaded = load_agent(here / "saved", {"trust_remote_code": True})
    assert loaded.inner.seen == 7 and loaded.options == {"temperature": 0.5}  # type: ignore[attr-defined]
    assert (loaded.predict(observation)[0] == action).all()


@pytest.mark.parametrize("name", ["subprocess:Popen", "module_of_the_file:Agent"])
def test_a_saved_agent_of_others_calls_nothing_that_it_names(here: Path, names: tuple[str, ...], name: str) -> None:
    (here / "module_of_the_file.py").write_text("open('imported', 'w').close()")
    options = {"args": ["touch", "called"], "env": None}
    document = {"agent": name, "capabilities": list(names), "options": options, "seed": 0, "state": {}}
    storage.write(here / "saved", document)
    for load in (load_agent, lambda path: make_agent(path, capabilities=names)):
        with pytest.raises(ReadEnvError, match=rf"names the agent '{name}'.*trust_remote_code = true"):
            load(here / "saved")
    assert {path.name for path in here.iterdir()} == {"momentum_agent.py", "module_of_the_file.py", "saved"}


def test_predict_is_all_that_is_needed(here: Path, toy: Any, names: tuple[str, ...]) -> None:
    agent = make_agent("momentum_agent:Bare", capabilities=names)
    agent.learn(toy(), 5)
    assert agent.scalars() == {} and agent.options == {}


def test_what_could_not_be_saved_is_said(here: Path, names: tuple[str, ...]) -> None:
    make_agent("momentum_agent:Bare", capabilities=names).save(here / "saved")
    forgetful = make_agent("momentum_agent:Forgetful", capabilities=names)
    with pytest.raises(ReadEnvError, match=r"learns \(it has learn\) but has no state_dict and load_state_dict"):
        forgetful.save(here / "other")
    assert not (here / "other").exists()


def test_a_learn_of_its_own_is_seeded(here: Path, toy: Any, names: tuple[str, ...]) -> None:
    firsts = []
    for seed in (3, 3, 4):
        agent = make_agent("momentum_agent:Forgetful", capabilities=names)
        agent.learn(toy(), 5, seed=seed)
        firsts.append(agent.inner.first)  # type: ignore[attr-defined]
    assert (firsts[0] == firsts[1]).all() and (firsts[0] != firsts[2]).any()


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("momentum_agent:Momentun", {}, "unknown class in module momentum_agent 'Momentun': did you mean 'Momentum'"),
        ("momentum_agnt:Momentum", {}, "can't import module 'momentum_agnt'"),
        ("momentum_agent:Wrong", {}, "Wrong has no method predict"),
        ("momentum_agent:number", {}, "is a int; right would be a class with predict"),
        ("momentum_agent:Momentum", {"temperatur": 1}, "did you mean 'temperature'"),
        ("momentum_agent:Bare", {"x": 1}, "unknown option 'x'"),
        (":Momentum", {}, "no module name"),
    ],
)
def test_mistakes_are_explained(
    name: str, options: dict[str, Any], words: str, here: Path, names: tuple[str, ...]
) -> None:
    with pytest.raises(ReadEnvError, match=words):
        make_agent(name, capabilities=names, options=options)


def test_installed_agents_are_found_by_their_entry_point(
    here: Path, names: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    sys.path.append(str(here))
    names_and_classes = (("momentum", "momentum_agent:Momentum"), ("broken", "momentum_agent:Gone"))
    points = {"read_env.agents": [EntryPoint(*both, "read_env.agents") for both in names_and_classes]}
    monkeypatch.setattr("read_env.agents.registry.entry_points", lambda group: points.get(group, []))
    assert agent_names()[-2:] == ("broken", "momentum")
    assert make_agent("momentum", capabilities=names).inner.temperature == 0.05  # type: ignore[attr-defined]
    with pytest.raises(ReadEnvError, match="broken.*momentum_agent:Gone"):
        make_agent("broken", capabilities=names)
    with pytest.raises(ReadEnvError, match="known:.*momentum"):
        make_agent("momentun", capabilities=names)
