"""Policies saved by SB3 itself: the wrapper that fits, the same actions as SB3's, no pickle."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from fake_distillation import FakeDistillationEnv
from fake_runs import SMALL, play

from read_env.agents import make_agent
from read_env.agents.sb3_bridge import VectorObservation
from read_env.config import load_preset
from read_env.envs.wrappers import CandidateAllocation, SoftmaxAllocation
from read_env.errors import ReadEnvError
from read_env.running.agents import AgentSpec
from read_env.running.requests import RunRequest

sb3 = pytest.importorskip("stable_baselines3")
contrib = pytest.importorskip("sb3_contrib")


def base(may_stop: bool = False) -> Any:
    return FakeDistillationEnv(overrides=SMALL, may_stop=may_stop)


CASES: dict[str, Any] = {
    "plain": lambda: (sb3.PPO, "MultiInputPolicy", base()),
    "plain, stop": lambda: (sb3.PPO, "MultiInputPolicy", base(True)),
    "logits, stop": lambda: (sb3.SAC, "MultiInputPolicy", SoftmaxAllocation(base(True))),
    "mask-free, stop": lambda: (sb3.DQN, "MultiInputPolicy", CandidateAllocation(base(True), mask_free=True)),
    "flat": lambda: (sb3.A2C, "MlpPolicy", gym.wrappers.FlattenObservation(SoftmaxAllocation(base()))),
    "vector": lambda: (sb3.TD3, "MlpPolicy", VectorObservation(SoftmaxAllocation(base()))),
    "logits": lambda: (sb3.SAC, "MultiInputPolicy", SoftmaxAllocation(base())),
    "mask-free": lambda: (sb3.DQN, "MultiInputPolicy", CandidateAllocation(base(), mask_free=True)),
    "masked": lambda: (contrib.MaskablePPO, "MultiInputPolicy", CandidateAllocation(base())),
}


@pytest.mark.parametrize("case", CASES)
def test_a_policy_of_sb3_acts_as_in_its_own_environment(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    algorithm, policy, env = CASES[case]()
    arguments = {"net_arch": [8, 8], **({} if case == "masked" else {"activation_fn": __import__("torch").nn.ELU})}
    model = algorithm(policy, env, seed=3, policy_kwargs=arguments, device="cpu")
    model.save(tmp_path / "mine.zip")
    monkeypatch.setattr(pickle, "loads", lambda *_: pytest.fail("a foreign file ran code"))
    monkeypatch.setattr("cloudpickle.loads", lambda *_: pytest.fail("a foreign file ran code"))
    may_stop = env.unwrapped.may_stop
    agent = make_agent(str(tmp_path / "mine.zip"), env=env)
    inner = base(may_stop)
    seen, _ = env.reset(seed=0)
    observation, _ = inner.reset(seed=0)
    for _ in range(6):
        more = {"action_masks": env.action_masks()} if case == "masked" else {}
        ended = env.step(model.predict(seen, deterministic=True, **more)[0])[2]
        observation, _, inner_ended, *_ = inner.step(agent.predict(observation, deterministic=True)[0])
        assert ended == inner_ended
        if ended:
            break
        seen = env.get_wrapper_attr("observation")(observation) if case in ("flat", "vector") else observation
        assert inner.last_allocation == pytest.approx(env.unwrapped.last_allocation, abs=1e-6)
    with pytest.raises(ReadEnvError, match="SB3's own learn and save"):
        agent.learn(inner, 2)
    if may_stop:
        with pytest.raises(ReadEnvError, match="right would be"):
            make_agent(str(tmp_path / "mine.zip"), env=base())
    else:
        assert make_agent(str(tmp_path / "mine.zip"), env=base(True)).predict(observation)[0][-1] == 0


def test_a_run_takes_a_zip_and_refuses_one_of_another_suite(tmp_path: Path) -> None:
    sb3.PPO("MultiInputPolicy", base()).save(tmp_path / "my_ppo.zip")
    spec = AgentSpec.parse(str(tmp_path / "my_ppo.zip"))
    assert spec.label == "my_ppo"
    assert play(RunRequest(spec.configure(load_preset("micro", SMALL)), tmp_path / "run")).summary["spent"] == 600
    with pytest.raises(ReadEnvError, match=r"my_ppo.zip.*shape \[10\].*right would be \(2,\)"):
        make_agent(str(tmp_path / "my_ppo.zip"), capabilities=["a", "b"])


class TakesEnv:
    """Agent of one's own that is built from the spaces and reads the info."""

    def __init__(self, env: gym.Env, power: float = 1.0) -> None:
        self.size, self.power = env.action_space.shape[0], power  # type: ignore[index]
        self.infos: list[Any] = []

    def predict(
        self,
        observation: Any,
        state: Any = None,
        episode_start: Any = None,
        deterministic: bool = False,
        info: Any = None,
    ) -> Any:
        self.infos.append(info)
        return np.ones(self.size), state


def test_a_custom_agent_may_take_the_environment_and_the_info(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "my_agents", sys.modules[__name__])
    spec = AgentSpec.parse("my_agents:TakesEnv", {"power": 2})
    assert play(RunRequest(spec.configure(load_preset("micro", SMALL)), tmp_path / "run")).summary["spent"] == 600
    agent: Any = make_agent("my_agents:TakesEnv", env=base())
    agent.learn(base(), 7, seed=0)
    assert [info.get("step") for info in agent.inner.infos] == [None, 1, 2, 3, 4, 5, None]
