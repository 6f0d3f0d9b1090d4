"""Model of a rank's student before its weights are divided: with weights on rank 0, without on the others."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from read_env.config import Config, ModelConfig
from read_env.distillation.models.placement import Placement, place
from read_env.distillation.models.sources import find_model
from read_env.distillation.models.weights import (
    count_parameters,
    empty_model,
    has_fused_attention,
    load_encoder,
    load_model,
    model_of_shape,
    prune_layers,
)
from read_env.distillation.text.encoding import Encoder

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh
    from transformers import PreTrainedModel


def build(config: Config, mesh: DeviceMesh) -> tuple[PreTrainedModel, Encoder, Placement]:
    """Model on the CPU, its encoder, and the device and dtypes that it is for."""
    torch.set_num_threads(config.models.threads)
    models, source = config.models, find_model(config.models.student)
    trust = models.trust_remote_code
    shape = empty_model(source, trust_remote_code=trust)
    placement = _placement(models, shape, mesh)
    on_cpu = replace(placement, device=torch.device("cpu"))
    encoder = load_encoder(source, shape.config, trust_remote_code=trust)
    make = load_model if mesh.get_local_rank() == 0 else model_of_shape
    model = make(source, on_cpu, trust_remote_code=trust)
    if models.student_layers:
        prune_layers(model, models.student_layers)
    return model, encoder, placement


def _placement(models: ModelConfig, shape: PreTrainedModel, mesh: DeviceMesh) -> Placement:
    """Placement of the student on this rank."""
    device = "cpu"
    if mesh.device_type == "cuda":
        local = int(os.environ.get("LOCAL_RANK", "0"))
        torch.cuda.set_device(local)
        device = f"cuda:{local}"
    models = models.model_copy(update={"device": device})
    found = place(models, count_parameters(shape), trained=not models.lora_r, fused=has_fused_attention(shape))
    return replace(found, ranks=mesh.size())
