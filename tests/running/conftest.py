"""Configurations and requests of a few steps."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fake_runs import SMALL

from read_env.config import Config, load_preset
from read_env.running.agents import AgentSpec
from read_env.running.requests import RunRequest


@pytest.fixture
def small() -> Config:
    """Six steps of 100 tokens."""
    return load_preset("micro", SMALL)


@pytest.fixture
def request_for(small: Config, tmp_path: Path) -> Callable[..., RunRequest]:
    """Makes requests: ``request_for("uniform", "a-folder", seed=1)``."""

    def make(
        agent: str, folder: str = "run", *, exam_at: tuple[int, ...] = (), overwrite: bool = False, **changes: Any
    ):
        config = AgentSpec.parse(agent).configure(small).model_copy(update=changes)
        return RunRequest(config, tmp_path / folder, exam_at=exam_at, overwrite=overwrite)

    return make
