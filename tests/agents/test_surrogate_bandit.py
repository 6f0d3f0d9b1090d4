"""The bandit that plans in a surrogate's worlds, its particles and its planning."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from known_world import NAMES, known_world, micro_surrogate

from read_env.agents import interact, load_agent, make_agent
from read_env.agents.particles import Particles
from read_env.agents.schedules import Horizon, best_schedule, first_schedule
from read_env.envs.surrogate import SurrogateEnv
from read_env.errors import ReadEnvError
from read_env.surrogate.model import Surrogate
from read_env.surrogate.world import World, expected, plain


def stacked(*worlds: World) -> World:
    """Worlds as the particles of one episode."""
    return World(**{name: np.stack([getattr(w, name) for w in worlds])[None] for name in worlds[0].to_dict()})


def horizon(steps: int, requirement: Any, **changes: Any) -> Horizon:
    return Horizon(np.full(steps, 2.0), np.ones(steps), np.array(requirement), **changes)


# --- particles -----------------------------------------------------------------------------------


def played(worlds: list[World], truth: World, steps: int, noise: float, seed: int) -> tuple[Particles, np.ndarray]:
    """Particles after some steps of a true world, and its true scores."""
    rng, now = np.random.default_rng(seed), np.full(4, 0.3)
    particles = Particles.of(stacked(*worlds), now[None])
    for _ in range(steps):
        tokens = 2 * rng.dirichlet(np.ones(4))
        now = expected(truth, now, tokens, 1.0)
        seen = now + noise * rng.standard_normal(4)
        particles = particles.after(tokens[None], 1.0, seen[None])
    return particles, now


def test_each_capability_finds_its_own_world() -> None:
    speeds = ([0.1, 0.1, 0.3, 0.3], [0.3, 0.3, 0.1, 0.1])
    worlds = [plain(4, speed=speed, noise=0.01, drift=0.002) for speed in speeds]
    particles, _ = played(worlds, plain(4, speed=[0.1, 0.3, 0.3, 0.1]), 8, 0.01, seed=0)
    np.testing.assert_allclose(particles.weights()[0, 0], [1, 0, 1, 0], atol=0.05)
    drawn, scores = particles.draw(np.random.default_rng(0), 16)
    assert drawn.speed.shape == scores.shape == (1, 16, 4)
    np.testing.assert_allclose(drawn.speed[0].mean(0), [0.1, 0.3, 0.3, 0.1], atol=0.02)
    assert drawn.transfer.shape == (1, 16, 4, 4)


def test_the_estimate_is_nearer_to_the_truth_than_what_was_measured() -> None:
    truth = plain(4, speed=0.1, noise=0.05, drift=0.001)
    errors = []
    for seed in range(20):
        particles, now = played([truth], truth, 10, 0.05, seed)
        errors.append(np.abs(particles.mean[0, 0] - now).mean())
    assert np.mean(errors) < 0.6 * 0.05 * np.sqrt(2 / np.pi)  # mean error of a measurement


def test_without_weighing_all_worlds_stay_alike() -> None:
    worlds = [plain(2, speed=speed, noise=0.01, drift=0.01) for speed in (0.1, 0.5)]
    particles = Particles.of(stacked(*worlds), np.full((1, 2), 0.3))
    after = particles.after(np.ones((1, 2)), 1.0, np.full((1, 2), 0.9), weigh=False)
    assert (after.weights() == 0.5).all() and (after.mean > particles.mean).all()


# --- schedules -----------------------------------------------------------------------------------


def test_the_search_finds_the_drill_that_teaches_the_need() -> None:
    world = plain(2, speed=[0.02, 0.02], transfer=[[0.0, 0.2], [0.0, 0.0]])
    start = first_schedule(np.array([0.0, 1.0]), 4)[None]
    found, returns = best_schedule(
        stacked(world), np.full((1, 1, 2), 0.2), horizon(4, [0.0, 1.0]), start, iterations=60
    )
    assert found.argmax(-1).tolist() == [[0, 0, 0, 0]] and returns[0, 0] > 0.4 and returns[0, 1] == 0


def test_order_matters_where_a_need_waits_for_its_helper() -> None:
    helpers = np.array([[0.0, 1.0], [1.0, 0.0]])
    world = plain(2, speed=[0.3, 0.4], dependence=[0.0, 1.0], helpers=helpers)
    start = first_schedule(np.array([0.0, 1.0]), 6)[None]
    found, _ = best_schedule(stacked(world), np.full((1, 1, 2), 0.05), horizon(6, [0.0, 1.0]), start, iterations=150)
    assert found[0, 0].argmax() == 0 and found[0, -1].argmax() == 1


def test_a_product_is_taught_where_it_is_weak_and_episodes_do_not_mix() -> None:
    two = stacked(plain(2, speed=0.05))
    worlds = World(**{name: np.repeat(value, 2, axis=0) for name, value in two.to_dict().items()})
    scores = np.array([[[0.1, 0.8]], [[0.8, 0.1]]])
    start = np.repeat(first_schedule(np.array([0.5, 0.5]), 3)[None], 2, axis=0)
    found, _ = best_schedule(worlds, scores, horizon(3, [0.5, 0.5], form="product"), start, iterations=60)
    assert (found.argmax(-1) == [[0, 0, 0], [1, 1, 1]]).all()


def test_kappa_prefers_what_is_uncertain_and_spillover_what_forgets_nothing() -> None:
    slow, fast = (plain(2, speed=[speed, 0.1]) for speed in (0.01, 0.15))
    start = first_schedule(np.array([0.5, 0.5]), 3)[None]

    def first_share(kappa: float) -> float:
        found, _ = best_schedule(
            stacked(slow, fast), np.full((1, 2, 2), 0.3), horizon(3, [0.5, 0.5]), start, iterations=60, kappa=kappa
        )
        return float(np.exp(found[0, 0, 0]) / np.exp(found[0, 0]).sum())

    assert first_share(2.0) > first_share(0.0) + 0.1
    # Learning the first capability wears the second, which the drill for it restores only in part.
    worn = plain(2, speed=[0.3, 0.0], interference=[[0.0, 0.3], [0.0, 0.0]], rehearsal=0.5)
    start = first_schedule(np.array([0.6, 0.4]), 3)[None]
    kept = []
    for beta in (0.0, 5.0):
        found, _ = best_schedule(
            stacked(worn), np.full((1, 1, 2), 0.6), horizon(3, [0.6, 0.4], spillover_beta=beta), start, iterations=150
        )
        kept.append(float((np.exp(found[0, :, 1]) / np.exp(found[0]).sum(-1)).sum()))
    assert kept[1] > kept[0] + 0.1


# --- agent ---------------------------------------------------------------------------------------


@pytest.fixture
def surrogate(tmp_path: Path) -> str:
    micro_surrogate().save(tmp_path / "surrogate.json")
    return str(tmp_path / "surrogate.json")


def episode(agent: Any, env: SurrogateEnv, seed: int) -> float:
    """Gain of utility in an episode."""
    observation, info = env.reset(seed=seed)
    before, ended = info["utility"], False
    while not ended:
        action, _ = agent.predict(observation, deterministic=True)
        following, reward, ended, _, info = env.step(action)
        agent.observe(observation, action, reward, following, ended, False, info)
        observation = following
    return float(info["utility"] - before)


SMALL = {"worlds": 16, "particles": 32, "iterations": 30, "refinements": 10}


def test_the_bandit_gains_more_than_the_requirement_in_its_own_worlds(surrogate: str) -> None:
    env = SurrogateEnv(surrogate, tasks=["bookkeeper", "tutor"])
    names = env.suite.names
    options = {**SMALL, "surrogate": surrogate}
    planned, static = (
        np.array([episode(make_agent(name, capabilities=names, options=given), env, seed) for seed in range(6)])
        for name, given in (("surrogate-bandit", options), ("task-static", {}))
    )
    assert planned.mean() > 1.1 * static.mean() > 0


def test_a_loaded_bandit_goes_on_to_the_same_bits(surrogate: str, tmp_path: Path) -> None:
    env = SurrogateEnv(surrogate, tasks=["bookkeeper"])
    agent = make_agent(
        "surrogate-bandit", capabilities=env.suite.names, options={**SMALL, "surrogate": surrogate, "weigh": True}
    )
    observation, _ = env.reset(seed=0)
    for _ in range(2):
        action, _ = agent.predict(observation)
        following, reward, *_, info = env.step(action)
        agent.observe(observation, action, reward, following, False, False, info)
        observation = following
    agent.save(tmp_path / "agent.zip")
    loaded = load_agent(tmp_path / "agent.zip")
    assert (loaded.predict(observation)[0] == agent.predict(observation)[0]).all()


@pytest.mark.parametrize("options", [{"thompson": True}, {"update": False}, {"kappa": 1.0}])
def test_every_option_gives_allocations(options: dict[str, Any], surrogate: str) -> None:
    env = SurrogateEnv(surrogate, tasks=["bookkeeper"])
    agent = make_agent(
        "surrogate-bandit", capabilities=env.suite.names, options={**SMALL, "surrogate": surrogate, **options}
    )
    interact(agent, env, 5, seed=0)
    assert np.isfinite(list(agent.scalars().values())).all()


def test_a_budget_of_another_length_is_planned_to_its_end(surrogate: str) -> None:
    agent: Any = make_agent(
        "surrogate-bandit", capabilities=micro_surrogate().capabilities, options={**SMALL, "surrogate": surrogate}
    )
    size = agent.size
    first = {
        "requirement": np.eye(size)[0], "profile": np.full(size, 0.2), "budget": np.ones(1),
        "last_allocation": np.zeros(size), "last_gain": np.zeros(size),
    }  # fmt: skip
    action, _ = agent.predict(first)
    after = {**first, "budget": np.array([0.9]), "last_allocation": action}
    agent.observe(first, action, 0.0, after, False, False, {"completion_tokens": 100})
    agent.predict(after)
    assert agent._share == pytest.approx(0.1) and agent._thousands == pytest.approx(1.0)
    assert len(agent._logits) == 8  # nine steps are left, the first of which is this one


def test_it_stops_where_the_plan_is_worth_less_than_its_tokens(surrogate: str) -> None:
    names = micro_surrogate().capabilities
    size = len(names)
    seen = {
        "requirement": np.eye(size)[0], "profile": np.full(size, 0.2), "budget": np.ones(1),
        "last_allocation": np.zeros(size), "last_gain": np.zeros(size),
    }  # fmt: skip
    stops = []
    for cost in (0.0, 1e-6, 100.0):
        options = {**SMALL, "surrogate": surrogate, "cost_lambda": cost}
        agent = make_agent("surrogate-bandit", capabilities=names, options=options, may_stop=True)
        stops.append(bool(agent.predict(seen)[0][size]))
    assert stops == [False, False, True]


def test_another_suite_is_refused() -> None:
    with pytest.raises(ReadEnvError, match="is of the capabilities general_knowledge.*here they are drill"):
        make_agent("pretrained:read-bandit", capabilities=NAMES)


def test_worlds_beyond_the_fits_differ_in_what_is_perturbed_alone() -> None:
    known = known_world()
    two = World(**{name: np.stack([value, value]) for name, value in known.to_dict().items()})
    surrogate = Surrogate(NAMES, 10_000, 2_500, two, {"even": np.full(4, 0.25)}, np.full(4, 0.9))
    drawn = surrogate.draw_worlds(np.random.default_rng(0), 200, spread=0.5)
    assert np.log(drawn.speed / known.speed).std() == pytest.approx(0.5, abs=0.06)
    assert (drawn.ceiling == known.ceiling).all() and (drawn.transfer[:, 0, 2] == known.transfer[0, 2]).all()
