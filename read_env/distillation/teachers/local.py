"""Teacher in this process: a Hugging Face model that decodes greedily and scores completions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import torch

from read_env.distillation.models.decoding import greedy
from read_env.distillation.models.head import logit_chunks
from read_env.distillation.models.memory import run_with_halving
from read_env.distillation.text.completion import Answer
from read_env.distillation.text.encoding import Encoder, collate, length_buckets
from read_env.losses.targets import TeacherTargets

if TYPE_CHECKING:
    from transformers import PreTrainedModel

#: Padded tokens per scoring pass. On a CPU a larger batch is no faster and adds padding.
_SCORED_TOKENS = 16_384
_SCORED_TOKENS_ON_CPU = 2_048
_REMEDY = "a smaller distill.max_completion_tokens, models.dtype bfloat16 or a smaller teacher"


class LocalTeacher:
    """Hugging Face model that decodes greedily and keeps the probabilities that it decoded from.

    Args:
        model: the teacher.
        encoder: encoder of its tokenizer, whose chat template wraps the prompts.
        weights: identity of the weights and of their numerics, as from ``weights_identity``.
        max_completion_tokens: maximum length of an answer, tokens.
        top_k: K, log-probabilities kept per token.
        context: makes the context that the model runs in, such as one with the student's adapters disabled.

    Example:
        >>> from read_env.distillation.loading import load
        >>> loaded = load("embedded:micro/teacher")
        >>> teacher = LocalTeacher(loaded.model, loaded.encoder, "weights", max_completion_tokens=24, top_k=8)
        >>> answer, = teacher.complete(["2+3"])
        >>> answer.targets.top_ids.shape == (len(answer), 8)
        True
    """

    batched = True

    def __init__(
        self, model: PreTrainedModel, encoder: Encoder, weights: str, *, max_completion_tokens: int, top_k: int,
        context: Callable[[], AbstractContextManager[Any]] = nullcontext,
    ) -> None:  # fmt: skip
        self.model = model
        self.encoder = encoder
        self.max_completion_tokens = max_completion_tokens
        self.top_k = top_k
        self._context = context
        self._weights = weights
        self._vocabulary = encoder.fingerprint

    @property
    def context(self) -> int | None:
        """Maximum length of a sequence, tokens; None if the model's configuration has none."""
        return getattr(self.model.config.get_text_config(), "max_position_embeddings", None)

    @property
    def identity(self) -> str:
        return f"{self._weights}/{self._vocabulary}/greedy/{self.max_completion_tokens}/top{self.top_k}"

    def complete(
        self, texts: Sequence[str], on_answer: Callable[[int, Answer], None] | None = None
    ) -> tuple[Answer, ...]:
        return tuple(run_with_halving(self._decode, texts, "decoding the teacher's answers", _REMEDY))

    @torch.inference_mode()
    def _decode(self, texts: Sequence[str]) -> list[Answer]:
        steps: list[TeacherTargets] = []
        with self._context():
            answers = greedy(
                self.model,
                self.encoder.prompts(texts),
                max_new_tokens=self.max_completion_tokens,
                stop_ids=self.encoder.stop_ids,
                pad_id=self.encoder.pad_id,
                vocabulary=self.encoder.vocabulary,
                observe=lambda logits: steps.append(TeacherTargets.from_logits(logits, logits.argmax(-1), self.top_k)),
            )
        by_sequence = TeacherTargets.stack(steps)
        return [
            Answer(tuple(answer), by_sequence.part((row, slice(len(answer))))) for row, answer in enumerate(answers)
        ]

    def score(self, texts: Sequence[str], completion_ids: Sequence[Sequence[int]]) -> list[TeacherTargets]:
        prompt_ids = self.encoder.prompts(texts)
        on_cpu = next(self.model.parameters()).device.type == "cpu"
        lengths = [len(p) + len(c) for p, c in zip(prompt_ids, completion_ids, strict=True)]
        found: dict[int, TeacherTargets] = {}

        def score_batch(batch: Sequence[int]) -> list[TeacherTargets]:
            return self._score([prompt_ids[i] for i in batch], [completion_ids[i] for i in batch])

        for bucket in length_buckets(lengths, _SCORED_TOKENS_ON_CPU if on_cpu else _SCORED_TOKENS):
            scored = run_with_halving(score_batch, bucket, "scoring completions with the teacher", _REMEDY)
            found.update(zip(bucket, scored, strict=True))
        return [found[i] for i in range(len(texts))]

    @torch.inference_mode()
    def _score(
        self, prompt_ids: Sequence[Sequence[int]], completion_ids: Sequence[Sequence[int]]
    ) -> list[TeacherTargets]:
        batch = collate(prompt_ids, completion_ids, self.encoder.pad_id).to(next(self.model.parameters()).device)
        pieces = []
        for part, logits in logit_chunks(self.model, batch, self.encoder.vocabulary, context=self._context):
            piece = TeacherTargets.from_logits(logits, batch.targets[part], self.top_k)
            log_probs = torch.log_softmax(logits.float(), -1).gather(-1, piece.tokens[:, None])[:, 0]
            pieces.append(replace(piece, teacher_log_probs=log_probs))
        targets = TeacherTargets.concatenate(pieces)
        ends = accumulate(map(len, completion_ids))
        return [targets.part((slice(end - len(ids), end),)) for end, ids in zip(ends, completion_ids, strict=True)]
