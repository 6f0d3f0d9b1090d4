"""The surrogate environments, one and many, over worlds that are known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import data_equivalence
from known_world import micro_surrogate

from read_env.capabilities import get_suite
from read_env.envs.surrogate import SurrogateEnv
from read_env.envs.surrogate_vector import SurrogateVectorEnv
from read_env.errors import ReadEnvError
from read_env.surrogate.model import Surrogate
from read_env.surrogate.world import World, expected, plain

NAMES = get_suite("micro").names
SIZE = len(NAMES)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("file") / "known.json"
    micro_surrogate().save(path)
    return str(path)


def actions(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet(np.ones(SIZE), count).astype(np.float32)


def test_a_step_is_that_of_the_world(file: str) -> None:
    surrogate, env = Surrogate.load(file), SurrogateEnv(file)
    for world in range(3):
        observation, info = env.reset(seed=0, options={"world": world, "student": "clerk", "task": "tutor"})
        now = surrogate.starts["clerk"]
        np.testing.assert_allclose(observation["profile"], now, atol=1e-6)
        assert (info["student"], info["task"]) == ("clerk", "tutor")
        for step, weights in enumerate(actions(4, world)):
            *_, ended, _, info = env.step(weights)
            now = expected(surrogate.worlds[world], now, weights * 2.5, surrogate.rates[step])
            np.testing.assert_allclose(info["profile"], now, atol=1e-5)
            assert ended == (step == 3)
    assert info["budget_spent"] == 10_000 and info["step"] == 4


@pytest.mark.parametrize("task", ["bookkeeper", "agent", "shift-planner", "notes-added"])
@pytest.mark.parametrize("form", ["utility", "linear"])
def test_a_vector_gives_what_the_single_environment_gives(file: str, task: str, form: str) -> None:
    overrides = {"reward": {"forgetting_beta": 0.3, "cost_lambda": 0.1, "form": form}}
    one = SurrogateEnv(file, task=task, overrides=overrides)
    many = SurrogateVectorEnv(5, file, task=task, overrides=overrides, infos="all")
    options = {"world": 1, "student": "even"}
    first, first_info = one.reset(seed=0, options=options)
    there, infos = many.reset(seed=0, options=options)
    for weights in actions(4):
        np.testing.assert_allclose(there["profile"][3], first["profile"], atol=1e-5)
        np.testing.assert_allclose(there["last_gain"][3], first["last_gain"], atol=1e-5)
        np.testing.assert_array_equal(there["budget"][3], first["budget"])
        np.testing.assert_allclose(infos["utility"][3], first_info["utility"], atol=1e-5)
        first, reward, ended, _, first_info = one.step(weights)
        there, rewards, ends, _, infos = many.step(np.tile(weights, (5, 1)))
        np.testing.assert_allclose(rewards, reward, atol=2e-5)
        assert ends.tolist() == [ended] * 5
        for key in ("gain", "spillover", "forgetting", "cost", "confidence"):
            np.testing.assert_allclose(infos[key][3], first_info[key], atol=2e-5)
        for key in ("tokens_by_capability", "completion_tokens", "budget_left"):
            np.testing.assert_array_equal(infos[key][3], first_info[key])
        np.testing.assert_allclose(infos["loss_by_capability"][3], first_info["loss_by_capability"], atol=1e-4)


@pytest.mark.parametrize("mode", ["NextStep", "SameStep"])
def test_autoreset_begins_the_next_episode_with_another_draw(file: str, mode: str) -> None:
    envs = gym.make_vec(
        "ReadEnv/Surrogate-v0", num_envs=64, vectorization_mode="vector_entry_point", surrogate=file,
        tasks=["math", "agent"], autoreset_mode=mode,
    )  # fmt: skip
    assert envs.metadata["autoreset_mode"].value == mode
    first, infos = envs.reset(seed=0)
    students, returns = infos["student"], np.zeros(64)
    assert {"even", "clerk"} == set(students) and {"math", "agent"} == set(infos["task"])
    for _ in range(4):
        observations, rewards, ends, truncated, infos = envs.step(actions(64))
        returns += rewards
    assert ends.all() and not truncated.any()
    np.testing.assert_allclose(infos["episode"]["r"], returns)
    assert (infos["episode"]["l"] == 4).all()
    if mode == "SameStep":
        assert infos["final_obs"][5]["budget"] == 0 and (observations["budget"] == 1).all()
        assert infos["final_info"]["episode"]["r"][7] == pytest.approx(returns[7])
    else:
        assert (observations["budget"] == 0).all()
        observations, rewards, ends, _, infos = envs.step(actions(64))
        assert not rewards.any() and not ends.any()
    assert (observations["budget"] == 1).all() and not observations["last_gain"].any()
    assert (observations["requirement"] != first["requirement"]).any(), "tasks are drawn anew"
    observations, *_ = envs.step(actions(64))
    assert (observations["budget"] == 0.75).all()


def test_a_stop_ends_one_environment_and_leaves_the_others(file: str) -> None:
    envs = SurrogateVectorEnv(3, file, may_stop=True, overrides={"reward": {"cost_lambda": 1.0}})
    envs.reset(seed=0)
    weights = np.column_stack([actions(3), [0.0, 0.9, 0.0]]).astype(np.float32)
    before, rewards, ends, _, infos = envs.step(weights)
    assert ends.tolist() == [False, True, False] and rewards[1] == 0 and infos["episode"]["l"].tolist() == [0, 0, 0]
    assert before["budget"][:, 0].tolist() == [0.75, 1.0, 0.75]
    after, rewards, ends, _, _ = envs.step(weights)
    assert after["budget"][:, 0].tolist() == [0.5, 1.0, 0.5] and rewards[1] == 0 and not ends.any()


def test_the_same_seed_gives_the_same_vector(file: str) -> None:
    def play(seed: int) -> list[Any]:
        envs = SurrogateVectorEnv(8, "micro", tasks=["math", "agent"])
        return [envs.reset(seed=seed), *(envs.step(actions(8, step)) for step in range(12))]

    assert data_equivalence(play(1), play(1), exact=True)
    assert not data_equivalence(play(1), play(2), exact=True)


def test_noise_is_that_of_the_world_and_differs_by_environment() -> None:
    surrogate = Surrogate.load("micro")
    envs = SurrogateVectorEnv(2000, "micro", task="math")
    envs.reset(seed=0, options={"world": 0, "student": "even"})
    profiles = envs.step(np.ones((2000, SIZE)))[0]["profile"]
    wanted = np.hypot(surrogate.worlds.noise[0], surrogate.rates[0] * surrogate.worlds.drift[0])
    np.testing.assert_allclose(profiles.std(0), wanted, rtol=0.1)


def test_random_changes_are_correlated_over_steps_and_capabilities(tmp_path: Path) -> None:
    still = plain(SIZE, speed=0.0, drift=0.02)
    correlation = np.eye(SIZE)
    correlation[0, 1] = correlation[1, 0] = 0.7
    known = micro_surrogate()
    Surrogate(
        NAMES, 10_000, 2_500, World(**{name: value[None] for name, value in still.to_dict().items()}),
        {"even": np.full(SIZE, 0.5)}, known.teacher, persistence=0.6, correlation=correlation,
    ).save(tmp_path / "still.json")  # fmt: skip
    many = SurrogateVectorEnv(2000, str(tmp_path / "still.json"), task="math")
    many.reset(seed=0)
    of_many = np.array([many.step(np.ones((2000, SIZE)))[0]["last_gain"] for _ in range(4)])
    one = SurrogateEnv(str(tmp_path / "still.json"), task="math")
    of_one = np.zeros((4, 500, SIZE))
    for episode in range(500):
        one.reset(seed=0 if episode == 0 else None)
        of_one[:, episode] = [one.step(np.ones(SIZE))[0]["last_gain"] for _ in range(4)]
    rates = one.surrogate.rates[:, None, None]
    for changes in (of_many / rates, of_one / rates):
        assert changes.std() == pytest.approx(0.02, rel=0.05)
        over_steps = np.mean([np.corrcoef(changes[:, :, c])[[0, 1, 0], [1, 2, 2]] for c in range(SIZE)], axis=0)
        np.testing.assert_allclose(over_steps, [0.6, 0.6, 0.36], atol=0.06)
        between = np.corrcoef(changes[1].T)
        assert between[0, 1] == pytest.approx(0.7, abs=0.1) and abs(between[2, 3]) < 0.2


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (np.ones((4, SIZE + 1)), "actions must have shape"),
        (np.full((4, SIZE), -0.1), "not negative, got .* in environment 0"),
        (np.vstack([np.ones((3, SIZE)), np.full((1, SIZE), np.nan)]), "in environment 3"),
        ("math", "actions must be numbers"),
    ],
)
def test_bad_actions_change_nothing(file: str, weights: Any, message: str) -> None:
    envs = SurrogateVectorEnv(4, file)
    envs.reset(seed=0)
    with pytest.raises(ReadEnvError, match=message):
        envs.step(weights)
    assert (envs.step(np.zeros((4, SIZE)))[0]["budget"] == 0.75).all()


def test_zero_and_tiny_weights_are_allocations(file: str) -> None:
    envs = SurrogateVectorEnv(3, file)
    envs.reset(seed=0, options={"world": 0, "student": "even"})
    weights = np.stack([np.zeros(SIZE), np.ones(SIZE), np.full(SIZE, 1e-38)]).astype(np.float32)
    shares = envs.step(weights)[0]["last_allocation"]
    np.testing.assert_allclose(shares, 1 / SIZE, rtol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"surrogate": "mcro"}, "unknown surrogate 'mcro': did you mean 'micro'"),
        ({"students": ["clrk"]}, "unknown starting student of the surrogate 'clrk': did you mean 'clerk'"),
        ({"preset": "instruct"}, "the surrogate's capabilities are .*right would be the preset of the recorded runs"),
        ({"task": "math", "tasks": ["code"]}, "task or tasks, not both"),
        ({"render_mode": "human"}, "render"),
    ],
)
@pytest.mark.parametrize("kind", [SurrogateEnv, SurrogateVectorEnv])
def test_bad_arguments(file: str, kind: Any, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ReadEnvError, match=message):
        kind(**{"surrogate": file, **arguments})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"world": 3}, "world must be 0 to 2, got 3"),
        ({"student": "editor"}, "unknown starting student"),
        ({"word": 1}, "unknown reset option 'word': did you mean 'world'"),
    ],
)
def test_bad_options(file: str, options: dict[str, Any], message: str) -> None:
    for env in (SurrogateEnv(file), SurrogateVectorEnv(2, file)):
        with pytest.raises(ReadEnvError, match=message):
            env.reset(seed=0, options=options)


def test_options_hold_for_one_episode_and_disturb_no_other(file: str) -> None:
    env = SurrogateEnv(file, tasks=["math", "agent"])

    def following(options: dict[str, Any] | None) -> list[Any]:
        env.reset(seed=0, options=options)
        return [(info["task"], info["student"], env.world) for _, info in (env.reset() for _ in range(6))]

    assert following({"task": "tutor", "world": 2}) == following(None)
    assert len(set(following(None))) > 2


def test_a_foreign_snapshot_is_refused_and_changes_nothing(file: str) -> None:
    env = SurrogateEnv(file)
    env.reset(seed=0)
    state = env.snapshot()
    json.dumps(state)
    for change in ({"suite": ["math"]}, {"world": 9}, {"trace": []}, {"latent": [0.5]}, {"noise": {}}):
        with pytest.raises(ReadEnvError, match="snapshot"):
            env.restore({**state, **change})
    assert env.snapshot() == state


def test_sb3_learns_in_the_vector(file: str) -> None:
    from stable_baselines3 import PPO

    from read_env.envs.surrogate_sb3 import SurrogateVecEnv

    envs = SurrogateVecEnv(16, surrogate=file, task="math")
    model = PPO("MlpPolicy", envs, n_steps=8, batch_size=64, n_epochs=2, seed=0, device="cpu")
    model.learn(16 * 8 * 2)
    assert model.num_timesteps == 256 and len(model.ep_info_buffer) == 64
    observations = envs.reset()
    assert observations.shape == (16, 4 * SIZE + 1) and observations[0] in envs.observation_space
    for _ in range(4):
        observations, _, ends, infos = envs.step(np.zeros((16, SIZE), np.float32))
    assert ends.all() and infos[3]["terminal_observation"].shape == (4 * SIZE + 1,)
    assert infos[3]["terminal_observation"][SIZE * 2] == 0
    assert infos[3]["episode"]["l"] == 4


def test_importing_the_environments_needs_no_torch(tmp_path: Path) -> None:
    import subprocess
    import sys

    code = "import sys, gymnasium, read_env; e = gymnasium.make('ReadEnv/Surrogate-v0'); e.reset(seed=0); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)
