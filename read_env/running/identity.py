"""Identity of a run: a value that is compared before anything is resumed.

It holds the settings and digests of the models, the task card and a saved agent. Paths of these files and of the results
don't belong to it: a moved folder holds the same weights.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from read_env.capabilities import own_files, task_package
from read_env.capabilities.sources import is_there, source_digest
from read_env.deprecated import rename_fields
from read_env.digests import content_digest
from read_env.errors import ReadEnvError
from read_env.imports import code_file, import_attribute
from read_env.tasks.prompts import prompts_digest

if TYPE_CHECKING:
    from read_env.config import Config, ModelConfig
    from read_env.distillation.models.sources import ModelSource
    from read_env.tasks import TaskCard

_RUN_FIELDS = {"agent", "agent_options", "task", "seed"}
# The answer cache changes no result, nor does the evaluation of teacher and unspent tokens or on external tasks, nor the
# patience with a server: more of it may be what lets a run go on.
_EXCLUDED_FIELDS: dict[str, Any] = {
    "cache": True,
    "identify": True,  # the card that was found is compared
    "eval": {"score_teacher", "score_unspent", "external", "external_include_path", "external_chat_template"},
    "models": {"remote_timeout", "remote_max_retries", "remote_concurrency"},
}


@dataclass(frozen=True)
class RunIdentity:
    """Identity of a run.

    Attributes:
        kind: ``run``, ``comparison``, ``transfer`` or ``training``.
        settings: the resolved configuration and the run's own options, JSON values only.
        contents: digests of the files that the settings name, each compared in place of the path.
    """

    kind: str
    settings: Mapping[str, Any]
    contents: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of_run(cls, config: Config, *, agent_path: Path | None = None, **options: Any) -> RunIdentity:
        """Identity of one run of ``config``.

        Args:
            config: resolved configuration.
            agent_path: file of the saved agent that ``config.agent`` names; None for a new agent.
            options: further JSON values that change the result.
        """
        shared = cls.of_many("run", config, **options)
        settings = {**shared.settings, **settings_of(config, tasks=[config.task])}
        contents = {**shared.contents, "task": card_fingerprint(config.task, config.suite)}
        if agent_path is not None:
            contents["agent"] = content_digest(agent_path)
        else:
            contents |= agent_content(config.agent, config.agent_options)
        return cls("run", settings, contents)

    @classmethod
    def of_many(cls, kind: str, config: Config, **options: Any) -> RunIdentity:
        """Identity that the runs of a comparison, a transfer matrix or a training share.

        Agent, task and seed don't belong to it, since later calls may add more of them.
        """
        settings = {**settings_of(config, without=_RUN_FIELDS), **options}
        sources = {f"suite {name}": source for name, source in own_files(config.suite).items()}
        sources |= {
            f"evaluation {number}": source for number, source in enumerate(config.decontamination_files, start=1)
        }
        # One that is missing is reported when it is read.
        contents = {name: source_digest(source) for name, source in sources.items() if is_there(source)}
        if package := task_package(config.suite):
            contents["suite tasks"] = package
        models = {"teacher": config.models.teacher, "student": config.models.student}
        models |= {f"teachers.{name}": reference for name, reference in config.models.teachers.items()}
        for role, reference in models.items():
            if weights := model_content(reference, config):
                contents[f"models.{role}"] = weights
        return cls(kind, settings, contents)

    def to_json(self) -> dict[str, Any]:
        """Content of ``identity.json``."""
        return {"kind": self.kind, "settings": dict(self.settings), "contents": dict(self.contents)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> RunIdentity:
        """Identity from the content of ``identity.json``."""
        settings, contents = value.get("settings", {}), value.get("contents", {})
        if not isinstance(settings, Mapping) or not isinstance(contents, Mapping):
            raise ReadEnvError("identity.json is damaged: settings and contents must be objects; restore the file")
        return cls(str(value.get("kind", "run")), rename_fields(settings, warn=False), contents)

    def differences(self, other: RunIdentity) -> list[str]:
        """One line per field that differs; empty for the same run.

        Args:
            other: identity of the command; this one is the folder's.

        >>> RunIdentity("run", {"seed": 0}).differences(RunIdentity("run", {"seed": 1}))
        ['seed: 0 in the folder, 1 in this command']
        """
        mine, theirs = self._flat(), other._flat()
        return [
            f"{name}: {mine.get(name, 'absent')!r} in the folder, {theirs.get(name, 'absent')!r} in this command"
            for name in dict.fromkeys([*mine, *theirs])
            if mine.get(name, _ABSENT) != theirs.get(name, _ABSENT)
        ]

    def _flat(self) -> dict[str, Any]:
        settings = {name: _moved(name, value) for name, value in _flatten(self.settings) if name not in self.contents}
        return {**settings, **{f"{name} (content)": value for name, value in self.contents.items()}}


_ABSENT = object()


def _moved(name: str, value: Any) -> Any:
    """Setting without the folders of the files in it, whose content is compared."""
    if name == "suite":
        first, *rest = str(value).split(",")
        return ",".join(part.partition("=")[0] if "=" in part else part for part in (first, *rest))
    if name == "decontamination_files":
        return [PurePath(path).name for path in value]
    return PurePath(value).name if name == "preset" else value


def _flatten(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, item in value.items():
        if isinstance(item, Mapping):
            yield from _flatten(item, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", item


def settings_of(config: Config, without: Collection[str] = (), tasks: Collection[str] = ()) -> dict[str, Any]:
    """Fields of a configuration that change results, as JSON values; for ``tasks`` whose utility is relative to the teacher,
    its evaluation as well, and for measured ones the sizes of their held-out sets.

    >>> from read_env.config import Config
    >>> settings_of(Config(seed=3))["seed"], "cache" in settings_of(Config())
    (3, False)
    """
    from read_env.capabilities import get_suite
    from read_env.tasks import load_task

    excluded = {**dict.fromkeys(without, True), **_EXCLUDED_FIELDS}
    forms = {load_task(task, get_suite(config.suite)).utility_form for task in tasks}
    if "product" in forms:
        excluded["eval"] = excluded["eval"] - {"score_teacher"}
    if "measured" not in forms:
        excluded["eval"] = excluded["eval"] | {"task_probes", "task_dev", "task_exam"}
    excluded["models"] = excluded["models"] | _unused(config.models)
    return config.model_dump(mode="json", exclude=excluded)


#: Where everything is on one device, and runs as it is.
_USUAL = {"gpus": 1, "offload_optimizer": False, "teacher_device_map": "", "torch_compile_mode": "off"}


def _unused(models: ModelConfig) -> set[str]:
    """Fields without a meaning for these models. Runs from before they existed keep their identity."""
    found = set() if models.teachers else {"teachers"}
    found |= {name for name, usual in _USUAL.items() if getattr(models, name) == usual}
    return found if models.any_remote else found | {"remote_protocol", "remote_tokenizer", "remote_logprobs_mode"}


def model_content(reference: str, config: Config) -> str:
    """Digest of a model's files, or the commit of a model on the hub; empty for a remote model.

    Raises:
        ReadEnvError: a model on the hub that is not on this machine while the hub can't be reached.

    >>> from read_env.config import Config
    >>> model_content("remote:llama", Config())
    ''
    """
    from read_env.distillation.models.sources import find_model

    if reference.startswith("remote:"):
        return ""
    source = find_model(reference.removeprefix("vllm:"))
    path = Path(source.location) / source.gguf
    if path.exists():
        return content_digest(path, config.cache.digests, code=config.models.trust_remote_code)
    return _on_the_hub(source, config.models.trust_remote_code)


# Cached, since a comparison calls it for each of its runs, and each call asks the hub.
@lru_cache(maxsize=16)
def _on_the_hub(source: ModelSource, trust_remote_code: bool) -> str:
    from read_env.distillation.models.weights import files_identity, load_config

    return files_identity(source, load_config(source, trust_remote_code=trust_remote_code), None)


def agent_content(name: str, options: Mapping[str, Any]) -> dict[str, str]:
    """Digests of the file that defines a custom ``module:Class``, and of the files that a built-in agent's options name.

    >>> agent_content("uniform", {}), list(agent_content("pretrained:any", {})), list(agent_content("collections:OrderedDict", {}))
    ({}, ['agent_options.weights'], ['agent code'])
    """
    from read_env.agents.registry import BUILT_IN

    if name in BUILT_IN:
        where, preset = BUILT_IN[name]
        paths = import_attribute(where).files({**preset, **options})
        # One that is missing is reported when it is read.
        return {file: content_digest(path) for file, path in paths.items() if path.is_file()}
    if ":" not in name:
        return {}
    code = code_file(name)
    return {} if code is None else {"agent code": content_digest(code)}


def card_fingerprint(task: str, suite: str) -> str:
    """Digest of the content of a task card, 16 hexadecimal digits.

    >>> len(card_fingerprint("math", "micro"))
    16
    """
    from read_env.capabilities import get_suite
    from read_env.tasks import load_task

    return fingerprint(load_task(task, get_suite(suite)))


def fingerprint(card: TaskCard) -> str:
    """The same of a card that is loaded: of the content of its prompts, wherever they are."""
    text = card.model_dump_json(exclude={"prompts", "grader", "score", "tokens_before_run"})
    if card.measured:
        text = json.dumps([text, card.grader, card.score, prompts_digest(card.prompts), grader_code(card.grader)])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def grader_code(name: str) -> str:
    """Digest of the file that defines a grader ``module:function``; empty for built-in graders."""
    code = code_file(name) if ":" in name else None
    return "" if code is None else content_digest(code)
