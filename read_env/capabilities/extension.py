"""A capability with prompts of another origin beside its own: of a package of tasks, of a user's file."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace

import numpy as np

from read_env.capabilities.base import Capability, Prompt, Template, Verifier


@dataclass(frozen=True)
class ExtendedCapability(Capability):
    """A capability with other templates beside its own.

    Difficulty is on a scale of which every tertile has a third. A prompt of the capability's own
    keeps its tertile and its place in it; an added one stands in the middle of the tertile that its
    factor ``level`` (0, 1 or 2) names.

    Attributes:
        own: the capability without what was added.
    """

    own: Capability = field(kw_only=True)

    @property
    def edges(self) -> tuple[float, float]:
        """Thirds of the scale."""
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
    """``own`` with further templates, whose prompts ``verifier`` grades.

    Args:
        own: a capability that makes its prompts.
        added: templates with names that ``own`` hasn't; their one factor is ``level``.
        verifier: of their completions.
    """
    names = {template.name for template in added}

    def verify(prompt: Prompt, completion: str) -> bool:
        return verifier(prompt, completion) if prompt.template in names else own.verify(prompt, completion)

    return ExtendedCapability(own.name, (*own.templates, *added), own.answer_marker, verify, own=own)
