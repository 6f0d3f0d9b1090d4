"""Observations and steps for the rules of the literature."""

from __future__ import annotations

from typing import Any

import numpy as np

from read_env.agents import Agent
from read_env.agents.observation import KEYS


def observation(profile: Any, requirement: Any, last: Any = None) -> dict[str, np.ndarray]:
    """Observation of a profile; without ``last``, the first of an episode. No rule reads the last gain."""
    none = np.zeros(len(profile))
    values = (requirement, profile, [0.5], none if last is None else last, none)
    return {key: np.asarray(value, dtype=np.float64) for key, value in zip(KEYS, values, strict=True)}


def play(agent: Agent, requirement: Any, profiles: Any, allocations: Any, **reports: Any) -> dict[str, np.ndarray]:
    """Show an agent an episode, and return the observation after it.

    ``profiles`` has one row more than ``allocations``. A report (``loss_by_capability``, …) has one row a step.
    """
    profiles = np.asarray(profiles, dtype=np.float64)
    before = observation(profiles[0], requirement)
    for step, (allocation, profile) in enumerate(zip(allocations, profiles[1:], strict=True)):
        after = observation(profile, requirement, allocation)
        info = {name: np.asarray(rows[step]) for name, rows in reports.items()}
        agent.observe(before, np.asarray(allocation, dtype=np.float32), 0.0, after, False, False, info)
        before = after
    return before
