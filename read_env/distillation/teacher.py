"""The teacher: asked once per prompt, in fixed blocks.

Batch shape alone moves logits in the last digits, so what a prompt gets back must not depend on
which prompts happened to be asked beside it. The stream is therefore cut into fixed blocks, a block
is always answered as a whole, and the cache holds blocks: whoever fills it, the answer is the same
to the bit.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch

from read_env.distillation.decoding import greedy
from read_env.distillation.encoding import Encoder
from read_env.losses.targets import TeacherTargets

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class Completion:
    """A teacher's answer to one prompt.

    Attributes:
        prompt_ids: what was asked.
        token_ids: what came back, with the end-of-sequence token unless it was cut.
        targets: the teacher's likely tokens at every position of the completion.
    """

    prompt_ids: tuple[int, ...]
    token_ids: tuple[int, ...]
    targets: TeacherTargets

    def __len__(self) -> int:
        return len(self.token_ids)


class Teacher(Protocol):
    """Anything that answers a block of prompts."""

    @property
    def identity(self) -> str:
        """What determines an answer beside the prompts: weights, tokenizer, decoding settings."""
        ...

    def complete(self, prompt_ids: Sequence[Sequence[int]]) -> tuple[Completion, ...]:
        """Completions of a block of prompts, in order."""
        ...


class LocalTeacher:
    """A Hugging Face model that decodes greedily; its probabilities are those that it decoded from.

    Args:
        model: the teacher.
        encoder: of the prompts: the student's, whose vocabulary is also the teacher's.
        fingerprint: digest of the weights.
        max_completion_tokens: completions are cut here.
        top_k: probabilities kept a token.
    """

    def __init__(
        self, model: PreTrainedModel, encoder: Encoder, fingerprint: str, *, max_completion_tokens: int, top_k: int
    ) -> None:
        self.model = model
        self.encoder = encoder
        self.max_completion_tokens = max_completion_tokens
        self.top_k = top_k
        self._fingerprint = fingerprint
        self._vocabulary = encoder.fingerprint

    @property
    def identity(self) -> str:
        return f"{self._fingerprint}/{self._vocabulary}/greedy/{self.max_completion_tokens}/top{self.top_k}"

    @torch.inference_mode()
    def complete(self, prompt_ids: Sequence[Sequence[int]]) -> tuple[Completion, ...]:
        steps: list[TeacherTargets] = []
        answers = greedy(
            self.model,
            prompt_ids,
            max_new_tokens=self.max_completion_tokens,
            eos_id=self.encoder.eos_id,
            pad_id=self.encoder.pad_id,
            observe=lambda logits: steps.append(TeacherTargets.from_logits(logits, logits.argmax(-1), self.top_k)),
        )
        by_sequence = TeacherTargets.stack(steps)
        return tuple(
            Completion(tuple(prompt), tuple(answer), by_sequence.part((row, slice(len(answer)))))
            for row, (prompt, answer) in enumerate(zip(prompt_ids, answers, strict=True))
        )


class TeacherCache:
    """Wraps any teacher and keeps its answers in memory, block by block.

    Args:
        teacher: asked when a block isn't there.
        max_completion_tokens: the oldest blocks go when more than this is held.
    """

    def __init__(self, teacher: Teacher, max_completion_tokens: int = 6_000_000) -> None:
        self.teacher = teacher
        self.max_completion_tokens = max_completion_tokens
        self.asked_tokens = 0
        self._blocks: OrderedDict[bytes, tuple[Completion, ...]] = OrderedDict()
        self._held = 0

    def complete(self, prompt_ids: Sequence[Sequence[int]]) -> tuple[Completion, ...]:
        """Completions of one fixed block of prompts, in order."""
        key = hashlib.blake2b(f"{self.teacher.identity}{prompt_ids}".encode(), digest_size=16).digest()
        if key in self._blocks:
            self._blocks.move_to_end(key)
            return self._blocks[key]
        block = self.teacher.complete(prompt_ids)
        tokens = sum(len(c) for c in block)
        self.asked_tokens += tokens
        self._held += tokens
        self._blocks[key] = block
        while self._held > self.max_completion_tokens and len(self._blocks) > 1:
            self._held -= sum(len(c) for c in self._blocks.popitem(last=False)[1])
        return block
