"""Stream of examples per capability, answered by the teacher.

The n-th example of a capability and tertile depends on the seed and on n alone. The next tertile depends
on the progress through B and on the capability's own count, never on the other capabilities.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from read_env.capabilities.base import Prompt, Suite
from read_env.capabilities.stream import PromptStream
from read_env.distillation.examples.curriculum import tertile_of
from read_env.distillation.teachers.base import TeacherCache
from read_env.distillation.text.alignment import Alignment
from read_env.distillation.text.completion import Example
from read_env.distillation.text.encoding import Encoder
from read_env.distillation.text.lengths import LengthLimit
from read_env.errors import ReadEnvError

_LOG = logging.getLogger(__name__)

#: Consecutive prompts of a capability without an answer after which the teacher counts as unable to answer.
_MAX_SKIPPED_IN_A_ROW = 32

_NO_TOKENS = "cut before any text that the student's tokenizer knows (distill.max_completion_tokens)"
_EMPTY = "an empty answer"


class ExampleStream:
    """Next examples of every capability, in stream order.

    Args:
        suite: the capabilities; methods take their indices.
        encoder: encoder of the student's tokenizer.
        cache: cache of the teacher, asked in blocks of prompts.
        alignment: converts answers into examples for the student.
        seed: seed of the prompt streams.
        block_size: prompts per block.
        excluded_hashes: normalised hashes of prompts that are left out.
        limit: longest sequence of both models; longer prompts are skipped.
        past: part of the prompts, see :class:`~read_env.capabilities.stream.PromptStream`.

    Attributes:
        shares: (3,) shares of easy, medium and hard prompts.
        seconds: wall-clock seconds spent on prompts and on the teacher.
        skipped: prompts without an answer since the last report: their capability, prompt and reason.
    """

    def __init__(
        self, suite: Suite, encoder: Encoder, cache: TeacherCache, alignment: Alignment, seed: int, block_size: int,
        excluded_hashes: frozenset[int] = frozenset(), limit: LengthLimit | None = None, past: bool | None = None,
    ) -> None:  # fmt: skip
        self.encoder = encoder
        self.cache = cache
        self.alignment = alignment
        self.block_size = block_size
        self._limit = limit
        self.shares = np.full(3, 1 / 3)
        self.seconds = {"prompts": 0.0, "teacher": 0.0}
        self.skipped: list[dict[str, str]] = []
        self._streams = [PromptStream(capability, seed, excluded_hashes, past) for capability in suite]
        self._taken = [0] * len(suite)
        self._cursors = [[0, 0, 0] for _ in suite]
        # Of each capability and tertile, the block in use alone: a long run reads many.
        self._prompts: dict[tuple[int, int], tuple[int, tuple[tuple[Prompt, ...], list[list[int]], list[str]]]] = {}
        self._blocks: dict[tuple[int, int], tuple[int, tuple[Example | dict[str, str], ...]]] = {}

    def peek(self, capability: int) -> Example:
        """Next example of a capability; the teacher answers its block if it hasn't yet.

        Prompts without an answer are skipped. The order of difficulty stays, since a skipped prompt is not taken.

        Raises:
            ReadEnvError: many prompts in a row have no answer.
        """
        for _ in range(_MAX_SKIPPED_IN_A_ROW):
            tertile, block, offset = self._position(capability)
            held = self._blocks.get((capability, tertile))
            if held is None or held[0] != block:
                held = (block, self._answer_block(capability, tertile, block))
                self._blocks[capability, tertile] = held
            example = held[1][offset]
            if isinstance(example, Example):
                return example
            self._skip(capability, tertile, example)
        raise self._only_skipped()

    def take(self, capability: int) -> Example:
        """Next example of a capability; advances the stream."""
        example = self.peek(capability)
        self._advance(capability)
        return example

    def peek_prompt(self, capability: int) -> Prompt:
        """Next prompt of a capability that is not too long, without an answer of the teacher."""
        for _ in range(_MAX_SKIPPED_IN_A_ROW):
            tertile, block, offset = self._position(capability)
            prompts, _, reasons = self._prompt_block(capability, tertile, block)
            if not reasons[offset]:
                return prompts[offset]
            self._skip(capability, tertile, _skipped(prompts[offset], reasons[offset]))
        raise self._only_skipped()

    def take_prompt(self, capability: int) -> Prompt:
        """Next prompt of a capability; advances the stream."""
        prompt = self.peek_prompt(capability)
        self._advance(capability)
        return prompt

    def state_dict(self) -> dict[str, Any]:
        """Positions in all streams, and prompts that were skipped since the last report."""
        state = {"taken": list(self._taken), "cursors": [list(c) for c in self._cursors]}
        return state | ({"skipped": [dict(one) for one in self.skipped]} if self.skipped else {})

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the positions of a ``state_dict``."""
        taken, cursors = np.array(state["taken"], dtype=np.int64), np.array(state["cursors"], dtype=np.int64)
        if (
            taken.shape != (len(self._streams),)
            or cursors.shape != (len(self._streams), 3)
            or min(0, *taken, *cursors.flat)
        ):
            raise ValueError(
                f"positions in {len(self._streams)} streams are wrong: {state['taken']}, {state['cursors']}"
            )
        self._taken, self._cursors = taken.tolist(), cursors.tolist()
        self.skipped = [dict(one) for one in state.get("skipped", ())]

    def _position(self, capability: int) -> tuple[int, int, int]:
        """Tertile of the next prompt, block in the tertile, offset in the block."""
        tertile = tertile_of(self._taken[capability], self.shares)
        return (tertile, *divmod(self._cursors[capability][tertile], self.block_size))

    def _advance(self, capability: int) -> None:
        tertile, _, _ = self._position(capability)
        self._taken[capability] += 1
        self._cursors[capability][tertile] += 1

    def _skip(self, capability: int, tertile: int, skipped: dict[str, str]) -> None:
        if not self.skipped:
            _LOG.warning("skipped a prompt of %s: %r (%s)", *_shortened(skipped))
        self.skipped.append(skipped)
        self._cursors[capability][tertile] += 1

    def _only_skipped(self) -> ReadEnvError:
        capability, prompt, reason = _shortened(self.skipped[-1])
        return ReadEnvError(
            f"{_MAX_SKIPPED_IN_A_ROW} prompts of {capability} in a row had to be skipped; the last is {prompt!r}: {reason}"
        )

    def _answer_block(self, capability: int, tertile: int, block: int) -> tuple[Example | dict[str, str], ...]:
        """Examples of a block; capability, prompt and reason in place of one without an answer."""
        prompts, prompt_ids, reasons = self._prompt_block(capability, tertile, block)
        started = time.perf_counter()
        asked = [prompt for prompt, reason in zip(prompts, reasons, strict=True) if not reason]
        texts, names = [prompt.text for prompt in asked], [prompt.capability for prompt in asked]
        answers = iter(self.cache.complete(texts, names) if asked else ())
        self.seconds["teacher"] += time.perf_counter() - started
        examples: list[Example | dict[str, str]] = []
        for prompt, ids, reason in zip(prompts, prompt_ids, reasons, strict=True):
            answer = None if reason else next(answers)
            reason = reason if answer is None else answer.skipped
            example = None if answer is None or reason else self.alignment(prompt, ids, answer)
            # An end of turn alone teaches nothing.
            if example and len(example) <= 2 and not self.encoder.text(example.token_ids).strip():
                example, reason = None, _EMPTY
            # An example without tokens costs nothing: the budget would never be spent on such ones.
            examples.append(example or _skipped(prompt, reason or _NO_TOKENS))
        return tuple(examples)

    def _prompt_block(
        self, capability: int, tertile: int, block: int
    ) -> tuple[tuple[Prompt, ...], list[list[int]], list[str]]:
        """Prompts of a block, their token ids, and per prompt what is too long, or an empty text."""
        held = self._prompts.get((capability, tertile))
        if held is None or held[0] != block:
            started = time.perf_counter()
            first = block * self.block_size
            prompts = self._streams[capability].slice(tertile, first, first + self.block_size)
            reasons = self._limit.excess(prompts) if self._limit else [""] * len(prompts)
            held = block, (prompts, self.encoder.prompts([p.text for p in prompts]), reasons)
            self._prompts[capability, tertile] = held
            self.seconds["prompts"] += time.perf_counter() - started
        return held[1]


def _skipped(prompt: Prompt, reason: str) -> dict[str, str]:
    return {"capability": prompt.capability, "prompt": prompt.text, "reason": reason}


def _shortened(skipped: dict[str, str]) -> tuple[str, str, str]:
    return skipped["capability"], skipped["prompt"][:60], skipped["reason"]
