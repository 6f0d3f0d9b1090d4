"""What every environment of this package promises, walked over every registered id and the model-free double."""

import warnings
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from fake_distillation import FakeDistillationEnv
from gymnasium.utils.env_checker import check_env, data_equivalence

from read_env.envs import ENVIRONMENTS
from read_env.errors import ReadEnvError

gym.register("Double/Distillation-v0", FakeDistillationEnv)
STOPPING = "Double/Stopping-v0"
gym.register(STOPPING, FakeDistillationEnv, kwargs={"may_stop": True})

#: Four steps, two of them with a dev measurement: enough for a contract, little enough for real models.
SMALL = {
    "budget": {"total_tokens": 800, "step_tokens": 200},
    "eval": {"probes": 6, "dev": 6, "dev_every": 3},
    "distill": {"teacher_batch_size": 4},
}

RESET_KEYS = {"task", "student", "step", "utility", "utility_form", "profile", "budget_left", "budget_spent"}
STEP_KEYS = RESET_KEYS | {
    "gain", "spillover", "cost", "forgetting", "profile_gain", "allocation", "tokens_by_capability",
    "completion_tokens", "prompt_tokens", "trained_tokens", "updates", "loss", "loss_by_capability",
    "divergence_by_capability",
}  # fmt: skip

env_ids = pytest.mark.parametrize("env_id", ["Double/Distillation-v0", STOPPING, *ENVIRONMENTS])


#: The budget of a surrogate is that of its record.
TOTAL = {"ReadEnv/Surrogate-v0": 24_000}


def reset_keys(env_id: str) -> set[str]:
    return RESET_KEYS | ({"confidence"} if env_id in TOTAL else set())


def make(env_id: str, **kwargs: Any) -> gym.Env:
    return gym.make(env_id, **{"overrides": SMALL, **kwargs})


def action(env_id: str, weights: Any, stop: float = 0.0) -> np.ndarray:
    """An action of these weights, with a stop entry where there is one."""
    return np.append(weights, [stop] if env_id == STOPPING else []).astype(np.float32)


def allocations(env_id: str, n: int, seed: int = 0) -> list[np.ndarray]:
    return [action(env_id, weights) for weights in np.random.default_rng(seed).dirichlet(np.ones(10), n)]


def play(env: gym.Env, actions: list[np.ndarray], seed: int | None = 0, **kwargs: Any) -> list[Any]:
    """Everything that an episode returns."""
    return [env.reset(seed=seed, **kwargs), *(env.step(action) for action in actions)]


def assert_same(one: list[Any], other: list[Any]) -> None:
    assert data_equivalence(one, other, exact=True)


def test_every_id_of_the_namespace_is_walked_over() -> None:
    assert {env_id for env_id in gym.registry if env_id.startswith("ReadEnv/")} == set(ENVIRONMENTS)


@env_ids
def test_gymnasium_checker_is_silent(env_id: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(make(env_id).unwrapped)


@env_ids
def test_sb3_checker_says_nothing_but_that_the_box_is_asymmetric(env_id: str) -> None:
    from stable_baselines3.common.env_checker import check_env as check_env_for_sb3

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message="We recommend you to use a symmetric and normalized Box action space")
        check_env_for_sb3(make(env_id).unwrapped)


@env_ids
def test_an_episode(env_id: str) -> None:
    env, total = make(env_id), TOTAL.get(env_id, 800)
    observation, info = env.reset(seed=0)
    assert set(info) == reset_keys(env_id)
    assert info["step"] == 0 and info["budget_spent"] == 0 and info["budget_left"] == total
    assert not observation["last_allocation"].any() and not observation["last_gain"].any()
    assert observation["budget"] == 1 and observation["requirement"].sum() == pytest.approx(1)
    spent, utility, ended = 0, info["utility"], False
    reward_config = env.unwrapped.config.reward
    while not ended:
        step, profile = info["step"], info["profile"]
        observation, reward, ended, truncated, info = env.step(allocations(env_id, 1, seed=step)[0])
        assert observation in env.observation_space
        assert type(reward) is float and type(ended) is bool and truncated is False
        assert info["step"] == step + 1
        checkpoint = ended or info["step"] % 3 == 0
        keys = STEP_KEYS | reset_keys(env_id) | ({"stopped"} if env_id == STOPPING else set())
        assert set(info) == keys | ({"dev_profile", "dev_utility"} if checkpoint else set())
        spent += info["completion_tokens"]
        assert info["tokens_by_capability"].sum() == info["completion_tokens"]
        passes = env.unwrapped.config.distill.epochs
        assert info["trained_tokens"] == passes * (info["completion_tokens"] + info["prompt_tokens"])
        assert info["budget_spent"] == spent <= total and info["budget_left"] == total - spent
        assert observation["budget"] == np.float32(info["budget_left"] / total)
        assert info["cost"] == info["completion_tokens"] / total
        assert reward == pytest.approx(info["gain"] - reward_config.spillover_beta * info["spillover"])
        np.testing.assert_array_equal(info["profile_gain"], info["profile"] - profile)
        np.testing.assert_array_equal(observation["last_gain"], info["profile_gain"].astype(np.float32))
        np.testing.assert_array_equal(observation["last_allocation"], info["allocation"].astype(np.float32))
        np.testing.assert_array_equal(observation["profile"], info["profile"].astype(np.float32))
        assert info["gain"] == pytest.approx(info["utility"] - utility)
        utility = info["utility"]
    with pytest.raises(gym.error.ResetNeeded, match=rf"ended after step {info['step']}.*call reset\(\) first"):
        env.step(allocations(env_id, 1)[0])
    assert env.reset()[1]["budget_left"] == total


