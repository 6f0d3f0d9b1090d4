"""``import read_env`` loads gymnasium and numpy alone, and registers the environments."""

import subprocess
import sys
from pathlib import Path

import gymnasium
import pytest

import read_env
from read_env.envs import ENVIRONMENTS


def run_python(code: str, cwd: Path) -> str:
    """Standard output of a fresh interpreter, started where it can't find the checkout by chance."""
    done = subprocess.run([sys.executable, "-c", code], cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("module", ["read_env", "read_env.envs"])
def test_import_loads_nothing_heavy(module: str, tmp_path: Path) -> None:
    loaded = run_python(f"import sys, {module}; print(*sys.modules)", tmp_path).split()
    assert module in loaded
    heavy = {
        "torch", "transformers", "stable_baselines3", "matplotlib", "pandas", "pydantic", "scipy", "seaborn", "statsmodels",
    }  # fmt: skip
    assert not heavy & set(loaded)


def test_making_an_agent_loads_no_torch(tmp_path: Path) -> None:
    made = "agents.agent_names(); agents.make_agent('read-bandit-published', capabilities=['a', 'b'])"
    loaded = run_python(f"import sys, read_env.agents as agents; {made}; print(*sys.modules)", tmp_path).split()
    assert not {"torch", "stable_baselines3", "sb3_contrib", "transformers"} & set(loaded)


@pytest.mark.parametrize("imports", ["gymnasium, read_env", "read_env, gymnasium", "read_env, gymnasium.spaces"])
def test_environments_are_registered_in_any_order_of_imports(imports: str, tmp_path: Path) -> None:
    code = f"import {imports}; print(*gymnasium.registry)"
    assert set(ENVIRONMENTS) <= set(run_python(code, tmp_path).split())


def test_importing_again_registers_nothing_twice(tmp_path: Path) -> None:
    code = "import sys, warnings, read_env; warnings.simplefilter('error'); del sys.modules['read_env.envs']; import read_env.envs"
    run_python(code, tmp_path)


def test_an_episode_has_no_step_limit_but_its_budget() -> None:
    assert all(gymnasium.spec(env_id).max_episode_steps is None for env_id in ENVIRONMENTS)


def test_version_is_that_of_the_distribution() -> None:
    from importlib.metadata import version

    assert read_env.__version__ == version("read-env")
