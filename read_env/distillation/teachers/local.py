"""Teacher in this process: a Hugging Face model that decodes greedily and scores completions."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import torch

from read_env.distillation.models.decoding import greedy
from read_env.distillation.models.memory import in_halves
from read_env.distillation.text.completion import Answer
from read_env.distillation.text.encoding import Encoder, collate, completion_logits, length_buckets
from read_env.losses.targets import TeacherTargets

if TYPE_CHECKING:
    from transformers import PreTrainedModel

#: Padded tokens that are scored at once. A CPU gains nothing from more, and loses with the padding.
_SCORED_TOKENS = 16_384
_SCORED_TOKENS_ON_CPU = 2_048
_REMEDY = "a smaller distill.max_completion_tokens, models.dtype bfloat16 or a smaller teacher"


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
