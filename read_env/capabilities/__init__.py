"""Capabilities: what a student can be good at. One suite is one ordered set of them."""

from functools import lru_cache

from read_env.capabilities.base import Capability, Prompt, Suite, split_of
from read_env.errors import ReadEnvError, unknown

__all__ = ["Capability", "Prompt", "Suite", "get_suite", "own_files", "split_of", "suite_names"]


def suite_names() -> tuple[str, ...]:
    """Names that :func:`get_suite` knows."""
    return ("micro", "instruct")


@lru_cache(maxsize=16)
def get_suite(name: str) -> Suite:
    """The suite of that name, with capabilities from files of the user's own if it names any.

    Args:
        name: ``NAME``, or ``NAME,capability=FILE.jsonl,…``, or files alone. A capability that the
            named suite has is replaced in its place, others come after it; see ``capability_from_jsonl``.

    Raises:
        ReadEnvError: if there is no suite of that name (the message lists the known ones), or a file
            can't be used.
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


def _named(name: str) -> tuple[Capability, ...]:
    if name == "micro":
        from read_env.capabilities.micro import MICRO

        return MICRO.capabilities
    if name == "instruct":
        from read_env.capabilities.instruct import INSTRUCT

        return INSTRUCT.capabilities
    if "=" in name:
        return ()
    raise unknown("suite", name, suite_names())
