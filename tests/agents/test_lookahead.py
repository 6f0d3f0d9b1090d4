"""The control that tries allocations in the environment."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from fake_runs import SMALL, fake_env

from read_env.agents import load_agent, make_agent
from read_env.agents.custom import CustomAgent
from read_env.agents.interaction import Transition, transitions
from read_env.agents.observation import parse
from read_env.config import load_preset
from read_env.errors import ReadEnvError
from read_env.running.agents import AgentSpec
from read_env.running.requests import RunRequest
from read_env.running.runner import run


def surrogate(**kwargs: Any) -> Any:
    return gym.make("read_env:ReadEnv/Surrogate-v0", task="tutor", **kwargs)


def episode(agent: Any, env: Any, seed: int = 3) -> list[Transition]:
    steps = transitions(agent, env, seed=seed)
    found = [next(steps)]
    while not found[-1].done:
        found.append(next(steps))
    return found


def played(env: Any, actions: list[np.ndarray], seed: int = 3) -> list[Any]:
    env.reset(seed=seed)
    return [env.step(action) for action in actions]


def test_the_trials_leave_no_trace_in_the_environment() -> None:
    steps = episode(make_agent("lookahead", env=surrogate()), surrogate())
    again = played(surrogate(), [step.action for step in steps])
    for step, (observation, reward, *_, info) in zip(steps, again, strict=True):
        assert step.reward == reward and step.info["utility"] == info["utility"]
        assert all((step.next_observation[key] == observation[key]).all() for key in observation)


def test_a_decision_is_the_best_of_what_it_tries() -> None:
    env = surrogate()
    agent = make_agent("lookahead", env=env, options={"decide_at": [0.0]})
    steps = episode(agent, env)
    ended = steps[-1].info["utility"]
    assert len({step.action.tobytes() for step in steps}) == 1
    rows = agent.tried(parse(steps[0].observation, 10)[0][0]).astype(np.float32)  # type: ignore[attr-defined]
    utilities = [played(surrogate(), [row] * len(steps))[-1][-1]["utility"] for row in rows]
    assert len(rows) == 11 and ended == max(utilities) > utilities[0]


def test_a_later_decision_sees_the_student_of_its_time() -> None:
    env = surrogate()
    agent = make_agent("lookahead", env=env, options={"decide_at": [0.0, 0.5]})
    steps = episode(agent, env)
    first = [step.action for step in steps if 1 - step.observation["budget"][0] < 0.49]
    second = [step.action for step in steps][len(first) :]
    assert len({action.tobytes() for action in first}) == len({action.tobytes() for action in second}) == 1
    rows = agent.tried(parse(steps[0].observation, 10)[0][0]).astype(np.float32)  # type: ignore[attr-defined]
    utilities = [played(surrogate(), [*first, *[row] * len(second)])[-1][-1]["utility"] for row in rows]
    assert steps[-1].info["utility"] == max(utilities)


def test_tried_tokens_count_and_are_kept(tmp_path: Path) -> None:
    env = surrogate()
    agent = make_agent("lookahead", env=env, options={"decide_at": [0.0]})
    total = sum(step.info["completion_tokens"] for step in episode(agent, env))
    assert agent.tokens_before_run == 11 * total
    agent.save(tmp_path / "agent.zip")
    assert load_agent(tmp_path / "agent.zip").tokens_before_run == 11 * total


def test_an_interrupted_episode_keeps_its_decision() -> None:
    env = surrogate()
    agent = make_agent("lookahead", env=env)
    whole = [step.action for step in episode(agent, env)]
    broken, env = make_agent("lookahead", env=surrogate()), surrogate()
    list(islice(transitions(broken, env, seed=3), 4))
    state, resumed = env.unwrapped.snapshot(), make_agent("lookahead", env=surrogate())
    resumed.load_state_dict(broken.state_dict())
    other = surrogate()
    other.reset()
    observation, _ = other.unwrapped.restore(state)
    rest = islice(transitions(resumed, other, observation=observation, first=False), len(whole) - 4)
    assert all((step.action == action).all() for step, action in zip(rest, whole[4:], strict=True))


def test_actions_with_a_stop_entry() -> None:
    env = surrogate(may_stop=True)
    assert all(
        step.action.shape == (11,) and step.action[-1] == 0 for step in episode(make_agent("lookahead", env=env), env)
    )


def test_a_run_with_it_counts_the_trials(tmp_path: Path) -> None:
    config = AgentSpec.parse("lookahead").configure(load_preset("micro", SMALL))
    summary = run(RunRequest(config, tmp_path / "run"), env=fake_env(config)).summary
    assert summary["tokens_before_run"] > 5 * summary["spent"] > 0


def test_an_environment_is_needed(toy: Any) -> None:
    agent = make_agent("lookahead", capabilities=["a", "b"])
    observation = {"budget": [1], **{key: [1, 0] for key in ("requirement", "profile", "last_allocation", "last_gain")}}
    with pytest.raises(ReadEnvError, match=r"call attach\(env\) first"):
        agent.predict(observation)
    with pytest.raises(ReadEnvError, match="ToyEnv has no snapshot and restore"):
        make_agent("lookahead", env=toy()).learn(toy(), 1)


@pytest.mark.parametrize("decide_at", [[], [0.2], [0.0, 0.5, 0.5], [0.0, 1.0]])
def test_bad_shares(decide_at: list[float]) -> None:
    with pytest.raises(ReadEnvError, match="'lookahead', option"):
        make_agent("lookahead", capabilities=["a"], options={"decide_at": decide_at})


def test_an_agent_of_ones_own_gets_the_environment() -> None:
    class Looking:
        def attach(self, env: Any) -> None:
            self.env = env

        def predict(self, observation: Any, **_: Any) -> Any:
            return self.env.unwrapped.requirement, None

    env = surrogate()
    agent = CustomAgent(Looking(), "looking", env.unwrapped.suite.names, {}, 0)  # type: ignore[attr-defined]
    assert episode(agent, env)[-1].done
