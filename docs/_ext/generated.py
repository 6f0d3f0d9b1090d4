"""Reference pages as MyST text, generated from the objects that they describe.

Each function of :data:`PAGES` returns the text of one page or table; ``site_extension`` inserts it where a page says
``{generated} NAME``.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import MISSING
from importlib import resources
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import tyro
from fields import block, bounds_text, cell, code, markdown, table, texts_of, type_text, value_text
from pages import PACKAGES, ROOT, api, measured_pages, readme_start, repository_file
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from read_env import cli, config, envs, records
from read_env.agents.registry import GROUPS
from read_env.capabilities import get_suite
from read_env.capabilities.stream import held_out
from read_env.config import DistillConfig
from read_env.imports import import_attribute
from read_env.losses import OBJECTIVES
from read_env.running.listing import describe
from read_env.tasks import TaskCard

# -- the configuration ---------------------------------------------------------------------------


def configuration() -> str:
    """All fields of the configuration, by section."""
    parts = ["## Top level", markdown(inspect.cleandoc(config.Config.__doc__ or ""))]
    parts += [_field(config.Config, name) for name in config.Config.model_fields if not _section_of(name)]
    for name in config.Config.model_fields:
        if section := _section_of(name):
            parts += [f"## `[{name}]`", markdown(inspect.cleandoc(section.__doc__ or ""))]
            parts += [_field(section, field, f"{name}.") for field in section.model_fields]
    return "\n\n".join(parts)


def _section_of(name: str) -> type[BaseModel] | None:
    kind = config.Config.model_fields[name].annotation
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def _field(model: type[BaseModel], name: str, prefix: str = "") -> str:
    field = model.model_fields[name]
    bounds = bounds_text(field)
    kind = f"`{type_text(field.annotation)}`" + (f", {bounds}" if bounds else "")
    default = field.get_default(call_default_factory=True)
    described = markdown(texts_of(model)[name])
    return block("confval", prefix + name, described, {"type": kind, "default": f"`{value_text(default)}`"})


def presets() -> str:
    """The presets that ship, as files."""
    parts = []
    for name in config.preset_names():
        text = (resources.files("read_env") / "presets" / f"{name}.toml").read_text(encoding="utf-8")
        parts.append(f"### `{name}`\n\n```toml\n{text.strip()}\n```\n")
    return "\n".join(parts)


# -- the command line ----------------------------------------------------------------------------


def commands() -> str:
    """All commands with their options."""
    return "\n\n".join(_command(name, *entry[:2]) for name, entry in cli._COMMANDS.items())


def _command(name: str, request: type, configured: type[config.Config] | None) -> str:
    hints = get_type_hints(request, include_extras=True)
    shown = [
        one
        for one in dataclasses.fields(request)
        if one.name != "config" and not _is(hints[one.name], tyro.conf.Suppress)
    ]
    places = [one for one in shown if _is(hints[one.name], tyro.conf.Positional)]
    options = [one for one in shown if one not in places]
    usage = " ".join([
        "read-env", name, *(_place(one.name, hints[one.name]) for one in places),
        *(f"{option(one.name)} {one.name.upper()}" for one in options if one.default is MISSING),
        "[OPTIONS]",
    ])  # fmt: skip
    parts = [f"## `read-env {name}`", f"```{{program}} read-env {name}\n```"]
    parts += [markdown(inspect.cleandoc(request.__doc__ or "")), f"```\n{usage}\n```"]
    for one in [*places, *options]:
        flag = _place(one.name, hints[one.name]) if one in places else option(one.name)
        kind = type_text(_plain(hints[one.name]))
        if kind != "bool":
            flag += "" if one in places else f" {one.name.upper()}"
        default = "required" if one.default is MISSING else f"default `{value_text(one.default)}`"
        described = markdown(_shared_help(hints[one.name]) or texts_of(request)[one.name])
        parts.append(block("option", flag, f"{described}\n\n*{kind}*; {default}."))
    if configured is not None:
        left_out = [name for name, field in configured.model_fields.items() if _is(field, tyro.conf.Suppress)]
        but = f", but for {', '.join(f'`{field}`' for field in left_out)}" if left_out else ""
        parts.append(
            f"Every field of the [configuration](configuration.md) is an option too{but}: `--preset`, "
            "`--budget.total-tokens`, `--models.teacher` and so on, with `-` in place of `_`."
        )
    return "\n\n".join(parts)


def option(name: str) -> str:
    """Option of a field.

    >>> option("push_to_hub")
    '--push-to-hub'
    """
    return "--" + name.replace("_", "-")


def _is(hint: Any, mark: Any) -> bool:
    """True if a type is marked by one of ``tyro.conf``'s generic aliases."""
    given = hint.metadata if isinstance(hint, FieldInfo) else getattr(hint, "__metadata__", ())
    return any(one in get_args(mark[int])[1:] for one in given)


