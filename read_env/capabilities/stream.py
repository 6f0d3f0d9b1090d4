"""Prompts by position: endless training streams and fixed held-out sets.

``stream(tertile)[n]`` is the n-th prompt of that tertile and does not depend on earlier allocations: two policies
under one seed see the same prompts of a capability in the same order, and share the teacher's cached answers.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache
from itertools import islice

from read_env.capabilities.base import BUCKETS, Capability, Prompt, Split, normalised_hash
from read_env.errors import ReadEnvError

#: Maximum share of a tertile's prompts from one template, so that no scaffold dominates.
_STREAM_TEMPLATE_SHARE = 0.6

#: Maximum share of a held-out set from one template, as a multiple of its equal share.
_TEMPLATE_CAP = 1.5
_DRAWS_PER_PROMPT = 400
#: Consecutive draws without a new prompt after which a capability counts as exhausted.
_DRAWS_IN_VAIN = 60_000


def training_draws(capability: Capability, seed: int) -> Iterator[Prompt]:
    """Iterate over all draws of a training stream, held-out prompts and repetitions included.

    Endless: a capability with a fixed set of prompts starts again in another order.

    Example:
        >>> from read_env.capabilities.micro import MICRO
        >>> next(training_draws(MICRO["math"], seed=0)).text
        '12+11+2'
    """
    rng = random.Random(f"stream/{capability.name}/{seed}")
    while True:
        yield from capability.draws(rng)


#: Prompts of a tertile that are kept behind the last ones read: a step that is undone reads them again.
_KEPT = 2_048

#: One in this many prompts of the stream belongs to the pasts of starting students.
_PASTS = 4


def in_past(text: str) -> bool:
    """True for the prompts of the stream that pasts of starting students are made of.

    >>> [in_past(f"What is 2+{n}?") for n in range(4)]
    [False, False, False, False]
    """
    return normalised_hash(text) // BUCKETS % _PASTS == 0


class PromptStream:
    """Training prompts of one capability under one seed: one sequence per tertile.

    Templates alternate; prompts of a held-out split are skipped. One seeded sequence of draws is divided among the
    tertiles, so reading one tertile never changes another. Prompts far behind the last ones read are dropped, and drawn
    again from the beginning when they are needed.

    Args:
        capability: source of the prompts.
        seed: seed of the stream.
        refused: normalised hashes of prompts that must not be trained on.
        past: True: only the prompts of pasts (:func:`in_past`); False: only the others; None: all.

    Example:
        >>> from read_env.capabilities.micro import MICRO
        >>> hard = PromptStream(MICRO["math"], seed=0).slice(tertile=2, start=0, stop=3)
        >>> [MICRO["math"].tertile(prompt.difficulty) for prompt in hard]
        [2, 2, 2]
    """

    def __init__(
        self, capability: Capability, seed: int, refused: frozenset[int] = frozenset(), past: bool | None = None
    ) -> None:
        self.past = past
        self.capability = capability
        self.seed = seed
        self.refused = refused
        self._begin()

    def _begin(self) -> None:
        self._draws = training_draws(self.capability, self.seed)
        self._tertiles: tuple[list[Prompt], ...] = ([], [], [])
        self._dropped = [0, 0, 0]
        self._used: tuple[Counter[str], ...] = (Counter(), Counter(), Counter())

    def slice(self, tertile: int, start: int, stop: int) -> tuple[Prompt, ...]:
        """Prompts ``start`` to ``stop - 1`` of a tertile (0 easy, 1 medium, 2 hard)."""
        if start < self._dropped[tertile]:
            self._begin()
        self._draw(tertile, stop)
        prompts, dropped = self._tertiles[tertile], self._dropped[tertile]
        found = tuple(prompts[start - dropped : stop - dropped])
        if (surplus := start - dropped - _KEPT) >= _KEPT:
            del prompts[:surplus]
            self._dropped[tertile] += surplus
        return found

    def _draw(self, tertile: int, count: int) -> None:
        """Draw until a tertile has had that many prompts."""
        prompts, in_vain = self._tertiles[tertile], 0
        while self._dropped[tertile] + len(prompts) < count:
            before, prompt = len(prompts), next(self._draws)
            if self.capability.split_of(prompt.text) == "stream" and not self._is_refused(prompt):
                self._admit(prompt)
            in_vain = 0 if len(prompts) > before else in_vain + 1
            if in_vain > _DRAWS_IN_VAIN:
                raise ReadEnvError(
                    f"{self.capability.name} has no {('easy', 'medium', 'hard')[tertile]} training prompts beside those of "
                    "the held-out splits, of the task itself and of the files in `decontamination_files`; add prompts, or take some out "
                    "of these. A file can't be both a capability and a task"
                )

    def _is_refused(self, prompt: Prompt) -> bool:
        if self.past is not None and in_past(prompt.text) != self.past:
            return True
        return bool(self.refused) and normalised_hash(prompt.text) in self.refused

    def _admit(self, prompt: Prompt) -> None:
        tertile = self.capability.tertile(prompt.difficulty)
        used = self._used[tertile]
        if self.capability.finite or used[prompt.template] <= _STREAM_TEMPLATE_SHARE * (used.total() + 1):
            used[prompt.template] += 1
            self._tertiles[tertile].append(prompt)


@lru_cache(maxsize=256)
def held_out(capability: Capability, split: Split, count: int, seed: int = 0) -> tuple[Prompt, ...]:
    """Fixed set of ``count`` distinct prompts of one held-out split, with equal parts of each tertile where possible.

    Args:
        capability: source of the prompts.
        split: ``"probes"``, ``"dev"`` or ``"exam"``.
        count: number of prompts.
        seed: seed of the selection.

    Raises:
        ReadEnvError: the capability has too few prompts.
        ValueError: ``split`` is the training stream.

    Example:
        >>> from read_env.capabilities.micro import MICRO
        >>> {MICRO["math"].split_of(prompt.text) for prompt in held_out(MICRO["math"], "exam", count=12)}
        {'exam'}
    """
    if split == "stream":
        raise ValueError("split must be 'probes', 'dev' or 'exam', got 'stream': streams have no fixed size")
    rng = random.Random(f"{split}/{capability.name}/{seed}")
    templates = capability.templates
    # At least an equal share, rounded up: else small sets could not be filled.
    template_cap = max(-(-count // len(templates)), int(_TEMPLATE_CAP * count / len(templates)))
    prompts: dict[str, Prompt] = {}
    tertiles: Counter[int] = Counter()
    used: Counter[str] = Counter()
    found_at = 0
    limit = None if capability.finite else int(_DRAWS_PER_PROMPT * count)
    for i, prompt in enumerate(islice(capability.draws(rng), limit)):
        if len(prompts) == count or i - found_at > _DRAWS_IN_VAIN:
            break
        tertile = capability.tertile(prompt.difficulty)
        if capability.split_of(prompt.text) != split or prompt.text in prompts:
            continue
        balanced = tertiles[tertile] < -(-count // 3) and used[prompt.template] < template_cap
        if capability.finite or balanced:
            prompts[prompt.text] = prompt
            tertiles[tertile] += 1
            used[prompt.template] += 1
            found_at = i
    if len(prompts) == count:
        return tuple(prompts.values())
    field = "eval.dev (or eval.exam, where eval.exam_split is 'dev')" if split == "dev" else f"eval.{split}"
    if capability.finite:
        lines = sum(1 for _ in capability.draws(rng))
        lower = f"set it to at most {len(prompts)}, or " if prompts else ""
        raise ReadEnvError(
            f"{field} is {count}, but of the {lines} prompts in the file of {capability.name}, {len(prompts)} fall into the {split} "
            f"split ({capability.shares[split]} of 32); {lower}add lines (about {-(-count * 32 // capability.shares[split])} are needed)"
        )
    raise ReadEnvError(
        f"{field} is {count}, but {capability.name} has only {len(prompts)} distinct prompts in its {split} split; "
        "lower it or give the templates more slots"
    )
