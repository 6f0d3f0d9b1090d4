"""``import read_env`` is cheap, and makes the environments known in any order of imports."""

import subprocess
import sys
import warnings
from pathlib import Path

import gymnasium
import pytest

import read_env
from read_env.envs import ENVIRONMENTS, register_environments


def run_python(code: str, cwd: Path) -> str:
    """Standard output of a fresh interpreter, started where it can't find the checkout by chance."""
    done = subprocess.run([sys.executable, "-c", code], cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("module", ["read_env", "read_env.envs"])
def test_import_loads_nothing_heavy(module: str, tmp_path: Path) -> None:
    loaded = run_python(f"import sys, {module}; print(*sys.modules)", tmp_path).split()
    assert module in loaded
    heavy = {"torch", "transformers", "stable_baselines3", "gymnasium", "matplotlib", "scipy"}
    assert not heavy & set(loaded)


def test_registration_loads_no_models_and_no_policies(tmp_path: Path) -> None:
    loaded = run_python("import sys, gymnasium, read_env; print(*sys.modules)", tmp_path).split()
    assert not {"torch", "transformers", "stable_baselines3"} & set(loaded)


def test_import_takes_less_than_300_ms(tmp_path: Path) -> None:
    clock = "import time; t = time.perf_counter(); import read_env; print(time.perf_counter() - t)"
    assert min(float(run_python(clock, tmp_path)) for _ in range(3)) < 0.3


@pytest.mark.parametrize("imports", ["gymnasium, read_env", "read_env, gymnasium", "read_env, gymnasium.spaces"])
def test_environments_are_registered_in_any_order_of_imports(imports: str, tmp_path: Path) -> None:
    code = f"import {imports}; print(*gymnasium.registry)"
    assert set(ENVIRONMENTS) <= set(run_python(code, tmp_path).split())


def test_a_missing_gymnasium_is_reported_as_usual_and_found_later(tmp_path: Path) -> None:
    code = """if True:
        import sys, read_env
        path, sys.path[:] = sys.path[:], []
        try:
            import gymnasium
        except ModuleNotFoundError as error:
            assert error.name == "gymnasium"
        else:
            raise AssertionError("found without a path")
        sys.path[:] = path
        import gymnasium
        print(*gymnasium.registry)
    """
    assert set(ENVIRONMENTS) <= set(run_python(code, tmp_path).split())


def test_registering_twice_is_silent() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        register_environments()
    assert set(ENVIRONMENTS) <= set(gymnasium.registry)


def test_an_episode_has_no_step_limit_but_its_budget() -> None:
    assert all(gymnasium.spec(env_id).max_episode_steps is None for env_id in ENVIRONMENTS)


def test_version_is_that_of_the_distribution() -> None:
    from importlib.metadata import version

    assert read_env.__version__ == version("read-env")
