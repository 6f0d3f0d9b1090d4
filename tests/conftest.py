"""What holds for every test: one torch thread, no network, one store of answers, fast tests first."""

import importlib
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

# Before anything imports torch: two threads on a busy machine wait for each
# other far longer than they compute. Child processes inherit these too.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["MPLBACKEND"] = "Agg"
# The teacher is asked once for all tests: no result depends on who filled the store, and those
# tests that show it bring stores of their own or none. Workers share what their parent made.
if "PYTEST_XDIST_WORKER" not in os.environ:
    os.environ["READ_ENV_CACHE"] = tempfile.mkdtemp(prefix="read-env-tests-")

import pytest
from hypothesis import settings

# A shared machine makes any deadline flaky, a fixed seed makes a failure repeatable.
settings.register_profile("read-env", deadline=None, derandomize=True)
settings.load_profile("read-env")


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """Imports a file of ``scripts/`` by its name."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "scripts"))
    return importlib.import_module


def pytest_unconfigure() -> None:
    if "PYTEST_XDIST_WORKER" not in os.environ:
        shutil.rmtree(os.environ["READ_ENV_CACHE"], ignore_errors=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Slow tests last, otherwise in the order of collection."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is not None)
