"""Capabilities of a student, grouped in suites: prompts, verifiers, held-out splits."""

import os
from functools import lru_cache

from read_env.capabilities.base import Capability, Prompt, Suite, split_of
from read_env.capabilities.sources import source_version
from read_env.errors import ReadEnvError, unknown

__all__ = ["Capability", "Prompt", "Suite", "get_suite", "own_files", "split_of", "suite_names", "task_package"]

#: Suite whose math and reasoning also take prompts from the package reasoning-gym; chosen by name, installed or not.
_WITH_TASKS = "instruct+reasoning-gym"


def suite_names() -> tuple[str, ...]:
    """Names of the suites that ship with the package.

    >>> suite_names()
    ('micro', 'instruct', 'instruct+reasoning-gym')
    """
    return ("micro", "instruct", _WITH_TASKS)


def get_suite(name: str) -> Suite:
    """Suite of that name, with prompts from the user's own files if the name lists any.

    Args:
        name: ``NAME``, or ``NAME,capability=FILE.jsonl,…``, or files alone. A capability that the
            named suite has is replaced in its place, others come after it; with ``+capability=FILE.jsonl``
            the suite's own prompts are kept and those of the file are added. For other formats and data sets in place
            of ``FILE.jsonl`` see :mod:`read_env.capabilities.sources`.

    Raises:
        ReadEnvError: if there is no suite of that name (the message lists the known ones), a package that
            the suite takes prompts from is not installed, or a file can't be used.

    >>> print(*get_suite("micro").names)
    general_knowledge steerability reasoning math code tool_use long_context multilingual sums prices
    """
    return _suite(name, tuple(map(source_version, own_files(name).values())))


@lru_cache(maxsize=16)
def _suite(name: str, versions: tuple[object, ...]) -> Suite:
    """Cached suite; a changed file has another version and is read again."""
    capabilities = {capability.name: capability for capability in _named(name.partition(",")[0])}
    files = own_files(name)
    if files:
        from read_env.capabilities.from_file import capability_from_file, extended_by_file
    for part, path in files.items():
        own = part.removeprefix("+").strip()
        if own == part:
            capabilities[own] = capability_from_file(path, own)
        elif own in capabilities and not capabilities[own].finite:
            capabilities[own] = extended_by_file(capabilities[own], path)
        else:
            generated = ", ".join(c.name for c in capabilities.values() if not c.finite) or "none"
            raise ReadEnvError(
                f"suite {name!r}: '{part}={path}' adds to prompts that the suite makes, but it makes none for {own!r} "
                f"(it does for: {generated}); write '{own}={path}' for a capability of its own"
            )
    return Suite(name, tuple(capabilities.values()))


def own_files(name: str) -> dict[str, str]:
    """Sources listed in a suite's name, by capability; the key is ``+capability`` where the suite's prompts are kept.

    Raises:
        ReadEnvError: a part that isn't ``capability=FILE``.

    >>> own_files("micro,totals=totals.jsonl")
    {'totals': 'totals.jsonl'}
    """
    first, *rest = name.split(",")
    files = {}
    for part in [first, *rest] if "=" in first else rest:
        own, equals, path = part.partition("=")
        if not own.strip(" +") or not equals or not path.strip():
            raise ReadEnvError(f"suite {name!r}: {part!r} should read capability=FILE.jsonl")
        files[own.strip()] = os.path.expanduser(path.strip())
    return files


def task_package(name: str) -> str:
    """Name and version of the package that a suite takes prompts from; empty for none.

    >>> task_package("micro")
    ''
    """
    if name.partition(",")[0] != _WITH_TASKS:
        return ""
    from read_env.capabilities.instruct.gym_tasks import version

    return f"reasoning-gym {version()}"


def _named(name: str) -> tuple[Capability, ...]:
    if name == "micro":
        from read_env.capabilities.micro import MICRO

        return MICRO.capabilities
    if name == "instruct":
        from read_env.capabilities.instruct import INSTRUCT

        return INSTRUCT.capabilities
    if name == _WITH_TASKS:
        from read_env.capabilities.instruct import INSTRUCT
        from read_env.capabilities.instruct.gym_tasks import extended

        return extended(INSTRUCT).capabilities
    if "=" in name:
        return ()
    raise unknown("suite", name, suite_names())
