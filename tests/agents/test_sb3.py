"""SB3 policies on the environment that they are meant for, over made-up models where those are at hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from read_env.agents import make_agent
from read_env.agents.observation import KEYS
from read_env.agents.sb3_bridge import StepCap
from read_env.envs.wrappers import CandidateAllocation, SoftmaxAllocation


@pytest.mark.parametrize(
    ("name", "total", "parts"),
    [
        ("sb3:PPO", 100, [34, 33, 33]),
        ("sb3:PPO", 41, [21, 20]),
        ("sb3:A2C", 7, [7]),
        ("sb3-contrib:MaskablePPO", 40, [40]),
        ("sb3:SAC", 100, [100]),
    ],
)
def test_steps_are_split_into_even_rollouts(name: str, total: int, parts: list[int], names: Any) -> None:
    assert make_agent(name, capabilities=names)._parts(total) == parts  # type: ignore[attr-defined]


@pytest.mark.parametrize("steps", [1, 2, 9, 41])
def test_no_rollout_length_breaks_the_masked_policy(steps: int, toy: Any, names: Any) -> None:
    agent = make_agent("sb3-contrib:MaskablePPO", capabilities=names)
    env = toy()
    agent.learn(env, steps, seed=0)
    assert np.isfinite(agent.predict(env.reset(seed=1)[0])[0]).all()


@pytest.mark.parametrize("name", ["sb3:PPO", "sb3:TD3", "sb3:SAC"])
def test_what_is_predicted_is_what_the_wrapper_would_do(name: str, toy: Any, names: Any) -> None:
    agent: Any = make_agent(name, capabilities=names, options={"scale": 2.0})
    env = SoftmaxAllocation(toy(), scale=2.0)
    observation, _ = env.reset(seed=0)
    vector = np.concatenate([observation[key] for key in KEYS])
    logits, _ = agent.model.predict(vector, deterministic=True)
    env.step(logits)
    assert agent.predict(observation, deterministic=True)[0] == pytest.approx(env.unwrapped.actions[-1], abs=1e-6)


@pytest.mark.parametrize("name", ["read-bandit", "water-filling", "sb3:PPO"])
def test_sb3_evaluates_any_agent(name: str, toy: Any, names: Any) -> None:
    from stable_baselines3.common.evaluation import evaluate_policy
    from stable_baselines3.common.monitor import Monitor

    agent: Any = make_agent(name, capabilities=names)
    returns, lengths = evaluate_policy(agent, Monitor(toy()), n_eval_episodes=2, return_episode_rewards=True)
    assert lengths == [12, 12] and np.isfinite(returns).all()


@pytest.mark.parametrize("name", ["sb3:DQN", "sb3-contrib:MaskablePPO"])
def test_discrete_policies_predict_candidates(name: str, toy: Any, names: Any) -> None:
    env = toy()
    agent = make_agent(name, capabilities=names)
    wrapper = CandidateAllocation(env, mask_free=name == "sb3:DQN")
    observation, _ = env.reset(seed=0)
    for _ in range(12):
        situation = (env.requirement, env.profile, env.last_allocation)
        indices = [wrapper.indices[action] for action in np.flatnonzero(wrapper.action_masks())]
        allowed = [wrapper.catalogue.allocation(index, *situation) for index in indices]
        action, _ = agent.predict(observation)
        assert np.abs(np.array(allowed) - action).max(axis=1).min() < 1e-5
        observation, *_ = env.step(action)


def test_the_tap_never_lets_a_step_too_many_through(toy: Any) -> None:
    env = toy(steps=2)
    capped = StepCap(env, 2, lambda transition: None)
    capped.reset(seed=0)
    capped.step(np.ones(8))
    last, *_ = capped.step(np.ones(8))
    assert capped.reset()[0] is last and env.resets == 1
    with pytest.raises(RuntimeError, match="more than 2"):
        capped.step(np.ones(8))


def test_training_values_have_sb3s_tags(toy: Any, names: Any) -> None:
    agent = make_agent("sb3:A2C", capabilities=names).learn(toy(), 40, seed=0)
    assert {"train/value_loss", "rollout/ep_rew_mean"} <= set(agent.scalars())
    assert not any(tag.startswith("time/") for tag in agent.scalars())


def test_td3_finds_a_single_helpful_capability(toy: Any, names: Any) -> None:
    transfer = np.zeros((8, 8))
    transfer[5, [3, 4]] = 0.2
    agent = make_agent("sb3:TD3", capabilities=names, options={"gamma": 0.0}, seed=0)
    env = toy(transfer=transfer, noise=0.0, steps=10)
    agent.learn(env, 150, seed=0)
    action, _ = agent.predict(env.reset(seed=3)[0], deterministic=True)
    assert int(np.argmax(action)) == 5
