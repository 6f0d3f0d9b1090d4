"""Decoding, greedy and sampled: batched, left-padded, with a key-value cache."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def greedy(
    model: PreTrainedModel, prompt_ids: Sequence[Sequence[int]], *, max_new_tokens: int, stop_ids: Sequence[int], pad_id: int,
    vocabulary: int | None = None, observe: Callable[[torch.Tensor], None] | None = None,
) -> list[list[int]]:  # fmt: skip
    """Greedy completions of a batch of prompts; the model's own generation settings are ignored.

    Args:
        model: Hugging Face causal language model.
        prompt_ids: token ids of n prompts.
        max_new_tokens: maximum length of a completion, tokens.
        stop_ids: ids of the tokens that end a completion.
        pad_id: id of the padding token, on the left of shorter prompts.
        vocabulary: V, if the model has more rows of logits than there are tokens.
        observe: called at every decoding step with the (n, V) logits from which the next tokens are chosen; rows of
            completions that have ended are undefined.

    Returns:
        Token ids of n completions; each ends with one of ``stop_ids`` unless it was cut at ``max_new_tokens``.

    Example:
        >>> from read_env.distillation.loading import load
        >>> model = load("embedded:micro/student").model
        >>> [len(ids) for ids in greedy(model, [[5, 6], [7]], max_new_tokens=4, stop_ids=[], pad_id=0)]
        [4, 4]
    """
    return _generate(
        model, prompt_ids, GenerationConfig(max_new_tokens=max_new_tokens, do_sample=False), stop_ids, pad_id,
        vocabulary, observe,
    )  # fmt: skip


def sample(
    model: PreTrainedModel, prompt_ids: Sequence[Sequence[int]], *, max_new_tokens: int, stop_ids: Sequence[int], pad_id: int,
    seed: int, vocabulary: int | None = None,
) -> list[list[int]]:  # fmt: skip
    """One completion per prompt, drawn from the model's distribution (temperature 1, no truncation).

    Args and Returns are those of :func:`greedy`; ``seed`` seeds the draws, which don't use or change torch's global
    generator.
    """
    plain = GenerationConfig(max_new_tokens=max_new_tokens, do_sample=True, temperature=1.0, top_k=0, top_p=1.0)
    device = next(model.parameters()).device
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        return _generate(model, prompt_ids, plain, stop_ids, pad_id, vocabulary, None)


@torch.inference_mode()
def _generate(
    model: PreTrainedModel, prompt_ids: Sequence[Sequence[int]], plain: GenerationConfig, stop_ids: Sequence[int],
    pad_id: int,
    vocabulary: int | None, observe: Callable[[torch.Tensor], None] | None,
) -> list[list[int]]:  # fmt: skip
    device = next(model.parameters()).device
    length = max(len(ids) for ids in prompt_ids)
    ids = torch.tensor([[pad_id] * (length - len(p)) + list(p) for p in prompt_ids], device=device)
    mask = torch.tensor([[0] * (length - len(p)) + [1] * len(p) for p in prompt_ids], device=device)
    plain.eos_token_id, plain.pad_token_id = list(stop_ids), pad_id
    processors = LogitsProcessorList([_LogitsObserver(vocabulary, observe)])
    was_training, own = model.training, model.generation_config
    model.eval()
    # ``generate`` fills unset values from the model's own settings, such as repetition penalties.
    model.generation_config = plain
    try:
        out = model.generate(  # type: ignore[operator]  # from a mixin of generating models
            input_ids=ids, attention_mask=mask, generation_config=plain, logits_processor=processors,
            synced_gpus=False,  # a student of several ranks has all its weights on each while it decodes
        )  # fmt: skip
    finally:
        model.generation_config = own
        model.train(was_training)
    completions = []
    for row in out[:, length:].tolist():
        end = next((i for i, token in enumerate(row) if token in stop_ids), len(row))
        completions.append(row[: end + 1])
    return completions


class _LogitsObserver(LogitsProcessor):
    """Excludes rows beyond the vocabulary, and passes the logits of every decoding step to a function."""

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
