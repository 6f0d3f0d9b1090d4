"""Old names of configuration fields and commands. They work for one release, with a warning that names the new one."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from read_env.errors import ReadEnvError

#: Section -> old field -> new field; the empty section holds the sections themselves and the fields beside them.
RENAMED_FIELDS: Mapping[str, Mapping[str, str]] = {
    "": {"measure": "eval", "evaluation": "decontamination_files"},
    "models": {
        "attention": "attn_implementation",
        "lora_rank": "lora_r",
        "lora_targets": "lora_target_modules",
        "vllm_memory": "vllm_gpu_memory_utilization",
        "vllm_gpus": "vllm_tensor_parallel_size",
        "remote_url": "remote_base_url",
        "remote_timeout_s": "remote_timeout",
        "remote_retries": "remote_max_retries",
        "remote_parallel": "remote_concurrency",
    },
    "distill": {
        "grad_clip": "max_grad_norm",
        "top_k": "teacher_top_k",
        "tad_top": "tad_top_k",
        "group_size": "num_generations",
        "rollout_prompts": "rollout_batch_size",
        "clip_epsilon": "epsilon",
        "ratio_bound": "delta",
        "kl_beta": "grpo_beta",
        "mix_schedule": "mixed_kl_schedule",
        "mix_start": "mixed_kl_start",
        "mix_end": "mixed_kl_end",
        "block_size": "teacher_batch_size",
    },
    "eval": {"decoded_at_once": "eval_batch_size"},
}

#: Old command -> new command.
RENAMED_COMMANDS: Mapping[str, str] = {"transfer": "transfer-matrix", "contaminate": "check-contamination"}

#: Old option -> new option, for options that belong to no section of the configuration.
RENAMED_OPTIONS: Mapping[str, str] = {"--evaluation": "--decontamination-files", "--students": "--keep-students"}


def rename_fields(values: Mapping[str, Any], section: str = "", *, warn: bool = True) -> dict[str, Any]:
    """Values of a configuration (or of one section of it) under the current names.

    Args:
        values: field -> value, old and new names mixed.
        section: name of the section that ``values`` belongs to; empty for the whole configuration.
        warn: warn about each old name. Records of earlier runs are read without.

    Raises:
        ReadEnvError: the old and the new name of a field are both given.

    >>> rename_fields({"distill": {"group_size": 8}}, warn=False)
    {'distill': {'num_generations': 8}}
    """
    renamed = RENAMED_FIELDS.get(section, {})
    current: dict[str, Any] = {}
    for name, value in values.items():
        new = renamed.get(name, name)
        if new != name:
            if new in values:
                raise ReadEnvError(
                    f"{_dotted(section, name)} is the old name of {_dotted(section, new)}: give one of them"
                )
            if warn:
                _warn(_dotted(section, name), _dotted(section, new))
        if not section and isinstance(value, Mapping):
            value = rename_fields(value, new, warn=warn)
        current[new] = value
    return current


def rename_arguments(arguments: Sequence[str]) -> list[str]:
    """Command-line arguments with the current names of commands and options; warns about each old one."""
    options = dict(_renamed_options())
    current = []
    for position, argument in enumerate(arguments):
        name, equals, value = argument.partition("=")
        new = RENAMED_COMMANDS.get(name, name) if position == 0 else options.get(name.replace("_", "-"), name)
        if name == "--students" and arguments[position + 1 : position + 2] and arguments[position + 1][:1] != "-":
            new = name  # with names after it, the starting students
        if new != name:
            _warn(name, new)
        current.append(f"{new}{equals}{value}")
    return current


def _renamed_options() -> Iterator[tuple[str, str]]:
    """Old and new spelling of every option whose field or section was renamed."""
    sections = RENAMED_FIELDS[""]
    yield from RENAMED_OPTIONS.items()
    for section, renamed in RENAMED_FIELDS.items():
        old_section = {new: old for old, new in sections.items()}.get(section, section)
        for old, new in renamed.items() if section else ():
            for spelling in {section, old_section}:
                yield _option(spelling, old), _option(section, new)
    for name in ("probes", "dev", "dev_every", "exam", "exam_split", "score", "eval_batch_size"):
        yield _option("measure", name), _option("eval", name)


def _option(section: str, field: str) -> str:
    return f"--{section}.{field}".replace("_", "-")


def _dotted(section: str, field: str) -> str:
    return f"{section}.{field}" if section else field


def _warn(old: str, new: str) -> None:
    warnings.warn(
        f"{old} is deprecated and will be removed in the next release: use {new}", FutureWarning, stacklevel=4
    )
