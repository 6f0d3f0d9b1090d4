"""The environments in RLlib: registered by name, and a PPO example that learns on the surrogate."""

from __future__ import annotations

import os
import re
import secrets
import subprocess
import sys
from pathlib import Path

import pytest
from documents import ROOT

from read_env.envs import ENVIRONMENTS
from read_env.envs.rllib import register_for_rllib
from read_env.errors import ReadEnvError


def test_without_rllib_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray.tune.registry", None)
    with pytest.raises(ReadEnvError, match=r"pip install 'read-env\[rllib\]'"):
        register_for_rllib()


@pytest.mark.slow  # starts Ray
def test_ppo_of_rllib_learns_on_the_surrogate(tmp_path: Path) -> None:
    pytest.importorskip("ray.rllib", exc_type=ImportError)
    script = [sys.executable, str(ROOT / "scripts/examples/rllib_ppo.py"), "--iterations", "10", "--tasks", "tutor"]
    environment = {**os.environ, "RAY_AUTH_TOKEN": secrets.token_hex(32), "RAY_USAGE_STATS_ENABLED": "0"}
    done = subprocess.run(
        [*script, "--out", str(tmp_path / "ppo")], env=environment, cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    returns = [float(value) for value in re.findall(r"mean return (\S+)", done.stdout)]
    assert len(returns) == 10 and returns[-1] > returns[0] > 0
    assert (tmp_path / "ppo" / "rllib_checkpoint.json").exists()


def test_every_environment_is_registered() -> None:
    registry = pytest.importorskip("ray.tune.registry", exc_type=ImportError)
    register_for_rllib()
    for env_id in ENVIRONMENTS:
        env = registry._global_registry.get(registry.ENV_CREATOR, env_id)({"task": "tutor"})
        assert env.observation_space.shape == (41,) and env.action_space.shape == (10,)
