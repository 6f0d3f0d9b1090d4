"""Sizes of the held-out splits that fit the prompts of a user's files."""

from __future__ import annotations

import logging
from collections import Counter
from functools import lru_cache

from read_env.capabilities import get_suite, own_files
from read_env.capabilities.base import Split, Suite
from read_env.capabilities.from_file import FileCapability
from read_env.config import Config, EvalConfig, extended_preset, load_preset, preset_names

_LOG = logging.getLogger(__name__)


def fit_splits(config: Config, suite: Suite | None = None) -> Config:
    """Configuration whose ``eval.probes``, ``eval.dev`` and ``eval.exam`` fit the user's files, unless they were set.

    A size that differs from those of the shipped preset, or of the one that the user's preset extends, is the user's and is kept:
    :func:`read_env.capabilities.stream.held_out` refuses it if the file is too small. A line of the log names the sizes that were
    lowered.

    Args:
        config: the configuration; returned as it is if its suite has no files.
        suite: its suite without the lines that can't be used. None: all lines.

    Raises:
        ReadEnvError: a file of the suite can't be used.
    """
    if not own_files(config.suite):
        return config
    usual = _usual_sizes(config.preset)
    every = get_suite(config.suite)
    given, sizes = _split_sizes(every), _split_sizes(suite or every)
    lowered = {}
    fields: tuple[tuple[str, Split], ...] = (("probes", "probes"), ("dev", "dev"), ("exam", config.eval.exam_split))
    for field, split in fields:
        size = getattr(config.eval, field)
        before, least = (min((counts[split] for counts in c.values()), default=size) for c in (given, sizes))
        # A size that all lines gave was not set either.
        if max(least, 1) < size and size in (getattr(usual, field), before):
            lowered[field] = max(least, 1)
    if not lowered:
        return config
    sizes_now = ", ".join(
        f"eval.{field} = {size} (not {getattr(config.eval, field)})" for field, size in lowered.items()
    )
    have = ", ".join(f"{counts.total()} of {name}" for name, counts in sizes.items())
    _say(f"{sizes_now}: as many as the prompts of your files give ({have})")
    return config.model_copy(update={"eval": config.eval.model_copy(update=lowered)})


def _usual_sizes(preset: str) -> EvalConfig:
    """Sizes that a user did not set: those of the shipped preset, or of the one that the user's own extends."""
    shipped = preset if preset in preset_names() else extended_preset(preset)
    return load_preset(shipped).eval if shipped else EvalConfig()


def _split_sizes(suite: Suite) -> dict[str, Counter[Split]]:
    files = (capability for capability in suite if isinstance(capability, FileCapability))
    return {file.name: Counter(file.split_of(prompt.text) for prompt in file.prompts) for file in files}


@lru_cache(maxsize=64)
def _say(line: str) -> None:
    """Log a line once in a process."""
    _LOG.warning(line)
