"""Allocation agents: what decides, step by step, which capabilities the next tokens go to.

``make_agent`` makes one by name, ``load_agent`` reads a saved one; ``Agent`` is
what they have in common. Importing this loads neither torch nor
Stable-Baselines3; agents that need them do so when they are made.
"""

from read_env.agents.base import Agent, AgentSettings, Callback, Transition, interact
from read_env.agents.observation import KEYS, View
from read_env.agents.registry import agent_names, load_agent, make_agent

__all__ = [
    "KEYS",
    "Agent",
    "AgentSettings",
    "Callback",
    "Transition",
    "View",
    "agent_names",
    "interact",
    "load_agent",
    "make_agent",
]