def _shared_help(hint: Any) -> str:
    """Help in an annotation that several requests share; empty without one."""
    return next((one.help for one in getattr(hint, "__metadata__", ()) if getattr(one, "help", None)), "")


def _plain(hint: Any) -> Any:
    return get_args(hint)[0] if get_origin(hint) is Annotated else hint


def _place(name: str, hint: Any) -> str:
    several = get_origin(_plain(hint)) is tuple
    return name.upper() + (" [" + name.upper() + " ...]" if several else "")


# -- agents, objectives, environments ------------------------------------------------------------


def agents() -> str:
    """The agents by group, each with its options."""
    lines = dict(describe("agents", "micro"))
    parts = []
    for group, entries in GROUPS.items():
        rows = []
        for name, (where, _) in entries.items():
            kind = import_attribute(where)
            link = f"[`{name}`](#{kind.__module__}.{kind.__qualname__})"
            options = ", ".join(code(one) for one in getattr(kind, "settings_type", BaseModel).model_fields)
            rows.append([link, cell(lines[name]), options])
        parts += [f"### {group.capitalize()}", table(["name", "allocation", "options"], rows)]
    return "\n\n".join(parts)


def agent_options() -> str:
    """Options of the agents with types and defaults."""
    rows = []
    for entries in GROUPS.values():
        for name, (where, preset) in entries.items():
            for field, info in getattr(import_attribute(where), "settings_type", BaseModel).model_fields.items():
                default = preset.get(field, info.get_default(call_default_factory=True))
                bounds = bounds_text(info)
                kind = type_text(info.annotation) + (f", {bounds}" if bounds else "")
                shown = "required" if info.is_required() and field not in preset else code(value_text(default))
                rows.append([code(name), code(field), cell(kind), shown])
    return table(["agent", "option", "type", "default"], rows)


def objectives() -> str:
    """The distillation objectives."""
    rows = []
    for name, one in OBJECTIVES.items():
        document = inspect.cleandoc(one.function.__doc__ or "")
        link = f"[`{name}`](#{one.function.__module__}.{one.function.__qualname__})"
        reference = re.search(r"^References?: (.*?)(?=\n\n|\Z)", document, re.MULTILINE | re.DOTALL)
        own = [field for field in DistillConfig.model_fields if field.startswith(name.replace("-", "_") + "_")]
        given = [f"{{confval}}`distill.{field}`" for field in dict.fromkeys([*one.parameters.values(), *own])]
        if one.on_policy:
            needs = "log-probabilities of the student's samples: a teacher in this process, in vLLM, or on a vLLM or SGLang server"
        elif one.needs_probabilities:
            needs = "log-probabilities; " + ("one or two vocabularies" if one.aligns_spans else "one vocabulary")
        else:
            needs = "text"
        rows.append([
            link, cell(f"{one.summary} {document.partition(chr(10) * 2)[0]}"), cell(reference[1] if reference else ""),
            "the student's own samples" if one.on_policy else "the teacher's answers", needs, ", ".join(given),
        ])  # fmt: skip
    return table(["name", "objective", "reference", "trained on", "needs", "parameters"], rows)


def environment(name: str) -> str:
    """Specification of an environment: the docstring of its class, which is in Markdown."""
    where = {**envs.ENVIRONMENTS, **{f"{key}/vector": value for key, value in envs.VECTOR_ENVIRONMENTS.items()}}[name]
    return inspect.cleandoc(import_attribute(where).__doc__ or "")


def environments() -> str:
    """The registered environments."""
    pages = {"ReadEnv/Distillation-v0": "distillation.md", "ReadEnv/Surrogate-v0": "surrogate.md"}
    rows = []
    for name, where in envs.ENVIRONMENTS.items():
        kind = import_attribute(where)
        first = cell(inspect.cleandoc(kind.__doc__ or "").split("\n\n")[0])
        rows.append([f"[`{name}`]({pages[name]})", first, code(kind.__name__)])
    return table(["id", "environment", "class"], rows)


def names(kind: str) -> str:
    """Names of a kind that ``read-env list`` prints."""
    rows = [[code(name), cell(line)] for name, line in describe(kind, "micro")]
    return table([kind.rstrip("s") if kind != "capabilities" else "capability", ""], rows)


def capabilities(suite: str) -> str:
    """Capabilities of a suite: the first line of the module, and the shortest of some exam prompts with its reference."""
    rows = []
    for one in get_suite(suite):
        module = importlib.import_module(f"read_env.capabilities.{suite}.{one.name}")
        line = (module.__doc__ or "").partition("\n")[0].removesuffix(".").partition(": ")[2]
        shown = min(held_out(one, "exam", 40), key=lambda prompt: len(prompt.text))
        rows.append([code(one.name), cell(line), *(cell(_shortened(text)) for text in (shown.text, shown.reference))])
    return table(["capability", "prompts", "short example", "reference"], rows)


