"""Capability: templates that make prompts, a difficulty, a verifier, four disjoint splits.

A :class:`Template` fills its slots from a seeded generator, the :class:`Capability` measures the difficulty of
the prompt and grades completions, and :func:`split_of` assigns the prompt to a split. A :class:`Suite` is the ordered tuple
of capabilities that fixes the index order of every vector in the library.
"""

from __future__ import annotations

import hashlib
import itertools
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, Literal, NamedTuple

from read_env.capabilities.normal_form import normal_form

Split = Literal["stream", "probes", "dev", "exam"]
SPLITS: tuple[Split, ...] = ("stream", "probes", "dev", "exam")

#: Hash buckets in all.
BUCKETS = 32
#: Buckets of each held-out split; the remaining 25 belong to the training stream.
SHARES: Mapping[Split, int] = {"probes": 2, "dev": 2, "exam": 3}
_CALIBRATION_DRAWS = 1200
#: Key of :attr:`Filling.check` under which a template lists all right completions, where there are several.
COMPLETIONS = "completions"


def normalised_hash(text: str) -> int:
    """64-bit hash of a prompt's normal form (:func:`read_env.capabilities.normal_form.normal_form`).

    >>> normalised_hash("What is  2+2?") == normalised_hash("what is 2+2?")
    True
    """
    return int.from_bytes(hashlib.blake2b(normal_form(text).encode(), digest_size=8).digest(), "big")


def is_writable(text: str) -> bool:
    """True if UTF-8 can encode the text: JSON escapes can produce lone surrogates, which no encoding has.

    >>> is_writable("naïve"), is_writable(chr(0xD800))
    (True, False)
    """
    return not any("\ud800" <= character <= "\udfff" for character in text)


def split_of(text: str) -> Split:
    """Split that a prompt belongs to.

    The split is a function of the normalised hash, so the four splits are disjoint whatever generator or seed
    made the prompt.

    >>> [split_of(f"What is 2+{n}?") for n in range(4)]
    ['stream', 'stream', 'exam', 'stream']
    """
    return split_by(SHARES, text)


def split_by(shares: Mapping[Split, int], text: str) -> Split:
    """Split of a prompt: the first buckets of its hash belong to the splits in ``shares``, in their order."""
    bucket = normalised_hash(text) % BUCKETS
    for split, count in shares.items():
        if bucket < count:
            return split
        bucket -= count
    return "stream"


@dataclass(frozen=True)
class Filling:
    """One draw of a template's slots.

    Attributes:
        slots: text of every slot named in the template's patterns.
        factors: control factors of this draw (any scale; scaled per capability).
        check: what a verifier needs beside the reference: JSON values. ``"completions"`` lists all right completions of a
            prompt that has several; the reference is drawn from them evenly.
    """

    slots: Mapping[str, str]
    factors: Mapping[str, float]
    check: Mapping[str, Any] = field(default_factory=dict)


class Draw(NamedTuple):
    """Result of one draw of a template: prompt text, a correct completion, control factors, and ``Filling.check``."""

    text: str
    reference: str
    factors: Mapping[str, float]
    check: Mapping[str, Any]


@dataclass(frozen=True)
class Template:
    """A prompt scaffold with named slots.

    Attributes:
        name: unique within the capability.
        patterns: equivalent phrasings of the prompt, ``str.format`` style.
        reference: pattern of the correct completion, worked steps included.
        fill: draws the slots from a seeded generator.

    >>> double = Template("double", ("Twice {n}?",), "{d}", lambda rng: Filling({"n": "3", "d": "6"}, {}))
    >>> double.draw(random.Random(0))
    Draw(text='Twice 3?', reference='6', factors={}, check={})
    """

    name: str
    patterns: tuple[str, ...]
    reference: str
    fill: Callable[[random.Random], Filling]

    def draw(self, rng: random.Random) -> Draw:
        """One draw of the slots, put into one of the patterns and into the reference."""
        filling = self.fill(rng)
        text = rng.choice(self.patterns).format(**filling.slots)
        return Draw(text, self.reference.format(**filling.slots), filling.factors, filling.check)


@dataclass(frozen=True)
class Prompt:
    """A prompt with what is needed to grade its completion.

    Attributes:
        capability: name of the capability it exercises.
        template: name of the scaffold it came from.
        text: what teacher and student are asked.
        reference: a correct completion, worked steps included.
        difficulty: mean of the min-max scaled control factors, in [0, 1].
        check: what the capability's verifier needs beside the reference.
    """

    capability: str
    template: str
    text: str
    reference: str
    difficulty: float
    check: Mapping[str, Any] = field(default_factory=dict, hash=False)

    @property
    def completions(self) -> tuple[str, ...]:
        """All right completions that are known; the reference is one of them."""
        return tuple(self.check.get(COMPLETIONS, (self.reference,)))


#: Grades a completion of a prompt: True if it is correct.
Verifier = Callable[[Prompt, str], bool]


@dataclass(frozen=True)
class _Calibration:
    low: Mapping[str, float]
    high: Mapping[str, float]
    edges: tuple[float, float]


