"""Properties of every rule of the literature: allocations, permutations, episodes, states and errors."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rule_records import example_records
from rule_steps import observation, play

from read_env.agents import Agent, make_agent
from read_env.agents.registry import GROUPS
from read_env.errors import ReadEnvError
from read_env.running.vector_training import VectorDriver

RULES = list(GROUPS["rules of the literature"])
#: Options of the variants that the default does not reach.
VARIANTS: list[tuple[str, dict[str, Any]]] = [
    *((name, {}) for name in RULES),
    *((name, {"objective": "mean"}) for name in RULES),
    ("odm", {"form": "moving-average"}),
    ("learning-progress", {"policy": "boltzmann"}),
    ("learning-progress", {"absolute": False}),
    ("paced", {"alpha": 0.0, "beta": 3.0}),
    ("reference-gap", {"loss": "probe", "clip": False}),
    ("dro", {"loss": "probe", "rho": 2.0, "least": 0.0}),
    ("skill-it", {"negative": "keep", "window": 1}),
    ("aioli", {"estimate": "regression"}),
    ("dump", {"tau": 5.0}),
    ("aioli", {"hold": 1, "one_hot": 1.0}),
]
NAMES = ("a", "b", "c", "d")
#: Rules whose data, order or draws tell capabilities apart.
ORDERED = ("skill-it", "aioli", "olmix", "regmix")


def make(name: str, options: dict[str, Any]) -> Agent:
    return make_agent(name, capabilities=NAMES, options={**example_records(NAMES).get(name, {}), **options})


def episode(seed: int, steps: int) -> dict[str, Any]:
    """Arguments of ``play``: an episode with scores of 0 and 1, needs of 0, and capabilities without tokens."""
    rng = np.random.default_rng(seed)
    corners = partial(rng.choice, [0.0, 1.0, np.nan], (steps + 1, 4), p=[0.15, 0.15, 0.7])
    profiles, drawn = rng.random((steps + 1, 4)), corners()
    needs = rng.dirichlet(np.ones(4)) * rng.choice([0.0, 1.0], 4, p=[0.3, 0.7])
    needs = needs if needs.any() else np.eye(4)[0]
    allocations = rng.dirichlet(np.full(4, 0.3), steps)
    tokens = (6000 * allocations).astype(int)
    return {
        "requirement": needs / needs.sum(),
        "profiles": np.where(np.isnan(drawn), profiles, drawn),
        "allocations": allocations,
        "loss_by_capability": np.where(tokens > 0, rng.exponential(1, (steps, 4)), 0.0),
        "divergence_by_capability": np.where(tokens > 0, rng.exponential(0.3, (steps, 4)), 0.0),
        "tokens_by_capability": tokens,
    }


def permuted(kept: dict[str, Any], order: np.ndarray) -> dict[str, Any]:
    return {name: values[..., order] for name, values in kept.items()}


@pytest.mark.parametrize(("name", "options"), VARIANTS)
@settings(max_examples=40)
@given(seed=st.integers(0, 10_000), steps=st.integers(0, 25))
def test_allocations_are_finite_and_on_the_simplex(name: str, options: dict[str, Any], seed: int, steps: int) -> None:
    agent = make(name, options)
    last = play(agent, **episode(seed, steps))
    weights = agent.predict(last)[0]
    assert np.isfinite(weights).all() and (weights >= 0).all() and weights.sum() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(("name", "options"), [variant for variant in VARIANTS if variant[0] not in ORDERED])
@settings(max_examples=15)
@given(seed=st.integers(0, 10_000), steps=st.integers(0, 25), order=st.permutations(range(4)))
def test_a_permutation_of_the_capabilities_permutes_the_allocation(
    name: str, options: dict[str, Any], seed: int, steps: int, order: list[int]
) -> None:
    kept, moved = episode(seed, steps), np.array(order)
    agents = [make(name, options) for _ in range(2)]
    ends = [play(agents[0], **kept), play(agents[1], **permuted(kept, moved))]
    first, second = (agent.predict(end)[0] for agent, end in zip(agents, ends, strict=True))
    assert second == pytest.approx(first[moved], abs=1e-5)


@pytest.mark.parametrize(("name", "options"), VARIANTS)
def test_an_episode_leaves_nothing_behind(name: str, options: dict[str, Any]) -> None:
    used, fresh = make(name, options), make(name, options)
    play(used, **episode(1, 12))
    start = observation([0.2, 0.4, 0.6, 0.8], [0.1, 0.2, 0.3, 0.4])
    assert (used.predict(start)[0] == fresh.predict(start)[0]).all()
    assert (used.predict(play(used, **episode(2, 9)))[0] == fresh.predict(play(fresh, **episode(2, 9)))[0]).all()


@pytest.mark.parametrize(("name", "options"), VARIANTS)
def test_a_state_is_a_snapshot(name: str, options: dict[str, Any]) -> None:
    agent, other = make(name, options), make(name, options)
    kept = episode(3, 20)
    half = {key: values if key == "requirement" else values[:10] for key, values in kept.items()}
    last = play(agent, **{**half, "profiles": kept["profiles"][:11]})
    state, expected = agent.state_dict(), agent.predict(last)[0]
    play(agent, **episode(4, 7))  # changes the agent, not the state
    other.load_state_dict(state)
    assert (other.predict(last)[0] == expected).all()


@pytest.mark.parametrize(("name", "options"), VARIANTS)
def test_environments_side_by_side_keep_their_episodes_apart(name: str, options: dict[str, Any]) -> None:
    shared, alone = VectorDriver(make(name, options), name, 2), [make(name, options) for _ in range(2)]
    kept = [episode(6, 8), episode(7, 8)]
    ends = [observation(one["profiles"][0], one["requirement"]) for one in kept]
    for step in range(8):
        part = [_only(one, step) for one in kept]
        for index in range(2):
            with shared.turn(index) as driver:
                _show(driver, ends[index], part[index])
            ends[index] = _show(alone[index], ends[index], part[index])
    for index, state in enumerate(shared.state_dict()):
        with shared.turn(index) as driver:
            expected = alone[index].predict(ends[index], deterministic=True)[0]
            assert (driver.predict(ends[index])[0] == expected).all()
            driver.load_state_dict(state)  # by way of a checkpoint's tensors
            assert (driver.predict(ends[index])[0] == expected).all()


def _only(kept: dict[str, Any], step: int) -> dict[str, Any]:
    rows = {name: values[step] for name, values in kept.items() if name not in ("requirement", "profiles")}
    return {**rows, "after": observation(kept["profiles"][step + 1], kept["requirement"], kept["allocations"][step])}


def _show(agent: Any, before: Any, step: dict[str, Any]) -> Any:
    agent.observe(before, step["allocations"].astype(np.float32), 0.0, step["after"], False, False, step)
    return step["after"]


@pytest.mark.parametrize("name", ["skill-it", "olmix"])
@given(order=st.permutations(range(4)))
def test_permuted_records_permute_the_allocation(name: str, order: list[int]) -> None:
    agent, other = make(name, {}), make(name, {})
    kept, moved = episode(8, 5), np.array(order)
    first = agent.predict(play(agent, **kept))[0]
    state = agent.state_dict()
    fitted = {key: value[np.ix_(moved, moved)] for key, value in state["fitted"].items()}
    other.load_state_dict({**other.state_dict(), "fitted": fitted})
    assert other.predict(play(other, **permuted(kept, moved)))[0] == pytest.approx(first[moved], abs=1e-4)


@pytest.mark.parametrize("name", RULES)
def test_a_stop_teaches_nothing(name: str) -> None:
    agent, other = make(name, {}), make(name, {})
    last = play(agent, **episode(5, 6))
    play(other, **episode(5, 6))
    other.observe(last, np.ones(4) / 4, 0.0, last, True, False, {"stopped": True})
    assert (agent.predict(last)[0] == other.predict(last)[0]).all()


@pytest.mark.parametrize("name", RULES)
def test_a_floor_is_a_share_that_everybody_keeps(name: str) -> None:
    start = observation([0.2, 0.4, 0.6, 0.8], [0.1, 0.2, 0.3, 0.4])
    without, raised = (make(name, options).predict(start)[0] for options in ({}, {"floor": 0.1}))
    assert raised == pytest.approx(0.1 + 0.6 * without, abs=1e-6)


@pytest.mark.parametrize("name", RULES)
def test_an_unknown_objective_is_explained(name: str) -> None:
    with pytest.raises(ReadEnvError) as caught:
        make(name, {"objective": "median"})
    assert all(word in str(caught.value) for word in (name, "objective", "median", "requirement", "mean"))


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("odm", {"form": "exp4"}, ["form", "exp4", "published", "moving-average"]),
        ("odm", {"alpha": 1.0}, ["alpha", "1.0", "less than 1"]),
        ("learning-progress", {"policy": "greedy"}, ["policy", "greedy", "epsilon-greedy", "boltzmann"]),
        ("learning-progress", {"temperature": 0}, ["temperature", "0", "greater than 0"]),
        ("learning-progress", {"epsilon": 2}, ["epsilon", "2", "less than or equal to 1"]),
        ("paced", {"beta": -1}, ["beta", "-1", "greater than or equal to 0"]),
        ("reference-gap", {"eta": -0.5}, ["eta", "-0.5", "greater than or equal to 0"]),
        ("reference-gap", {"smoothing": 1.5}, ["smoothing", "1.5", "less than or equal to 1"]),
        ("reference-gap", {"loss": "training"}, ["loss", "training", "divergence", "probe"]),
        ("skill-it", {"negative": "drop"}, ["negative", "drop", "clip", "keep"]),
        ("skill-it", {"window": 0}, ["window", "0", "greater than or equal to 1"]),
        ("aioli", {"estimate": "guess"}, ["estimate", "guess", "sweep", "regression"]),
        ("aioli", {"one_hot": 2}, ["one_hot", "2", "less than or equal to 1"]),
        ("aioli", {"ridge": 0}, ["ridge", "0", "greater than 0"]),
        ("olmix", {"penalty": 0}, ["penalty", "0", "greater than 0"]),
        ("regmix", {"regressor": "forest"}, ["regressor", "forest", "quadratic", "lightgbm"]),
        ("dump", {"tau": 0}, ["tau", "0", "greater than 0"]),
        ("dro", {"rho": 0}, ["rho", "0", "greater than 0"]),
        ("dro", {"least": 2}, ["least", "2", "less than or equal to 1"]),
    ],
)
def test_options_out_of_range_are_explained(name: str, options: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(ReadEnvError) as caught:
        make(name, options)
    assert all(word in str(caught.value) for word in [name, *words]), str(caught.value)
