"""Configurations: the sections with their fields (:mod:`read_env.settings`), and presets in TOML files, which may extend each
other.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from read_env.deprecated import rename_fields
from read_env.errors import ReadEnvError, unknown
from read_env.remote_settings import take_default_teacher
from read_env.settings import (
    AUTO,
    BudgetConfig,
    CacheConfig,
    Config,
    DistillConfig,
    EvalConfig,
    IdentifyConfig,
    ModelConfig,
    RewardConfig,
    describe,
    make_config,
)

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = [
    "AUTO", "BudgetConfig", "CacheConfig", "Config", "DistillConfig", "EvalConfig", "IdentifyConfig", "ModelConfig", "RewardConfig", "describe",
    "load_preset", "make_config", "preset_names",
]  # fmt: skip


#: Prefix of sources that are data sets of the ``datasets`` library (:mod:`read_env.capabilities.sources`).
HUB = "hf:"


def preset_names() -> tuple[str, ...]:
    """Names of the presets that ship with the package, sorted.

    >>> "micro" in preset_names()
    True
    """
    folder = resources.files("read_env") / "presets"
    return tuple(sorted(p.name.removesuffix(".toml") for p in folder.iterdir() if p.name.endswith(".toml")))


def load_preset(name: str, overrides: Mapping[str, Any] | None = None) -> Config:
    """Configuration of a preset, with nested overrides merged in before validation.

    A preset may name another one that it changes: ``extends = "smollm2"``, or a path relative to its own file.

    Args:
        name: a shipped preset or the path of a ``.toml`` file. Paths in the file are relative to it.
        overrides: nested field values.

    Raises:
        ReadEnvError: unknown preset, malformed file, presets that extend each other, or a field that is unknown or out of
            range.

    >>> load_preset("micro", {"budget": {"total_tokens": 80_000}}).budget.total_tokens
    80000
    """
    changes = _with_default_teacher(rename_fields(overrides or {}))
    merged = _merge(_preset_values(name, changes), changes)
    return make_config({**merged, "preset": name}, f"preset {name!r}")


def extended_preset(name: str) -> str:
    """Shipped preset that a ``.toml`` file extends, through others of the user's own; empty if it extends none.

    >>> extended_preset("no-such-file.toml")
    ''
    """
    seen: list[str] = []
    while name.endswith(".toml") and name not in seen:
        seen.append(name)
        path = Path(os.path.expanduser(name))
        try:
            base = tomllib.loads(path.read_text(encoding="utf-8")).get("extends", "")
        except (OSError, ValueError):
            return ""
        name = _beside(path, base) if isinstance(base, str) else ""
    return name if name in preset_names() else ""


def _beside(path: Path, base: str) -> str:
    """Preset that the file ``path`` extends, a ``.toml`` relative to its folder."""
    return os.path.normpath(path.parent / Path(os.path.expanduser(base))) if base.endswith(".toml") else base


def _preset_values(name: str, changes: Mapping[str, Any], extended_by: tuple[str, ...] = ()) -> dict[str, Any]:
    """Values of a preset, over those of the preset that it extends; paths in ``changes`` are left alone."""
    if name in extended_by:
        raise ReadEnvError(f"presets extend each other: {' -> '.join([*extended_by, name])}")
    if name.endswith(".toml"):
        path = Path(os.path.expanduser(name))
        if not os.path.isfile(path):
            raise ReadEnvError(f"preset {name!r}: no such file")
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ReadEnvError(f"preset {name!r} can't be read as UTF-8 text: {error}") from None
    elif name in preset_names():
        text = (resources.files("read_env") / "presets" / f"{name}.toml").read_text(encoding="utf-8")
    else:
        raise unknown("preset", name, preset_names())
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ReadEnvError(f"preset {name!r} is not valid TOML: {error}") from None
    values = _with_default_teacher(rename_fields(values))
    base = values.pop("extends", None)
    if name.endswith(".toml"):
        values = _relative_to(path.parent, values, changes)
    if base is None:
        return values
    if not isinstance(base, str):
        raise ReadEnvError(f"preset {name!r}: extends is {base!r}; right would be the name of a preset or a .toml file")
    base = _beside(Path(os.path.expanduser(name)), base)
    return _merge(_preset_values(base, _merge(values, changes), (*extended_by, name)), values)


def _with_default_teacher(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values with ``models.teachers.default`` as ``models.teacher``, before another preset or an option replaces one of them."""
    models = values.get("models")
    return {**values, "models": take_default_teacher(models)} if isinstance(models, Mapping) else dict(values)


