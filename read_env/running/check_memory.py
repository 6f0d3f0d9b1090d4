"""Memory of a configuration, part by part, and for a student on several devices by rank."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import psutil
import torch

from read_env.config import Config, ModelConfig
from read_env.distillation.loading import shares_base
from read_env.distillation.models.head import layers_of, positions_at_once
from read_env.distillation.models.weights import count_parameters
from read_env.running.room import container_limit

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from read_env.running.check import Side
    from read_env.running.check_remote import Rows

_GIB = 2**30


class Part(NamedTuple):
    """Memory of one part, in bytes.

    Attributes:
        name: name of the part.
        bytes: bytes on one rank.
        where: the ``device`` or the ``host``.
        everywhere: True if every rank has as much, False if rank 0 alone has it.
        during: ``training`` or ``measuring`` the student, which take turns; empty for what is always there.
        unknown: reason why it can't be estimated, with 0 bytes; empty otherwise.
    """

    name: str
    bytes: float
    where: str
    everywhere: bool = False
    during: str = ""
    unknown: str = ""


def memory_rows(config: Config, teachers: Sequence[Side], student: Side) -> Rows:
    """Rows with the memory of every part, and with its sums beside what this machine has."""
    ranks, device = config.models.gpus, student.placement.device
    parts = memory(config, teachers, student)
    on_each = f" of each of {ranks} ranks"
    of = {part: (on_each if part.everywhere else " of rank 0") if ranks > 1 else "" for part in parts}
    rows = [(part.name, part.unknown or f"{_amount(part.bytes)} on the {part.where}{of[part]}") for part in parts]
    absent = [part.name for part in parts if part.unknown]
    beside = f", without {' and '.join(absent)}" if absent else ""
    return [*rows, *((name, f"{text}{beside}") for name, text in _sums(parts, ranks, device))]


def _sums(parts: Sequence[Part], ranks: int, device: torch.device) -> Rows:
    """Rows with the sums of all parts."""
    room = _room(device)
    if ranks == 1:
        needed = {where: sum(p.bytes for p in parts if p.where == where or device.type == "cpu") for where in room}
        return [(f"{where} in all", _verdict(needed[where], room[where])) for where in room]
    of_first, of_other = _peak(parts, "device", first=True), _peak(parts, "device", first=False)
    hosts = _peak(parts, "host", first=True) + (ranks - 1) * _peak(parts, "host", first=False)
    if device.type == "cpu":
        return [
            ("rank 0 in all", _amount(of_first + _peak(parts, "host", first=True))),
            ("each other rank in all", _amount(of_other + _peak(parts, "host", first=False))),
            ("host in all", _verdict(of_first + (ranks - 1) * of_other + hosts, room["device"])),
        ]
    return [
        ("device of rank 0 in all", _verdict(of_first, room["device"])),
        ("device of each other rank in all", _verdict(of_other, room["device"])),
        ("host in all", _verdict(hosts, room["host"])),
    ]


def _peak(parts: Sequence[Part], where: str, *, first: bool) -> float:
    """Bytes of a rank at their peak: while the student is trained, or while it is measured."""
    own = [part for part in parts if part.where == where and (first or part.everywhere)]
    always, training, measuring = (
        sum(p.bytes for p in own if p.during == when) for when in ("", "training", "measuring")
    )
    return always + max(training, measuring)


def host_bytes(parts: Sequence[Part], ranks: int, device: str) -> float:
    """Memory of the host that all ranks of a run take, at their peaks; with all of the models if ``device`` is ``cpu``."""
    places = ("host", "device") if device == "cpu" else ("host",)
    return sum(_peak(parts, where, first=True) + (ranks - 1) * _peak(parts, where, first=False) for where in places)


def _amount(needed: float) -> str:
    return f"{needed / _GIB:10.3f} GiB"


def _verdict(needed: float, room: float) -> str:
    return f"{_amount(needed)} of {room / _GIB:,.1f}{'' if needed <= room else ': TOO MUCH'}"


def memory(config: Config, teachers: Sequence[Side], student: Side) -> list[Part]:
    """Estimate the memory part by part.

    Activations take 34 times the hidden size per token and layer (Korthikanti et al., 2022, without the attention matrix,
    which fused attention doesn't keep). With gradient checkpointing, one layer takes that and each other layer takes the
    hidden size once.

    Args:
        config: the configuration.
        teachers: those of this machine; none if servers have all.
        student: the student.
    """
    models, distill, ranks = config.models, config.distill, config.models.gpus
    shape, size, width = student.model.config.get_text_config(), student.parameters, _width(student.placement.compute)
    trained = _adapters(student.model, models) if models.lora_r else size
    tokens, all_ranks = distill.micro_batch_tokens, ranks > 1
    positions = positions_at_once(tokens, shape.vocab_size)
    shards = "host" if models.offload_optimizer else "device"
    weights = size * _width(student.placement.weights)
    parts = [
        *(part for teacher in teachers for part in _teacher(config, teacher, student)),
        Part("student's weights", weights / ranks, shards, all_ranks),
        Part("gradients", 4 * trained / ranks, shards, all_ranks),
        Part("optimizer", 8 * trained / ranks, shards, all_ranks),
    ]
    if all_ranks:
        sizes = [count_parameters(layer) for layer in layers_of(student.model)]
        layer, outside = max(sizes, default=0), size - sum(sizes)
        # The next layer is gathered while one is in use, and what is outside the layers stays until the backward pass ends.
        gathered = width * (2 * layer + outside) + (4 * max(layer, outside) if not models.lora_r else 0)
        parts.append(Part("gathered layers and their gradient", gathered, "device", True, "training"))
        parts.append(Part("all weights, gathered for probes and decoding", width * size, "device", True, "measuring"))
    kept, unknown = _kept_activations(student.model, models)
    parts += [
        Part("activations", tokens * width * kept, "device", all_ranks, "training", unknown),
        Part("logits", 3 * 4 * positions * shape.vocab_size, "device", all_ranks, "training"),
    ]
    if all_ranks:
        average = 4 * trained if config.eval.ema_decay else 0
        return [
            *parts,
            Part("S_0", 4 * trained / ranks, "host", True),
            Part("a step's snapshot", 12 * trained + average, "host"),
        ]
    return [*parts, Part("S_0 and a step's snapshot", 16 * trained, "host")]


def _lacking(model: PreTrainedModel, *names: str) -> str:
    """Reason why a size can't be estimated: names that the model's configuration doesn't have; empty if it has all."""
    shape = model.config.get_text_config()
    absent = [name for name in names if not isinstance(getattr(shape, name, None), int)]
    return f"not estimated: {type(shape).__name__} has no {' and no '.join(absent)}" if absent else ""


def _kept_activations(model: PreTrainedModel, models: ModelConfig) -> tuple[int, str]:
    """Numbers per token that are kept for the backward pass; 0 and the reason if that is unknown."""
    if unknown := _lacking(model, "hidden_size", "num_hidden_layers"):
        return 0, unknown
    shape = model.config.get_text_config()
    layers = shape.num_hidden_layers
    return shape.hidden_size * (34 + layers if models.gradient_checkpointing else 34 * layers), ""


def _keys_and_values(model: PreTrainedModel) -> tuple[int, str]:
    """Numbers per token in a cache of keys and values, 0 without attention; 0 and the reason if that is unknown."""
    shape = model.config.get_text_config()
    queries = getattr(shape, "num_attention_heads", None)
    heads, head = getattr(shape, "num_key_value_heads", None) or queries, getattr(shape, "head_dim", None)
    if heads is None:
        return 0, ""
    needed = ("num_hidden_layers",) if head else ("num_hidden_layers", "num_attention_heads", "hidden_size")
    if unknown := _lacking(model, *needed):
        return 0, unknown
    every = sum(heads) if isinstance(heads, (list, tuple)) else heads * shape.num_hidden_layers
    return 2 * every * (head or shape.hidden_size // queries), ""


def _teacher(config: Config, teacher: Side, student: Side) -> list[Part]:
    """Parts of a teacher, without weights if it shares the student's."""
    distill = config.distill
    shared = shares_base(config.models, teacher.source, student.source)
    # Prompts are assumed to be as long as completions; their length is not known yet.
    tokens = distill.teacher_batch_size * 2 * distill.max_completion_tokens
    weights = teacher.parameters * _width(teacher.placement.weights)
    # Spread by a device map: over the GPUs of this machine, or as many as the student has where it is estimated elsewhere.
    models = config.models
    devices = max(1, torch.cuda.device_count() or models.gpus) if models.teacher_device_map else 1
    everywhere = devices > 1 and models.gpus > 1
    parts = [] if shared else [Part("teacher's weights", weights / devices, "device", everywhere)]
    cached, unknown = _keys_and_values(teacher.model)
    if cached or unknown:
        kept = tokens * cached * _width(teacher.placement.compute)
        parts.append(Part("teacher's keys and values", kept / devices, "device", everywhere, unknown=unknown))
    return parts


def _width(dtype: torch.dtype) -> int:
    return torch.finfo(dtype).bits // 8


def _adapters(model: PreTrainedModel, models: ModelConfig) -> int:
    """Parameters of the LoRA adapters: per adapted matrix, the rank times the sum of its two sizes."""
    head, targets = model.get_output_embeddings(), models.lora_target_modules
    endings = tuple(f".{target}" for target in targets)
    adapted = [
        module for name, module in model.named_modules()
        if f".{name}".endswith(endings)
        or (targets == ("all-linear",) and isinstance(module, torch.nn.Linear) and module is not head)
    ]  # fmt: skip
    return sum(models.lora_r * sum(module.weight.shape) for module in adapted)


def _room(device: torch.device) -> dict[str, float]:
    """Memory of this machine in bytes: of the device, and of the host if that is separate."""
    host = min(psutil.virtual_memory().total, container_limit())
    if device.type == "cuda":
        return {"device": torch.cuda.get_device_properties(device).total_memory, "host": host}
    return {"device": host}
