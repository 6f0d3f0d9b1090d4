"""Registration of the environments for RLlib, which makes them by name in each of its processes."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import gymnasium as gym

from read_env.envs import ENVIRONMENTS
from read_env.errors import ReadEnvError


def register_for_rllib() -> None:
    """Register the environments under their Gymnasium ids, for ``AlgorithmConfig.environment(ID, env_config=…)``.

    The entries of ``env_config`` are the arguments of ``gym.make``. Observations are flat vectors, since RLlib's default
    networks take no dicts: ``budget``, ``last_allocation``, ``last_gain``, ``profile``, ``requirement``, (4·|C| + 1,), and
    ``utility`` at the end where it is observed. Actions are logits in [−1, 1], those of
    :class:`read_env.envs.wrappers.SoftmaxAllocation`.

    Raises:
        ReadEnvError: RLlib is not installed.
    """
    try:
        from ray.tune.registry import register_env
    except ImportError as error:
        raise ReadEnvError(f"RLlib is not installed ({error}); pip install 'read-env[rllib]'") from None
    for env_id in ENVIRONMENTS:
        register_env(env_id, partial(make_flat, env_id))


def make_flat(env_id: str, config: Mapping[str, Any]) -> gym.Env:
    """Environment with flat observations and logits as actions.

    >>> env = make_flat("ReadEnv/Surrogate-v0", {"task": "tutor"})
    >>> env.observation_space.shape, env.action_space.shape
    ((41,), (10,))
    """
    import read_env  # noqa: F401  (registers the environments, in a process of RLlib)
    from read_env.envs.wrappers import SoftmaxAllocation

    return gym.wrappers.FlattenObservation(SoftmaxAllocation(gym.make(env_id, **config)))
