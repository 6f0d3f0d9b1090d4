"""Allocation agents: policies that choose, per step, the share of tokens of each capability.

``make_agent`` makes one by name, ``load_agent`` reads a saved one, and ``Agent`` is their base class. torch and
Stable-Baselines3 are imported when an agent that needs them is made.
"""

from read_env.agents.base import Agent, AgentSettings
from read_env.agents.interaction import StepCallback, Transition, interact, transitions
from read_env.agents.observation import KEYS, View
from read_env.agents.registry import agent_names, load_agent, make_agent

__all__ = [
    "KEYS",
    "Agent",
    "AgentSettings",
    "StepCallback",
    "Transition",
    "View",
    "agent_names",
    "interact",
    "load_agent",
    "make_agent",
    "transitions",
]
