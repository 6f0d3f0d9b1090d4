"""Validation of agents' options by pydantic, with errors of one line."""

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from read_env.errors import ReadEnvError, unknown

Model = TypeVar("Model", bound=BaseModel)


def validate(agent: str, settings: type[Model], options: Mapping[str, Any]) -> Model:
    """Settings of an agent from its options.

    Raises:
        ReadEnvError: an option that is unknown or out of range, with its value and the allowed ones.
    """
    known = list(settings.model_fields)
    for name, value in options.items():
        if name not in settings.model_fields:
            if not known:
                raise ReadEnvError(f"agent {agent!r} has no options, but got {name!r} = {value!r}")
            problem = unknown("option", str(name), known)
            raise ReadEnvError(f"agent {agent!r} with {name!r} = {value!r}: {problem}")
    try:
        return settings.model_validate(dict(options))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "options"
        value = f" = {first['input']!r}" if first["loc"] else ""
        raise ReadEnvError(
            f"agent {agent!r}, option {where!r}{value}: {first['msg']}; its options are: {', '.join(known)}"
        ) from error
