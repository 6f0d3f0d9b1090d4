"""From a configuration to a teacher and a student that are ready."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from read_env.config import CacheConfig, Config, ModelConfig
from read_env.distillation.models.placement import Placement, place
from read_env.distillation.models.sources import ModelSource, find_model
from read_env.distillation.models.weights import (
    check_logits,
    count_parameters,
    empty_model,
    files_identity,
    load_model,
    load_tokenizer,
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
from read_env.distillation.text.lengths import check_lengths, measure_lengths
from read_env.errors import ReadEnvError
from read_env.losses import ON_POLICY

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Loaded:
    """A model that is in memory.

    Attributes:
        source: where it came from.
        model: in evaluation mode.
        encoder: of its tokenizer.
        placement: where it is and in which numbers it computes.
    """

    source: ModelSource
    model: PreTrainedModel
    encoder: Encoder
    placement: Placement


def load(reference: str, models: ModelConfig | None = None, *, trained: bool = False) -> Loaded:
    """A model by reference, placed as the configuration says.

    Args:
        reference: see ``find_model``.
        models: device, dtype and attention; the defaults choose by device and size.
        trained: its weights are going to be updated.

    Raises:
        ReadEnvError: nothing there, or the files can't be read.
    """
    models = models or ModelConfig()
    source, trust = find_model(reference), models.trust_remote_code
    placement = place(models, count_parameters(empty_model(source, trust_remote_code=trust)), trained=trained)
    model = load_model(source, placement, trust_remote_code=trust)
    return Loaded(source, model, Encoder(load_tokenizer(source, trust_remote_code=trust)), placement)


def load_student(config: Config) -> Student:
    """The student at S_0: pruned and with adapters, where the configuration asks for them.

    Raises:
        ReadEnvError: the model can't be loaded, or is of a kind that can't be trained here.
    """
    models = config.models
    # Under adapters a model's own weights are only read.
    loaded = load(models.student, models, trained=not models.lora_r)
    if models.student_layers:
        prune_layers(loaded.model, models.student_layers)
    with loaded.placement.computing():
        check_logits(loaded.model, loaded.encoder, "student")
    student = Student(loaded.model, loaded.encoder, config.distill, loaded.placement, models)
    _LOG.info("student %s: %s", models.student, student)
    return student


def load_teacher(config: Config, student: Student) -> LocalTeacher | RemoteTeacher | VllmTeacher:
    """The teacher; where it is the student's own base, that one with the adapters switched off.

    Raises:
        ReadEnvError: the model can't be loaded, or can't score what a student says.
    """
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
            student.model, student.encoder, weights_identity(source, student.model, student.placement, memory),
            max_completion_tokens=cut, top_k=top_k, around=student.adapted.disable_adapter,
        )  # fmt: skip
    loaded = load(models.teacher, models)
    size = count_parameters(loaded.model) / 1e6
    _LOG.info("teacher %s: %.1f M parameters; %s", models.teacher, size, loaded.placement)
    if config.distill.loss in ON_POLICY:  # its own answers come from the whole model, scores from body and head
        with loaded.placement.computing():
            check_logits(loaded.model, loaded.encoder, "teacher")
    weights = weights_identity(loaded.source, loaded.model, loaded.placement, memory)
    return LocalTeacher(loaded.model, loaded.encoder, weights, max_completion_tokens=cut, top_k=top_k)


def shares_base(models: ModelConfig, teacher: ModelSource, student: ModelSource) -> bool:
    """Whether the teacher is the student's own base, all of its layers under adapters: one model in memory for both."""
    return (
        models.lora_r > 0
        and not models.student_layers
        and not models.teacher.startswith((VLLM, REMOTE))
        and teacher == student
    )


def _in_vllm(config: Config) -> VllmTeacher:
    import_vllm()  # an error about the extra comes before one about the model
    models = config.models
    source, trust = find_model(models.teacher.removeprefix(VLLM)), models.trust_remote_code
    if source.gguf:
        raise ReadEnvError(
            f"models.teacher is {models.teacher!r}; a teacher in vLLM is a folder or hub id with *.safetensors, not a GGUF file"
        )
    shape = empty_model(source, trust_remote_code=trust)
    encoder = Encoder(load_tokenizer(source, trust_remote_code=trust))
    # vLLM itself says it at the first prompt that is too long, after minutes of loading.
    check_lengths("teacher", measure_lengths(config, encoder, shape))
    return VllmTeacher(
        source.location, models, encoder, files_identity(source, shape.config, config.cache.digests),
        max_completion_tokens=config.distill.max_completion_tokens, top_k=config.distill.teacher_top_k,
    )  # fmt: skip


def cached(teacher: Teacher, config: CacheConfig) -> TeacherCache:
    """The teacher behind a cache, on disk if the configuration names a place."""
    store = BlockStore(config.folder, int(config.max_gib * 2**30)) if config.folder else None
    return TeacherCache(teacher, store=store)
