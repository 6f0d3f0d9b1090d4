"""The environment's own behaviour, over a distillation without models."""

import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from unittest import mock

import gymnasium as gym
import numpy as np
import pytest
from fake_distillation import FakeDistillation, FakeDistillationEnv
from gymnasium.error import ResetNeeded
from hypothesis import given
from hypothesis import strategies as st

from read_env.errors import DivergedError, ReadEnvError

UNIFORM = np.full(10, 0.1)


@pytest.fixture
def env() -> FakeDistillationEnv:
    """An environment that renders, at the beginning of an episode."""
    made = FakeDistillationEnv(render_mode="rgb_array")
    made.reset(seed=0)
    return made


# --- tasks ------------------------------------------------------------------------------------------


def test_tasks_are_drawn_evenly_at_reset() -> None:
    env = FakeDistillationEnv(tasks=["math", "code", "agent"])
    drawn = [env.reset(seed=0)[1]["task"], *(env.reset()[1]["task"] for _ in range(59))]
    assert {name: drawn.count(name) >= 10 for name in ("math", "code", "agent")} == dict.fromkeys(drawn, True)


def test_the_observed_requirement_and_utility_are_those_of_the_task() -> None:
    env = FakeDistillationEnv(tasks=["math", "agent"])
    for _ in range(8):
        observation, info = env.reset()
        np.testing.assert_array_equal(observation["requirement"], env.requirement.astype(np.float32))
        assert info["utility"] == env.card.utility(info["profile"], env.suite)
        assert info["task"] == env.card.name


@pytest.mark.parametrize("teacher", ["auto", "never"])
def test_a_product_is_relative_to_the_teacher_on_probes_dev_and_in_the_reward(teacher: str) -> None:
    with mock.patch.object(FakeDistillation, "teacher_scores", None) if teacher == "never" else nullcontext():
        env = FakeDistillationEnv(task="code-reviewer", overrides={"reward": {"spillover_beta": 0}})
        scale = 1.0 if teacher == "never" else 0.9**3
        needed, start = env.requirement > 0, env.reset(seed=0)[1]
        *_, info = env.step(np.ones(10))
        assert [start["utility"], info["utility"]] == pytest.approx(
            [one["profile"][needed].prod() / scale for one in (start, info)]
        )
        assert env.step(np.ones(10))[1] == pytest.approx(env.profile[needed].prod() / scale - info["utility"])
        while "dev_profile" not in info:
            *_, info = env.step(np.ones(10))
        assert info["dev_utility"] == pytest.approx(info["dev_profile"][needed].prod() / scale)


def test_options_hold_for_one_episode() -> None:
    env = FakeDistillationEnv(task="math")
    assert env.reset(seed=0, options={"task": "agent"})[1]["task"] == "agent"
    assert env.step(UNIFORM)[4]["task"] == "agent"
    assert env.reset()[1]["task"] == "math"


def test_options_take_a_file(tmp_path: Path) -> None:
    env = FakeDistillationEnv()
    card = (Path(__file__).parents[2] / "read_env/tasks/cards/math.toml").read_text()
    (tmp_path / "mine.toml").write_text(card.replace('name = "math"', 'name = "mine"'))
    assert env.reset(options={"task": str(tmp_path / "mine.toml")})[1]["task"] == "mine"


def test_options_do_not_disturb_the_episodes_that_follow() -> None:
    env = FakeDistillationEnv(tasks=["math", "code", "agent"])

    def following(options: dict[str, Any] | None) -> list[Any]:
        env.reset(seed=0, options=options)
        return [(info["task"], info["profile"].tolist()) for _, info in (env.reset() for _ in range(5))]

    assert following({"task": "tutor"}) == following(None)


def test_one_seed_gives_common_random_numbers_whatever_the_tasks() -> None:
    envs = [
        FakeDistillationEnv(**kwargs) for kwargs in ({"task": "math"}, {"task": "code"}, {"tasks": ["agent", "tutor"]})
    ]
    profiles = [env.reset(seed=7)[1]["profile"].tolist() for env in envs]
    assert profiles[0] == profiles[1] == profiles[2]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"task": "mth"}, "unknown task 'mth': did you mean 'math'"),
        ({"tsk": "math"}, "unknown reset option 'tsk': did you mean 'task'"),
    ],
)
def test_bad_options_change_nothing(options: dict[str, Any], message: str, env: FakeDistillationEnv) -> None:
    expected = env.np_random.bit_generator.state, env.snapshot()
    with pytest.raises(ReadEnvError, match=message):
        env.reset(seed=1, options=options)
    assert (env.np_random.bit_generator.state, env.snapshot()) == expected


# --- the life of the models ---------------------------------------------------------------------------


def test_models_load_once_at_the_first_reset() -> None:
    env = FakeDistillationEnv()
    assert env.loaded == 0 and env.distillation is None
    env.reset()
    env.reset()
    assert env.loaded == 1


def test_close_lets_go_and_may_be_repeated(env: FakeDistillationEnv) -> None:
    env.close()
    env.close()
    assert env.distillation is None
    with pytest.raises(ResetNeeded):
        env.step(UNIFORM)
    env.reset()
    env.step(UNIFORM)


@pytest.mark.parametrize("call", ["step", "snapshot", "render"])
def test_nothing_works_before_the_first_reset(call: str) -> None:
    env = FakeDistillationEnv(render_mode="rgb_array")
    with pytest.raises(ResetNeeded, match=r"call reset\(\) first"):
        getattr(env, call)(*([UNIFORM] if call == "step" else []))
    assert env.loaded == 0


