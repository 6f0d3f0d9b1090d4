"""Prompts of a task itself, on which its utility is measured; no student is trained on them.

The hash of a prompt assigns it to *exemplars* (shown on the card), *probes*, *dev* or *exam*. Training streams refuse all of them.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import ClassVar

from read_env.capabilities.base import BUCKETS, SPLITS, Capability, Prompt, Split, normalised_hash
from read_env.capabilities.from_file import FileCapability, listed, prompts_from
from read_env.capabilities.sources import source_digest, source_version
from read_env.capabilities.stream import held_out
from read_env.errors import ReadEnvError, unknown
from read_env.tasks.graders import CASES, check_grader, get_grader

#: Prefix of prompts that ship with the package.
EMBEDDED = "embedded:"
#: Fewest prompts in each held-out split of a task.
FEWEST = 8


@dataclass(frozen=True)
class TaskPrompts(FileCapability):
    """Prompts of a task from a file or a data set.

    Attributes:
        grader: name of the grader, as on the card.
    """

    grader: str = "answer"
    #: The other 4 of 32 are for exemplars.
    shares: ClassVar = {"probes": 10, "dev": 6, "exam": 12}

    @cached_property
    def graded(self) -> bool:
        """True if every prompt has an answer, or cases, to compare with."""
        return self.grader == "code" or super().graded


def prompts_of(name: str, source: str, grader: str = "answer") -> Capability:
    """Prompts of a task.

    Args:
        name: of the task.
        source: see :mod:`read_env.capabilities.sources`; or ``embedded:micro/NAME``.
        grader: see :mod:`read_env.tasks.graders`.

    Raises:
        ReadEnvError: the source can't be read; a row without answer; one answer for all rows; a grader that fails or
            refuses a reference; too few prompts to split.

    >>> from read_env.capabilities.stream import held_out
    >>> held_out(prompts_of("bill", "embedded:micro/bill_abroad"), "probes", 1)[0].reference
    'lime=9 bag=3 9+3=12 so zwolf'
    """
    if source.startswith(EMBEDDED):
        return _embedded(source)
    return _from_source(name, source, grader, source_version(source))


def prompts_digest(source: str) -> str:
    """Digest of the content of a task's prompts; empty for those of the package."""
    return "" if source.startswith(EMBEDDED) else source_digest(source)


def check_fitting(prompts: Capability, given: Capability) -> None:
    """Raise if too few prompts of a task are short enough for the models.

    Args:
        prompts: those that are.
        given: all of them.
    """
    if not isinstance(prompts, TaskPrompts) or not isinstance(given, TaskPrompts) or prompts is given:
        return
    if (least := _fewest_of(_counts(prompts))) < FEWEST:
        raise ReadEnvError(
            f"task {given.name!r}: of its {len(given.prompts)} prompts, {len(prompts.prompts)} are short enough for teacher and student, "
            f"which leaves a split with {least}; probes, dev and exam need at least {FEWEST} each. Right would be shorter prompts, or "
            "models that read longer ones"
        )


def sizes_of(prompts: Capability, wanted: dict[Split, int]) -> dict[Split, int]:
    """Sizes of a task's held-out sets: those wanted, or as many as there are."""
    if not isinstance(prompts, TaskPrompts):
        return {split: _drawable(prompts, split, size) for split, size in wanted.items()}
    there = _counts(prompts)
    return {split: min(size, there[split]) for split, size in wanted.items()}


@lru_cache(maxsize=64)
def _drawable(prompts: Capability, split: Split, size: int) -> int:
    """Size of a held-out set of generated prompts: ``size``, or the largest multiple of 16 below that can be drawn."""
    while True:
        try:
            held_out(prompts, split, size)
        except ReadEnvError:
            if size <= 16:
                raise
            size = (size - 1) // 16 * 16
        else:
            return size


def hashes_of(prompts: Capability, sizes: dict[Split, int]) -> frozenset[int]:
    """Normalised hashes of the prompts that no student may be trained on.

    Args:
        prompts: those of a task.
        sizes: of the held-out sets, for prompts that are generated.
    """
    if isinstance(prompts, TaskPrompts):
        return frozenset(normalised_hash(prompt.text) for prompt in prompts.prompts)
    return frozenset(normalised_hash(p.text) for split, size in sizes.items() for p in held_out(prompts, split, size))


def exemplars_of(prompts: Capability, count: int = 3) -> list[Prompt]:
    """Prompts for the card, which are in no held-out split."""
    draws = prompts.draws(random.Random(f"exemplars/{prompts.name}"))
    found: dict[str, Prompt] = {}
    for prompt in draws:
        if prompts.split_of(prompt.text) == "stream":
            found[prompt.text] = prompt
        if len(found) == count:
            break
    return list(found.values())


def _embedded(source: str) -> Capability:
    from read_env.capabilities.micro.composites import COMPOSITES

    known = {f"{EMBEDDED}micro/{name}": capability for name, capability in COMPOSITES.items()}
    if source not in known:
        raise unknown("prompts of a task", source, known)
    return known[source]


@lru_cache(maxsize=32)
def _from_source(name: str, source: str, grader: str, version: object) -> TaskPrompts:
    prompts = prompts_from(source, name, kept=(CASES,))
    answers = {(prompt.check["answers"] or [prompt.reference])[0] for prompt in prompts}
    bare = next((prompt for prompt in prompts if not prompt.reference), None)
    if bare is not None:
        raise ReadEnvError(
            f"{source}: no answers (the first prompt is {bare.text[:60]!r}); a task is measured on prompts with an 'answer' or "
            "a 'completion' in every row"
        )
    if prompts and len(answers) == 1:
        raise ReadEnvError(
            f"{source}: all {len(prompts)} rows have the answer {next(iter(answers))[:60]!r}, which needs no ability; right "
            "would be rows with different answers"
        )
    found = TaskPrompts(name, (listed(source, prompts),), "Answer:", get_grader(grader), prompts, grader)
    counts = _counts(found)
    if (least := _fewest_of(counts)) < FEWEST:
        shown = ", ".join(f"{counts[split]} {_NAMES[split]}" for split in SPLITS)
        enough = -(-FEWEST * BUCKETS // min(TaskPrompts.shares.values()))
        raise ReadEnvError(
            f"{source}: its {len(prompts)} different prompts are too few to split: {shown}, by their hash; probes, dev and exam "
            f"need at least {FEWEST} each, which about {enough + 2 * (FEWEST - least)} prompts give"
        )
    # Completions without a short final answer have no grader: their likelihood is measured.
    if grader != "answer" or found.graded:
        for prompt in prompts:
            check_grader(grader, prompt)
    return found


def _counts(prompts: TaskPrompts) -> Counter[Split]:
    """Number of prompts in each split."""
    return Counter(prompts.split_of(prompt.text) for prompt in prompts.prompts)


def _fewest_of(counts: Counter[Split]) -> int:
    """Number of prompts in the smallest held-out split."""
    return min(counts[split] for split in SPLITS if split != "stream")


_NAMES: dict[Split, str] = {"stream": "exemplars", "probes": "probes", "dev": "dev", "exam": "exam"}
