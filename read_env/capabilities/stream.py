"""Prompts by position: endless training streams and fixed held-out sets.

``stream(tertile)[n]`` is the n-th prompt of that tertile whatever any policy did before, so two
policies under one seed see the same prompts of a capability in the same order, and what the
teacher answered once is found again.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache
from itertools import islice

from read_env.capabilities.base import Capability, Prompt, Split, normalised_hash, split_of
from read_env.errors import ReadEnvError

#: Share of a tertile's prompts that one template may fill: no scaffold dominates.
_STREAM_TEMPLATE_SHARE = 0.6

#: Share of a held-out set that one template may fill, as a multiple of its equal share.
_TEMPLATE_CAP = 1.5
_DRAWS_PER_PROMPT = 400
#: Draws without a new prompt after which a capability has no more of them.
_DRAWS_IN_VAIN = 60_000


def training_draws(capability: Capability, seed: int) -> Iterator[Prompt]:
    """Every draw that a training stream of this seed looks at, held-out prompts and repetitions included.

    Without end: a capability whose prompts run out begins again, in another order.
    """
    rng = random.Random(f"stream/{capability.name}/{seed}")
    while True:
        yield from capability.draws(rng)


class PromptStream:
    """The training prompts of one capability under one seed, a sequence for each tertile.

    Templates take turns; prompts that belong to a held-out split are skipped. The draws are one
    seeded sequence, dealt out to the three tertiles, so reading one tertile never changes another.

    Args:
        capability: where the prompts come from.
        seed: streams of different seeds are different.
        refused: normalised hashes of prompts that must not be trained on.
    """

    def __init__(self, capability: Capability, seed: int, refused: frozenset[int] = frozenset()) -> None:
        self.capability = capability
        self.seed = seed
        self.refused = refused
        self._draws = training_draws(capability, seed)
        self._tertiles: tuple[list[Prompt], ...] = ([], [], [])
        self._used: tuple[Counter[str], ...] = (Counter(), Counter(), Counter())

    def slice(self, tertile: int, start: int, stop: int) -> tuple[Prompt, ...]:
        """Prompts ``start`` to ``stop - 1`` of a tertile (0 easy, 1 medium, 2 hard)."""
        prompts = self._tertiles[tertile]
        in_vain = 0
        while len(prompts) < stop:
            before, prompt = len(prompts), next(self._draws)
            if split_of(prompt.text) == "stream" and not self._is_refused(prompt):
                self._admit(prompt)
            in_vain = 0 if len(prompts) > before else in_vain + 1
            if in_vain > _DRAWS_IN_VAIN:
                raise ReadEnvError(
                    f"{self.capability.name} has no {('easy', 'medium', 'hard')[tertile]} training prompts beside those of "
                    "the held-out splits and of the files in `decontamination_files`; add prompts, or take some out of these files"
                )
        return tuple(prompts[start:stop])

    def _is_refused(self, prompt: Prompt) -> bool:
        return bool(self.refused) and normalised_hash(prompt.text) in self.refused

    def _admit(self, prompt: Prompt) -> None:
        tertile = self.capability.tertile(prompt.difficulty)
        used = self._used[tertile]
        if self.capability.finite or used[prompt.template] <= _STREAM_TEMPLATE_SHARE * (used.total() + 1):
            used[prompt.template] += 1
            self._tertiles[tertile].append(prompt)


@lru_cache(maxsize=256)
def held_out(capability: Capability, split: Split, count: int, seed: int = 0) -> tuple[Prompt, ...]:
    """A fixed set of ``count`` distinct prompts of one held-out split, tertiles in equal parts (unless they run out).

    Args:
        capability: where the prompts come from.
        split: ``"probes"``, ``"dev"`` or ``"exam"``.
        count: how many prompts.
        seed: which of many such sets.

    Raises:
        ReadEnvError: the capability has too few prompts.
        ValueError: ``split`` is the training stream.
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
        if split_of(prompt.text) != split or prompt.text in prompts:
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
    more = "add lines to its file" if capability.finite else "give the templates more slots"
    raise ReadEnvError(
        f"{field} is {count}, but {capability.name} has only {len(prompts)} distinct prompts in its {split} split; "
        f"lower it or {more}"
    )
