"""The set policy: one network for all capabilities."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from known_world import NAMES, known_world

from read_env.agents import load_agent, make_agent
from read_env.agents.set_network import ROW, WHOLE, allocate, empty_trace, features, initial_weights, noted
from read_env.agents.set_policy import SHIPPED, SetPolicy, load_weights, save_weights
from read_env.agents.set_training import Batch, played, rule, surrogate_batches, train, wide_batches
from read_env.capabilities import get_suite
from read_env.errors import ReadEnvError
from read_env.surrogate.model import Surrogate
from read_env.surrogate.world import World


def weights(seed: int = 0, names: int = 0) -> dict[str, np.ndarray]:
    """Weights in which every part matters."""
    rng = np.random.default_rng(seed)
    made = initial_weights(8, names, rng)
    return {n: v + 0.3 * rng.standard_normal(v.shape).astype(np.float32) for n, v in made.items()}


@pytest.fixture
def file(tmp_path: Path) -> str:
    save_weights(tmp_path / "policy.zip", weights(), (), {"from": "a test"})
    return str(tmp_path / "policy.zip")


def observation(rng: np.random.Generator, size: int, budget: float = 1.0) -> dict[str, np.ndarray]:
    first = budget == 1.0
    return {
        "requirement": rng.dirichlet(np.ones(size)), "profile": rng.random(size), "budget": np.array([budget]),
        "last_allocation": np.zeros(size) if first else rng.dirichlet(np.ones(size)),
        "last_gain": np.zeros(size) if first else 0.1 * rng.standard_normal(size),
    }  # fmt: skip


def episode(agent: Any, observations: list[dict[str, np.ndarray]]) -> np.ndarray:
    actions, state = [], None
    for one in observations:
        action, state = agent.predict(one, state)
        actions.append(action)
    return np.array(actions)


@given(seed=st.integers(0, 10_000), size=st.integers(2, 16))
def test_capabilities_in_another_order_have_the_same_shares(seed: int, size: int) -> None:
    rng = np.random.default_rng(seed)
    given_weights, order = weights(seed), rng.permutation(size)
    parts = [rng.dirichlet(np.ones(size), 3) for _ in range(2)] + [rng.random((3, size)) for _ in range(3)]
    globals_ = [rng.random(3) for _ in range(3)]

    def features_of(values: list[np.ndarray]) -> Any:
        requirement, last, profile, start, gain = values
        trace = noted(empty_trace(0 * last), requirement, last, gain, globals_[0])
        return features(
            requirement, profile, start, last, gain, noted(trace, requirement, last, gain, globals_[1]), *globals_
        )

    memory = rng.standard_normal((3, size, 8))
    shares, kept = allocate(given_weights, *features_of(parts), memory)
    turned = [part[:, order] for part in parts]
    others, memory_there = allocate(given_weights, *features_of(turned), memory[:, order])
    np.testing.assert_allclose(others, shares[:, order], rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(memory_there, kept[:, order], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(shares.sum(1), 1, rtol=1e-5)
    assert shares.std() > 0


def test_numpy_and_torch_compute_the_same() -> None:
    rng = np.random.default_rng(0)
    row, whole = rng.random((4, 5, ROW)).astype(np.float32), rng.random((4, WHOLE)).astype(np.float32)
    memory, given_weights = rng.random((4, 5, 8)).astype(np.float32), weights(names=5)
    here = allocate(given_weights, row, whole, memory)
    tensors = [torch.from_numpy(value) for value in (row, whole, memory)]
    there = allocate({n: torch.from_numpy(v) for n, v in given_weights.items()}, *tensors)
    for a, b in zip(here, there, strict=True):
        np.testing.assert_allclose(a, b.numpy(), rtol=1e-4, atol=1e-6)


def test_untrained_weights_are_near_the_requirement_where_all_is_missing() -> None:
    requirement = np.array([[0.5, 0.3, 0.2, 0.0]])
    zero = np.zeros((1, 4))
    parts = features(requirement, zero, zero, zero, zero, empty_trace(zero), np.ones(1), np.full(1, 0.1), np.zeros(1))
    shares, _ = allocate(initial_weights(16, 0, np.random.default_rng(0)), *parts, np.zeros((1, 4, 16)))
    assert np.abs(shares - requirement).sum() < 0.3 and shares[0].argmax() == 0


def test_a_batch_gives_what_its_episodes_give_alone(file: str) -> None:
    agent = make_agent("set-policy", capabilities=NAMES, options={"weights": file})
    rng = np.random.default_rng(1)
    episodes = [[observation(rng, 4, budget) for budget in (1.0, 0.75, 0.5)] for _ in range(3)]
    alone = np.array([episode(agent, one) for one in episodes])
    batches = [{key: np.stack([one[step][key] for one in episodes]) for key in episodes[0][0]} for step in range(3)]
    together = episode(agent, batches)
    np.testing.assert_allclose(together.swapaxes(0, 1), alone, rtol=1e-5)
    assert np.abs(alone[:, 1] - alone[:, 2]).max() > 1e-3


def test_the_memory_counts_and_ends_with_the_episode(file: str) -> None:
    agent = make_agent("set-policy", capabilities=NAMES, options={"weights": file})
    rng = np.random.default_rng(2)
    first, other, later = observation(rng, 4), observation(rng, 4), observation(rng, 4, 0.5)
    assert np.abs(episode(agent, [first, later])[1] - episode(agent, [other, later])[1]).max() > 1e-4
    _, state = agent.predict(other)
    action, _ = agent.predict(first, state, episode_start=np.array([True]))
    np.testing.assert_array_equal(action, agent.predict(first)[0])


def test_a_stop_entry_is_never_set(file: str) -> None:
    agent = make_agent("set-policy", capabilities=NAMES, options={"weights": file}, may_stop=True)
    action, _ = agent.predict(observation(np.random.default_rng(0), 4))
    assert action.shape == (5,) and action[-1] == 0 and action[:4].sum() == pytest.approx(1, abs=1e-5)


def test_a_saved_agent_acts_as_before(file: str, tmp_path: Path) -> None:
    agent = make_agent("set-policy", capabilities=NAMES, options={"weights": file})
    rng = np.random.default_rng(3)
    seen = [observation(rng, 4), observation(rng, 4, 0.5)]
    product = {"utility": float(np.prod(seen[1]["profile"]))}
    agent.observe(seen[0], np.ones(4), 0.0, seen[1], False, False, product)
    agent.save(tmp_path / "agent.zip")
    loaded = load_agent(tmp_path / "agent.zip")
    np.testing.assert_array_equal(episode(loaded, seen), episode(agent, seen))
    fresh = make_agent("set-policy", capabilities=NAMES, options={"weights": file})
    assert np.abs(episode(fresh, seen)[1] - episode(agent, seen)[1]).max() > 1e-5, "the form of the utility counts"


def test_weights_for_another_suite_are_refused(tmp_path: Path) -> None:
    save_weights(tmp_path / "p.zip", weights(names=4), NAMES, {})
    options = {"weights": str(tmp_path / "p.zip")}
    assert make_agent("set-policy", capabilities=NAMES, options=options).size == 4
    with pytest.raises(ReadEnvError, match=r"trained for the capabilities drill, .*; here they are math, code"):
        make_agent("set-policy", capabilities=["math", "code"], options=options)


def test_files_that_hold_no_weights_are_refused(tmp_path: Path) -> None:
    make_agent("uniform", capabilities=NAMES).save(tmp_path / "other.zip")
    for name, message in (
        (str(tmp_path / "other.zip"), "holds no weights of a set policy"),
        ("nowhere.zip", "there is no such file"),
        ("anny", "unknown weights 'anny': did you mean 'any'"),
    ):
        with pytest.raises(ReadEnvError, match=message):
            SetPolicy(NAMES, options={"weights": name})


def surrogate() -> Surrogate:
    worlds = World(**{name: value[None] for name, value in known_world().to_dict().items()})
    return Surrogate(
        NAMES, 16_000, 2_000, worlds, {"even": np.array([0.2, 0.2, 0.3, 0.2])}, np.ones(4), warmup_ratio=0.0
    )


def test_training_learns_to_spend_on_the_drill() -> None:
    """``composed`` alone is needed; its own tokens teach a seventh of what those of the drill do."""
    rng = np.random.default_rng(0)

    def batches() -> Any:
        for batch in surrogate_batches(surrogate(), rng, 32):
            needs = np.tile(np.array([0, 1, 0, 0], np.float32), (32, 1))
            yield Batch(batch.worlds, batch.starts, needs, np.zeros(32, bool), batch.tokens, batch.rates)

    trained = train(batches(), iterations=120, hidden=8, names=4, learning_rate=0.02)
    batch, noise = next(batches()), torch.Generator().manual_seed(0)
    tensors = {name: torch.from_numpy(value) for name, value in trained.items()}
    learnt = played(lambda *parts: allocate(tensors, *parts), batch, noise, 8)
    requirement = played(rule(1.0, 0.0), batch, noise, 1)
    assert float(learnt.mean()) > 1.5 * float(requirement.mean()) > 0


def test_a_training_in_parts_goes_on_with_the_averages_of_its_optimizer() -> None:
    def part(weights: Any, moments: Any) -> dict[str, np.ndarray]:
        batches = wide_batches(np.random.default_rng(0), 16)
        return train(batches, iterations=3, hidden=4, weights=weights, moments=moments, progress=(3, 9))

    moments: dict[str, Any] = {}
    first = part(None, moments)
    assert moments["row"]["exp_avg"].shape == first["row"].shape and moments["row"]["step"] == 3
    on, afresh = part(first, moments), part(first, None)
    assert moments["row"]["step"] == 6 and np.abs(on["row"] - afresh["row"]).max() > 1e-5


def test_training_improves_on_worlds_that_are_drawn() -> None:
    seen: list[float] = []
    train(
        wide_batches(np.random.default_rng(0), 48), iterations=150, hidden=8, learning_rate=0.01,
        report=lambda _, gain, reference: seen.append(gain / reference),
    )  # fmt: skip
    assert len(seen) == 3 and seen[-1] > 1.0


def test_the_policies_that_ship_are_small_and_ahead_of_the_requirement_where_they_were_trained() -> None:
    """New worlds, students and tasks; means over many episodes, far from the margins that they are compared with."""
    folder = Path(str(resources.files("read_env") / "assets/policies"))
    assert {path.stem for path in folder.glob("*.zip")} == {*SHIPPED, "ppo"}
    assert all(path.stat().st_size < 2**20 for path in folder.glob("*.zip"))
    noise = torch.Generator().manual_seed(0)

    def gains(name: str, batches: Any) -> tuple[float, float]:
        found, *_ = load_weights(name)
        tensors = {n: torch.from_numpy(np.asarray(v)) for n, v in found.items()}
        policy = lambda *parts: allocate(tensors, *parts)  # noqa: E731
        drawn = [next(batches) for _ in range(6)]
        with torch.no_grad():
            mine = [float(played(policy, one, noise, len(found["new_bias"])).mean()) for one in drawn]
            rules = [float(played(rule(1.0, 0.0), one, noise, 1).mean()) for one in drawn]
        return float(np.mean(mine)), float(np.mean(rules))

    mine, requirement = gains("any", wide_batches(np.random.default_rng(7), 128))
    assert mine > requirement
    mine, requirement = gains("micro", surrogate_batches(Surrogate.load("micro"), np.random.default_rng(7), 128))
    assert mine > 1.05 * requirement


def test_the_tokens_of_the_record_behind_a_policy_are_reported() -> None:
    micro = get_suite("micro").names
    tokens = Surrogate.load("micro").made_from["tokens"]
    assert make_agent("pretrained:micro", capabilities=micro).tokens_before_run == tokens > 10**6
    assert make_agent("pretrained:any", capabilities=micro).tokens_before_run == 0


def test_the_pretrained_policy_of_a_suite_is_refused_elsewhere() -> None:
    with pytest.raises(ReadEnvError, match="right would be pretrained:any"):
        make_agent("pretrained:micro", capabilities=["math", "code"])
    shares, _ = make_agent("pretrained:any", capabilities=["math", "code"]).predict(
        observation(np.random.default_rng(0), 2)
    )
    assert shares.shape == (2,) and shares.sum() == pytest.approx(1, abs=1e-5)