def _relative_to(folder: Path, values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Values of a preset's file with their relative paths joined to its folder; fields in ``changes`` are left alone."""

    def joined(path: str) -> str:
        inside = Path(os.path.expanduser(path))
        if inside.is_absolute() or folder == Path():
            return path
        if os.path.exists(inside) and not os.path.exists(folder / inside):
            warnings.warn(
                f"{path} is relative to {folder}, the folder of the file that names it, and is not there; the one in the "
                f"working directory is used, which will be an error in the next release",
                FutureWarning,
                stacklevel=2,
            )
            return path
        return str(folder / inside)

    def in_suite(part: str) -> str:
        name, equals, path = part.partition("=")
        return f"{name}={moved_source(path.strip(), joined)}" if equals else part

    def is_model(name: str) -> bool:  # a name of the hub looks like a path
        return name.startswith(("./", "../", "~")) or os.path.isdir(folder / name)

    def model(reference: Any) -> Any:
        if not isinstance(reference, str) or not is_model(reference.removeprefix("vllm:")):
            return reference
        before = "vllm:" if reference.startswith("vllm:") else ""
        return before + joined(reference.removeprefix("vllm:"))

    is_path: dict[str, Callable[[str], bool]] = {
        "task": lambda text: text.endswith(".toml") or os.sep in text,
        "agent": lambda text: ":" not in text and (os.sep in text or text.endswith(".zip")),
        "directory": lambda text: text not in ("", "none"),
    }

    def resolved(section: Mapping[str, Any], changed: Mapping[str, Any]) -> dict[str, Any]:
        found = dict(section)
        for key, value in section.items():
            if key == "teachers" and isinstance(value, Mapping):
                given = changed.get(key, {})
                own = {name: one if name in given else model(one) for name, one in value.items()}
                found[key] = own
            elif isinstance(value, Mapping):
                found[key] = resolved(value, inner if isinstance(inner := changed.get(key, {}), Mapping) else {})
            elif key in changed:
                continue
            elif key == "decontamination_files" and isinstance(value, list):
                found[key] = [moved_source(one, joined) if isinstance(one, str) else one for one in value]
            elif key == "suite" and isinstance(value, str):
                found[key] = ",".join(map(in_suite, value.split(",")))
            elif isinstance(value, str) and key in ("teacher", "student"):
                found[key] = model(value)
            elif isinstance(value, str) and key in is_path and is_path[key](value):
                found[key] = joined(value)
        return found

    return resolved(values, changes)


def moved_source(text: str, move: Callable[[str], str]) -> str:
    """Source of rows whose path is replaced by ``move(path)``; a data set of the hub stays as it is.

    >>> moved_source("hf:./gsm8k?split=train", lambda path: f"data/{path}"), moved_source("hf:openai/gsm8k", str.upper)
    ('hf:data/./gsm8k?split=train', 'hf:openai/gsm8k')
    """
    prefix = HUB if text.startswith(HUB) else ""
    path, mark, query = text.removeprefix(prefix).partition("?")
    return text if prefix and path[:1] not in tuple("~./") else f"{prefix}{move(path)}{mark}{query}"


def _merge(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in changes.items():
        inner = merged.get(key)
        merged[key] = _merge(inner, value) if isinstance(inner, Mapping) and isinstance(value, Mapping) else value
    return merged
