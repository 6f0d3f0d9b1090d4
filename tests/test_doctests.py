"""Examples in docstrings run and give what they show."""

import doctest
import importlib.util
import pkgutil
from pathlib import Path

import pytest

import read_env
import read_env.agents
import read_env.envs


def modules_with_examples() -> list[str]:
    """Names of the modules whose source has an example, found without importing them."""
    names = set()
    # An editable install maps agents and envs to folders of their own.
    for package in (read_env, read_env.agents, read_env.envs):
        for info in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            spec = importlib.util.find_spec(info.name)
            if spec is not None and spec.origin is not None and ">>> " in Path(spec.origin).read_text(encoding="utf-8"):
                names.add(info.name)
    return sorted(names)


@pytest.mark.parametrize("name", modules_with_examples())
def test_examples_of_a_module(name: str) -> None:
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "read_env":
            raise
        pytest.skip(f"{name} needs {error.name}")
    result = doctest.testmod(module)
    assert result.attempted and not result.failed
