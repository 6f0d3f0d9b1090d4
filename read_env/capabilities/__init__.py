"""Capabilities: what a student can be good at. One suite is one ordered set of them."""

from functools import lru_cache
from pathlib import Path

from read_env.capabilities.base import Capability, Prompt, Suite, split_of
from read_env.errors import ReadEnvError, unknown

__all__ = ["Capability", "Prompt", "Suite", "get_suite", "own_files", "split_of", "suite_names", "task_package"]

#: Math and reasoning get the tasks of an optional package. Only the name brings them in, never what is installed.
_WITH_TASKS = "instruct+reasoning-gym"


def suite_names() -> tuple[str, ...]:
    """Names that :func:`get_suite` knows."""
    return ("micro", "instruct", _WITH_TASKS)


def get_suite(name: str) -> Suite:
    """The suite of that name, with prompts from files of the user's own if it names any.

    Args:
        name: ``NAME``, or ``NAME,capability=FILE.jsonl,…``, or files alone. A capability that the
            named suite has is replaced in its place, others come after it; with ``+capability=FILE.jsonl``
            the suite's own prompts stay beside those of the file. See ``capability_from_jsonl``.

    Raises:
        ReadEnvError: if there is no suite of that name (the message lists the known ones), a package that
            the suite takes prompts from is not installed, or a file can't be used.
    """
    return _suite(name, tuple(map(_version, own_files(name).values())))


@lru_cache(maxsize=16)
def _suite(name: str, versions: tuple[tuple[str, int, int] | None, ...]) -> Suite:
    """The suite; a file that was changed has another version, and is read again."""
    capabilities = {capability.name: capability for capability in _named(name.partition(",")[0])}
    files = own_files(name)
    if files:
        from read_env.capabilities.from_jsonl import capability_from_jsonl, extended_by_jsonl
    for part, path in files.items():
        own = part.removeprefix("+").strip()
        if own == part:
            capabilities[own] = capability_from_jsonl(path, own)
        elif own in capabilities and not capabilities[own].finite:
            capabilities[own] = extended_by_jsonl(capabilities[own], path)
        else:
            generated = ", ".join(c.name for c in capabilities.values() if not c.finite) or "none"
            raise ReadEnvError(
                f"suite {name!r}: '{part}={path}' adds to prompts that the suite makes, but it makes none for {own!r} "
                f"(it does for: {generated}); write '{own}={path}' for a capability of its own"
            )
    return Suite(name, tuple(capabilities.values()))


def _version(path: str) -> tuple[str, int, int] | None:
    try:
        found = Path(path).stat()
    except OSError:  # whoever reads the file says what is wrong
        return None
    return str(Path(path).resolve()), found.st_size, found.st_mtime_ns


def own_files(name: str) -> dict[str, str]:
    """Capability -> file, of those that a suite's name brings along; ``+capability`` where the suite's prompts stay.

    Raises:
        ReadEnvError: a part that isn't ``capability=FILE``.
    """
    first, *rest = name.split(",")
    files = {}
    for part in [first, *rest] if "=" in first else rest:
        own, equals, path = part.partition("=")
        if not own.strip(" +") or not equals or not path.strip():
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
