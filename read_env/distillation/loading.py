"""Load teacher and student from a configuration."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

import torch

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
    load_config,
    load_encoder,
    load_model,
    prune_layers,
    weights_identity,
)
from read_env.distillation.student.student import Student
from read_env.distillation.teachers.base import Teacher, TeacherCache, Teachers
from read_env.distillation.teachers.local import LocalTeacher
from read_env.distillation.teachers.remote import REMOTE, RemoteTeacher
from read_env.distillation.teachers.remote_handshake import Handshake, shake_hands
from read_env.distillation.teachers.remote_scoring import RemoteScoringTeacher
from read_env.distillation.teachers.store import BlockStore
from read_env.distillation.teachers.vllm import VLLM, VllmTeacher, import_vllm
from read_env.distillation.text.encoding import Encoder
from read_env.distillation.text.lengths import LengthLimit, Reader, fitting_suite
from read_env.errors import ReadEnvError, unknown
from read_env.losses import get_objective
from read_env.remote_settings import server_of

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


def load(
    reference: str, models: ModelConfig | None = None, *, trained: bool = False, dtype: torch.dtype | None = None,
    device_map: str = "",
) -> Loaded:  # fmt: skip
    """Load a model by reference.

    Args:
        reference: model reference, see ``find_model``.
        models: device, dtype and attention; by default chosen by device and size.
        trained: True if its weights will be updated.
        dtype: dtype of the weights; None: that of the placement.
        device_map: distribution over several GPUs, see ``models.teacher_device_map``.

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
    if dtype is not None:
        placement = replace(placement, weights=dtype)
    model = load_model(source, placement, trust_remote_code=trust, device_map=device_map)
    return Loaded(source, model, encoder, placement)


def load_student(config: Config, *, dtype: torch.dtype | None = None) -> Student:
    """Load the student at S_0, with fewer layers or with adapters where configured, on one device or on several.

    Args:
        config: the configuration.
        dtype: dtype of the weights; None: that of the placement.

    Raises:
        ReadEnvError: the model can't be loaded, or its architecture can't be trained here.

    Example:
        >>> config = Config(models=ModelConfig(student_layers=(0, 3)))
        >>> load_student(config).model.config.num_hidden_layers
        2
    """
    config = resolve(config)
    models = config.models
    if models.gpus > 1:
        return _divided(config)
    # With adapters the model's own weights are frozen.
    loaded = load(models.student, models, trained=not models.lora_r, dtype=dtype)
    if models.student_layers:
        prune_layers(loaded.model, models.student_layers)
    student = Student(
        loaded.model, loaded.encoder, config.distill, loaded.placement, models, config.eval.ema_decay
    )  # fmt: skip
    _LOG.info("student %s: %s", models.student, student)
    return student


def _divided(config: Config) -> Student:
    """The student of several ranks. Another rank than 0 that ``torchrun`` started is one of them, and ends with the run."""
    from read_env.distillation.distributed.follower import follow_under_torchrun
    from read_env.distillation.distributed.leader import LeadingStudent
    from read_env.distillation.distributed.ranks import is_follower

    if is_follower():
        follow_under_torchrun()
        raise SystemExit(0)
    student = LeadingStudent(config)
    _LOG.info("student %s: %s", config.models.student, student)
    return student


OneTeacher: TypeAlias = LocalTeacher | RemoteTeacher | RemoteScoringTeacher | VllmTeacher


def load_teachers(config: Config, student: Student) -> Teachers:
    """Load the teachers of a configuration, each once.

    Raises:
        ReadEnvError: as for :func:`load_teacher`, or a teacher of a capability that the suite doesn't have.
    """
    config = resolve(config)
    names = get_suite(config.suite).names
    for capability in config.models.teachers:
        if capability not in names:
            raise unknown("models.teachers: capability", capability, [*names, "default"])
    found = {reference: load_teacher(config, student, reference) for reference in config.models.all_teachers}
    own = {capability: found[reference] for capability, reference in config.models.teachers.items()}
    return Teachers(found[config.models.teacher], own)


def load_teacher(config: Config, student: Student, reference: str = "") -> OneTeacher:
    """Load a teacher; if it is the student's base model, share it with the adapters disabled.

    Args:
        config: the configuration.
        student: the student.
        reference: the teacher; empty: ``models.teacher``.

    Raises:
        ReadEnvError: the model can't be loaded, or can't score completions.
    """
    config, reference = resolve(config), reference or config.models.teacher
    reads = partial(is_asked, config.models, reference)
    config = config.model_copy(update={"models": for_teacher(config.models, reference)})
    if config.models.teacher.startswith(VLLM):
        return _in_vllm(config, reads)
    models, memory = config.models, config.cache.digests
    cut, top_k = config.distill.max_completion_tokens, config.distill.teacher_top_k
    if models.teacher.startswith(REMOTE):
        return _behind_a_server(config)
    source = find_model(models.teacher)
    if student.adapted is not None and shares_base(models, source, find_model(models.student)):
        _LOG.info("teacher %s: the student's base with its adapters switched off", models.teacher)
        return LocalTeacher(
            student.model, student.encoder, weights_identity(source, student.model, student.placement, memory, code=models.trust_remote_code),
            max_completion_tokens=cut, top_k=top_k, context=student.adapted.disable_adapter,
        )  # fmt: skip
    loaded = load(models.teacher, models, device_map=models.teacher_device_map)
    size = count_parameters(loaded.model) / 1e6
    _LOG.info("teacher %s: %.1f M parameters; %s", models.teacher, size, loaded.placement)
    weights = weights_identity(loaded.source, loaded.model, loaded.placement, memory, code=models.trust_remote_code)
    return LocalTeacher(loaded.model, loaded.encoder, weights, max_completion_tokens=cut, top_k=top_k)


