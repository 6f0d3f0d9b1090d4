"""Load teacher and student from a configuration."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from read_env.capabilities import get_suite
from read_env.config import CacheConfig, Config, ModelConfig
from read_env.distillation.defaults import resolve
from read_env.distillation.models.placement import Placement, place
from read_env.distillation.models.sources import ModelSource, find_model
from read_env.distillation.models.weights import (
    count_parameters,
    empty_model,
    files_identity,
    has_fused_attention,
    load_encoder,
    load_model,
    prune_layers,
    weights_identity,
)
from read_env.distillation.student.student import Student
from read_env.distillation.teachers.base import Teacher, TeacherCache
from read_env.distillation.teachers.local import LocalTeacher
from read_env.distillation.teachers.remote import REMOTE, RemoteTeacher
from read_env.distillation.teachers.store import BlockStore
from read_env.distillation.teachers.vllm import VLLM, VllmTeacher, import_vllm
from read_env.distillation.text.encoding import Encoder
from read_env.distillation.text.lengths import LengthLimit, Reader, fitting_suite
from read_env.errors import ReadEnvError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Loaded:
    """Model in memory.

    Attributes:
        source: location of its files.
        model: the model, in evaluation mode.
        encoder: encoder of its tokenizer.
        placement: device and dtypes.
    """

    source: ModelSource
    model: PreTrainedModel
    encoder: Encoder
    placement: Placement


def load(reference: str, models: ModelConfig | None = None, *, trained: bool = False) -> Loaded:
    """Load a model by reference.

    Args:
        reference: model reference, see ``find_model``.
        models: device, dtype and attention; by default chosen by device and size.
        trained: True if its weights will be updated.

    Raises:
        ReadEnvError: the model doesn't exist, or its files can't be read.

    Example:
        >>> load("embedded:micro/student").model.config.num_hidden_layers
        4
    """
    models = models or ModelConfig()
    source, trust = find_model(reference), models.trust_remote_code
    shape = empty_model(source, trust_remote_code=trust)
    encoder = load_encoder(source, shape.config, trust_remote_code=trust)
    placement = place(models, count_parameters(shape), trained=trained, fused=has_fused_attention(shape))
    return Loaded(source, load_model(source, placement, trust_remote_code=trust), encoder, placement)


def load_student(config: Config) -> Student:
    """Load the student at S_0, with fewer layers or with adapters where configured.

    Raises:
        ReadEnvError: the model can't be loaded, or its architecture can't be trained here.

    Example:
        >>> config = Config(models=ModelConfig(student_layers=(0, 3)))
        >>> load_student(config).model.config.num_hidden_layers
        2
    """
    config = resolve(config)
    models = config.models
    # With adapters the model's own weights are frozen.
    loaded = load(models.student, models, trained=not models.lora_r)
    if models.student_layers:
        prune_layers(loaded.model, models.student_layers)
    student = Student(
        loaded.model, loaded.encoder, config.distill, loaded.placement, models, config.eval.ema_decay
    )  # fmt: skip
    _LOG.info("student %s: %s", models.student, student)
    return student


def load_teacher(config: Config, student: Student) -> LocalTeacher | RemoteTeacher | VllmTeacher:
    """Load the teacher; if it is the student's base model, share it with the adapters disabled.

    Raises:
        ReadEnvError: the model can't be loaded, or can't score completions.
    """
    config = resolve(config)
    if config.models.teacher.startswith(VLLM):
        return _in_vllm(config)
    models, memory = config.models, config.cache.digests
    cut, top_k = config.distill.max_completion_tokens, config.distill.teacher_top_k
    if models.teacher.startswith(REMOTE):
        return RemoteTeacher(models.teacher.removeprefix(REMOTE), models, max_completion_tokens=cut)
    source = find_model(models.teacher)
    if student.adapted is not None and shares_base(models, source, find_model(models.student)):
        _LOG.info("teacher %s: the student's base with its adapters switched off", models.teacher)
        return LocalTeacher(
            student.model, student.encoder, weights_identity(source, student.model, student.placement, memory, code=models.trust_remote_code),
            max_completion_tokens=cut, top_k=top_k, context=student.adapted.disable_adapter,
        )  # fmt: skip
    loaded = load(models.teacher, models)
    size = count_parameters(loaded.model) / 1e6
    _LOG.info("teacher %s: %.1f M parameters; %s", models.teacher, size, loaded.placement)
    weights = weights_identity(loaded.source, loaded.model, loaded.placement, memory, code=models.trust_remote_code)
    return LocalTeacher(loaded.model, loaded.encoder, weights, max_completion_tokens=cut, top_k=top_k)


def shares_base(models: ModelConfig, teacher: ModelSource, student: ModelSource) -> bool:
    """True if the teacher is the student's base model with all its layers: one model in memory serves both.

    Example:
        >>> base = find_model("embedded:micro/student")
        >>> shares_base(ModelConfig(lora_r=8), base, base), shares_base(ModelConfig(), base, base)
        (True, False)
    """
    return (
        models.lora_r > 0
        and not models.student_layers
        and not models.teacher.startswith((VLLM, REMOTE))
        and teacher == student
    )


def _in_vllm(config: Config) -> VllmTeacher:
    import_vllm()  # a missing package is reported before a missing model
    models = config.models
    source, trust = find_model(models.teacher.removeprefix(VLLM)), models.trust_remote_code
    if source.gguf:
        raise ReadEnvError(
            f"models.teacher is {models.teacher!r}; a teacher in vLLM is a folder or hub id with *.safetensors, not a GGUF file"
        )
    shape = empty_model(source, trust_remote_code=trust)
    encoder = load_encoder(source, shape.config, trust_remote_code=trust)
    reader, maximum = Reader.of("teacher", encoder, shape), config.distill.max_completion_tokens
    # vLLM itself raises only at the first prompt that is too long, after minutes of loading.
    fitting_suite(get_suite(config.suite), LengthLimit([reader], maximum), config)
    return VllmTeacher(
        source.location, models, encoder, files_identity(source, shape.config, config.cache.digests, code=trust),
        max_completion_tokens=maximum, top_k=config.distill.teacher_top_k, context=reader.context,
    )  # fmt: skip


def cached(teacher: Teacher, config: CacheConfig) -> TeacherCache:
    """Wrap a teacher in a cache, on disk if the configuration names a folder."""
    store = BlockStore(config.folder, int(config.max_gib * 2**30)) if config.folder else None
    return TeacherCache(teacher, store=store)
