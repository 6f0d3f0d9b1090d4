"""Validation of agents' options by pydantic, with errors of one line."""

from collections.abc import Collection, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from read_env.config import describe
from read_env.errors import ReadEnvError, unknown

Model = TypeVar("Model", bound=BaseModel)


def check_names(agent: str, options: Mapping[str, Any], known: Collection[str]) -> None:
    """Raise for an option that is not among the known ones."""
    for name, value in options.items():
        if name not in known:
            raise ReadEnvError(f"agent {agent!r} with {name!r} = {value!r}: {unknown('option', str(name), known)}")


def validate(agent: str, settings: type[Model], options: Mapping[str, Any]) -> Model:
    """Settings of an agent from its options.

    Raises:
        ReadEnvError: an option that is unknown or out of range, with its value.

    Example:
        >>> from read_env.agents.static import OneHotSettings
        >>> validate("one-hot", OneHotSettings, {"capability": "math"})
        OneHotSettings(floor=0.0, stop_at=1.0, capability='math')
    """
    if settings.model_config.get("extra") != "allow":
        check_names(agent, options, settings.model_fields)
    try:
        return settings.model_validate(dict(options))
    except ValidationError as error:
        raise ReadEnvError(describe(error, f"agent {agent!r}, option")) from error
