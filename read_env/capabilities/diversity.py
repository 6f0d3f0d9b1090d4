"""Diversity of a capability's prompts: distinct prompts, difficulty and length by template."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass
from itertools import islice

from read_env.capabilities.base import Capability, normalised_hash


@dataclass(frozen=True)
class TemplateDiversity:
    """Statistics of the prompts drawn from one template.

    Attributes:
        drawn: prompts drawn.
        distinct: number of distinct ones, by normalised hash.
        tertiles: shares of easy, medium and hard prompts; they sum to 1.
        mean_length: mean characters per prompt.

    Example:
        >>> TemplateDiversity(drawn=4, distinct=3, tertiles=(0.5, 0.25, 0.25), mean_length=20.0).distinct_share
        0.75
    """

    drawn: int
    distinct: int
    tertiles: tuple[float, float, float]
    mean_length: float

    @property
    def distinct_share(self) -> float:
        """Share of distinct prompts, in (0, 1]."""
        return self.distinct / self.drawn


@dataclass(frozen=True)
class DiversityReport:
    """Statistics of the prompts drawn from a capability.

    Attributes:
        capability: its name.
        templates: by template name, in the order of the capability.
    """

    capability: str
    templates: dict[str, TemplateDiversity]

    @property
    def distinct_share(self) -> float:
        """Share of distinct prompts over all templates, in (0, 1]."""
        return sum(t.distinct for t in self.templates.values()) / sum(t.drawn for t in self.templates.values())


def diversity(capability: Capability, prompts: int = 2000, seed: int = 0) -> DiversityReport:
    """Draw prompts from a capability, templates in turn, and count.

    Args:
        capability: source of the prompts.
        prompts: number to draw; a capability with a fixed set of prompts may give fewer.
        seed: of the draws.

    Raises:
        ValueError: ``prompts`` is not positive.

    Example:
        >>> from read_env.capabilities.micro import MICRO
        >>> report = diversity(MICRO["math"], prompts=100)
        >>> {name: template.drawn for name, template in report.templates.items()}
        {'sum': 20, 'difference': 20, 'story': 20, 'larger': 20, 'bill': 20}
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
