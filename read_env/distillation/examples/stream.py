"""The examples that a chunk can draw on: each capability's stream, answered by the teacher.

The n-th example of a capability and tertile depends on the seed and on n alone. Which tertile is next
depends on the progress through B and on what the capability itself got, never on the others.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from read_env.capabilities.base import Prompt, Suite
from read_env.capabilities.stream import PromptStream
from read_env.distillation.examples.curriculum import tertile_of
from read_env.distillation.teachers.base import TeacherCache
from read_env.distillation.text.alignment import Alignment
from read_env.distillation.text.completion import Example
from read_env.distillation.text.encoding import Encoder


class Supply:
    """Next examples of every capability, in stream order.

    Args:
        suite: the capabilities.
        encoder: turns prompts into the student's ids.
        cache: answers blocks of prompts.
        alignment: makes the answers examples for the student.
        seed: of the streams.
        refused: normalised hashes of prompts that are left out.
        block_size: prompts the teacher answers at once.
    """

    def __init__(
        self,
        suite: Suite,
        encoder: Encoder,
        cache: TeacherCache,
        alignment: Alignment,
        seed: int,
        block_size: int,
        refused: frozenset[int] = frozenset(),
    ) -> None:
        self.encoder = encoder
        self.cache = cache
        self.alignment = alignment
        self.block_size = block_size
        self.shares = np.full(3, 1 / 3)
        self.seconds = {"prompts": 0.0, "teacher": 0.0}
        self._streams = [PromptStream(capability, seed, refused) for capability in suite]
        self._taken = [0] * len(suite)
        self._cursors = [[0, 0, 0] for _ in suite]
        self._prompts: dict[tuple[int, int, int], tuple[tuple[Prompt, ...], list[list[int]]]] = {}
        self._blocks: dict[tuple[int, int], tuple[int, tuple[Example, ...]]] = {}

    def peek(self, capability: int) -> Example:
        """The next example of a capability, by index; the teacher is asked if it hasn't been."""
        tertile, block, offset = self._place(capability)
        held = self._blocks.get((capability, tertile))
        if held is None or held[0] != block:
            held = (block, self._answer(capability, tertile, block))
            self._blocks[capability, tertile] = held
        return held[1][offset]

    def take(self, capability: int) -> Example:
        """The next example of a capability; the stream moves on."""
        example = self.peek(capability)
        self._move_on(capability)
        return example

    def peek_prompt(self, capability: int) -> Prompt:
        """The next prompt of a capability; no teacher is asked."""
        tertile, block, offset = self._place(capability)
        return self._block(capability, tertile, block)[0][offset]

    def take_prompt(self, capability: int) -> Prompt:
        """The next prompt of a capability; the stream moves on."""
        prompt = self.peek_prompt(capability)
        self._move_on(capability)
        return prompt

    def _place(self, capability: int) -> tuple[int, int, int]:
        """Tertile of the next prompt, its block there, and its place in the block."""
        tertile = tertile_of(self._taken[capability], self.shares)
        return (tertile, *divmod(self._cursors[capability][tertile], self.block_size))

    def _move_on(self, capability: int) -> None:
        tertile, _, _ = self._place(capability)
        self._taken[capability] += 1
        self._cursors[capability][tertile] += 1

    def snapshot(self) -> dict[str, Any]:
        """The positions in all streams."""
        return {"taken": list(self._taken), "cursors": [list(c) for c in self._cursors]}

    def restore(self, state: dict[str, Any]) -> None:
        """Goes back to snapshot positions."""
        self._taken = list(state["taken"])
        self._cursors = [list(c) for c in state["cursors"]]

    def _answer(self, capability: int, tertile: int, block: int) -> tuple[Example, ...]:
        prompts, prompt_ids = self._block(capability, tertile, block)
        started = time.perf_counter()
        answers = self.cache.ask([p.text for p in prompts])
        self.seconds["teacher"] += time.perf_counter() - started
        return tuple(map(self.alignment.example, prompts, prompt_ids, answers))

    def _block(self, capability: int, tertile: int, block: int) -> tuple[tuple[Prompt, ...], list[list[int]]]:
        """The prompts of a block and their ids."""
        key = (capability, tertile, block)
        if key not in self._prompts:
            started = time.perf_counter()
            first = block * self.block_size
            prompts = self._streams[capability].slice(tertile, first, first + self.block_size)
            self._prompts[key] = prompts, self.encoder.prompts([p.text for p in prompts])
            self.seconds["prompts"] += time.perf_counter() - started
        return self._prompts[key]
