"""The teacher: asked once per prompt, in fixed blocks.

Batch shape alone moves logits in the last digits, so what a prompt gets back must not depend on
which prompts happened to be asked beside it. The stream is therefore cut into fixed blocks, a block
is always answered as a whole, and the cache holds blocks: whoever fills it, the answer is the same
to the bit.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import logging
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import torch

from read_env.distillation.models.decoding import greedy
from read_env.distillation.models.memory import in_halves
from read_env.distillation.teachers.cache_use import CacheUse
from read_env.distillation.teachers.store import BlockStore, StoreStats
from read_env.distillation.text.completion import Answer
from read_env.distillation.text.encoding import Encoder, collate, completion_logits, length_buckets
from read_env.losses.targets import TeacherTargets

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_LOG = logging.getLogger(__name__)

#: Padded tokens that are scored at once. A CPU gains nothing from more, and loses with the padding.
_SCORED_TOKENS = 16_384
_SCORED_TOKENS_ON_CPU = 2_048
_REMEDY = "a smaller distill.max_completion_tokens, models.dtype bfloat16 or a smaller teacher"


class AnswerText(Protocol):
    """The vocabulary of answers, as far as their text goes."""

    @property
    def eos_id(self) -> int:
        """Ends an answer that wasn't cut."""
        ...

    def text(self, ids: Sequence[int]) -> str:
        """The text of an answer's ids."""
        ...


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


class LocalTeacher:
    """A Hugging Face model that decodes greedily; its probabilities are those that it decoded from.

    Args:
        model: the teacher.
        encoder: of its own tokenizer, whose chat template wraps the prompts.
        weights: what the last digits of its answers depend on: a digest of the weights, and how it computes.
        max_completion_tokens: answers are cut here.
        top_k: probabilities kept a token.
        around: a context to decode in, such as one with a student's adapters switched off.
    """

    batched = True

    def __init__(
        self, model: PreTrainedModel, encoder: Encoder, weights: str, *, max_completion_tokens: int, top_k: int,
        around: Callable[[], AbstractContextManager[Any]] = nullcontext,
    ) -> None:  # fmt: skip
        self.model = model
        self.encoder = encoder
        self.max_completion_tokens = max_completion_tokens
        self.top_k = top_k
        self._around = around
        self._weights = weights
        self._vocabulary = encoder.fingerprint

    @property
    def identity(self) -> str:
        return f"{self._weights}/{self._vocabulary}/greedy/{self.max_completion_tokens}/top{self.top_k}"

    def ask(self, texts: Sequence[str], arrived: Callable[[int, Answer], None] | None = None) -> tuple[Answer, ...]:
        return tuple(in_halves(texts, self._answers, "the teacher answers prompts", _REMEDY))

    @torch.inference_mode()
    def _answers(self, texts: Sequence[str]) -> list[Answer]:
        steps: list[TeacherTargets] = []
        with self._around():
            answers = greedy(
                self.model,
                self.encoder.prompts(texts),
                max_new_tokens=self.max_completion_tokens,
                eos_id=self.encoder.eos_id,
                pad_id=self.encoder.pad_id,
                vocabulary=self.encoder.vocabulary,
                observe=lambda logits: steps.append(TeacherTargets.from_logits(logits, logits.argmax(-1), self.top_k)),
            )
        by_sequence = TeacherTargets.stack(steps)
        return [
            Answer(tuple(answer), by_sequence.part((row, slice(len(answer))))) for row, answer in enumerate(answers)
        ]

    def score(
        self, texts: Sequence[str], token_ids: Sequence[Sequence[int]]
    ) -> list[tuple[TeacherTargets, torch.Tensor]]:
        """What the teacher thinks of completions that somebody else wrote in its vocabulary.

        Returns:
            For each: its likely tokens at every position, and the (m,) log-probabilities of the given tokens.
        """
        prompt_ids = self.encoder.prompts(texts)
        on_cpu = next(self.model.parameters()).device.type == "cpu"
        lengths = [len(p) + len(c) for p, c in zip(prompt_ids, token_ids, strict=True)]
        found: dict[int, tuple[TeacherTargets, torch.Tensor]] = {}
        for bucket in length_buckets(lengths, _SCORED_TOKENS_ON_CPU if on_cpu else _SCORED_TOKENS):
            scored = in_halves(
                bucket,
                lambda piece: self._scores([prompt_ids[i] for i in piece], [token_ids[i] for i in piece]),
                "the teacher scores completions",
                _REMEDY,
            )
            found.update(zip(bucket, scored, strict=True))
        return [found[i] for i in range(len(texts))]

    @torch.inference_mode()
    def _scores(
        self, prompt_ids: Sequence[Sequence[int]], said: Sequence[Sequence[int]]
    ) -> list[tuple[TeacherTargets, torch.Tensor]]:
        batch = collate(prompt_ids, said, self.encoder.pad_id).to(next(self.model.parameters()).device)
        with self._around():
            logits = completion_logits(self.model, batch, self.encoder.vocabulary)
        targets = TeacherTargets.from_logits(logits, batch.targets, self.top_k)
        own = torch.log_softmax(logits.float(), -1).gather(-1, batch.targets[:, None])[:, 0].cpu()
        ends = itertools.accumulate(map(len, said))
        rows = [slice(end - len(tokens), end) for end, tokens in zip(ends, said, strict=True)]
        return [(targets.part((these,)), own[these].clone()) for these in rows]


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
