"""Capabilities: what a student can be good at. One suite is one ordered set of them."""

from read_env.capabilities.base import Capability, Prompt, Suite, split_of
from read_env.errors import unknown

__all__ = ["Capability", "Prompt", "Suite", "get_suite", "split_of", "suite_names"]


def suite_names() -> tuple[str, ...]:
    """Names that :func:`get_suite` knows."""
    return ("micro", "instruct")


def get_suite(name: str) -> Suite:
    """The suite of that name.

    Raises:
        ReadEnvError: if there is none; the message lists the known ones.
    """
    if name == "micro":
        from read_env.capabilities.micro import MICRO

        return MICRO
    if name == "instruct":
        from read_env.capabilities.instruct import INSTRUCT

        return INSTRUCT
    raise unknown("suite", name, suite_names())
