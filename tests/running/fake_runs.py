"""Runs on the made-up distillation of ``tests/envs``: milliseconds in place of minutes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fake_distillation import FakeDistillationEnv

from read_env.config import Config

SMALL = {
    "budget": {"total_tokens": 600, "step_tokens": 100},
    "measure": {"probes": 2, "dev": 2, "exam": 2, "dev_every": 2},
    "task": "bookkeeper",
}

#: A checkpoint after every step, however short the step.
EVERY_STEP = 1e9


def fake_env(config: Config, **kwargs: Any) -> FakeDistillationEnv:
    """The counterpart of ``make_env`` without models."""
    return FakeDistillationEnv(preset=config.preset, overrides=config.model_dump(exclude={"preset"}), **kwargs)


def contents(folder: Path) -> dict[str, bytes]:
    """All files below ``folder`` and what is in them."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
