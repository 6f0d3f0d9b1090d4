"""Sizes of the held-out splits that fit the prompts of a user's files."""

from __future__ import annotations

import logging
from collections import Counter
from functools import lru_cache

from read_env.capabilities import get_suite, own_files
from read_env.capabilities.base import Split, split_of
from read_env.capabilities.from_jsonl import FileCapability
from read_env.config import Config, EvalConfig, load_preset, preset_names

_LOG = logging.getLogger(__name__)


def fit_splits(config: Config) -> Config:
    """Configuration whose ``eval.probes``, ``eval.dev`` and ``eval.exam`` fit the user's files, unless they were set.

    A size that differs from the preset's own is the user's and is kept: :func:`read_env.capabilities.stream.held_out` refuses
    it if the file is too small. A line of the log names the sizes that were lowered.

    Raises:
        ReadEnvError: a file of the suite can't be used.
    """
    if not own_files(config.suite):
        return config
    usual = load_preset(config.preset).eval if config.preset in preset_names() else EvalConfig()
    files = [capability for capability in get_suite(config.suite) if isinstance(capability, FileCapability)]
    sizes = {capability.name: Counter(split_of(prompt.text) for prompt in capability.prompts) for capability in files}
    lowered = {}
    fields: tuple[tuple[str, Split], ...] = (("probes", "probes"), ("dev", "dev"), ("exam", config.eval.exam_split))
    for field, split in fields:
        size = getattr(config.eval, field)
        least = min((counts[split] for counts in sizes.values()), default=size)
        if least < size == getattr(usual, field):
            lowered[field] = max(least, 1)
    if not lowered:
        return config
    sizes_now = ", ".join(f"eval.{field} = {size} (not {getattr(usual, field)})" for field, size in lowered.items())
    have = ", ".join(f"{counts.total()} of {name}" for name, counts in sizes.items())
    _say(f"{sizes_now}: as many as the prompts of your files give ({have})")
    return config.model_copy(update={"eval": config.eval.model_copy(update=lowered)})


@lru_cache(maxsize=64)
def _say(line: str) -> None:
    """Log a line once in a process."""
    _LOG.warning(line)