def test_a_stop_entry_ends_the_episode_with_what_is_unspent() -> None:
    env = make(STOPPING, overrides={**SMALL, "reward": {"cost_lambda": 5.0}})
    *_, (before, *_, last) = play(env, allocations(STOPPING, 2))
    assert last["stopped"] is False
    student, state = env.unwrapped.distillation.snapshot(), env.unwrapped.snapshot()
    observation, reward, terminated, truncated, info = env.step(action(STOPPING, np.ones(10), stop=0.5))
    assert (reward, terminated, truncated, info["stopped"]) == (0.0, True, False, True)
    assert_same([observation], [before])
    assert_same([{name: info[name] for name in RESET_KEYS}], [{name: last[name] for name in RESET_KEYS}])
    assert set(info) == {*last, "dev_profile", "dev_utility"}
    assert all(type(info[name]) is type(value) for name, value in last.items())
    assert not any(np.any(info[name]) for name in STEP_KEYS - RESET_KEYS)
    after = env.unwrapped.distillation.snapshot()
    assert after.pop("budget") != student.pop("budget") and after == student, "dev tokens are counted, nothing else"
    with pytest.raises(gym.error.ResetNeeded, match=r"ended after step 2.*call reset\(\) first"):
        env.step(action(STOPPING, np.ones(10)))
    env.unwrapped.restore(state)
    assert env.unwrapped.step(action(STOPPING, np.ones(10), stop=0.49))[4]["step"] == 3


def test_an_episode_may_be_stopped_before_its_first_step() -> None:
    env = make(STOPPING)
    assert play(env, [action(STOPPING, np.zeros(10), stop=1.0)])[-1][4]["budget_left"] == 800


@env_ids
def test_same_seed_and_ratios_of_weights_same_everything_to_the_bit(env_id: str) -> None:
    actions = [*allocations(env_id, 1), action(env_id, [2, 1, 0, 0, 1, 0, 0, 0, 0, 0])]
    env = make(env_id)
    first = play(env, actions)
    assert_same(play(env, [actions[0], actions[1] / 4]), first)
    assert_same(play(make(env_id), actions), first)


@env_ids
def test_another_seed_another_episode(env_id: str) -> None:
    env = make(env_id)
    rewards = [play(env, allocations(env_id, 1), seed)[1][1] for seed in (0, 1, None)]
    assert len(set(rewards)) == 3


@env_ids
def test_restore_is_exact_here_and_in_another_process_to_be_and_returns_the_moment(env_id: str, tmp_path: Any) -> None:
    env = make(env_id, task="agent")
    observation, *_, info = play(env, allocations(env_id, 1), seed=5, options={"task": "tutor"})[-1]
    torch.save(env.unwrapped.snapshot(), tmp_path / "state.pt")
    rest = allocations(env_id, 3, seed=1)
    expected = [env.step(action) for action in rest]
    following = env.reset()

    state = torch.load(tmp_path / "state.pt", weights_only=True)
    fresh = make(env_id, task="math")
    fresh.reset()
    for again in (env, fresh):
        again.unwrapped.restore(state)
        assert_same([again.step(action) for action in rest], expected)
    assert_same(list(env.unwrapped.restore(state)), [observation, {key: info[key] for key in reset_keys(env_id)}])
    assert_same([env.reset()[0]["profile"]], [following[0]["profile"]])  # np_random came back, too