def test_a_refused_update_leaves_the_episode_as_it_was(env: FakeDistillationEnv) -> None:
    env.step(UNIFORM)
    before = env.snapshot()
    with mock.patch.object(FakeDistillation, "step", side_effect=DivergedError), pytest.raises(DivergedError):
        env.step(UNIFORM)
    assert env.snapshot() == before
    env.step(UNIFORM)


# --- what the last report and the settings do ----------------------------------------------------------


def test_timings_are_in_the_last_report_not_in_info(env: FakeDistillationEnv) -> None:
    assert env.last_report is None
    info = env.step(UNIFORM)[4]
    assert set(env.last_report.seconds) == {"prompts", "teacher", "cache", "student", "probes", "other"}
    assert "seconds" not in info and "metrics" not in info


def test_dev_checkpoints() -> None:
    budget = {"total_tokens": 5000, "step_tokens": 1000}
    env = FakeDistillationEnv(overrides={"eval": {"dev_every": 3}, "budget": budget})
    env.reset(seed=0)
    infos = [env.step(UNIFORM)[4] for _ in range(5)]
    assert [info["step"] for info in infos if "dev_profile" in info] == [3, 5]
    assert infos[2]["dev_utility"] == env.card.utility(infos[2]["dev_profile"], env.suite)


def test_reward_settings_reach_the_reward() -> None:
    settings = {"reward": {"spillover_beta": 2.0, "cost_lambda": 0.3, "form": "linear", "essential_k": 1}}
    env = FakeDistillationEnv(task="bookkeeper", overrides=settings)
    env.reset(seed=0)
    for _ in range(5):
        _, reward, _, _, info = env.step(np.eye(10)[0])
        assert reward == pytest.approx(info["gain"] - 2.0 * info["spillover"] - 0.3 * info["cost"])
        assert info["gain"] == pytest.approx(env.requirement @ info["profile_gain"])
        assert info["spillover"] == pytest.approx(0.5 * max(-info["profile_gain"][5], 0))


def test_the_published_preset_has_the_published_reward() -> None:
    env = FakeDistillationEnv(preset="micro-published", task="tutor")
    env.reset(seed=0)
    _, reward, _, _, info = env.step(np.eye(10)[0])
    published = env.requirement @ info["profile_gain"] - 0.5 * info["spillover"] - 1e-5 * info["completion_tokens"]
    assert info["completion_tokens"] == 1200 and reward == pytest.approx(published)


@given(st.integers(10, 3000), st.integers(10, 1000), st.integers(0, 10))
def test_the_budget_is_never_overspent_and_gains_add_up(total: int, step: int, seed: int) -> None:
    env = FakeDistillationEnv(overrides={"budget": {"total_tokens": total, "step_tokens": step}})
    _, info = env.reset(seed=seed)
    start, gains, ended = info["utility"], 0.0, False
    weights = np.random.default_rng(seed)
    while not ended:
        observation, _, ended, _, info = env.step(weights.dirichlet(np.ones(10)))
        gains += info["gain"]
        assert observation in env.observation_space
    assert 0 <= info["budget_left"] < 10
    assert info["utility"] - start == pytest.approx(gains)


# --- snapshots ----------------------------------------------------------------------------------------


def test_a_snapshot_does_not_change_when_the_episode_goes_on(env: FakeDistillationEnv) -> None:
    state = env.snapshot()
    text = json.dumps(state)
    env.step(UNIFORM)
    assert json.dumps(state) == text


def test_a_snapshot_restores_without_a_reset_and_into_another_task() -> None:
    env = FakeDistillationEnv(task="agent")
    env.reset(seed=0)
    env.step(UNIFORM)
    fresh = FakeDistillationEnv(task="math")
    fresh.restore(env.snapshot())
    assert fresh.card == env.card
    assert fresh.snapshot() == env.snapshot()
    assert fresh.step(UNIFORM)[1] == env.step(UNIFORM)[1]


def test_a_finished_episode_stays_finished() -> None:
    env = FakeDistillationEnv(overrides={"budget": {"total_tokens": 1000, "step_tokens": 1000}})
    env.reset(seed=0)
    assert env.step(UNIFORM)[2]
    state = env.snapshot()
    env.reset()
    env.restore(state)
    with pytest.raises(ResetNeeded, match="ended after step 1"):
        env.step(UNIFORM)


@pytest.mark.parametrize("missing", ["suite", "card", "trace", "ended", "np_random", "np_random_seed", "distillation"])
def test_a_snapshot_that_lacks_a_part_is_refused_and_nothing_lost(missing: str, env: FakeDistillationEnv) -> None:
    state = env.snapshot()
    with pytest.raises(ReadEnvError, match=rf"no snapshot of a DistillationEnv: KeyError\('{missing}'\)"):
        env.restore({key: value for key, value in state.items() if key != missing})
    assert env.snapshot() == state


def test_a_snapshot_of_another_suite_is_refused(env: FakeDistillationEnv) -> None:
    with pytest.raises(ReadEnvError, match=r"the snapshot's capabilities are \['chess'\]"):
        env.restore(env.snapshot() | {"suite": ["chess"]})


# --- rendering ------------------------------------------------------------------------------------------


def test_rendering_leaves_no_global_figure_behind_and_repeats(env: FakeDistillationEnv) -> None:
    from matplotlib import pyplot, rcParams

    settings, pictures = dict(rcParams), []
    for _ in range(2):
        env.reset(seed=0)
        env.step(UNIFORM)
        pictures.append(env.render())
    assert pyplot.get_fignums() == [] and dict(rcParams) == settings
    np.testing.assert_array_equal(*pictures)


def test_render_without_a_mode_says_how() -> None:
    env = gym.wrappers.OrderEnforcing(FakeDistillationEnv())
    env.reset()
    with pytest.warns(UserWarning, match="needs a render mode"):
        assert env.render() is None
