"""Capabilities: what a student can be good at. One suite is one ordered set of them."""

from functools import lru_cache

from read_env.capabilities.base import Capability, Prompt, Suite, split_of
from read_env.errors import ReadEnvError, unknown

__all__ = ["Capability", "Prompt", "Suite", "get_suite", "own_files", "split_of", "suite_names", "task_package"]

#: Math and reasoning get the tasks of an optional package. Only the name brings them in, never what is installed.
_WITH_TASKS = "instruct+reasoning-gym"


def suite_names() -> tuple[str, ...]:
    """Names that :func:`get_suite` knows."""
    return ("micro", "instruct", _WITH_TASKS)


@lru_cache(maxsize=16)
def get_suite(name: str) -> Suite:
    """The suite of that name, with capabilities from files of the user's own if it names any.

    Args:
        name: ``NAME``, or ``NAME,capability=FILE.jsonl,…``, or files alone. A capability that the
            named suite has is replaced in its place, others come after it; see ``capability_from_jsonl``.

    Raises:
        ReadEnvError: if there is no suite of that name (the message lists the known ones), a package that
            the suite takes prompts from is not installed, or a file can't be used.
    """
    capabilities = {capability.name: capability for capability in _named(name.partition(",")[0])}
    files = own_files(name)
    if files:
        from read_env.capabilities.from_jsonl import capability_from_jsonl

        capabilities |= {own: capability_from_jsonl(path, own) for own, path in files.items()}
    return Suite(name, tuple(capabilities.values()))


def own_files(name: str) -> dict[str, str]:
    """Capability -> file, of those that a suite's name brings along.

    Raises:
        ReadEnvError: a part that isn't ``capability=FILE``.
    """
    first, *rest = name.split(",")
    files = {}
    for part in [first, *rest] if "=" in first else rest:
        own, equals, path = part.partition("=")
        if not own.strip() or not equals or not path.strip():
            raise ReadEnvError(f"suite {name!r}: {part!r} should read capability=FILE.jsonl")
        files[own.strip()] = path.strip()
    return files


def task_package(name: str) -> str:
    """The version of the package that a suite takes prompts from; empty for a suite that takes none."""
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
