"""What a configuration would need, and what of it is there: parameters, memory by part, seconds a chunk.

Loads what this machine has and measures it; of models whose weights are elsewhere the sizes are
computed from their configuration alone.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING

import torch

from read_env.config import Config
from read_env.distillation.encoding import Encoder
from read_env.distillation.lengths import Lengths, measure_lengths
from read_env.distillation.loading import load_student, load_teacher
from read_env.distillation.models import count_parameters, empty_model, load_tokenizer
from read_env.distillation.placement import Placement, place
from read_env.distillation.sources import ModelSource, architecture_of, find_model, missing

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_GIB = 2**30


@dataclass(frozen=True)
class Part:
    """Memory of one part, in bytes, and where it is: ``device`` or ``host``."""

    name: str
    bytes: float
    where: str


@dataclass(frozen=True)
class Side:
    """A teacher or a student as it would be loaded.

    Attributes:
        role: ``teacher`` or ``student``.
        model: on the meta device: shapes only.
        placement: where it would be and in which numbers it would compute.
        missing: what isn't there and the command that gets it; empty if all is.
    """

    role: str
    source: ModelSource
    model: PreTrainedModel
    placement: Placement
    missing: str

    @property
    def parameters(self) -> int:
        return count_parameters(self.model)


@dataclass(frozen=True)
class Check:
    """What :func:`check` found.

    Attributes:
        rows: names and texts, to be shown.
        ready: nothing is missing.
    """

    rows: list[tuple[str, str]]
    ready: bool


def check(config: Config) -> Check:
    """Looks at both models of a configuration, loads and measures them if both are there.

    Raises:
        ReadEnvError: a reference that means nothing, or a device that isn't there.
    """
    sides = [_side(config, role) for role in ("teacher", "student")]
    teacher, student = sides
    rows: list[tuple[str, str]] = []
    for side in sides:
        rows.append(
            (side.role, f"{side.source.reference}: {side.parameters / 1e6:,.1f} M parameters; {side.placement}")
        )
    parts = memory(config, teacher, student)
    rows += [(part.name, f"{part.bytes / _GIB:10.3f} GiB on the {part.where}") for part in parts]
    for where, room in _room(teacher.placement.device).items():
        needed = sum(part.bytes for part in parts if part.where == where or teacher.placement.device.type == "cpu")
        rows.append(
            (
                f"{where} in all",
                f"{needed / _GIB:10.3f} GiB of {room / _GIB:,.1f}{'' if needed <= room else ': TOO MUCH'}",
            )
        )
    lacking = [(f"missing ({side.role})", side.missing) for side in sides if side.missing]
    if lacking:
        rows += [("a chunk", "not measured: something is missing"), *lacking]
    else:
        rows += [(f"lengths ({side.role})", str(_lengths(config, side))) for side in sides]
        rows.append(("a chunk", _measure(config)))
    return Check(rows, not lacking)


def _side(config: Config, role: str) -> Side:
    models = config.models
    source = find_model(models.teacher if role == "teacher" else models.student)
    lacking = missing(source)
    # Without the files the shapes of well-known models are known all the same.
    model = empty_model(architecture_of(source) if lacking else source, trust_remote_code=models.trust_remote_code)
    size = count_parameters(model)
    if role == "student" and models.lora_rank:
        lacking = lacking or ("" if find_spec("peft") else "LoRA's package: pip install 'read-env[lora]'")
    return Side(role, source, model, place(models, size, trained=role == "student" and not models.lora_rank), lacking)


def _lengths(config: Config, side: Side) -> Lengths:
    tokenizer = load_tokenizer(side.source, trust_remote_code=config.models.trust_remote_code)
    return measure_lengths(config, Encoder(tokenizer), side.model)


def memory(config: Config, teacher: Side, student: Side) -> list[Part]:
    """Estimates, part by part.

    Activations: 34 values of the hidden size a token and layer (Korthikanti et al., 2022, without the
    attention matrix, which fused attention doesn't keep), one layer's with checkpointing beside one
    value of the hidden size for each of the others.
    """
    models, distill = config.models, config.distill
    shape, size = student.model.config, student.parameters
    kept = len(models.student_layers) or shape.num_hidden_layers
    size = int(size * kept / shape.num_hidden_layers)  # embeddings are taken for layers: an estimate from above
    hidden, layers, width = shape.hidden_size, kept, _width(student.placement.compute)
    trained = _adapters(student.model, models.lora_rank) if models.lora_rank else size
    tokens = distill.micro_batch_tokens
    if models.gradient_checkpointing:
        activations = tokens * hidden * width * (34 + layers)
    else:
        activations = tokens * hidden * width * 34 * layers
    theirs = teacher.model.config
    heads = getattr(theirs, "num_key_value_heads", None) or theirs.num_attention_heads
    head = getattr(theirs, "head_dim", None) or theirs.hidden_size // theirs.num_attention_heads
    # Prompts as long as completions: nobody knows before the prompts are there.
    cached = distill.block_size * 2 * distill.max_completion_tokens * theirs.num_hidden_layers * 2 * heads * head
    shared = models.lora_rank and teacher.source == student.source
    return [
        *(
            []
            if shared
            else [Part("teacher's weights", teacher.parameters * _width(teacher.placement.weights), "device")]
        ),
        Part("teacher's keys and values", cached * _width(teacher.placement.compute), "device"),
        Part("student's weights", size * _width(student.placement.weights), "device"),
        Part("gradients", 4 * trained, "device"),
        Part("optimizer", 8 * trained, "device"),
        Part("activations", activations, "device"),
        Part("logits", 3 * 4 * tokens * shape.vocab_size, "device"),
        Part("S_0 and a step's snapshot", 16 * trained, "host"),
    ]


def _width(dtype: torch.dtype) -> int:
    return torch.finfo(dtype).bits // 8


def _adapters(model: PreTrainedModel, rank: int) -> int:
    """Parameters of adapters of that rank on all linear layers but the head."""
    head = model.get_output_embeddings()
    linear = [module for module in model.modules() if isinstance(module, torch.nn.Linear) and module is not head]
    return sum(rank * (module.in_features + module.out_features) for module in linear)


def _room(device: torch.device) -> dict[str, float]:
    """Bytes that are there: on the device, and on the host if that is another one."""
    host = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else float("inf")
    if device.type == "cuda":
        return {"device": torch.cuda.get_device_properties(device).total_memory, "host": host}
    return {"device": host}


def _measure(config: Config) -> str:
    """Seconds that a chunk would take with a cold and with a warm cache, from a small one."""
    from read_env.capabilities import get_suite
    from read_env.capabilities.stream import PromptStream
    from read_env.distillation.alignment import align

    torch.set_num_threads(config.models.threads)
    student = load_student(config)
    teacher = load_teacher(config, student)
    suite = get_suite(config.suite)
    each = max(1, config.distill.block_size // len(suite))
    prompts = [p for c in suite for p in PromptStream(c, 0).slice(0, 0, each)]
    texts = [p.text for p in prompts]
    asked = _seconds(lambda: teacher.ask(texts))
    answers = teacher.ask(texts)
    alignment = align(teacher.encoder, student.encoder, config.distill.loss)
    examples = list(map(alignment.example, prompts, student.encoder.prompts(texts), answers))
    if student.on_policy:
        return f"not measured: with loss {config.distill.loss!r} it depends on what the student says"
    learned = _seconds(lambda: student.update(examples))
    tokens = sum(len(example) for example in examples)
    scale = config.budget.step_tokens / tokens
    return (
        f"{config.budget.step_tokens:,} completion tokens: teacher {asked * scale:,.1f} s (once a prompt), student "
        f"{learned * scale:,.1f} s, beside probes; from {tokens} tokens"
    )


def _seconds(work: Callable[[], object]) -> float:
    """The second of two calls: the first one warms up."""
    work()
    started = time.perf_counter()
    work()
    return time.perf_counter() - started