@dataclass(frozen=True)
class Capability:
    """Ability of a student, with the templates of its prompts and a verifier.

    Attributes:
        name: as in the paper, e.g. ``"tool_use"``.
        templates: scaffolds of its prompts, used in turn.
        answer_marker: text before the final answer in a completion; without it the whole completion is the answer.
        verifier: grades completions; None: exact match with the reference's final answer.

    >>> from read_env.capabilities.micro import MICRO
    >>> prompt = next(MICRO["math"].draws(random.Random(0)))
    >>> MICRO["math"].verify(prompt, prompt.reference), MICRO["math"].verify(prompt, "")
    (True, False)
    """

    name: str
    templates: tuple[Template, ...]
    answer_marker: str = " so "
    verifier: Verifier | None = None

    #: True for a fixed set of prompts, which cannot be balanced over templates and tertiles.
    finite: ClassVar[bool] = False
    #: Buckets of each held-out split, of 32.
    shares: ClassVar[Mapping[Split, int]] = SHARES

    def split_of(self, text: str) -> Split:
        """Split of one of its prompts."""
        return split_by(self.shares, text)

    @property
    def graded(self) -> bool:
        """True if completions can be graded; else only the likelihood of a completion can be measured."""
        return True

    @property
    def has_references(self) -> bool:
        """True if the prompts come with a correct completion."""
        return True

    def draws(self, rng: random.Random) -> Iterator[Prompt]:
        """Iterate over prompts in a seeded order: the templates in turn, endlessly."""
        for template in itertools.cycle(self.templates):
            yield self.draw(template, rng)

    def draw(self, template: Template, rng: random.Random) -> Prompt:
        """One prompt from ``template``, its difficulty measured."""
        text, reference, factors, check = template.draw(rng)
        difficulty = self._difficulty(text, reference, factors)
        return Prompt(self.name, template.name, text, reference, difficulty, check)

    @property
    def edges(self) -> tuple[float, float]:
        """Upper limits of the easy and the medium tertile: tertiles of a calibration pool."""
        return self._calibration.edges

    def tertile(self, difficulty: float) -> int:
        """Tertile of a difficulty: 0 (easy), 1 (medium) or 2 (hard)."""
        first, second = self.edges
        return int(difficulty > first) + int(difficulty > second)

    def final_answer(self, completion: str) -> str:
        """Part of a completion that is graded: the text after the last answer marker."""
        return completion.rpartition(self.answer_marker)[2].strip()

    def verify(self, prompt: Prompt, completion: str) -> bool:
        """Grade a completion by the capability's verifier, or by exact match with the final answer of a right completion."""
        if self.verifier is not None:
            return self.verifier(prompt, completion)
        answer = self.final_answer(completion)
        return any(answer == self.final_answer(right) for right in prompt.completions)

    def _difficulty(self, text: str, reference: str, factors: Mapping[str, float]) -> float:
        calibration = self._calibration
        scaled = []
        for name, value in _with_length(text, reference, factors).items():
            low, high = calibration.low[name], calibration.high[name]
            scaled.append(0.0 if high == low else min(max((value - low) / (high - low), 0.0), 1.0))
        return sum(scaled) / len(scaled)

    @cached_property
    def _calibration(self) -> _Calibration:
        rng = random.Random(f"calibration/{self.name}")
        pool = []
        for i in range(_CALIBRATION_DRAWS):
            text, reference, factors, _ = self.templates[i % len(self.templates)].draw(rng)
            pool.append(_with_length(text, reference, factors))
        low = {name: min(row[name] for row in pool) for name in pool[0]}
        high = {name: max(row[name] for row in pool) for name in pool[0]}
        spans = {name: (high[name] - low[name]) or 1.0 for name in low}
        scores = sorted(sum((row[n] - low[n]) / spans[n] for n in low) / len(low) for row in pool)
        third = len(scores) // 3
        return _Calibration(low, high, (scores[third], scores[2 * third]))


@dataclass(frozen=True)
class Suite:
    """Ordered tuple of capabilities, which fixes the index order of every vector.

    Attributes:
        name: how presets refer to it.
        capabilities: in index order.

    >>> from read_env.capabilities.micro import MICRO
    >>> Suite("two", (MICRO["math"], MICRO["code"])).names
    ('math', 'code')
    """

    name: str
    capabilities: tuple[Capability, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Capability names in index order."""
        return tuple(c.name for c in self.capabilities)

    def __len__(self) -> int:
        return len(self.capabilities)

    def __iter__(self) -> Iterator[Capability]:
        return iter(self.capabilities)

    def __getitem__(self, name: str) -> Capability:
        for capability in self.capabilities:
            if capability.name == name:
                return capability
        raise KeyError(f"suite {self.name!r} has no capability {name!r}; it has {', '.join(self.names)}")


def _with_length(text: str, reference: str, factors: Mapping[str, float]) -> dict[str, float]:
    # Length is a control factor of every capability; it breaks ties between discrete ones.
    return {**factors, "length": float(len(text) + len(reference))}
