"""Teacher protocols, teachers by capability, and the cache that asks a teacher once per prompt, in fixed blocks.

Batch shape changes the last digits of logits, so an answer must not depend on the other prompts of its batch. The
stream is therefore cut into fixed blocks, a block is always answered as a whole, and the cache stores blocks:
the answers are the same to the bit whichever run filled it.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from read_env.distillation.teachers.cache_use import CacheUse
from read_env.distillation.teachers.store import BlockStore, StoreStats
from read_env.distillation.text.alignment import AnswerText
from read_env.distillation.text.completion import Answer
from read_env.distillation.text.encoding import Encoder
from read_env.losses.targets import TeacherTargets

_LOG = logging.getLogger(__name__)


class Teacher(Protocol):
    """Model that answers blocks of prompts."""

    @property
    def batched(self) -> bool:
        """True if the last digits of an answer depend on the other prompts of its block."""
        ...

    @property
    def encoder(self) -> AnswerText:
        """Vocabulary of its answers."""
        ...

    @property
    def identity(self) -> str:
        """Identity of weights, tokenizer and decoding settings: with the prompts it determines the answers."""
        ...

    def complete(
        self, texts: Sequence[str], on_answer: Callable[[int, Answer], None] | None = None
    ) -> tuple[Answer, ...]:
        """Answer a block of prompts.

        Args:
            texts: prompts.
            on_answer: called with index and answer as soon as one is complete, by teachers with ``batched`` False.

        Returns:
            One answer per prompt, in order.
        """
        ...


@runtime_checkable
class ScoringTeacher(Teacher, Protocol):
    """Teacher that also gives probabilities of completions written by others; needed by on-policy objectives."""

    @property
    def encoder(self) -> Encoder:
        """Encoder of its tokenizer."""
        ...

    def score(self, texts: Sequence[str], completion_ids: Sequence[Sequence[int]]) -> list[TeacherTargets]:
        """Score completions in the teacher's vocabulary.

        Args:
            texts: prompts.
            completion_ids: token ids of one completion per prompt.

        Returns:
            Targets of each completion, with ``teacher_log_probs``.
        """
        ...


def scoring(teacher: Teacher) -> ScoringTeacher:
    """The teacher, as one that gives probabilities of completions written by others."""
    if not isinstance(teacher, ScoringTeacher):
        raise AssertionError("loading refuses an objective that needs scores of a teacher that gives none")
    return teacher


@dataclass(frozen=True)
class Teachers:
    """Teachers by capability.

    Attributes:
        default: teacher of every capability without one of its own.
        by_capability: teachers of single capabilities; several of these may have the same one.
    """

    default: Teacher
    by_capability: Mapping[str, Teacher] = field(default_factory=dict)

    def of(self, capability: str) -> Teacher:
        """Teacher of a capability."""
        return self.by_capability.get(capability, self.default)

    @property
    def all(self) -> tuple[Teacher, ...]:
        """Every teacher once, the default first."""
        found = {id(teacher): teacher for teacher in (self.default, *self.by_capability.values())}
        return tuple(found.values())

    @property
    def score_completions(self) -> bool:
        """True if all of them give probabilities of completions written by others."""
        return all(isinstance(teacher, ScoringTeacher) for teacher in self.all)

    @property
    def identity(self) -> str:
        """Identity of all: that of the only one, or theirs by capability."""
        if not self.by_capability:
            return self.default.identity
        own = {name: teacher.identity for name, teacher in sorted(self.by_capability.items())}
        return json.dumps([self.default.identity, own])

    def parts(self, capabilities: Sequence[str]) -> list[tuple[Teacher, list[int]]]:
        """Indices of the prompts of each teacher, in order, for prompts of these capabilities."""
        found: dict[int, tuple[Teacher, list[int]]] = {}
        for index, capability in enumerate(capabilities):
            teacher = self.of(capability)
            found.setdefault(id(teacher), (teacher, []))[1].append(index)
        return list(found.values())

    def score(
        self, texts: Sequence[str], completion_ids: Sequence[Sequence[int]], capabilities: Sequence[str]
    ) -> list[TeacherTargets]:
        """Targets of completions, each by the teacher of its prompt's capability and in that teacher's vocabulary.

        Args:
            texts: prompts.
            completion_ids: token ids of one completion per prompt.
            capabilities: capability of each prompt.
        """
        scored: dict[int, TeacherTargets] = {}
        for teacher, indices in self.parts(capabilities):
            targets = scoring(teacher).score([texts[i] for i in indices], [completion_ids[i] for i in indices])
            scored.update(zip(indices, targets, strict=True))
        return [scored[index] for index in range(len(texts))]


class TeacherCache:
    """Cache of the answers of one or more teachers, block by block: in memory, and on disk if there is a store.

    Args:
        teacher: teacher that is asked for missing blocks, or teachers by capability.
        max_bytes: bytes of answers kept in memory; the least recently used blocks are evicted. The default holds 7 million
            completion tokens at K = 8, and 0.3 million at K = 256.
        store: store on disk. After a failed write it is only read, with a warning.

    Attributes:
        teachers: the teachers by capability.
        asked_tokens: completion tokens that the teachers themselves generated.
    """

    def __init__(self, teacher: Teacher | Teachers, max_bytes: int = 2**30, store: BlockStore | None = None) -> None:
        self.teachers = teacher if isinstance(teacher, Teachers) else Teachers(teacher)
        self.max_bytes = max_bytes
        self.store = store
        self.asked_tokens = 0
        self._asked_blocks = 0
        self._served_blocks = 0
        self._served_tokens = 0
        self._writable = True
        self._blocks: OrderedDict[bytes, tuple[Answer, ...]] = OrderedDict()
        self._held = 0

    @property
    def teacher(self) -> Teacher:
        """Teacher of every capability without one of its own."""
        return self.teachers.default

    def complete(self, texts: Sequence[str], capabilities: Sequence[str] = ()) -> tuple[Answer, ...]:
        """Answers to one fixed block of prompts, in order; with several teachers, to one block for each of them.

        Args:
            texts: prompts.
            capabilities: capability of each prompt. Empty: all prompts are for the default teacher.
        """
        answers: dict[int, Answer] = {}
        for teacher, indices in self.teachers.parts(capabilities or [""] * len(texts)):
            complete = self._complete_block if teacher.batched else self._complete_each
            answers.update(zip(indices, complete(teacher, [texts[i] for i in indices]), strict=True))
        return tuple(answers[index] for index in range(len(texts)))

    @property
    def use(self) -> CacheUse:
        """Counts of blocks and tokens asked so far, and of those served from memory or disk."""
        stats = self.store.stats if self.store else StoreStats()
        return CacheUse(
            blocks_asked=self._asked_blocks,
            blocks_served=self._served_blocks,
            tokens_asked=self._served_tokens + self.asked_tokens,
            tokens_served=self._served_tokens,
            disk_tokens=stats.tokens,
            disk_bytes=stats.bytes,
            evictions=stats.evicted,
            read_seconds=stats.read_seconds,
        )

    def _complete_each(self, teacher: Teacher, texts: Sequence[str]) -> tuple[Answer, ...]:
        """Answers prompt by prompt; those that are complete are kept when a later one fails."""
        keys = [self._key(teacher, [text]) for text in texts]
        found = {key: self._look_up(key) for key in dict.fromkeys(keys)}
        missing = [i for i, key in enumerate(keys) if found[key] is None and keys.index(key) == i]

        def on_answer(index: int, answer: Answer) -> None:
            key = keys[missing[index]]
            found[key] = (answer,)
            self._add(key, (answer,))

        if missing:
            teacher.complete([texts[i] for i in missing], on_answer)
        return tuple(block[0] for key in keys if (block := found[key]) is not None)

    def _complete_block(self, teacher: Teacher, texts: Sequence[str]) -> tuple[Answer, ...]:
        key = self._key(teacher, texts)
        block = self._look_up(key)
        if block is None:
            block = teacher.complete(texts)
            self._add(key, block)
        return block

    def _add(self, key: bytes, block: tuple[Answer, ...]) -> None:
        """Count a new block of the teacher and keep it."""
        self.asked_tokens += sum(len(answer) for answer in block)
        self._write(key, block)
        self._hold(key, block)

    def _key(self, teacher: Teacher, texts: Sequence[str]) -> bytes:
        encoder = teacher.encoder
        # Token ids, since tokenizers with equal vocabularies may split a text differently; a server's are unknown.
        prompts = encoder.prompts(texts) if isinstance(encoder, Encoder) else texts
        return hashlib.blake2b(json.dumps([teacher.identity, *prompts]).encode(), digest_size=16).digest()

    def _look_up(self, key: bytes) -> tuple[Answer, ...] | None:
        """Block of that key if there is one; counts the lookup."""
        block = self._held_block(key)
        self._asked_blocks += 1
        if block is not None:
            self._served_blocks += 1
            self._served_tokens += sum(map(len, block))
        return block

    def _held_block(self, key: bytes) -> tuple[Answer, ...] | None:
        """Block from memory, else from disk."""
        if key in self._blocks:
            self._blocks.move_to_end(key)
            return self._blocks[key]
        block = self.store.read(key) if self.store else None
        if block is not None:
            self._hold(key, block)
        return block

    def _hold(self, key: bytes, block: tuple[Answer, ...]) -> None:
        self._held += sum(answer.nbytes for answer in block)
        self._blocks[key] = block
        while self._held > self.max_bytes and len(self._blocks) > 1:
            self._held -= sum(answer.nbytes for answer in self._blocks.popitem(last=False)[1])

    def _write(self, key: bytes, block: tuple[Answer, ...]) -> None:
        if self.store is None or not self._writable:
            return
        try:
            self.store.write(key, block)
        except OSError as error:
            self._writable = False
            _LOG.warning("teacher answers are not kept on disk any more (%s): %s", self.store.directory, error)
