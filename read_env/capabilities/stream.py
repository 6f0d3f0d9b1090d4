"""Prompts by position: endless training streams and fixed held-out sets.

``stream(tertile)[n]`` is the n-th prompt of that tertile whatever any policy did before, so two
policies under one seed see the same prompts of a capability in the same order, and what the
teacher answered once is found again.
"""

from __future__ import annotations

import random
from collections import Counter
from functools import lru_cache

from read_env.capabilities.base import Capability, Prompt, Split, split_of
from read_env.errors import ReadEnvError

#: Share of a tertile's prompts that one template may fill: no scaffold dominates.
_STREAM_TEMPLATE_SHARE = 0.6

#: Share of a held-out set that one template may fill, as a multiple of its equal share.
_TEMPLATE_CAP = 1.5
_DRAWS_PER_PROMPT = 400
#: Draws without a new prompt after which a capability has no more of them.
_DRAWS_IN_VAIN = 60_000


class PromptStream:
    """The training prompts of one capability under one seed, a sequence for each tertile.

    Templates take turns; prompts that belong to a held-out split are skipped. The draws are one
    seeded sequence, dealt out to the three tertiles, so reading one tertile never changes another.

    Args:
        capability: where the prompts come from.
        seed: streams of different seeds are different.
    """

    def __init__(self, capability: Capability, seed: int) -> None:
        self.capability = capability
        self.seed = seed
        self._rng = random.Random(f"stream/{capability.name}/{seed}")
        self._drawn = 0
        self._tertiles: tuple[list[Prompt], ...] = ([], [], [])
        self._used: tuple[Counter[str], ...] = (Counter(), Counter(), Counter())

    def slice(self, tertile: int, start: int, stop: int) -> tuple[Prompt, ...]:
        """Prompts ``start`` to ``stop - 1`` of a tertile (0 easy, 1 medium, 2 hard)."""
        prompts = self._tertiles[tertile]
        while len(prompts) < stop:
            templates = self.capability.templates
            prompt = self.capability.draw(templates[self._drawn % len(templates)], self._rng)
            self._drawn += 1
            if split_of(prompt.text) == "stream":
                self._admit(prompt)
        return tuple(prompts[start:stop])

    def _admit(self, prompt: Prompt) -> None:
        tertile = self.capability.tertile(prompt.difficulty)
        used = self._used[tertile]
        if used[prompt.template] <= _STREAM_TEMPLATE_SHARE * (used.total() + 1):
            used[prompt.template] += 1
            self._tertiles[tertile].append(prompt)


@lru_cache(maxsize=256)
def held_out(capability: Capability, split: Split, count: int, seed: int = 0) -> tuple[Prompt, ...]:
    """A fixed set of ``count`` distinct prompts of one held-out split, tertiles in equal parts.

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
    for i in range(int(_DRAWS_PER_PROMPT * count)):
        if len(prompts) == count or i - found_at > _DRAWS_IN_VAIN:
            break
        prompt = capability.draw(templates[i % len(templates)], rng)
        tertile = capability.tertile(prompt.difficulty)
        if split_of(prompt.text) != split or prompt.text in prompts:
            continue
        if tertiles[tertile] < -(-count // 3) and used[prompt.template] < template_cap:
            prompts[prompt.text] = prompt
            tertiles[tertile] += 1
            used[prompt.template] += 1
            found_at = i
    if len(prompts) == count:
        return tuple(prompts.values())
    field = "measure.dev (or measure.exam, where measure.exam_split is 'dev')" if split == "dev" else f"measure.{split}"
    raise ReadEnvError(
        f"{field} is {count}, but {capability.name} has only {len(prompts)} distinct prompts in its {split} split; "
        "lower it or give the templates more slots"
    )
