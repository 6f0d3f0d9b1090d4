"""The controls, by numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from read_env.agents import interact, make_agent
from read_env.agents.candidates import candidates
from read_env.agents.observation import KEYS, parse
from read_env.errors import ReadEnvError

NAMES = ("a", "b", "c")


def observation_of(last: Any = (0, 0, 0), profile: Any = (0.5, 0.2, 0.9)) -> dict[str, np.ndarray]:
    values = ([0.64, 0.36, 0.0], profile, [0.5], last, [0, 0, 0])
    return {key: np.asarray(value, dtype=np.float32) for key, value in zip(KEYS, values, strict=True)}


def weights(name: str, observation: Any = None, **options: Any) -> np.ndarray:
    return make_agent(name, capabilities=NAMES, options=options).predict(observation or observation_of())[0]


def test_shares() -> None:
    assert weights("uniform") == pytest.approx([1 / 3] * 3)
    assert weights("task-static") == pytest.approx([0.64, 0.36, 0])
    assert weights("sqrt-task") == pytest.approx([0.8 / 1.4, 0.6 / 1.4, 0])
    # 0.64 · 0.5 = .32 and 0.36 · 0.8 = .288
    assert weights("water-filling") == pytest.approx([0.32 / 0.608, 0.288 / 0.608, 0])
    assert weights("one-hot") == pytest.approx([1, 0, 0])
    assert weights("one-hot", capability="c") == pytest.approx([0, 0, 1])
    assert weights("grid-searched", allocation=[1, 1, 2]) == pytest.approx([0.25, 0.25, 0.5])


@pytest.mark.parametrize(
    ("name", "options"),
    [("task-static", {}), ("sqrt-task", {}), ("water-filling", {}), ("one-hot", {}), ("round-robin", {}),
     ("fixed", {"shares": "a=3 c=1"})],
)  # fmt: skip
def test_a_floor_is_a_share_that_everybody_keeps(name: str, options: dict[str, Any]) -> None:
    without = weights(name, **options)
    assert weights(name, floor=0.1, **options) == pytest.approx(0.1 + 0.7 * without)
    assert weights(name, floor=1 / 3, **options) == pytest.approx([1 / 3] * 3)
    with pytest.raises(ReadEnvError, match=f"'{name}', option 'floor' is 0.4: right would be at most 1/3"):
        weights(name, floor=0.4, **options)


def test_a_rule_stops_at_a_share_of_the_budget(toy: Any, names: tuple[str, ...]) -> None:
    env = toy(steps=10, may_stop=True)
    interact(make_agent("task-static", env=env, options={"stop_at": 0.3}), env, 8)
    assert [bool(action[8]) for action in env.actions] == [False] * 3 + [True] + [False] * 3 + [True]
    with pytest.raises(ReadEnvError, match="'stop_at' is 0.3: right would be budget.may_stop = true"):
        make_agent("task-static", capabilities=names, options={"stop_at": 0.3})


@pytest.mark.parametrize("floor", [0.0, 0.1])
def test_water_filling_at_the_start_keeps_its_first_shares(floor: float) -> None:
    agent = make_agent("water-filling", capabilities=NAMES, options={"when": "start", "floor": floor})
    first, _ = agent.predict(observation_of())
    later = observation_of(last=first, profile=(0.9, 0.3, 0.9))
    assert agent.predict(later)[0] == pytest.approx(first)
    assert weights("water-filling", later) != pytest.approx(first)


def test_round_robin_takes_turns(toy: Any, names: tuple[str, ...]) -> None:
    env = toy(steps=10)
    interact(make_agent("round-robin", capabilities=names), env, 13)
    assert [int(np.argmax(action)) for action in env.actions] == [*range(8), 0, 1, 0, 1, 2]


def test_random_candidate_draws_all_of_the_bandits_candidates_by_its_seed() -> None:
    observation = observation_of(last=(0.5, 0.5, 0))
    rows = candidates(parse(observation, 3)[0][0])
    agents = [make_agent("random-candidate", capabilities=NAMES, seed=seed) for seed in (1, 1, 2)]
    draws = [np.array([agent.predict(observation)[0] for _ in range(400)]) for agent in agents]
    assert (draws[0] == draws[1]).all() and not (draws[0] == draws[2]).all()
    found = {int(np.abs(rows - draw).sum(axis=1).argmin()) for draw in draws[0]}
    assert len(found) == len(np.unique(rows.round(6), axis=0)) or len(found) == len(rows)


def test_grid_searched_says_when_it_has_not_searched() -> None:
    with pytest.raises(ReadEnvError, match="no allocation for this task yet: call learn"):
        weights("grid-searched")


def test_grid_searched_finds_the_best_fixed_allocation(toy: Any, names: tuple[str, ...]) -> None:
    transfer = np.diag([0.01] * 8)
    transfer[3, 3] = 0.2  # of the two needs only math can be learned
    env = toy(transfer=transfer, steps=4, noise=0.0)
    agent = make_agent("grid-searched", capabilities=names)
    agent.learn(env, 4 * 60, seed=0)
    assert env.taken == 240
    action, _ = agent.predict(env.reset(seed=9)[0])
    assert action[3] == pytest.approx(1)


def test_grid_searched_counts_whole_episodes_only_and_goes_on(toy: Any, names: tuple[str, ...]) -> None:
    env = toy(steps=4)
    agent = make_agent("grid-searched", capabilities=names)
    agent.learn(env, 3)
    with pytest.raises(ReadEnvError, match="no allocation"):
        agent.predict(env.reset()[0])
    agent.learn(env, 6)  # task-static once more, and half of the next candidate's episode
    assert agent.predict(env.reset()[0])[0] == pytest.approx(env.requirement)
    twice = make_agent("grid-searched", capabilities=names).learn(toy(steps=4), 8)
    agent.learn(env, 4)
    assert np.allclose(agent.state_dict()["results"], twice.state_dict()["results"])


def test_grid_searched_compares_whole_rounds_once_there_is_one(toy: Any, names: tuple[str, ...]) -> None:
    env = toy(steps=1)
    rows = np.vstack([env.requirement, candidates(parse(env.reset()[0], 8)[0][0])])
    count = len(np.unique(rows.round(6), axis=0))
    agent = make_agent("grid-searched", capabilities=names)
    agent.learn(env, count + 5)
    state = agent.state_dict()
    assert (state["round"], state["next"], len(state["results"])) == (1, 5, count + 5)
    before = agent.predict(env.reset()[0])[0]
    # A lucky score in the unfinished round changes nothing.
    state["results"][-1, -1] = 99.0
    agent.load_state_dict(state)
    assert (agent.predict(env.reset()[0])[0] == before).all()
