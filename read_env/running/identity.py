"""What makes two runs the same run: a value, compared before anything is resumed.

Settings, the content of the models, of the task card and of a saved agent belong to it. Where
those files lie does not, nor where the results go: a moved folder holds the same weights.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from read_env.capabilities import own_files, task_package
from read_env.deprecated import rename_fields
from read_env.digests import content_digest

if TYPE_CHECKING:
    from read_env.config import Config
    from read_env.distillation.models.sources import ModelSource

_OF_ONE_RUN = {"agent", "agent_options", "task", "seed"}
# Where the teacher's answers are kept changes no result.
_OF_NO_RUN = {"cache"}


@dataclass(frozen=True)
class RunIdentity:
    """Identity of a run.

    Attributes:
        kind: ``run``, ``comparison``, ``transfer`` or ``training``.
        settings: the resolved configuration and the run's own options, JSON values only.
        contents: fingerprints of the files that the settings point at; where there is one, it
            stands in for the path.
    """

    kind: str
    settings: Mapping[str, Any]
    contents: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of_run(cls, config: Config, *, agent_path: Path | None = None, **options: Any) -> RunIdentity:
        """The identity of one run of ``config``.

        Args:
            config: the resolved configuration.
            agent_path: the saved agent that ``config.agent`` names, if it names one.
            options: further JSON values that change the result.
        """
        shared = cls.of_many("run", config, **options)
        settings = {**shared.settings, **settings_of(config)}
        contents = {**shared.contents, "task": card_fingerprint(config.task, config.suite)}
        if agent_path is not None:
            contents["agent"] = content_digest(agent_path)
        else:
            contents |= agent_code(config.agent)
        return cls("run", settings, contents)

    @classmethod
    def of_many(cls, kind: str, config: Config, **options: Any) -> RunIdentity:
        """What the runs of a comparison, a transfer matrix or a training have in common.

        Agent, task and seed are left out: more of them may be asked for later.
        """
        settings = {**settings_of(config, without=_OF_ONE_RUN), **options}
        files = {f"suite {name}": path for name, path in own_files(config.suite).items()}
        files |= {f"evaluation {number}": path for number, path in enumerate(config.decontamination_files, start=1)}
        contents = {name: content_digest(Path(path)) for name, path in files.items() if Path(path).exists()}
        if package := task_package(config.suite):
            contents["suite tasks"] = package
        for role in ("teacher", "student"):
            if weights := model_content(getattr(config.models, role), config):
                contents[f"models.{role}"] = weights
        return cls(kind, settings, contents)

    def to_json(self) -> dict[str, Any]:
        """For ``identity.json``."""
        return {"kind": self.kind, "settings": dict(self.settings), "contents": dict(self.contents)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> RunIdentity:
        """From ``identity.json``."""
        settings = rename_fields(value.get("settings", {}), warn=False)
        return cls(str(value.get("kind", "run")), settings, value.get("contents", {}))

    def differences(self, other: RunIdentity) -> list[str]:
        """Lines ``field: value here, value in other``; empty if the two are one and the same run."""
        mine, theirs = self._flat(), other._flat()
        return [
            f"{name}: {mine.get(name, 'absent')!r} here, {theirs.get(name, 'absent')!r} there"
            for name in dict.fromkeys([*mine, *theirs])
            if mine.get(name, _ABSENT) != theirs.get(name, _ABSENT)
        ]

    def _flat(self) -> dict[str, Any]:
        settings = {name: value for name, value in _flatten(self.settings) if name not in self.contents}
        return {**settings, **{f"{name} (content)": value for name, value in self.contents.items()}}


_ABSENT = object()


def _flatten(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, item in value.items():
        if isinstance(item, Mapping):
            yield from _flatten(item, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", item


def settings_of(config: Config, without: Collection[str] = ()) -> dict[str, Any]:
    """The fields of a configuration that its results depend on, as JSON values."""
    return config.model_dump(mode="json", exclude={*without, *_OF_NO_RUN})


def model_content(reference: str, config: Config) -> str:
    """The digest of a model's files, or the commit of a model of the hub; empty for a remote one.

    Raises:
        ReadEnvError: a model of the hub that is neither on this machine nor to be reached.
    """
    from read_env.distillation.models.sources import find_model

    if reference.startswith("remote:"):
        return ""
    source = find_model(reference.removeprefix("vllm:"))
    path = Path(source.location) / source.gguf
    if path.exists():
        return content_digest(path, config.cache.digests)
    return _on_the_hub(source, config.models.trust_remote_code)


# A comparison asks for each of its runs, and the hub is asked every time.
@lru_cache(maxsize=16)
def _on_the_hub(source: ModelSource, trust_remote_code: bool) -> str:
    from read_env.distillation.models.weights import files_identity, load_config

    return files_identity(source, load_config(source, trust_remote_code=trust_remote_code), None)


def agent_code(name: str) -> dict[str, str]:
    """The fingerprint of the file that defines somebody's ``module:Class``; nothing for the built-in agents."""
    from read_env.agents.registry import BUILT_IN

    if name in BUILT_IN or ":" not in name:
        return {}
    spec = find_spec(name.partition(":")[0])
    return {"agent code": content_digest(Path(spec.origin))} if spec is not None and spec.origin else {}


@lru_cache(maxsize=256)
def card_fingerprint(task: str, suite: str) -> str:
    """16 hexadecimal digits of what the task card says."""
    from read_env.capabilities import get_suite
    from read_env.tasks import load_task

    return hashlib.sha256(load_task(task, get_suite(suite)).model_dump_json().encode()).hexdigest()[:16]
