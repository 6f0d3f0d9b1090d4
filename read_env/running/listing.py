"""Names that the command line takes, with a line about each."""

from __future__ import annotations

import ast
from importlib.util import find_spec
from pathlib import Path

#: Prompts per capability that are drawn to describe it.
_DRAWN = 400


def describe(kind: str, suite: str) -> list[tuple[str, str]]:
    """Names of a kind and a line about each.

    Args:
        kind: ``agents``, ``tasks``, ``presets``, ``losses`` or ``capabilities``.
        suite: suite with the tasks and capabilities.

    >>> dict(describe("agents", "micro"))["task-static"]
    'Allocation equal to the requirement, w = r_τ'
    """
    return {
        "agents": lambda: _agents(),
        "tasks": lambda: _tasks(suite),
        "presets": lambda: _presets(),
        "losses": lambda: _losses(),
        "capabilities": lambda: _capabilities(suite),
    }[kind]()


def _agents() -> list[tuple[str, str]]:
    from read_env.agents.registry import BUILT_IN, agent_names

    rows = []
    for name in agent_names():
        where, options = BUILT_IN.get(name, ("", {}))
        given = "".join(f" ({option} = {value})" for option, value in options.items())
        rows.append((name, _class_line(where).removesuffix(".") + given if where else "agent of another package"))
    return [*rows, ("module:Class", "custom agent"), ("PATH", "saved agent, or the directory of its training")]


def _tasks(suite_name: str) -> list[tuple[str, str]]:
    from read_env.capabilities import get_suite
    from read_env.tasks import load_task, task_names

    suite = get_suite(suite_name)
    rows = []
    for name in task_names(suite):
        card = load_task(name, suite)
        needs = ", ".join(f"{c} {weight:.2g}" for c, weight in card.requirement.items() if weight > 0)
        rows.append((name, f"{needs}; {card.utility_form}"))
    return [*rows, ("CAPABILITY", "task that needs this capability alone"), ("PATH.toml", "custom task card")]


def _presets() -> list[tuple[str, str]]:
    from importlib import resources

    from read_env.config import preset_names

    rows = []
    for name in preset_names():
        first = (resources.files("read_env") / "presets" / f"{name}.toml").read_text().partition("\n")[0]
        rows.append((name, first.removeprefix("#").strip() if first.startswith("#") else ""))
    return [*rows, ("PATH.toml", "custom preset")]


def _losses() -> list[tuple[str, str]]:
    from read_env.losses import OBJECTIVES

    return [(name, objective.summary) for name, objective in OBJECTIVES.items()]


def _capabilities(suite_name: str) -> list[tuple[str, str]]:
    """Difficulty and variety of a few hundred prompts of each capability."""
    from read_env.capabilities import get_suite
    from read_env.capabilities.diversity import diversity

    suite = get_suite(suite_name)
    rows = []
    for capability in suite:
        report = diversity(capability, _DRAWN)
        easy, medium, hard = (
            sum(t.tertiles[k] * t.drawn for t in report.templates.values())
            / sum(t.drawn for t in report.templates.values())
            for k in range(3)
        )
        templates = ", ".join(f"{name} {t.distinct_share:.0%}" for name, t in report.templates.items())
        rows.append(
            (
                capability.name,
                f"easy {easy:.0%}, medium {medium:.0%}, hard {hard:.0%}; distinct of each template: {templates}",
            )
        )
    return [
        *rows,
        ("NAME=FILE.jsonl", "prompts of a file, after the name of a suite and a comma"),
        ("+NAME=FILE.jsonl", "prompts of a file, added to those of the suite"),
    ]


def _class_line(where: str) -> str:
    """First line of a class's docstring, read from its file, since importing it may load torch."""
    module, _, name = where.partition(":")
    spec = find_spec(module)
    if spec is None or spec.origin is None:
        return ""
    tree = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
    found = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name]
    return (ast.get_docstring(found[0]) or "").partition("\n")[0] if found else ""
