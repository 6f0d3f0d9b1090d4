"""Names that the command line takes, with a line about each."""

from __future__ import annotations

#: Prompts per capability that are drawn to describe it.
_DRAWN = 400


def describe(kind: str, suite: str) -> list[tuple[str, str]]:
    """Names of a kind and a line about each.

    Args:
        kind: ``agents``, ``tasks``, ``students``, ``presets``, ``losses`` or ``capabilities``.
        suite: suite with the tasks and capabilities.

    >>> dict(describe("agents", "micro"))["task-static"]
    'Allocation equal to the requirement, w = r_τ'
    """
    rows = {
        "agents": _agents, "tasks": _tasks, "students": _students, "presets": _presets, "losses": _losses,
        "capabilities": _capabilities,
    }  # fmt: skip
    return rows[kind](suite)


def _agents(_: str) -> list[tuple[str, str]]:
    from read_env.agents.registry import BUILT_IN, GROUPS, agent_names
    from read_env.imports import import_attribute

    rows = []
    for group, agents in GROUPS.items():
        rows.append((f"{group}:", ""))
        for name, (where, options) in agents.items():
            given = "".join(f" ({option} = {value})" for option, value in options.items())
            rows.append((name, (import_attribute(where).__doc__ or "").partition("\n")[0].removesuffix(".") + given))
    others = [(name, "agent of another package") for name in agent_names() if name not in BUILT_IN]
    return [
        *rows,
        ("others:", ""),
        *others,
        ("module:Class", "custom agent"),
        ("PATH", "saved agent, or the directory of its training"),
    ]


def _tasks(suite_name: str) -> list[tuple[str, str]]:
    from read_env.capabilities import get_suite
    from read_env.tasks import load_task, task_names

    suite = get_suite(suite_name)
    rows = []
    for name in task_names(suite):
        card = load_task(name, suite)
        needs = ", ".join(f"{c} {weight:.2g}" for c, weight in card.requirement.items() if weight > 0)
        rows.append((name, f"{needs}; {card.utility_form}"))
    return [
        *rows,
        ("CAPABILITY", "task that needs this capability alone"),
        ("PATH.toml", "custom task card"),
        ("FILE.jsonl", "prompts with answers, on which the task is measured"),
    ]


def _students(suite_name: str) -> list[tuple[str, str]]:
    from read_env.capabilities import get_suite
    from read_env.distillation.starts import EVEN, JUDGING_STARTS, STARTS, TOKENS, parse_past

    names, rows = get_suite(suite_name).names, [(EVEN, "the student as it is loaded")]
    for name, shares in STARTS.items():
        if {part.partition("=")[0] for part in shares.split()} <= set(names):
            past = parse_past(name, names)
            given = ", ".join(f"{c} {share:.2f}" for c, share in past.shares.items()) if past else ""
            rows.append(
                (name, f"{TOKENS:,} tokens: {given}; for {'judging' if name in JUDGING_STARTS else 'training'}")
            )
    return [
        *rows,
        ("random:K", "shares drawn from the seed K"),
        ('"math=2 code=1@30000"', "shares and tokens of your own"),
    ]


def _presets(_: str) -> list[tuple[str, str]]:
    from importlib import resources

    from read_env.config import preset_names

    rows = []
    for name in preset_names():
        first = (
            (resources.files("read_env") / "presets" / f"{name}.toml").read_text(encoding="utf-8").partition("\n")[0]
        )
        rows.append((name, first.removeprefix("#").strip() if first.startswith("#") else ""))
    return [*rows, ("PATH.toml", "custom preset")]


def _losses(_: str) -> list[tuple[str, str]]:
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
        drawn = sum(t.drawn for t in report.templates.values())
        easy, medium, hard = (sum(t.tertiles[k] * t.drawn for t in report.templates.values()) / drawn for k in range(3))
        templates = ", ".join(f"{name} {t.distinct_share:.0%}" for name, t in report.templates.items())
        shares = f"easy {easy:.0%}, medium {medium:.0%}, hard {hard:.0%}"
        rows.append((capability.name, f"{shares}; distinct of each template: {templates}"))
    return [
        *rows,
        ("NAME=FILE.jsonl", "prompts of a file, after the name of a suite and a comma"),
        ("+NAME=FILE.jsonl", "prompts of a file, added to those of the suite"),
    ]
