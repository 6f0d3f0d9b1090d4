"""The teacher: asked once per prompt, in fixed blocks.

Batch shape alone moves logits in the last digits, so what a prompt gets back must not depend on
which prompts happened to be asked beside it. The stream is therefore cut into fixed blocks, a block
is always answered as a whole, and the cache holds blocks: whoever fills it, the answer is the same
to the bit.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

import torch

from read_env.distillation.teachers.cache_use import CacheUse
from read_env.distillation.teachers.store import BlockStore, StoreStats
from read_env.distillation.text.alignment import AnswerText
from read_env.distillation.text.completion import Answer
from read_env.distillation.text.encoding import Encoder
from read_env.losses.targets import TeacherTargets

_LOG = logging.getLogger(__name__)


class Teacher(Protocol):
    """Anything that answers a block of prompts."""

    @property
    def batched(self) -> bool:
        """Whether an answer depends in its last digits on what was asked beside it."""
        ...

    @property
    def encoder(self) -> AnswerText:
        """The vocabulary of its answers."""
        ...

    @property
    def identity(self) -> str:
        """What determines an answer beside the prompts: weights, tokenizer, decoding settings."""
        ...

    def ask(self, texts: Sequence[str], arrived: Callable[[int, Answer], None] | None = None) -> tuple[Answer, ...]:
        """Answers to a block of prompts, in order; ``arrived`` may be told of each one as soon as it is there."""
        ...


@runtime_checkable
class ScoringTeacher(Teacher, Protocol):
    """A teacher whose probabilities of other people's tokens can be had: what on-policy objectives need."""

    def score(
        self, texts: Sequence[str], token_ids: Sequence[Sequence[int]]
    ) -> list[tuple[TeacherTargets, torch.Tensor]]:
        """For each completion its likely tokens at every position, and the (m,) log-probabilities of the given ones."""
        ...


class TeacherCache:
    """Wraps any teacher and keeps its answers, block by block: in memory, and on disk if there is a store.

    Args:
        teacher: asked when a block isn't there.
        max_completion_tokens: the oldest blocks leave memory when more than this is held.
        store: keeps blocks beyond this process. One that can't be written is left alone, with a warning.

    Attributes:
        asked_tokens: completion tokens that the teacher itself gave.
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

    def ask(self, texts: Sequence[str]) -> tuple[Answer, ...]:
        """Answers to one fixed block of prompts, in order."""
        return self._ask_block(texts) if self.teacher.batched else self._ask_each(texts)

    @property
    def use(self) -> CacheUse:
        """What was asked so far, and where the answers came from."""
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

    def _ask_each(self, texts: Sequence[str]) -> tuple[Answer, ...]:
        """Prompt by prompt: what has arrived stays when a later one fails."""
        keys = [self._key([text]) for text in texts]
        found = {key: self._look_up(key) for key in dict.fromkeys(keys)}
        unknown = [place for place, key in enumerate(keys) if found[key] is None and keys.index(key) == place]

        def arrived(place: int, answer: Answer) -> None:
            found[keys[unknown[place]]] = (answer,)
            self.asked_tokens += len(answer)
            self._keep(keys[unknown[place]], (answer,))
            self._hold(keys[unknown[place]], (answer,))

        if unknown:
            self.teacher.ask([texts[place] for place in unknown], arrived)
        return tuple(block[0] for key in keys if (block := found[key]) is not None)

    def _ask_block(self, texts: Sequence[str]) -> tuple[Answer, ...]:
        key = self._key(texts)
        block = self._look_up(key)
        if block is None:
            block = self.teacher.ask(texts)
            self.asked_tokens += sum(len(answer) for answer in block)
            self._keep(key, block)
            self._hold(key, block)
        return block

    def _key(self, texts: Sequence[str]) -> bytes:
        encoder = self.teacher.encoder
        # What the model reads: how a tokenizer cuts a text is no part of its vocabulary. A server keeps its own to itself.
        asked = encoder.prompts(texts) if isinstance(encoder, Encoder) else texts
        return hashlib.blake2b(json.dumps([self.teacher.identity, *asked]).encode(), digest_size=16).digest()

    def _look_up(self, key: bytes) -> tuple[Answer, ...] | None:
        """The block of that key if there is one; counted."""
        block = self._held_block(key)
        self._asked_blocks += 1
        if block is not None:
            self._served_blocks += 1
            self._served_tokens += sum(map(len, block))
        return block

    def _held_block(self, key: bytes) -> tuple[Answer, ...] | None:
        """From memory, else from disk."""
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

    def _keep(self, key: bytes, block: tuple[Answer, ...]) -> None:
        if self.store is None or not self._writable:
            return
        try:
            self.store.write(key, block)
        except OSError as error:
            self._writable = False
            _LOG.warning("teacher answers are not kept on disk any more (%s): %s", self.store.directory, error)
