"""The action wrappers, over a distillation without models."""

import warnings
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from fake_distillation import FakeDistillationEnv
from gymnasium.error import ResetNeeded
from hypothesis import given
from hypothesis import strategies as st

from read_env.envs.wrappers import CandidateAllocation, SoftmaxAllocation
from read_env.errors import ReadEnvError


def env(**kwargs: Any) -> FakeDistillationEnv:
    return FakeDistillationEnv(**kwargs)


def candidates(task: str = "math", mask_free: bool = False) -> CandidateAllocation:
    """The wrapper at the beginning of an episode."""
    wrapped = CandidateAllocation(env(task=task), mask_free=mask_free)
    wrapped.reset(seed=0)
    return wrapped


@pytest.mark.parametrize("may_stop", [False, True])
@pytest.mark.parametrize("mask_free", [None, False, True], ids=["softmax", "candidates", "candidates, mask-free"])
def test_sb3_checker_is_silent(mask_free: bool | None, may_stop: bool) -> None:
    from stable_baselines3.common.env_checker import check_env

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        inner = env(may_stop=may_stop)
        check_env(SoftmaxAllocation(inner) if mask_free is None else CandidateAllocation(inner, mask_free=mask_free))


@pytest.mark.parametrize(("last", "stops"), [(-1, False), (0, False), (0.49, False), (0.5, True), (1, True)])
def test_the_entry_after_the_logits_stops(last: float, stops: bool) -> None:
    wrapped = SoftmaxAllocation(env(may_stop=True))
    wrapped.reset(seed=0)
    np.testing.assert_allclose(wrapped.action(np.append(np.zeros(10), last)), [*[1 / 10] * 10, max(last, 0)])
    assert wrapped.step(np.append(np.zeros(10), last))[4]["stopped"] is stops


@pytest.mark.parametrize("mask_free", [False, True])
def test_the_last_candidate_stops(mask_free: bool) -> None:
    wrapped = CandidateAllocation(env(may_stop=True), mask_free=mask_free)
    wrapped.reset(seed=0)
    assert wrapped.action_names == (*CandidateAllocation(env(), mask_free=mask_free).action_names, "stop")
    assert wrapped.action_masks()[-1]
    keep = wrapped.step(wrapped.action_names.index("keep"))
    assert (keep[2], keep[4]["stopped"], keep[4]["candidate"]) == (False, False, "keep")
    stop = wrapped.step(len(wrapped.action_names) - 1)
    assert (stop[2], stop[4]["stopped"], stop[4]["candidate"]) == (True, True, "stop")


# --- SoftmaxAllocation ---------------------------------------------------------------------------


@given(st.lists(st.floats(-1, 1, width=32), min_size=10, max_size=10))
def test_every_logit_vector_is_an_allocation(logits: list[float]) -> None:
    weights = SoftmaxAllocation(env()).action(np.array(logits, dtype=np.float32))
    assert weights.min() > 0
    assert weights.sum() == pytest.approx(1)
    assert weights.max() / weights.min() <= np.exp(6) * (1 + 1e-9)


def test_zero_logits_are_uniform_and_scale_sharpens() -> None:
    np.testing.assert_allclose(SoftmaxAllocation(env()).action(np.zeros(10)), np.full(10, 1 / 10))
    corner = np.array([1.0] + [-1.0] * 9)
    soft, sharp = (SoftmaxAllocation(env(), scale=scale).action(corner)[0] for scale in (1.0, 5.0))
    assert soft < 0.6 and sharp > 0.99


def test_softmax_allocation_reaches_the_environment() -> None:
    wrapped = SoftmaxAllocation(env())
    wrapped.reset(seed=0)
    logits = np.linspace(-1, 1, 10, dtype=np.float32)
    info = wrapped.step(logits)[4]
    np.testing.assert_allclose(info["allocation"], wrapped.action(logits))


@pytest.mark.parametrize("logits", [np.full(10, np.nan), np.full(9, 0.1), np.full(10, np.inf)])
def test_bad_logits(logits: np.ndarray) -> None:
    with pytest.raises(ReadEnvError, match="logits must be 10 finite numbers, got"):
        SoftmaxAllocation(env()).action(logits)


