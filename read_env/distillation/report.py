"""Report of one step: tokens, losses and the profile before and after."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from read_env.distillation.student.on_policy import TrainedChunk
from read_env.distillation.teachers.cache_use import CacheUse


@dataclass(frozen=True)
class ChunkReport:
    """Results of one step.

    Attributes:
        step: 1-based index of the step.
        allocation: (|C|,) requested shares of completion tokens; they sum to 1.
        tokens_by_capability: (|C|,) completion tokens trained on.
        examples_by_capability: (|C|,) examples trained on.
        cut_by_capability: (|C|,) of these, completions cut at the maximum length.
        completion_tokens: completion tokens charged to B.
        prompt_tokens: prompt tokens of the same examples.
        trained_tokens: completion and prompt tokens that went through the student, in all passes.
        updates: number of optimizer steps, in all passes.
        loss: mean objective, nats per completion token. Loss and metrics are those of the first pass, in which an example
            has not been trained on.
        metrics: token-weighted means over the updates, as in ``UpdateStats``.
        loss_by_capability: (|C|,) mean objective, nats per completion token; NaN where a capability had none.
        divergence_by_capability: (|C|,) forward KL divergence from the teacher, nats per completion token; NaN where a
            capability had none and for teachers without probabilities.
        profile_before, profile: (|C|,) capability profile before and after, each in [0, 1].
        task_score: score on the task's own probes, in [0, 1]; None for a task without.
        exhausted: True in the last step of the budget.
        skipped: prompts to which the teacher gave no answer: capability, prompt and reason of each.
        seconds: wall-clock seconds by stage: prompts, teacher, cache (answers read from disk), student, probes, other.
        cache: use of the teacher's cache. Like the seconds it is no part of the result: it depends on what earlier
            runs asked.
    """

    step: int
    allocation: np.ndarray
    tokens_by_capability: np.ndarray
    examples_by_capability: np.ndarray
    cut_by_capability: np.ndarray
    completion_tokens: int
    prompt_tokens: int
    trained_tokens: int
    updates: int
    loss: float
    metrics: dict[str, float]
    loss_by_capability: np.ndarray
    divergence_by_capability: np.ndarray
    profile_before: np.ndarray
    profile: np.ndarray
    exhausted: bool
    seconds: dict[str, float]
    cache: CacheUse
    task_score: float | None = None
    skipped: tuple[dict[str, str], ...] = ()

    @classmethod
    def of(
        cls, chunk: TrainedChunk, capabilities: Sequence[str], stop_ids: Collection[int], **measured: Any
    ) -> ChunkReport:
        """Report of a chunk.

        Args:
            chunk: examples and optimizer steps.
            capabilities: |C| names in the suite's order.
            stop_ids: tokens that end a completion.
            measured: the other fields.
        """
        size, updates, ids = len(capabilities), chunk.updates, chunk.capability_ids

        def counts(weights: Sequence[int]) -> np.ndarray:
            return np.bincount(ids, weights=weights, minlength=size).astype(np.int64)

        def means(key: str) -> np.ndarray:
            sums, tokens = np.zeros(size), np.zeros(size)
            for update in updates:
                for name, of in update.by_capability.items():
                    index = capabilities.index(name)
                    sums[index] += of.get(key, np.nan)
                    tokens[index] += of["tokens"]
            return np.divide(sums, tokens, out=np.full(size, np.nan), where=tokens > 0)

        def mean(values: Sequence[float]) -> float:
            return float(np.average(values, weights=[u.tokens for u in updates])) if updates else 0.0

        tokens = counts([len(e) for e in chunk.examples])
        prompt_tokens = sum(len(e.prompt_ids) for e in chunk.examples)
        return cls(
            tokens_by_capability=tokens,
            examples_by_capability=counts([1] * len(ids)),
            cut_by_capability=counts([e.token_ids[-1] not in stop_ids for e in chunk.examples]),
            completion_tokens=int(tokens.sum()),
            prompt_tokens=prompt_tokens,
            trained_tokens=chunk.epochs * (int(tokens.sum()) + prompt_tokens),
            updates=chunk.epochs * len(updates),
            loss=mean([u.loss for u in updates]),
            metrics={
                name: mean([u.metrics[name] for u in updates]) for name in (updates[0].metrics if updates else ())
            },
            loss_by_capability=means("loss"),
            divergence_by_capability=means("fkl"),
            **measured,
        )
