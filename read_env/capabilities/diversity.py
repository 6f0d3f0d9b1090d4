"""How varied a capability's prompts are: distinct prompts, difficulty and length by template."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass
from itertools import islice

from read_env.capabilities.base import Capability, normalised_hash


@dataclass(frozen=True)
class TemplateDiversity:
    """What was drawn from one template.

    Attributes:
        drawn: prompts drawn.
        distinct: of those, how many differ by normalised hash.
        tertiles: share of the drawn prompts that is easy, medium, hard; they sum to 1.
        mean_length: characters of a prompt.
    """

    drawn: int
    distinct: int
    tertiles: tuple[float, float, float]
    mean_length: float

    @property
    def distinct_share(self) -> float:
        """Distinct prompts over drawn ones, in (0, 1]."""
        return self.distinct / self.drawn


@dataclass(frozen=True)
class DiversityReport:
    """What was drawn from a capability.

    Attributes:
        capability: its name.
        templates: by template name, in the order of the capability.
    """

    capability: str
    templates: dict[str, TemplateDiversity]

    @property
    def distinct_share(self) -> float:
        """Distinct prompts over drawn ones, all templates together, in (0, 1]."""
        return sum(t.distinct for t in self.templates.values()) / sum(t.drawn for t in self.templates.values())


def diversity(capability: Capability, prompts: int = 2000, seed: int = 0) -> DiversityReport:
    """Draws prompts from a capability, templates in turn, and counts.

    Args:
        capability: where the prompts come from.
        prompts: how many to draw; a capability with a fixed set of prompts may give fewer.
        seed: of the draws.

    Raises:
        ValueError: ``prompts`` is not positive.
    """
    if prompts < 1:
        raise ValueError(f"prompts must be at least 1, got {prompts}")
    rng = random.Random(f"diversity/{capability.name}/{seed}")
    hashes: dict[str, set[int]] = {}
    tertiles: dict[str, Counter[int]] = {}
    lengths: Counter[str] = Counter()
    for prompt in islice(capability.draws(rng), prompts):
        hashes.setdefault(prompt.template, set()).add(normalised_hash(prompt.text))
        tertiles.setdefault(prompt.template, Counter())[capability.tertile(prompt.difficulty)] += 1
        lengths[prompt.template] += len(prompt.text)
    report = {}
    for name, seen in hashes.items():
        drawn = tertiles[name].total()
        shares = (tertiles[name][0] / drawn, tertiles[name][1] / drawn, tertiles[name][2] / drawn)
        report[name] = TemplateDiversity(drawn, len(seen), shares, lengths[name] / drawn)
    return DiversityReport(capability.name, report)
