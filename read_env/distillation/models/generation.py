"""Generation configuration of a student as it is saved."""

from __future__ import annotations

import copy
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import GenerationConfig

#: Settings that decide which others are valid.
_MODES = ("do_sample", "num_beams", "return_dict_in_generate")


def valid_generation(config: GenerationConfig) -> GenerationConfig:
    """Generation configuration without the settings that contradict others; itself if none does.

    Many published files set a temperature without ``do_sample``. ``generate`` ignores such a setting, but most versions of
    transformers refuse to save it.

    Example:
        >>> from transformers import GenerationConfig
        >>> valid = valid_generation(GenerationConfig(temperature=0.6, eos_token_id=[2, 3]))
        >>> valid.temperature == GenerationConfig().temperature, valid.eos_token_id
        (True, [2, 3])
    """
    if _is_valid(config):
        return config
    valid = type(config)()
    for name, value in sorted(vars(config).items(), key=lambda setting: setting[0] not in _MODES):
        changed = copy.copy(valid)
        setattr(changed, name, value)
        if _is_valid(changed):
            valid = changed
    return valid


def _is_valid(config: GenerationConfig) -> bool:
    with suppress(ValueError):
        config.validate(strict=True)
        return True
    return False