def is_asked(models: ModelConfig, reference: str, capability: str) -> bool:
    """True if the teacher with that reference is the one of a capability."""
    return models.teacher_of(capability) == reference


def for_teacher(models: ModelConfig, reference: str) -> ModelConfig:
    """Settings with one teacher, and with the address that its reference names.

    Example:
        >>> for_teacher(ModelConfig(), "remote:coder@http://localhost:8001/v1").remote_base_url
        'http://localhost:8001/v1'
    """
    name, address = server_of(reference)
    changes = {"teacher": f"{REMOTE}{name}", "remote_base_url": address} if address else {"teacher": reference}
    return models.model_copy(update={**changes, "teachers": {}})


def shares_base(models: ModelConfig, teacher: ModelSource, student: ModelSource) -> bool:
    """True if the teacher is the student's base model with all its layers: one model in memory serves both.

    Example:
        >>> base = find_model("embedded:micro/student")
        >>> shares_base(ModelConfig(lora_r=8), base, base), shares_base(ModelConfig(), base, base)
        (True, False)
    """
    return (
        models.lora_r > 0
        and models.gpus == 1
        and not models.student_layers
        and not models.teacher.startswith((VLLM, REMOTE))
        and teacher == student
    )


def _behind_a_server(config: Config) -> RemoteTeacher | RemoteScoringTeacher:
    """Teacher behind a server: one that gives probabilities if the server does, else one that gives text.

    Raises:
        ReadEnvError: probabilities are needed, and the server gives none that can be used.
    """
    models, distill = config.models, config.distill
    name, cut = models.teacher.removeprefix(REMOTE), distill.max_completion_tokens
    of_text = RemoteTeacher(name, models, max_completion_tokens=cut)
    if models.remote_protocol == "chat":
        return of_text
    encoder = tokenizer_of_remote(models)
    found = shake_hands(name, models, encoder, distill.teacher_top_k)
    problem = found if isinstance(found, str) else found.problem
    if isinstance(found, Handshake) and not problem:
        _LOG.info("teacher %s: %s", models.teacher, "; ".join(f"{row}: {text}" for row, text in found.rows()))
        return RemoteScoringTeacher(
            name, models, encoder, found, max_completion_tokens=cut, top_k=distill.teacher_top_k
        )
    if models.remote_protocol != "auto" or get_objective(distill.loss).needs_probabilities:
        raise ReadEnvError(
            f"models.teacher: {models.teacher!r} at {models.remote_base_url} gives text alone: {problem}; distill.loss "
            f"{distill.loss!r} and models.remote_protocol {models.remote_protocol!r} need its probabilities. With text alone, "
            "right would be distill.loss 'sft' and models.remote_protocol 'auto' or 'chat'"
        )
    _LOG.warning("teacher %s stays a teacher of text alone: %s", models.teacher, problem)
    return of_text


def tokenizer_of_remote(models: ModelConfig) -> Encoder:
    """Encoder of the local tokenizer of a remote teacher.

    Raises:
        ReadEnvError: it can't be loaded.

    Example:
        >>> tokenizer_of_remote(ModelConfig()).eos_token
        '<eos>'
    """
    source, trust = find_model(models.remote_tokenizer or models.student), models.trust_remote_code
    return load_encoder(source, load_config(source, trust_remote_code=trust), trust_remote_code=trust)


def _in_vllm(config: Config, reads: Callable[[str], bool]) -> VllmTeacher:
    import_vllm()  # a missing package is reported before a missing model
    models = config.models
    source, trust = find_model(models.teacher.removeprefix(VLLM)), models.trust_remote_code
    if source.gguf:
        raise ReadEnvError(
            f"models.teacher is {models.teacher!r}; a teacher in vLLM is a folder or hub id with *.safetensors, not a GGUF file"
        )
    shape = empty_model(source, trust_remote_code=trust)
    encoder = load_encoder(source, shape.config, trust_remote_code=trust)
    reader, maximum = replace(Reader.of("teacher", encoder, shape), reads=reads), config.distill.max_completion_tokens
    # vLLM itself raises only at the first prompt that is too long, after minutes of loading.
    fitting_suite(get_suite(config.suite), LengthLimit([reader], maximum), config)
    return VllmTeacher(
        source.location, models, encoder, files_identity(source, shape.config, config.cache.digests, code=trust),
        max_completion_tokens=maximum, top_k=config.distill.teacher_top_k, context=reader.context,
    )  # fmt: skip


def cached(teacher: Teacher | Teachers, config: CacheConfig) -> TeacherCache:
    """Wrap one or more teachers in a cache, on disk if the configuration names a folder."""
    store = BlockStore(config.folder, int(config.max_gib * 2**30)) if config.folder else None
    return TeacherCache(teacher, store=store)
