"""Teacher protocols, and the cache that asks a teacher once per prompt, in fixed blocks.

Batch shape changes the last digits of logits, so an answer must not depend on the other prompts of its batch. The
stream is therefore cut into fixed blocks, a block is always answered as a whole, and the cache stores blocks:
the answers are the same to the bit whichever run filled it.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections import OrderedDict
from collections.abc import Callable, Sequence
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


class TeacherCache:
    """Cache of a teacher's answers, block by block: in memory, and on disk if there is a store.

    Args:
        teacher: teacher that is asked for missing blocks.
        max_completion_tokens: completion tokens kept in memory; the least recently used blocks are evicted.
        store: store on disk. After a failed write it is only read, with a warning.

    Attributes:
        asked_tokens: completion tokens that the teacher itself generated.
    """

    def __init__(
        self, teacher: Teacher, max_completion_tokens: int = 6_000_000, store: BlockStore | None = None
    ) -> None:
        self.teacher = teacher
        self.max_completion_tokens = max_completion_tokens
        self.store = store
        self.asked_tokens = 0
        self._asked_blocks = 0
        self._served_blocks = 0
        self._served_tokens = 0
        self._writable = True
        self._blocks: OrderedDict[bytes, tuple[Answer, ...]] = OrderedDict()
        self._held = 0

    def complete(self, texts: Sequence[str]) -> tuple[Answer, ...]:
        """Answers to one fixed block of prompts, in order."""
        return self._complete_block(texts) if self.teacher.batched else self._complete_each(texts)

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

    def _complete_each(self, texts: Sequence[str]) -> tuple[Answer, ...]:
        """Answers prompt by prompt; those that are complete are kept when a later one fails."""
        keys = [self._key([text]) for text in texts]
        found = {key: self._look_up(key) for key in dict.fromkeys(keys)}
        missing = [i for i, key in enumerate(keys) if found[key] is None and keys.index(key) == i]

        def on_answer(index: int, answer: Answer) -> None:
            key = keys[missing[index]]
            found[key] = (answer,)
            self._add(key, (answer,))

        if missing:
            self.teacher.complete([texts[i] for i in missing], on_answer)
        return tuple(block[0] for key in keys if (block := found[key]) is not None)

    def _complete_block(self, texts: Sequence[str]) -> tuple[Answer, ...]:
        key = self._key(texts)
        block = self._look_up(key)
        if block is None:
            block = self.teacher.complete(texts)
            self._add(key, block)
        return block

    def _add(self, key: bytes, block: tuple[Answer, ...]) -> None:
        """Count a new block of the teacher and keep it."""
        self.asked_tokens += sum(len(answer) for answer in block)
        self._write(key, block)
        self._hold(key, block)

    def _key(self, texts: Sequence[str]) -> bytes:
        encoder = self.teacher.encoder
        # Token ids, since tokenizers with equal vocabularies may split a text differently; a server's are unknown.
        prompts = encoder.prompts(texts) if isinstance(encoder, Encoder) else texts
        return hashlib.blake2b(json.dumps([self.teacher.identity, *prompts]).encode(), digest_size=16).digest()

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
        self._held += sum(len(answer) for answer in block)
        self._blocks[key] = block
        while self._held > self.max_completion_tokens and len(self._blocks) > 1:
            self._held -= sum(len(answer) for answer in self._blocks.popitem(last=False)[1])

    def _write(self, key: bytes, block: tuple[Answer, ...]) -> None:
        if self.store is None or not self._writable:
            return
        try:
            self.store.write(key, block)
        except OSError as error:
            self._writable = False
            _LOG.warning("teacher answers are not kept on disk any more (%s): %s", self.store.directory, error)
