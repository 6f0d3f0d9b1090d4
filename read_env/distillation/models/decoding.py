"""Decoding, greedy and sampled: batched, left-padded, with a key-value cache."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def greedy(
    model: PreTrainedModel, prompt_ids: Sequence[Sequence[int]], *, max_new_tokens: int, eos_id: int, pad_id: int,
    vocabulary: int | None = None, observe: Callable[[torch.Tensor], None] | None = None,
) -> list[list[int]]:  # fmt: skip
    """Greedy completions of a batch of prompts, whatever decoding the model's own settings ask for.

    Args:
        model: a Hugging Face causal language model.
        prompt_ids: token ids, one sequence a prompt.
        max_new_tokens: completions are cut here.
        eos_id: ends a completion.
        pad_id: fills the left side of shorter prompts.
        vocabulary: V, where the model has more rows of logits than there are tokens.
        observe: called at every step with the (n, V) logits from which the next tokens are chosen; those
            of a completion that has ended mean nothing.

    Returns:
        Completion ids; each ends with ``eos_id`` unless it was cut at ``max_new_tokens``.
    """
    return _generate(
        model, prompt_ids, GenerationConfig(max_new_tokens=max_new_tokens, do_sample=False), eos_id, pad_id,
        vocabulary, observe,
    )  # fmt: skip


def sample(
    model: PreTrainedModel, prompt_ids: Sequence[Sequence[int]], *, max_new_tokens: int, eos_id: int, pad_id: int,
    seed: int, vocabulary: int | None = None,
) -> list[list[int]]:  # fmt: skip
    """One completion a prompt, drawn from the model's own distribution (temperature 1, nothing cut off).

    Args and result are those of :func:`greedy`; ``seed`` is that of the draws, which neither read nor
    move torch's own generator.
    """
    plain = GenerationConfig(max_new_tokens=max_new_tokens, do_sample=True, temperature=1.0, top_k=0, top_p=1.0)
    device = next(model.parameters()).device
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        return _generate(model, prompt_ids, plain, eos_id, pad_id, vocabulary, None)


@torch.inference_mode()
def _generate(
    model: PreTrainedModel, prompt_ids: Sequence[Sequence[int]], plain: GenerationConfig, eos_id: int, pad_id: int,
    vocabulary: int | None, observe: Callable[[torch.Tensor], None] | None,
) -> list[list[int]]:  # fmt: skip
    device = next(model.parameters()).device
    length = max(len(ids) for ids in prompt_ids)
    ids = torch.tensor([[pad_id] * (length - len(p)) + list(p) for p in prompt_ids], device=device)
    mask = torch.tensor([[0] * (length - len(p)) + [1] * len(p) for p in prompt_ids], device=device)
    plain.eos_token_id, plain.pad_token_id = eos_id, pad_id
    processors = LogitsProcessorList([_Watching(vocabulary, observe)])
    was_training, own = model.training, model.generation_config
    model.eval()
    # What a call leaves open is filled from the model's own settings, repetition penalties among them.
    model.generation_config = plain
    try:
        out = model.generate(  # type: ignore[operator]  # from a mixin that generating models add
            input_ids=ids, attention_mask=mask, generation_config=plain, logits_processor=processors
        )
    finally:
        model.generation_config = own
        model.train(was_training)
    completions = []
    for row in out[:, length:].tolist():
        completions.append(row[: row.index(eos_id) + 1] if eos_id in row else row)
    return completions


class _Watching(LogitsProcessor):
    """Rules out rows that are no tokens, and shows the logits of every step to a function."""

    def __init__(self, vocabulary: int | None, observe: Callable[[torch.Tensor], None] | None) -> None:
        self._vocabulary = vocabulary
        self._observe = observe

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        if self._observe is not None:
            self._observe(scores[:, : self._vocabulary])
        if self._vocabulary is not None and self._vocabulary < scores.shape[-1]:
            scores = scores.clone()
            scores[:, self._vocabulary :] = float("-inf")
        return scores
