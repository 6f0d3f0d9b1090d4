"""A module in the place of ``vllm``: the types of vLLM 0.33 as far as a teacher touches them, over transformers.

What comes back has the real shapes: a position is a dict from token id to ``Logprob``, the token that
stands there first, then the likeliest with ranks from 1, K or K + 1 of them in all. A prompt's first
position is None. A stop token is part of ``token_ids``. Arguments that the real ones don't have are errors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

__version__ = "0.33.0"


@dataclass
class Logprob:
    logprob: float
    rank: int | None = None


@dataclass
class CompletionOutput:
    token_ids: Sequence[int]
    logprobs: list[dict[int, Logprob]] | None


@dataclass
class RequestOutput:
    prompt_logprobs: list[dict[int, Logprob] | None] | None
    outputs: list[CompletionOutput]


@dataclass
class SamplingParams:
    temperature: float = 1.0
    max_tokens: int | None = 16
    logprobs: int | None = None
    prompt_logprobs: int | None = None
    detokenize: bool = True
    ignore_eos: bool = False
    stop_token_ids: list[int] = field(default_factory=list)


class LLM:
    def __init__(
        self,
        model: str,
        *,
        dtype: str = "auto",
        trust_remote_code: bool = False,
        tensor_parallel_size: int = 1,
        gpu_memory_utilization: float = 0.92,
        max_logprobs: int = 20,
        logprobs_mode: str = "raw_logprobs",
        max_model_len: int | None = None,
        generation_config: str = "auto",
    ) -> None:
        from transformers import AutoModelForCausalLM

        if gpu_memory_utilization > 0.99:
            raise ValueError("Free memory on device (10/80 GiB) on startup is less than desired GPU memory utilization")
        self._model = AutoModelForCausalLM.from_pretrained(model, dtype=dtype).eval()
        self.settings = {key: value for key, value in locals().items() if key not in ("self", "AutoModelForCausalLM")}
        #: The parameters of every call, for tests to look at.
        self.asked: list[SamplingParams] = []

    @torch.inference_mode()
    def generate(
        self, prompts: Sequence[dict[str, Any]], sampling_params: SamplingParams, *, use_tqdm: bool = True
    ) -> list[RequestOutput]:
        asked = max(sampling_params.logprobs or 0, sampling_params.prompt_logprobs or 0)
        if asked > self.settings["max_logprobs"]:
            raise ValueError(f"Requested sample logprobs of {asked}, which is greater than max allowed")
        assert sampling_params.temperature == 0, "this one only decodes greedily"
        self.asked.append(sampling_params)
        return [self._one(prompt["prompt_token_ids"], sampling_params) for prompt in prompts]

    def _one(self, prompt: list[int], asked: SamplingParams) -> RequestOutput:
        ids, positions = list(prompt), []
        seen: list[dict[int, Logprob] | None] | None = None
        assert asked.max_tokens is not None
        if asked.prompt_logprobs is not None:
            logs = torch.log_softmax(self._model(input_ids=torch.tensor([ids])).logits[0].float(), -1)
            pairs = zip(logs[:-1], ids[1:], strict=True)
            seen = [None, *(_position(row, token, asked.prompt_logprobs) for row, token in pairs)]
        while len(ids) < len(prompt) + asked.max_tokens:
            logs = torch.log_softmax(self._model(input_ids=torch.tensor([ids])).logits[0, -1].float(), -1)
            ids.append(int(logs.argmax()))
            if asked.logprobs is not None:
                positions.append(_position(logs, ids[-1], asked.logprobs))
            if ids[-1] in asked.stop_token_ids or (ids[-1] == 2 and not asked.ignore_eos):
                break
        return RequestOutput(seen, [CompletionOutput(ids[len(prompt) :], positions or None)])


def _position(logs: torch.Tensor, token: int, count: int) -> dict[int, Logprob]:
    """As ``append_logprobs_for_next_position`` of vllm.logprobs puts it together."""
    top = torch.topk(logs, count)
    ids, values = [token, *top.indices.tolist()], [logs[token].item(), *top.values.tolist()]
    ranks = [int((logs >= logs[token]).sum()), *range(1, count + 1)]
    return {i: Logprob(value, rank) for i, value, rank in zip(ids, values, ranks, strict=True)}
