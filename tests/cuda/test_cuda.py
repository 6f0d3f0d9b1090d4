"""The same on a GPU as on a CPU: profiles, snapshots, spawned workers, placement.

Everything that can runs on the CPU as well, so that these paths are exercised where there is no GPU;
the cases on ``cuda:0`` are skipped there.
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Iterator
from types import MappingProxyType
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

# Before anything uses a GPU: without it some of its matrix products aren't deterministic.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

import read_env  # noqa: F401  (registers the environments)
from read_env.config import load_preset
from read_env.distillation.loading import load_student
from read_env.distillation.models import placement
from read_env.distillation.process import Distillation

CPU = pytest.param("cpu", id="cpu")
NEEDS_GPU = [pytest.mark.cuda, pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")]
GPU = pytest.param("cuda:0", id="cuda", marks=NEEDS_GPU)
DEVICES = [CPU, GPU]
SMALL = {
    "budget": {"total_tokens": 1600, "step_tokens": 400},
    "eval": {"probes": 6, "dev": 2, "exam": 2, "ema_decay": 0.0},
}
UNIFORM = np.full(10, 1 / 10)

#: Largest difference between the profiles of two devices after two steps, in scores of [0, 1]. Sums in
#: another order differ in their last digits, and AdamW's first steps carry the sign of small gradients over
#: at full size: see the test on the CPU that computes the same chunk in pieces of another size.
PROFILES = 0.01
#: The same for a resumed run, which repeats every operation on the same device. On a CPU it is equal to the bit.
RESUMED = {"cpu": 0.0, "cuda": 1e-4}


def config(device: str, models: Any = MappingProxyType({}), distill: Any = MappingProxyType({}), **changes: Any) -> Any:
    changed = {"models": {"device": device, **models}, "distill": {"teacher_batch_size": 8, **distill}}
    return load_preset("micro", {**SMALL, **changed, **changes})


@pytest.fixture(scope="module")
def on_cpu() -> list[np.ndarray]:
    """Profiles before the first step and after each of two, on the CPU."""
    return profiles(Distillation.load(config("cpu")))


def profiles(distillation: Distillation) -> list[np.ndarray]:
    start = distillation.reset(0)
    return [start, *(distillation.step(allocation).profile for allocation in (UNIFORM, np.eye(10)[3]))]


# --- the same profiles ----------------------------------------------------------------------------


@pytest.mark.parametrize("device", DEVICES)
def test_profiles_are_those_of_the_cpu(device: str, on_cpu: list[np.ndarray]) -> None:
    distillation = Distillation.load(config(device))
    assert distillation.student.placement.device == torch.device(device)
    found = profiles(distillation)
    np.testing.assert_allclose(found, on_cpu, atol=PROFILES)
    if device == "cpu":
        assert np.array_equal(found, on_cpu)
    assert np.abs(on_cpu[2] - on_cpu[0]).max() > 2 * PROFILES, "the steps moved more than the tolerance"


def test_sums_in_another_order_stay_well_inside_the_tolerance(on_cpu: list[np.ndarray]) -> None:
    """Differences that a tolerance is for, on one device: eager attention and micro-batches of another size."""
    pieces = config("cpu", models={"attn_implementation": "eager"}, distill={"micro_batch_tokens": 300})
    found = np.array(profiles(Distillation.load(pieces)))
    assert 0 < np.abs(found - on_cpu).max() < PROFILES / 2


# --- snapshots ------------------------------------------------------------------------------------


@pytest.fixture
def deterministic() -> Iterator[None]:
    """Deterministic kernels where there are any; the rest keeps to the tolerance."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("loss", ["fkl", "rlad"])
@pytest.mark.parametrize("device", DEVICES)
def test_a_resumed_run_is_the_uninterrupted_one(device: str, loss: str, deterministic: None, tmp_path: Any) -> None:
    distill = {"loss": loss, "rollout_batch_size": 4}
    distillation = Distillation.load(config(device, distill=distill))
    distillation.step(UNIFORM)
    torch.save(distillation.snapshot(), tmp_path / "state.pt")
    whole = [distillation.step(np.eye(10)[2]), distillation.step(UNIFORM)]
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    assert {tensor.device.type for tensor in state["student"]["model"].values()} == {"cpu"}

    other = Distillation.load(config(device, distill=distill))
    other.restore(state)
    weights = {parameter.device for parameter in other.student.model.parameters()}
    assert weights == {torch.device(device)}
    resumed = [other.step(np.eye(10)[2]), other.step(UNIFORM)]
    tolerance = RESUMED[torch.device(device).type]
    for first, second in zip(whole, resumed, strict=True):
        np.testing.assert_allclose(second.profile, first.profile, atol=tolerance, rtol=0)
        assert second.loss == pytest.approx(first.loss, abs=10 * tolerance, rel=0)
    if tolerance == 0:
        assert [r.metrics for r in resumed] == [r.metrics for r in whole]


# --- workers --------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("device", DEVICES)
def test_spawned_workers_use_the_device_they_were_given(device: str) -> None:
    envs = gym.make_vec(
        "ReadEnv/Distillation-v0", num_envs=2, vectorization_mode="async", vector_kwargs={"context": "spawn"},
        overrides={**SMALL, "models": {"device": device}, "distill": {"teacher_batch_size": 8}},
    )  # fmt: skip
    try:
        assert envs.call("devices") == ({}, {}), "models load at the first reset"
        envs.reset(seed=3)
        assert envs.call("devices") == ({"student": device, "teacher": device},) * 2
        observations, rewards, *_ = envs.step(np.tile(UNIFORM.astype(np.float32), (2, 1)))
        assert np.isfinite(rewards).all() and observations["budget"].shape == (2, 1)
    finally:
        envs.close()


# --- numbers --------------------------------------------------------------------------------------


@pytest.mark.parametrize("device", DEVICES)
def test_bf16_is_chosen_for_a_large_model_and_logged(
    device: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    # The micro models count as large here, and this CPU as one with bf16 units.
    monkeypatch.setattr(placement, "SMALL", 0)
    monkeypatch.setattr(placement, "_cpu_has_bf16", lambda: True)
    caplog.set_level(logging.INFO, logger="read_env")
    settings = config(device, budget={"total_tokens": 200, "step_tokens": 100})
    distillation = Distillation.load(settings)
    found = distillation.student.placement
    assert (found.compute, found.weights) == (torch.bfloat16, torch.float32), "what is trained keeps fp32 weights"
    attention = {"cpu": {"eager"}, "cuda": {"sdpa", "flash_attention_2"}}[found.device.type]
    assert found.attention in attention
    units = "on a GPU with bf16" if device.startswith("cuda") else "on a CPU with bf16 units"
    for role in ("student", "teacher"):
        (line,) = (r.getMessage() for r in caplog.records if r.getMessage().startswith(f"{role} embedded:"))
        assert device in line and "bf16" in line and units in line
    assert {p.dtype for p in distillation.cache.teacher.model.parameters()} == {torch.bfloat16}  # type: ignore[attr-defined]
    report = distillation.step(np.eye(10)[3])
    assert math.isfinite(report.loss) and report.metrics["fkl"] > 0


@pytest.mark.parametrize("device", DEVICES)
def test_a_small_model_keeps_fp32(device: str) -> None:
    assert load_student(config(device)).placement.compute == torch.float32
