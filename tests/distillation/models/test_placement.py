"""Device, numbers and attention: by size and machine, and what was asked for."""

from contextlib import contextmanager

import pytest
import torch

from read_env.config import ModelConfig
from read_env.distillation.models import placement
from read_env.distillation.models.placement import place
from read_env.errors import ReadEnvError

LARGE, MICRO = 8_000_000_000, 300_000


@pytest.fixture
def machine(monkeypatch):
    """Pretends to be a machine: ``machine(gpus=1, gpu_bf16=True, cpu_bf16=False, flash=False)``.

    GPUs without bf16 units emulate it, as torch says of them unless it is asked for the units; ``gpu_bf16`` may
    be a tuple of one truth a GPU, and torch speaks of the current one.
    """
    current = [0]

    @contextmanager
    def device(asked):
        before, current[0] = current[0], torch.device(asked).index or 0
        yield
        current[0] = before

    def pretend(gpus=0, gpu_bf16=True, cpu_bf16=False, flash=False):
        units = gpu_bf16 if isinstance(gpu_bf16, tuple) else (gpu_bf16,) * gpus
        monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
        monkeypatch.setattr(torch.cuda, "device", device)
        monkeypatch.setattr(
            torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation or units[current[0]]
        )
        monkeypatch.setattr(placement, "_cpu_has_bf16", lambda: cpu_bf16)
        monkeypatch.setattr(placement.importlib.util, "find_spec", lambda name: object() if flash else None)

    return pretend


@pytest.mark.parametrize(
    ("there", "parameters", "trained", "expected"),
    [
        ({}, MICRO, True, ("cpu", torch.float32, torch.float32, "sdpa")),
        ({"cpu_bf16": True}, MICRO, True, ("cpu", torch.float32, torch.float32, "sdpa")),
        ({}, LARGE, False, ("cpu", torch.float32, torch.float32, "sdpa")),
        ({"cpu_bf16": True}, LARGE, False, ("cpu", torch.bfloat16, torch.bfloat16, "eager")),
        ({"cpu_bf16": True}, LARGE, True, ("cpu", torch.float32, torch.bfloat16, "eager")),
        ({"gpus": 1}, MICRO, True, ("cuda", torch.float32, torch.float32, "sdpa")),
        ({"gpus": 1}, LARGE, False, ("cuda", torch.bfloat16, torch.bfloat16, "sdpa")),
        ({"gpus": 1}, LARGE, True, ("cuda", torch.float32, torch.bfloat16, "sdpa")),
        ({"gpus": 1, "flash": True}, LARGE, False, ("cuda", torch.bfloat16, torch.bfloat16, "flash_attention_2")),
        ({"gpus": 1, "gpu_bf16": False, "flash": True}, LARGE, False, ("cuda", torch.float32, torch.float32, "sdpa")),
    ],
)
def test_the_machine_decides(machine, there, parameters, trained, expected):
    machine(**there)
    found = place(ModelConfig(), parameters, trained=trained)
    assert (found.device.type, found.weights, found.compute, found.attention) == expected
    assert f"{parameters / 1e6:,.1f} M parameters" in found.reason


@pytest.mark.parametrize(("device", "compute"), [("cuda:0", torch.bfloat16), ("cuda:1", torch.float32)])
def test_bf16_is_a_question_to_the_gpu_that_is_used(machine, device, compute):
    machine(gpus=2, gpu_bf16=(True, False))
    assert place(ModelConfig(device=device), LARGE, trained=False).compute == compute


def test_what_was_asked_for_is_done(machine):
    machine(gpus=2, cpu_bf16=True)
    asked = ModelConfig(device="cuda:1", dtype="float32", attn_implementation="eager")
    found = place(asked, LARGE, trained=False)
    assert (str(found.device), found.compute, found.attention) == ("cuda:1", torch.float32, "eager")


@pytest.mark.parametrize(
    ("gpus", "device", "message"),
    [
        (0, "cuda", ", but this process sees 0 CUDA devices"),
        (0, "cuda:0", ", but this process sees 0 CUDA devices"),
        (2, "cuda:2", ", but this process sees 2 CUDA devices"),
        (0, "gpu", "; right would be auto, cpu, cuda"),
    ],
)
def test_a_device_that_is_not_there_is_named(machine, gpus, device, message):
    machine(gpus=gpus)
    with pytest.raises(ReadEnvError, match=f"models.device is '{device}'{message}"):
        place(ModelConfig(device=device), MICRO, trained=False)


def test_autocast_where_weights_and_products_differ(machine):
    machine(cpu_bf16=True)
    one, other = torch.ones(2, 2), torch.ones(2, 2)
    with place(ModelConfig(), LARGE, trained=True).autocast():
        assert (one @ other).dtype == torch.bfloat16
    with place(ModelConfig(), MICRO, trained=True).autocast():
        assert (one @ other).dtype == torch.float32
