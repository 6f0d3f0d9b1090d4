"""Capability extended by prompts from a task package or a user's file."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace

import numpy as np

from read_env.capabilities.base import Capability, Prompt, Template, Verifier


@dataclass(frozen=True)
class ExtendedCapability(Capability):
    """Capability with added templates.

    Difficulty is rescaled so that each tertile covers a third of [0, 1]. The capability's own prompts keep their
    tertile and their position in it; an added prompt is placed in the middle of the tertile given by its factor
    ``level`` (0, 1 or 2).

    Attributes:
        own: the capability without the added templates.
    """

    own: Capability = field(kw_only=True)

    @property
    def edges(self) -> tuple[float, float]:
        """Upper limits of the easy and the medium tertile."""
        return 1 / 3, 2 / 3

    def draw(self, template: Template, rng: random.Random) -> Prompt:
        """One prompt from ``template``, its difficulty measured."""
        if template in self.own.templates:
            prompt = self.own.draw(template, rng)
            place = np.interp(prompt.difficulty, (0, *self.own.edges, 1), (0, *self.edges, 1))
            return replace(prompt, difficulty=float(place))
        text, reference, factors, check = template.draw(rng)
        return Prompt(self.name, template.name, text, reference, (factors["level"] + 0.5) / 3, check)


def extend(own: Capability, added: tuple[Template, ...], verifier: Verifier) -> ExtendedCapability:
    """Add templates to a capability, with a verifier for their completions.

    Args:
        own: a capability that generates its prompts.
        added: templates with names that do not occur in ``own``; their only factor is ``level``.
        verifier: grades completions of the added prompts.

    Example:
        >>> from read_env.capabilities.micro import MICRO
        >>> added = Template("double", ("Twice 3?",), "6", lambda rng: Filling({}, {"level": 0}))
        >>> extend(MICRO["math"], (added,), lambda prompt, completion: completion == "6").templates[-1].name
        'double'
    """
    names = {template.name for template in added}

    def verify(prompt: Prompt, completion: str) -> bool:
        return verifier(prompt, completion) if prompt.template in names else own.verify(prompt, completion)

    return ExtendedCapability(own.name, (*own.templates, *added), own.answer_marker, verify, own=own)
