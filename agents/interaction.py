"""The loop of an agent and an environment: predict, step, observe.

Runs, trainings and ``Agent.learn`` all go through :func:`transitions`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

import gymnasium as gym
import numpy as np

from read_env.agents.observation import Observation


@dataclass(frozen=True)
class Transition:
    """One environment step.

    Attributes:
        step: number of the step in this loop, from 1.
        observation: observation before the step.
        action: allocation, float32 (|C|,), and the stop entry if the environment has one.
        reward: reward of the step.
        next_observation: observation after the step.
        terminated: the budget is spent, or the action stopped the episode.
        truncated: always False in the environments of this package.
        info: info of the step.
    """

    step: int
    observation: Observation
    action: np.ndarray
    reward: float
    next_observation: Observation
    terminated: bool
    truncated: bool
    info: Mapping[str, Any]

    @property
    def done(self) -> bool:
        """True at the last step of an episode."""
        return self.terminated or self.truncated


#: Called with every :class:`Transition` of ``learn``; returning False ends learning after it.
StepCallback = Callable[[Transition], bool | None]


def transitions(
    agent: Any, env: gym.Env[Any, Any], *, observation: Observation | None = None, first: bool = True,
    seed: int | None = None, deterministic: bool = False,
) -> Iterator[Transition]:  # fmt: skip
    """Endless loop of ``predict``, ``env.step`` and ``observe``, with a reset between episodes.

    A step is made when the iterator is asked for it, so no reset follows the last one: a reset of the real environment
    takes time.

    Args:
        agent: any object with ``predict``; ``attach``, with ``env``, and ``observe`` are called where they exist.
        env: environment whose actions are allocations.
        observation: observation to start from. None: reset first.
        first: ``observation`` begins an episode.
        seed: seed of that first reset; later ones go on with the environment's own generator.
        deterministic: passed to ``predict``.

    Yields:
        Every step, after the agent observed it.
    """
    observe = getattr(agent, "observe", None)
    if (attach := getattr(agent, "attach", None)) is not None:
        attach(env)
    state: Any = None
    step = 0
    while True:
        if observation is None:
            observation, _ = env.reset(seed=seed)
            seed, state, first = None, None, True
        action, state = agent.predict(
            observation, state=state, episode_start=np.array([first]), deterministic=deterministic
        )
        following, reward, terminated, truncated, info = env.step(action)
        step += 1
        transition = Transition(
            step, observation, action, float(reward), following, bool(terminated), bool(truncated), info
        )
        if observe is not None:
            observe(observation, action, transition.reward, following, terminated, truncated, info)
        yield transition
        observation, first = (None, True) if transition.done else (following, False)


def interact(
    agent: Any, env: gym.Env[Any, Any], total_steps: int, callback: StepCallback | None = None, seed: int | None = None
) -> None:
    """Run :func:`transitions` for exactly ``total_steps`` environment steps, or until ``callback`` returns False."""
    for transition in islice(transitions(agent, env, seed=seed), total_steps):
        if callback is not None and callback(transition) is False:
            break