def _shortened(text: str) -> str:
    """Text on one line, at most 200 characters of it."""
    line = " ".join(text.split())
    shown = line if len(line) <= 200 else f"{line[:200]}…"
    return f"```` {shown} ````" if "`" in shown else code(shown)


# -- task cards and records ----------------------------------------------------------------------


def task_card() -> str:
    """Fields of a task card, described by the docstring of the class."""
    described = _attributes(TaskCard)
    rows = []
    for name, field in TaskCard.model_fields.items():
        default = "required" if field.is_required() else code(value_text(field.get_default()))
        kind = {"exemplars": "list of tables", "requirement": "table of float"}.get(name, type_text(field.annotation))
        rows.append([code(name), cell(kind), default, cell(described[name])])
    return table(["field", "type", "default", "meaning"], rows)


def _attributes(kind: type) -> dict[str, str]:
    """Texts of the section ``Attributes`` of a docstring in Google's form."""
    section = inspect.cleandoc(kind.__doc__ or "").partition("Attributes:\n")[2].partition("\n\n")[0]
    entries = re.split(r"\n(?=    \w+: )", "\n" + section)
    return {name: text for name, _, text in (entry.strip().partition(": ") for entry in entries if entry.strip())}


#: File of a run or training -> the record that it holds.
FILES: Mapping[str, type[records.Record]] = {
    "start.json": records.RunStart,
    "steps.jsonl": records.StepRecord,
    "summary.json": records.RunSummary,
    "episodes.jsonl": records.Episode,
    "training.json": records.TrainingSummary,
    "requirement.json": records.IdentificationRecord,
    "external.json": records.ExternalRecord,
    "external.json: evaluations": records.ExternalEvaluation,
    "external.json: results": records.ExternalResult,
}


def record_files() -> str:
    """Fields of the files of records."""
    parts = []
    for file, model in FILES.items():
        rows = []
        for name, field in model.model_fields.items():
            optional = name in model.optional
            nullable = type(None) in get_args(field.annotation)
            presence = "optional" if optional else "may be null" if nullable else "always"
            rows.append([code(field.alias or name), cell(_record_type(field)), presence])
        parts += [f"### `{file}`", markdown(inspect.cleandoc((model.__doc__ or "").partition("Example:")[0]))]
        parts.append(table(["field", "type", "presence"], rows))
    return "\n\n".join(parts)


def _record_type(field: FieldInfo) -> str:
    text = type_text(field.annotation).replace(" | none", "")
    return {"vector": "vector, (|C|,)", "table of StudentRequirement": "table of requirements"}.get(text, text)


def extras() -> str:
    """The extras of the package, with the comments of pyproject.toml."""
    section = (ROOT / "pyproject.toml").read_text(encoding="utf-8").partition("[project.optional-dependencies]\n")[2]
    found = re.findall(
        r"^([\w-]+) = \[(.*?)\](?:  # ([^\n]*))?$", section.partition("\n[")[0], re.MULTILINE | re.DOTALL
    )
    return table(
        ["extra", "packages", "for"],
        [
            [code(name), ", ".join(code(one) for one in re.findall(r'"([\w-]+)', packages)), cell(text)]
            for name, packages, text in found if packages
        ],
    )  # fmt: skip


#: Name in ``{generated} NAME`` -> its text.
PAGES: Mapping[str, Callable[[], str]] = {
    "configuration": configuration,
    "presets": presets,
    "commands": commands,
    "agents": agents,
    "agent-options": agent_options,
    "objectives": objectives,
    "environments": environments,
    **{f"environment {name}": functools.partial(environment, name) for name in envs.ENVIRONMENTS},
    **{f"names {kind}": functools.partial(names, kind) for kind in ("tasks", "students", "capabilities", "presets")},
    "task-card": task_card,
    **{f"capabilities {suite}": functools.partial(capabilities, suite) for suite in ("micro", "instruct")},
    "record-files": record_files,
    "measured-pages": measured_pages,
    **{f"api {package}": functools.partial(api, package) for package in PACKAGES},
    "extras": extras,
    "readme-start": readme_start,
    "readme ## Ten lines of Python": functools.partial(repository_file, "README.md", "## Ten lines of Python"),
    "changelog": functools.partial(repository_file, "CHANGELOG.md"),
    "security": functools.partial(repository_file, "SECURITY.md"),
    "contributing": functools.partial(repository_file, "CONTRIBUTING.md"),
    "path-of-a-token": functools.partial(repository_file, "CONTRIBUTING.md", "## The path of a token"),
}
