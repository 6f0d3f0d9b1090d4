"""Requirements of a configuration: parameters, memory by part, seconds per step, what is missing and what a run would refuse.

Models on this machine are loaded and measured. Sizes of other models are computed from their configuration, without network.
A remote teacher's server is only asked for its list of models, and by a handshake for probabilities if it is vLLM or SGLang.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, NamedTuple

from read_env.config import Config, ModelConfig
from read_env.distillation.defaults import resolve
from read_env.distillation.loading import for_teacher, is_asked
from read_env.distillation.models.memory import release_memory
from read_env.distillation.models.placement import Placement, place
from read_env.distillation.models.sources import ModelSource, architecture_of, find_model, missing, not_installed
from read_env.distillation.models.weights import (
    count_parameters,
    empty_model,
    has_fused_attention,
    load_encoder,
    prune_layers,
)
from read_env.distillation.teachers.remote import REMOTE
from read_env.distillation.teachers.vllm import VLLM
from read_env.distillation.text.lengths import Reader, every
from read_env.running import pool
from read_env.running.check_memory import host_bytes, memory, memory_rows
from read_env.running.check_refusals import Refusals
from read_env.running.check_remote import RemoteChecked, Rows, check_remote
from read_env.running.check_speed import Speed, measure_speed
from read_env.running.room import Fit, Machine, fit

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_ON_POLICY = "not measured: with an objective on the student's own samples it depends on what the student says"


@dataclass(frozen=True)
class Side:
    """Teacher or student as it would be loaded.

    Attributes:
        role: ``teacher`` or ``student``.
        source: origin of the weights.
        model: the model on the meta device, which holds shapes only; a student without its pruned layers.
        placement: device and dtypes.
        missing: missing parts and the commands that get them; empty if nothing is missing.
        reads: True for the name of a capability whose prompts it reads.
    """

    role: str
    source: ModelSource
    model: PreTrainedModel
    placement: Placement
    missing: str
    reads: Callable[[str], bool] = every

    @property
    def parameters(self) -> int:
        return count_parameters(self.model)


class Checked(NamedTuple):
    """Result of a check.

    Attributes:
        rows: names and texts to print.
        ready: True if nothing is missing and a run would refuse nothing.
        speed: measured speed; None if it was not measured.
    """

    rows: Rows
    ready: bool
    speed: Speed | None


def check(config: Config) -> Checked:
    """Check everything that a run of a configuration needs; load and measure both models if they are on this machine."""
    refused = Refusals()
    rows, lacking, at_servers, teachers, known = _check_teachers(config, refused)
    student = refused.attempt(lambda: _side(config, "student", refused))
    if student is not None:
        rows.append(_row("student", student, config.models))
        if student.missing:
            lacking.append(("student", student.missing))
    sides = [side for side in (*teachers, student) if side is not None and not side.missing]
    found = [refused.attempt(partial(_reader, config, side)) for side in sides]
    readers = [reader for reader in (*at_servers, *found) if reader is not None]
    if student is not None:
        encoder = next((reader.encoder for reader in readers if reader.role == "student"), None)
        config = refused.attempt(partial(resolve, config, student.model, encoder)) or config
        rows += [(field, f"auto is {value}") for field, value in config.reasons.items()]
    if config.resolved and student is not None and known:
        rows += memory_rows(config, teachers, student)
        at_once = _fit(config, teachers, student)
        rows.append(("runs at a time", f"{at_once.processes} by default: {at_once.reason}"))
    lengths, speed = refused.look(config, readers), None
    if lacking or refused.found:
        rows.append(
            ("time per step", f"not measured: {'something is missing' if lacking else 'a run would be refused'}")
        )
    else:
        rows += [(f"lengths ({role})", text) for role, text in lengths]
        speed = refused.attempt(lambda: measure_speed(config))
        gc.collect()  # models have reference cycles
        release_memory()  # for the runs that follow, in other processes
        text = (
            speed.of_step(config.budget.step_tokens) if speed else _ON_POLICY if not refused.found else "not measured"
        )
        rows.append(("time per step", text))
    rows += [(f"missing ({whose})", what) for whose, what in lacking]
    rows += [("refused", problem) for problem in refused.found]
    return Checked(rows, not lacking and not refused.found, speed)


def processes_that_fit(config: Config) -> Fit:
    """Number of runs of a configuration that this machine makes at a time by default, and the reason."""
    if pool.cores() == 1:
        return Fit(1, "one core")
    refused = Refusals()
    local = [reference for reference in config.models.all_teachers if not reference.startswith(REMOTE)]
    asking = [config.model_copy(update={"models": for_teacher(config.models, reference)}) for reference in local]
    teachers = [refused.attempt(partial(_side, one, "teacher", refused)) for one in asking]
    student = refused.attempt(partial(_side, config, "student", refused))
    if student is None or None in teachers:
        return Fit(1, f"the models' size is not known ({refused.found[0]})")
    resolved = refused.attempt(partial(resolve, config))
    if resolved is None:
        return Fit(1, refused.found[0])
    return _fit(resolved, [teacher for teacher in teachers if teacher], student)


def _fit(config: Config, teachers: Sequence[Side], student: Side) -> Fit:
    device = student.placement.device.type
    needed = host_bytes(memory(config, teachers, student), config.models.gpus, device)
    return fit(config.models, device, needed, Machine.here())


def _check_teachers(config: Config, refused: Refusals) -> tuple[Rows, Rows, list[Reader], list[Side], bool]:
    """Rows that describe the teachers, rows of missing parts, teachers behind servers that give probabilities as readers, teachers
    of this machine, and True if all of them are known.
    """
    rows, lacking, readers, sides, known = Rows(), Rows(), list[Reader](), list[Side](), True
    for reference in config.models.all_teachers:
        one = config.model_copy(update={"models": for_teacher(config.models, reference)})
        own = [name for name, other in config.models.teachers.items() if other == reference]
        label = f" of {', '.join(own)}" if own and reference != config.models.teacher else ""
        if one.models.teacher.startswith(REMOTE):
            server = refused.attempt(partial(check_remote, one)) or RemoteChecked([], [])
            rows += [(f"{name}{label}", text) for name, text in server.rows]
            lacking += [(f"{name}{label}", text) for name, text in server.missing]
            if server.reader is not None:
                readers.append(replace(server.reader, reads=partial(is_asked, config.models, reference)))
            continue
        side = refused.attempt(partial(_side, one, "teacher", refused))
        known = known and side is not None
        if side is not None:
            sides.append(replace(side, reads=partial(is_asked, config.models, reference)))
            rows.append(_row(f"teacher{label}", side, one.models))
            if side.missing:
                lacking.append((f"teacher{label}", side.missing))
    return rows, lacking, readers, sides, known


def _row(name: str, side: Side, models: ModelConfig) -> tuple[str, str]:
    where = str(side.placement)
    if side.role == "teacher" and models.teacher.startswith(VLLM):
        share, gpus = models.vllm_gpu_memory_utilization, models.vllm_tensor_parallel_size
        where = f"in vLLM, {share:.0%} of the memory of {gpus} GPUs"
    return name, f"{side.source.reference}: {side.parameters / 1e6:,.1f} M parameters; {where}"


def _side(config: Config, role: str, refused: Refusals) -> Side:
    models = config.models
    reference = models.student if role == "student" else models.teacher.removeprefix(VLLM)
    absent = not_installed(reference)
    source = ModelSource(reference, reference) if absent else find_model(reference)
    absent = absent or missing(source)
    # The shapes of well-known models are known without their files.
    model = empty_model(architecture_of(source) if absent else source, trust_remote_code=models.trust_remote_code)
    lacking = [absent] if absent else []
    if role == "teacher" and models.teacher.startswith(VLLM) and find_spec("vllm") is None:
        lacking.append("vLLM, on a machine with a GPU: pip install 'read-env[vllm]'")
    placement = place(
        models,
        count_parameters(model),
        trained=role == "student" and not models.lora_r,
        fused=has_fused_attention(model),
    )
    if role == "student" and models.student_layers:
        refused.attempt(partial(prune_layers, model, models.student_layers))
    return Side(role, source, model, placement, "; ".join(lacking))


def _reader(config: Config, side: Side) -> Reader:
    encoder = load_encoder(side.source, side.model.config, trust_remote_code=config.models.trust_remote_code)
    return replace(Reader.of(side.role, encoder, side.model), reads=side.reads)