@env_ids
def test_bad_weights_are_shown_and_change_nothing(env_id: str) -> None:
    env = make(env_id).unwrapped
    expected = play(env, allocations(env_id, 2))
    play(env, allocations(env_id, 1))
    # The messages are those of normalise_allocation.
    for weights in (action(env_id, np.eye(10)[0] - 0.01), action(env_id, [np.nan] * 10), np.full(9, 0.5), "math"):
        with pytest.raises(ValueError, match="allocation (weights )?must"):
            env.step(weights)
    assert_same([env.step(allocations(env_id, 2)[1])], expected[2:])


@env_ids
def test_zeros_are_the_uniform_allocation(env_id: str) -> None:
    env = make(env_id).unwrapped
    zeros, ones = ([action(env_id, weights)] for weights in (np.zeros(10), np.ones(10)))
    assert_same(play(env, zeros)[1:], play(env, ones)[1:])


def test_a_plain_policy_of_sb3_learns_on_the_environment() -> None:
    from stable_baselines3 import PPO

    model = PPO("MultiInputPolicy", FakeDistillationEnv(overrides=SMALL), n_steps=16, batch_size=8, n_epochs=1, seed=0)
    model.policy.action_net.bias.data.fill_(-100.0)  # clipped to zeros
    assert model.learn(32).num_timesteps == 32


@env_ids
def test_flattened_observations(env_id: str) -> None:
    env = gym.wrappers.FlattenObservation(make(env_id))
    observation, _ = env.reset(seed=0)
    assert observation.shape == env.observation_space.shape == (4 * 10 + 1,)
    assert observation.dtype == np.float32 and observation in env.observation_space


@env_ids
def test_rendering(env_id: str) -> None:
    env = make(env_id, render_mode="rgb_array")
    env.reset(seed=0)
    start = env.render()
    env.step(allocations(env_id, 1)[0])
    after = env.render()
    assert start.shape == after.shape == (640, 1120, 3) and after.dtype == np.uint8
    assert (start != after).any()


@pytest.mark.parametrize("env_id", ENVIRONMENTS)
def test_the_class_docstring_is_the_specification(env_id: str) -> None:
    text = type(gym.make(env_id).unwrapped).__doc__
    sections = [line.strip()[3:] for line in text.splitlines() if line.strip().startswith("## ")]
    assert sections == [
        "Description", "Action Space", "Observation Space", "Rewards", "Starting State", "Episode End",
        "Information", "Arguments", "References", "Version History",
    ]  # fmt: skip
    assert all(f"`{key}`" in text for key in STEP_KEYS | {"dev_profile", "dev_utility", "stopped"})


@pytest.mark.parametrize("env_id", ENVIRONMENTS)
def test_the_specification_is_json(env_id: str) -> None:
    spec = make(env_id, tasks=["math", "agent"]).spec
    assert gym.envs.registration.EnvSpec.from_json(spec.to_json()).kwargs == spec.kwargs


@pytest.mark.slow
@pytest.mark.parametrize("env_id", ENVIRONMENTS)
def test_two_environments_in_their_own_processes(env_id: str) -> None:
    envs = gym.make_vec(
        env_id, num_envs=2, vectorization_mode="async", vector_kwargs={"context": "spawn"}, overrides=SMALL
    )
    try:
        envs.reset(seed=[3, 4])
        actions = np.stack(allocations(env_id, 2))
        observations, rewards, *_ = envs.step(actions)
        assert observations["profile"].shape == (2, 10)
    finally:
        envs.close()
    alone = make(env_id)
    for i, seed in enumerate((3, 4)):
        assert play(alone, [actions[i]], seed)[1][1] == rewards[i]


def test_no_arguments_give_the_micro_preset_and_its_default_task() -> None:
    env = gym.make("ReadEnv/Distillation-v0").unwrapped
    assert env.config.preset == "micro"
    assert env.card.name == env.config.task
    assert env.distillation is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"preset": "mikro"}, "unknown preset 'mikro': did you mean 'micro'"),
        ({"task": "mth"}, "unknown task 'mth': did you mean 'math'"),
        ({"tasks": ["math", "mth"]}, "unknown task 'mth': did you mean 'math'"),
        ({"task": "math", "tasks": ["code"]}, "task or tasks, not both"),
        ({"tasks": []}, "list of at least one task"),
        ({"tasks": "math"}, "list of at least one task, got 'math'"),
        ({"render_mode": "human"}, "unknown render mode 'human'"),
        ({"overrides": {"budget": {"total_tokens": -1}}}, "budget"),
        ({"may_stop": "perhaps"}, "budget.may_stop: Input should be a valid boolean"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ReadEnvError, match=message):
        FakeDistillationEnv(**arguments)
