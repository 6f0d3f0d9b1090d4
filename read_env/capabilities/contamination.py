"""Overlap between training prompts and evaluation files, by normalised hash."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from read_env.capabilities.base import Capability, Prompt, Suite, normalised_hash, split_of
from read_env.capabilities.rows import prompt_and_completion, text_lines
from read_env.capabilities.sources import read_rows
from read_env.capabilities.stream import training_draws


@dataclass(frozen=True)
class Overlap:
    """An evaluation prompt that is a training prompt too.

    Attributes:
        line: number of the line, from 1.
        text: the evaluation prompt.
        capability: capability whose training stream contains it.
        seed: seed of the first of the given streams that contains it.
    """

    line: int
    text: str
    capability: str
    seed: int


def evaluation_hashes(paths: Sequence[str | Path]) -> frozenset[int]:
    """Normalised hashes of all prompts in evaluation files; training streams exclude them.

    Raises:
        ReadEnvError: no such file, or a line that is malformed.
    """
    return frozenset(normalised_hash(text) for path in paths for _, text in _prompts(path))


def overlaps(suite: Suite, path: str | Path, draws: int = 20_000, seeds: Sequence[int] = (0,)) -> list[Overlap]:
    """Find the lines of an evaluation file that occur in a suite's training streams.

    Args:
        suite: suite whose training streams are searched.
        path: ``.txt``: every line is a prompt. Anything else: see :mod:`read_env.capabilities.sources`; the prompt is in the
            field ``prompt``, ``question``, ``messages`` or ``conversations``. Blank lines are skipped.
        draws: number of draws of each stream that are searched; a fixed set of prompts is searched completely.
        seeds: of the streams.

    Returns:
        One entry for each colliding line, capability and text, by line.

    Raises:
        ReadEnvError: no such file, or a line that is malformed (file, line and value are named).
        ValueError: ``draws`` is not positive or there is no seed.
    """
    if draws < 1 or not seeds:
        raise ValueError(f"draws must be at least 1 and seeds not empty, got draws = {draws}, seeds = {list(seeds)}")
    wanted: dict[int, list[tuple[int, str]]] = {}
    for line, text in _prompts(path):
        # A prompt that hashes into a held-out split is in no training stream.
        if split_of(text) == "stream":
            wanted.setdefault(normalised_hash(text), []).append((line, text))
    found: dict[tuple[int, str], Overlap] = {}
    for capability in suite if wanted else ():
        for seed in seeds:
            for prompt in _drawn(capability, seed, draws):
                for line, text in wanted.get(normalised_hash(prompt.text), ()):
                    found.setdefault((line, capability.name), Overlap(line, text, capability.name, seed))
    return [found[key] for key in sorted(found)]


def _drawn(capability: Capability, seed: int, draws: int) -> Iterator[Prompt]:
    if capability.finite:  # one pass covers every prompt
        return capability.draws(random.Random(seed))
    return islice(training_draws(capability, seed), draws)


def _prompts(source: str | Path) -> Iterator[tuple[int, str]]:
    if Path(source).suffix == ".txt":
        return text_lines(Path(os.path.expanduser(source)))
    return ((number, prompt_and_completion(row, where)[0]) for where, number, row in read_rows(source))