@pytest.mark.parametrize("scale", [0, -1, float("nan"), float("inf")])
def test_bad_scale(scale: float) -> None:
    with pytest.raises(ReadEnvError, match="scale must be positive"):
        SoftmaxAllocation(env(), scale=scale)


# --- CandidateAllocation ------------------------------------------------------------------------


def test_masks_follow_the_task() -> None:
    wrapped = candidates()
    allowed = {name for name, ok in zip(wrapped.action_names, wrapped.action_masks(), strict=True) if ok}
    assert {"need 1", "keep", "task-static", "shift 0.1 math>code"} <= allowed
    assert not {"need 2", "needs 1+2 at 0.5/0.5", "shift 0.1 code>math"} & allowed
    wrapped.reset(options={"task": "bookkeeper"})
    assert wrapped.action_masks()[wrapped.action_names.index("need 3")]


def test_masks_follow_the_allocation() -> None:
    wrapped = candidates()
    back = wrapped.action_names.index("shift 0.1 code>math")
    info = wrapped.step(wrapped.action_names.index("shift 0.1 math>code"))[4]
    assert info["candidate"] == "shift 0.1 math>code"
    np.testing.assert_allclose(info["allocation"], [0, 0, 0, 0.9, 0.1, 0, 0, 0, 0, 0], atol=1e-12)
    assert wrapped.action_masks()[back]
    info = wrapped.step(back)[4]
    np.testing.assert_allclose(info["allocation"], np.eye(10)[3], atol=1e-12)
    assert not wrapped.action_masks()[back]


def test_a_masked_out_action_keeps_the_allocation() -> None:
    wrapped = candidates()
    wrapped.step(wrapped.action_names.index("uniform"))
    info = wrapped.step(wrapped.action_names.index("need 2"))[4]
    assert info["candidate"] == "keep"
    np.testing.assert_allclose(info["allocation"], np.full(10, 1 / 10))


def test_every_mask_free_action_does_what_it_says() -> None:
    wrapped = candidates(mask_free=True)
    for action, name in enumerate(wrapped.action_names):
        wrapped.reset(seed=0)
        assert wrapped.action_masks().all()
        assert wrapped.step(action)[4]["candidate"] == name


def test_random_play_under_masks_applies_what_was_chosen() -> None:
    wrapped = CandidateAllocation(env(tasks=["math", "bookkeeper", "agent"]))
    wrapped.action_space.seed(0)
    for seed in range(3):
        wrapped.reset(seed=seed)
        ended = False
        while not ended:
            action = wrapped.action_space.sample(mask=wrapped.action_masks().astype(np.int8))
            _, _, ended, _, info = wrapped.step(action)
            assert info["candidate"] == wrapped.action_names[action]


def test_masks_after_a_restore_are_those_of_the_snapshot() -> None:
    wrapped = candidates()
    state, masks = wrapped.unwrapped.snapshot(), wrapped.action_masks()
    wrapped.step(wrapped.action_names.index("uniform"))
    assert (wrapped.action_masks() != masks).any()
    wrapped.unwrapped.restore(state)
    np.testing.assert_array_equal(wrapped.action_masks(), masks)


def test_maskable_ppo_finds_the_masks() -> None:
    from sb3_contrib import MaskablePPO

    model = MaskablePPO("MultiInputPolicy", CandidateAllocation(env()), n_steps=8, batch_size=8, n_epochs=1, seed=0)
    model.learn(8)
    assert model.num_timesteps == 8


@pytest.mark.parametrize("action", [-1, 5, 1.5, None, np.array([0, 1])])
def test_bad_actions(action: Any) -> None:
    with pytest.raises(ReadEnvError, match="between 0 and 4, got"):
        candidates(mask_free=True).step(action)


def test_no_masks_before_the_first_reset() -> None:
    with pytest.raises(ResetNeeded):
        CandidateAllocation(env()).action_masks()


def test_wrappers_are_part_of_the_specification() -> None:
    made = SoftmaxAllocation(gym.make("ReadEnv/Distillation-v0", task="math"), scale=2.0)
    assert "SoftmaxAllocation" in made.spec.to_json()
    again = gym.make(made.spec)
    assert again.get_wrapper_attr("scale") == 2.0
