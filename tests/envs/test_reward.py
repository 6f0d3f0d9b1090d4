"""The reward's parts, against numbers worked out by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from read_env.capabilities import get_suite
from read_env.config import RewardConfig
from read_env.envs.reward import Reward, reward_of
from read_env.tasks import TaskCard, load_task

SUITE = get_suite("micro")
PROFILES = st.lists(st.floats(0, 1), min_size=10, max_size=10).map(np.array)


def card(requirement: dict[str, float], utility_form: str = "weighted_mean") -> TaskCard:
    template = load_task("math", SUITE)
    return TaskCard.model_validate(template.model_dump() | {"requirement": requirement, "utility_form": utility_form})


def reward(config: RewardConfig, task: TaskCard, before: np.ndarray, after: np.ndarray, cost: float = 0.1) -> Reward:
    utilities = task.utility(before, SUITE), task.utility(after, SUITE)
    return reward_of(config, task.requirement_vector(SUITE), (before, after), utilities, cost)


def profile(**scores: float) -> np.ndarray:
    return np.array([scores.get(name, 0.5) for name in SUITE.names])


def test_parts_by_hand() -> None:
    task = card({"math": 0.5, "code": 0.3, "tool_use": 0.15, "reasoning": 0.05})
    before, after = profile(), profile(math=0.7, code=0.4, reasoning=0.3, long_context=0.25)
    config = RewardConfig(spillover_beta=0.5, forgetting_beta=0.4, cost_lambda=0.2)
    found = reward(config, task, before, after, cost=0.05)
    assert found.gain == pytest.approx(0.5 * 0.2 - 0.3 * 0.1 - 0.05 * 0.2)
    assert found.spillover == pytest.approx(0.3 * 0.1)  # reasoning is needed, but not among the top three
    assert found.forgetting == pytest.approx((0.2 + 0.25) / 7)
    assert found.cost == 0.05
    assert found.value == pytest.approx(found.gain - 0.5 * found.spillover - 0.4 * found.forgetting - 0.2 * 0.05)


def both_forms(task: TaskCard, before: np.ndarray, after: np.ndarray) -> list[Reward]:
    return [reward(RewardConfig(form=form), task, before, after) for form in ("utility", "linear")]


@given(PROFILES, PROFILES)
def test_both_forms_are_one_for_a_weighted_mean(before: np.ndarray, after: np.ndarray) -> None:
    utility, linear = both_forms(card({"math": 0.5, "code": 0.5}), before, after)
    assert utility.value == pytest.approx(linear.value)


def test_forms_differ_where_abilities_are_needed_jointly() -> None:
    task = card({"math": 0.5, "code": 0.5}, "geometric_mean")
    before, after = profile(math=0.81, code=0.01), profile(math=0.91, code=0.01)
    utility, linear = both_forms(task, before, after)
    assert linear.gain == pytest.approx(0.05)
    assert utility.gain == pytest.approx((0.91 * 0.01) ** 0.5 - 0.09)


def test_nothing_to_forget_when_everything_is_essential() -> None:
    task = card(dict.fromkeys(SUITE.names, 1.0))
    found = reward(RewardConfig(essential_k=len(SUITE)), task, profile(), profile() - 0.1)
    assert found.forgetting == 0.0
    assert found.spillover == pytest.approx(0.1)


@given(PROFILES, PROFILES)
def test_penalties_are_never_negative(before: np.ndarray, after: np.ndarray) -> None:
    found = reward(RewardConfig(), card({"math": 1, "code": 2}), before, after)
    assert found.spillover >= 0 and found.forgetting >= 0
    assert found.value <= found.gain
