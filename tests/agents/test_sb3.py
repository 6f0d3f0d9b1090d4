"""SB3 policies on the environment that they are meant for, over made-up models where those are at hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from read_env.agents import make_agent
from read_env.agents.observation import KEYS
from read_env.agents.sb3_bridge import StepCap
from read_env.envs.wrappers import CandidateAllocation, SoftmaxAllocation
from read_env.errors import ReadEnvError


@pytest.mark.parametrize(
    ("name", "total", "parts"),
    [
        ("sb3:PPO", 100, [34, 33, 33]),
        ("sb3:PPO", 41, [21, 20]),
        ("sb3:A2C", 7, [7]),
        ("sb3-contrib:MaskablePPO", 40, [40]),
        ("sb3:SAC", 100, [100]),
        ("sb3-contrib:RecurrentPPO", 81, [27, 27, 27]),
        ("sb3-contrib:TRPO", 3000, [1500, 1500]),
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


@pytest.mark.parametrize("steps", [1, 2, 9, 41])
def test_no_rollout_length_breaks_the_recurrent_policy(steps: int, toy: Any, names: Any) -> None:
    agent = make_agent("sb3-contrib:RecurrentPPO", capabilities=names, options={"hidden": 8})
    env = toy()
    agent.learn(env, steps, seed=0)
    assert np.isfinite(agent.predict(env.reset(seed=1)[0])[0]).all()


def test_the_recurrent_policy_remembers_within_an_episode_and_only_there(toy: Any, names: Any) -> None:
    agent = make_agent("sb3-contrib:RecurrentPPO", capabilities=names, options={"hidden": 8})
    env = toy()
    first, _ = env.reset(seed=0)
    second, *_ = env.step(np.ones(8))
    _, state = agent.predict(first, episode_start=np.array([True]), deterministic=True)
    remembered, _ = agent.predict(second, state, episode_start=np.array([False]), deterministic=True)
    fresh, _ = agent.predict(second, deterministic=True)
    assert np.abs(remembered - fresh).max() > 1e-5
    begun, _ = agent.predict(second, state, episode_start=np.array([True]), deterministic=True)
    assert begun == pytest.approx(fresh, abs=1e-6)
    batch = {key: np.stack([first[key], first[key]]) for key in first}
    actions, (hidden, _) = agent.predict(batch, episode_start=np.array([True, True]))
    assert actions.shape == (2, 8) and hidden.shape == (1, 2, 8)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("sb3:DDPG", {"learning_starts": 5, "batch_size": 4}),
        ("sb3-contrib:TRPO", {"n_steps": 16}),
        ("sb3-contrib:QRDQN", {"learning_starts": 5, "train_freq": 1}),
    ],
)
def test_an_algorithm_without_a_preset_learns_and_is_loaded(
    name: str, options: dict[str, Any], toy: Any, names: Any, tmp_path: Path
) -> None:
    agent = make_agent(name, capabilities=names, options={**options, "scale": 2.0}, seed=2).learn(toy(), 25, seed=0)
    agent.save(tmp_path / "agent.zip")
    observation, _ = toy().reset(seed=4)
    loaded = make_agent(tmp_path / "agent.zip", capabilities=names)
    expected, _ = agent.predict(observation, deterministic=True)
    assert (loaded.predict(observation, deterministic=True)[0] == expected).all()
    assert loaded.options == {**options, "scale": 2.0}


def test_an_option_that_no_constructor_has_is_named(names: Any) -> None:
    with pytest.raises(
        ReadEnvError, match=r"'sb3:DDPG': unknown option 'learning_stars': did you mean 'learning_starts'"
    ):
        make_agent("sb3:DDPG", capabilities=names, options={"learning_stars": 5})
