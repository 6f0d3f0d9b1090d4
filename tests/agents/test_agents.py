"""What holds for every agent: allocations on the simplex, batches, saving, resuming, options."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rule_records import example_records

from read_env.agents import Agent, agent_names, interact, load_agent, make_agent
from read_env.agents.observation import KEYS
from read_env.agents.registry import GROUPS
from read_env.errors import ReadEnvError

FAST = ["uniform", "task-static", "sqrt-task", "water-filling", "one-hot", "round-robin", "random-candidate"]
RULES = list(GROUPS["rules of the literature"])
BANDITS = ["greedy", "read-bandit-published", "read-bandit"]
SB3 = [name for name in agent_names() if name.startswith("sb3")]
NAMES = ("general", "steer", "reason", "math", "code", "tool", "context", "lingual")


def make(name: str, seed: int = 0, may_stop: bool = False) -> Agent:
    required = {
        "grid-searched": {"allocation": [1, 2, 3, 4, 0, 0, 0, 0]},
        "fixed": {"shares": "math=2 code=1"},
        **example_records(NAMES),
    }
    options: dict[str, Any] = required.get(name, {})
    if name in ("greedy", "read-bandit-published"):
        options = {"updates": 20}  # nothing here asks how well they are fitted
    return make_agent(name, capabilities=NAMES, options=options, seed=seed, may_stop=may_stop)


def observation_of(rng: np.random.Generator, first: bool = False) -> dict[str, np.ndarray]:
    before = [rng.dirichlet(np.ones(8)), rng.uniform(0, 1, 8), rng.uniform(0, 1, 1)]
    last = [np.zeros(8)] * 2 if first else [rng.dirichlet(np.ones(8)), rng.uniform(-0.1, 0.1, 8)]
    return {key: value.astype(np.float32) for key, value in zip(KEYS, [*before, *last], strict=True)}


def simplex(weights: np.ndarray) -> bool:
    assert weights.dtype == np.float32
    weights = weights[..., :8]
    return bool((weights >= 0).all() and np.allclose(weights.sum(axis=-1), 1, atol=1e-5))


def test_every_agent_of_the_design_has_a_name() -> None:
    policies = {f"sb3:{name}" for name in ("PPO", "A2C", "SAC", "TD3", "DQN")}
    policies |= {f"sb3-contrib:{name}" for name in ("MaskablePPO", "RecurrentPPO", "TQC", "CrossQ")}
    literature = "odm learning-progress paced reference-gap dro skill-it aioli olmix regmix dump".split()
    assert literature == sorted(RULES, key=literature.index)
    assert {*FAST, *RULES, "frozen-mean", *BANDITS, "grid-searched", *policies} <= set(agent_names())


@pytest.mark.parametrize("may_stop", [False, True])
@pytest.mark.parametrize(
    "name",
    # These have tests of their own, or a state.
    [name for name in agent_names() if name not in {*GROUPS["pretrained"], "sb3-contrib:RecurrentPPO", "lookahead"}],
)
def test_predictions_are_allocations_single_and_batched(name: str, may_stop: bool) -> None:
    rng = np.random.default_rng(1)
    rows = [observation_of(rng, first) for first in (True, False, False)]
    batch = {key: np.stack([row[key] for row in rows]) for key in rows[0]}
    make_one, size = partial(make, name, may_stop=may_stop), 8 + may_stop
    action, state = make_one().predict(rows[0], state=None, episode_start=np.array([True]), deterministic=True)
    assert action.shape == (size,) and simplex(action) and state is None
    actions, state = make_one().predict(batch, state=("kept",), deterministic=True)
    assert actions.shape == (3, size) and simplex(actions) and state == ("kept",)
    one_by_one = make_one()
    # A batch is as good as one after the other, up to float32 sums in a policy network.
    assert np.allclose(actions, [one_by_one.predict(row, deterministic=True)[0] for row in rows], atol=1e-5)


@pytest.mark.parametrize("name", [*FAST, *RULES, *BANDITS])
@settings(max_examples=25)
@given(seed=st.integers(0, 10_000), zeros=st.integers(0, 7), saturated=st.booleans())
def test_any_observation_gives_an_allocation(name: str, seed: int, zeros: int, saturated: bool) -> None:
    rng = np.random.default_rng(seed)
    observation = observation_of(rng, first=bool(seed % 2))
    requirement = observation["requirement"].copy()
    requirement[:zeros] = 0
    observation["requirement"] = requirement / requirement.sum()
    if saturated:
        observation["profile"] = np.ones(8, dtype=np.float32)
    assert simplex(make(name, seed).predict(observation)[0])


@pytest.mark.parametrize(
    ("name", "may_stop"),
    [(name, False) for name in [*FAST, *RULES, *BANDITS, "grid-searched", "frozen-mean", *SB3]]
    + [(name, True) for name in ["odm", "read-bandit", "grid-searched", *SB3]],
)
def test_a_loaded_agent_goes_on_to_the_same_bits(name: str, may_stop: bool, toy: Any, tmp_path: Path) -> None:
    toy = partial(toy, may_stop=may_stop)
    agent = make(name, 3, may_stop)
    agent.learn(toy(), 31, seed=5)  # past warm-ups, in the middle of an episode
    agent.save(tmp_path / "agent.zip")
    loaded = load_agent(tmp_path / "agent.zip")
    assert (type(loaded), loaded.name, loaded.options, loaded.seed) == (type(agent), name, agent.options, 3)
    resumed = make(name, 99, may_stop)
    resumed.load_state_dict(agent.state_dict())
    if not name.startswith("sb3"):
        resumed.seed = 3  # belongs to the configuration, not to the state
    traces = []
    for one in (agent, loaded, resumed):
        env = toy()
        interact(one, env, 26, seed=7)
        traces.append(np.array(env.actions))
    assert (traces[0] == traces[1]).all() and (traces[0] == traces[2]).all()


@pytest.mark.parametrize("name", ["task-static", "read-bandit", "sb3:PPO"])
def test_an_agent_that_was_saved_without_a_stop_entry_never_stops(name: str, toy: Any, tmp_path: Path) -> None:
    make(name).save(tmp_path / "agent.zip")
    env = toy(may_stop=True)
    agent = make_agent(tmp_path / "agent.zip", env=env)
    interact(agent, env, 12, seed=0)
    assert not any(action[8] for action in env.actions)
    if name == "sb3:PPO":
        with pytest.raises(ReadEnvError, match=r"shape \(8,\), the environment of \(9,\)"):
            agent.learn(env, 2)
    make(name, may_stop=True).save(tmp_path / "stops.zip")
    with pytest.raises(ReadEnvError, match=r"stops.zip was saved with a stop entry.*budget.may_stop = true"):
        make_agent(tmp_path / "stops.zip", env=toy())


@pytest.mark.parametrize("name", SB3)
def test_a_loaded_sb3_policy_learns_on_as_the_saved_one(name: str, toy: Any, tmp_path: Path) -> None:
    agent = make(name, seed=1)
    agent.learn(toy(), 45, seed=2)
    agent.save(tmp_path / "agent.zip")
    observation, both = observation_of(np.random.default_rng(0)), (agent, load_agent(tmp_path / "agent.zip"))
    ends = [one.learn(toy(), 15, seed=3).predict(observation, deterministic=True)[0] for one in both]
    assert (ends[0] == ends[1]).all()


@pytest.mark.parametrize("name", [*FAST, *RULES, *BANDITS, *SB3])
@pytest.mark.parametrize("steps", [0, 1, 43])
def test_learning_makes_exactly_the_steps_asked_for(name: str, steps: int, toy: Any) -> None:
    env, seen = toy(steps=10), []
    make(name).learn(env, steps, callback=seen.append, seed=0)
    assert env.taken == steps == len(seen)
    assert [transition.step for transition in seen] == list(range(1, steps + 1))
    assert env.resets == -(-steps // 10), "a reset after the last step, or none before the first"
    assert all(simplex(transition.action) for transition in seen)


@pytest.mark.parametrize("name", ["uniform", "sb3:PPO", "sb3:DQN", "sb3-contrib:MaskablePPO"])
def test_a_callback_can_end_learning(name: str, toy: Any) -> None:
    env = toy()
    make(name).learn(env, 40, callback=lambda transition: transition.step < 17)
    assert env.taken == 17


@pytest.mark.parametrize("name", agent_names())
def test_unknown_options_are_named_with_the_known_ones(name: str) -> None:
    with pytest.raises(ReadEnvError, match=rf"{name}.*kapa.*7") as caught:
        make_agent(name, capabilities=NAMES, options={"kapa": 7})
    if name in BANDITS:
        assert "did you mean 'kappa'?" in str(caught.value) and "update" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("greedy", {"kappa": -1}, ["greedy", "kappa", "-1", "greater than or equal to 0"]),
        ("read-bandit", {"mix": 2}, ["mix", "2", "less than or equal to 1"]),
        ("read-bandit-published", {"members": 1}, ["members", "1"]),
        ("water-filling", {"when": "never"}, ["when", "never", "start", "each"]),
        ("one-hot", {"capability": "maths"}, ["unknown capability 'maths'", "did you mean 'math'?"]),
        ("grid-searched", {"allocation": [1, 2]}, ["2 weights", "8", "lingual"]),
        ("grid-searched", {"allocation": [-1] + [1] * 7}, ["negative", "-1"]),
        ("sb3:PPO", {"n_steps": 0}, ["sb3:PPO", "n_steps", "0"]),
    ],
)
def test_options_out_of_range_are_explained(name: str, options: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(ReadEnvError) as caught:
        make_agent(name, capabilities=NAMES, options=options)
    assert all(word in str(caught.value) for word in words), str(caught.value)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("red-bandit", "did you mean 'read-bandit'.*known:.*task-static"),
        ("sb3:PPPO", "did you mean 'sb3:PPO'.*known:.*sb3:DDPG"),
        ("sb3-contrib:TRP", "did you mean 'sb3-contrib:TRPO'.*known:.*sb3-contrib:TQC"),
        ("sb3-contrib:ARS", "known:.*sb3-contrib:CrossQ"),
    ],
)
def test_unknown_agents_are_named_with_the_known_ones(name: str, hint: str) -> None:
    with pytest.raises(ReadEnvError, match=f"unknown agent '{name}'.*{hint}"):
        make_agent(name, capabilities=NAMES)


def test_capabilities_come_from_the_environment_or_the_caller(toy: Any) -> None:
    assert make_agent("uniform", env=toy()).capabilities == NAMES
    with pytest.raises(ReadEnvError, match="capabilities= or env="):
        make_agent("uniform")
    with pytest.raises(ReadEnvError, match="distinct names"):
        make_agent("uniform", capabilities=["a", "a"])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"profile": None}, "no 'profile'"),
        ({"profile": np.zeros(7)}, r"'profile' has shape \(7,\); right would be \(8,\)"),
        ({"last_gain": np.full(8, np.nan)}, "'last_gain' is not finite"),
        ({"budget": np.ones((2, 1))}, "mixes batch sizes"),
    ],
)
def test_wrong_observations_are_explained(change: dict[str, Any], words: str) -> None:
    observation = {**observation_of(np.random.default_rng(0)), **change}
    with pytest.raises(ReadEnvError, match=words):
        make("uniform").predict({key: value for key, value in observation.items() if value is not None})
    with pytest.raises(ReadEnvError, match="FlattenObservation"):
        make("uniform").predict(np.zeros(33))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "module"), [("sb3:PPO", "stable_baselines3"), ("sb3-contrib:MaskablePPO", "sb3_contrib")]
)
def test_a_missing_sb3_names_the_extra(name: str, module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, module, None)  # import raises ModuleNotFoundError
    with pytest.raises(ReadEnvError, match="pip install stable-baselines3 sb3-contrib"):
        make_agent(name, capabilities=NAMES)


def test_sb3_leaves_the_global_generators_alone(toy: Any) -> None:
    import torch

    np.random.seed(0)
    torch.manual_seed(0)
    expected = np.random.random(), float(torch.rand(1))
    np.random.seed(0)
    torch.manual_seed(0)
    make("sb3:PPO").learn(toy(), 20).predict(observation_of(np.random.default_rng(0)))
    assert (np.random.random(), float(torch.rand(1))) == expected
