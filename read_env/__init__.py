"""Budgeted distillation of language models, as a Gymnasium environment.

A teacher's completions cost tokens. Which capabilities should a fixed number
of them be spent on, so that the student gets good at one task? This package
holds the distillation process, the environment in which an agent decides that
chunk by chunk (``read_env.envs``) and the agents (``read_env.agents``)::

    import gymnasium as gym
    import read_env

    env = gym.make("ReadEnv/Distillation-v0")

Importing it registers the environments and loads gymnasium and numpy; torch and
transformers are loaded when something needs them.

``load_runs``, ``load_steps``, ``load_scores``, ``load_external`` and ``load_transitions`` read records into pandas
DataFrames (columns: ``docs/records.md``); pandas is imported when one of them is used.
"""

from typing import Any

from read_env import envs

__all__ = ["envs"]
__version__ = "0.2.0"


def __getattr__(name: str) -> Any:
    if name in ("load_runs", "load_steps", "load_scores", "load_external", "load_transitions"):
        from read_env import reporting

        return getattr(reporting, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
