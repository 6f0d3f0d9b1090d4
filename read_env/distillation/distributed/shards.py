"""Weights divided between ranks: sharding of a model, and exchange of whole tensors with rank 0."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch.distributed.tensor import DTensor, distribute_tensor

from read_env.distillation.models.head import layers_of
from read_env.distillation.models.placement import Placement

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh
    from transformers import PreTrainedModel


def shard(model: PreTrainedModel, mesh: DeviceMesh, placement: Placement, *, offload: bool) -> None:
    """Divide a model's weights between ranks, in place: layer by layer, and what is outside the layers.

    Args:
        model: the model, with its adapters. Rank 0 has the weights, those of the others are on the meta device.
        mesh: the ranks, in one dimension.
        placement: dtypes. The shards have that of the weights; a layer is gathered in the dtype of the computation.
        offload: shards, gradients and optimizer state are on the CPU between their uses.
    """
    from torch.distributed.fsdp import CPUOffloadPolicy, MixedPrecisionPolicy, OffloadPolicy, fully_shard

    whole = {name: parameter.detach() for name, parameter in model.named_parameters()}
    mixed = placement.compute != placement.weights or any(w.dtype != placement.compute for w in whole.values())
    settings: dict[str, Any] = {
        "mesh": mesh,
        "mp_policy": MixedPrecisionPolicy(placement.compute, torch.float32) if mixed else MixedPrecisionPolicy(),
        "offload_policy": CPUOffloadPolicy() if offload and mesh.device_type != "cpu" else OffloadPolicy(),
    }
    for layer in layers_of(model):
        fully_shard(layer, **settings)
    fully_shard(model, **settings)
    first = mesh.get_local_rank() == 0
    if not first:
        buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
        model.to_empty(device="cpu" if offload else mesh.device_type)
        for name, buffer in buffers.items():
            model.get_buffer(name).copy_(buffer)
    for name, buffer in model.named_buffers():
        moved = buffer.to(mesh.device_type)
        dist.broadcast(moved, src=0, group=mesh.get_group())
        model.get_submodule(name.rpartition(".")[0])._buffers[name.rpartition(".")[2]] = moved
    for name, parameter in model.named_parameters():
        fill(parameter, whole[name] if first else None)


@torch.no_grad()
def fill(target: torch.Tensor, whole: torch.Tensor | None) -> None:
    """Set a divided tensor to a whole one of rank 0; a call of all ranks.

    Args:
        target: the tensor with its shard on this rank.
        whole: the whole on rank 0, None on the others.
    """
    assert isinstance(target, DTensor)
    mesh = target.device_mesh
    if whole is None:
        sent = torch.empty(target.shape, dtype=target.dtype, device=mesh.device_type)
    else:
        if whole.shape != target.shape:
            raise ValueError(f"a tensor of shape {tuple(whole.shape)} for weights of shape {tuple(target.shape)}")
        sent = whole.to(mesh.device_type, target.dtype).contiguous()
    dist.broadcast(sent, src=0, group=mesh.get_group())
    own = distribute_tensor(sent, mesh, target.placements, src_data_rank=None)
    target.to_local().copy_(own.to_local())


@torch.no_grad()
def whole(value: Any, keep: bool) -> Any:
    """Nested value with its divided tensors made whole, on the CPU; a call of all ranks.

    Args:
        value: dictionaries and lists of tensors and plain values, in the same order on every rank.
        keep: True on the rank that gets them; on the others every tensor becomes None.
    """
    if isinstance(value, torch.Tensor):
        found = value
        if isinstance(value, DTensor):
            divided: Any = value.to(value.device_mesh.device_type)
            found = divided.full_tensor()
        return found.detach().to("cpu", copy=True) if keep else None
    if isinstance(value, Mapping):
        return {key: whole(item, keep) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [whole(item, keep) for item in value]
    return value


@contextmanager
def gathered(model: PreTrainedModel) -> Iterator[None]:
    """Context in which every rank has all the weights, so that each can run the model alone; they must not be trained inside."""
    from torch.distributed.fsdp import FSDPModule

    parts: list[Any] = [module for module in model.modules() if isinstance(module, FSDPModule)]
    for part in parts:
        part.set_reshard_after_forward(False, recurse=False)
        part.unshard()
    try:
        yield
    finally:
        for part in parts:
            part.set_reshard_after_forward(part is not model, recurse=False)
            part.reshard()


@contextmanager
def gradients_kept(model: PreTrainedModel) -> Iterator[None]:
    """Context in which a backward pass adds its gradients on this rank, without an exchange; the next one outside sends the sum."""
    divided: Any = model

    def set_last(last: bool) -> None:
        divided.set_requires_gradient_sync(last)
        divided.set_reshard_after_backward(last)
        divided.set_is_last_backward(last)

    set_last(False)
    try:
        yield
    finally:
        set_last(True)
