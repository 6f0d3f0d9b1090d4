"""Teacher in vLLM, in this process: batched answers of a large model.

Written for the interface of vLLM 0.33 and tested against a fake module with the same types; not yet run on a GPU.
"""

from __future__ import annotations

import importlib
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from read_env.config import ModelConfig
from read_env.distillation.teachers.top_k import targets_of
from read_env.distillation.text.completion import Answer
from read_env.distillation.text.encoding import Encoder
from read_env.errors import ReadEnvError
from read_env.losses.targets import TeacherTargets

_LOG = logging.getLogger(__name__)

VLLM = "vllm:"


class VllmTeacher:
    """Model in vLLM that decodes greedily and scores completions.

    The log-probabilities are ``raw_logprobs``, before penalties and temperature. vLLM returns the K most likely
    tokens without the sum over the others, so the tail is 1 minus their sum, and at least 6e-8: below that the
    difference has no correct digits. vLLM decides which prompts share a batch, so the last digits of two identical
    requests may differ; the cache keeps the first.

    Args:
        location: folder or hub id, as vLLM takes it.
        models: dtype, share of the GPU's memory, number of GPUs.
        encoder: encoder of the model's tokenizer, whose chat template wraps the prompts.
        weights: digest of the weights.
        max_completion_tokens: maximum length of an answer, tokens.
        top_k: K, log-probabilities kept per token.
        context: maximum length of a sequence, tokens; None if it is not known.

    Raises:
        ReadEnvError: vLLM isn't installed, can't load the model, or fails on a prompt.
    """

    batched = True

    def __init__(
        self, location: str, models: ModelConfig, encoder: Encoder, weights: str, *, max_completion_tokens: int,
        top_k: int, context: int | None = None,
    ) -> None:  # fmt: skip
        vllm = import_vllm()
        self.encoder = encoder
        self.context = context
        self.max_completion_tokens = max_completion_tokens
        self.top_k = min(top_k, encoder.vocabulary)
        # Computed once: the fingerprint hashes the whole vocabulary, and every cache key contains the identity.
        self._identity = (
            f"vllm/{weights}/{models.dtype}/{encoder.fingerprint}/greedy/{max_completion_tokens}/top{self.top_k}"
        )
        self._parameters = vllm.SamplingParams
        try:
            self._model = vllm.LLM(
                model=location,
                dtype=models.dtype,
                trust_remote_code=models.trust_remote_code,
                tensor_parallel_size=models.vllm_tensor_parallel_size,
                gpu_memory_utilization=models.vllm_gpu_memory_utilization,
                max_logprobs=self.top_k,
                logprobs_mode="raw_logprobs",
                max_model_len=-1,  # as much as fits into that share of the memory
                # Ignore the model's own decoding settings: those of this class are part of the cache key.
                generation_config="vllm",
            )
        except Exception as error:  # the engine's processes raise errors of any type
            raise ReadEnvError(
                f"models.teacher: vLLM could not load {location!r} ({_reason(error)}); models.vllm_gpu_memory_utilization is "
                f"{models.vllm_gpu_memory_utilization:g} and models.vllm_tensor_parallel_size is {models.vllm_tensor_parallel_size}"
            ) from error
        _LOG.info(
            "teacher %s in vLLM %s: %s, %d GPUs, %.0f %% of each one's memory", location,
            getattr(vllm, "__version__", "of unknown version"), models.dtype, models.vllm_tensor_parallel_size, 100 * models.vllm_gpu_memory_utilization,
        )  # fmt: skip

    @property
    def identity(self) -> str:
        return self._identity

    def complete(
        self, texts: Sequence[str], on_answer: Callable[[int, Answer], None] | None = None
    ) -> tuple[Answer, ...]:
        # The same tokens end an answer as with a teacher in transformers; the one that did is the last of its ids.
        greedy = self._parameters(
            temperature=0.0, max_tokens=self.max_completion_tokens, logprobs=self.top_k, detokenize=False,
            ignore_eos=True, stop_token_ids=list(self.encoder.stop_ids),
        )  # fmt: skip
        found = self._generate(self.encoder.prompts(texts), greedy)
        return tuple(self._answer(output.outputs[0]) for output in found)

    def score(self, texts: Sequence[str], completion_ids: Sequence[Sequence[int]]) -> list[TeacherTargets]:
        prompt_ids = self.encoder.prompts(texts)
        sequences = [[*prompt, *completion] for prompt, completion in zip(prompt_ids, completion_ids, strict=True)]
        # vLLM generates at least one token; the log-probabilities of the given ones come with it.
        reading = self._parameters(temperature=0.0, max_tokens=1, prompt_logprobs=self.top_k, detokenize=False)
        scored = []
        for output, prompt, ids in zip(self._generate(sequences, reading), prompt_ids, completion_ids, strict=True):
            # One entry per token of the sequence, given the tokens before it; None for the first.
            positions = list(output.prompt_logprobs)[len(prompt) :]
            log_probs = [position[token].logprob for token, position in zip(ids, positions, strict=True)]
            scored.append(replace(self._targets(ids, positions), teacher_log_probs=torch.tensor(log_probs)))
        return scored

    def _generate(self, prompt_ids: Sequence[Sequence[int]], parameters: Any) -> list[Any]:
        prompts = [{"prompt_token_ids": list(ids)} for ids in prompt_ids]
        try:
            return list(self._model.generate(prompts, parameters, use_tqdm=False))
        except Exception as error:  # as above; a prompt beyond the context that its memory allows is a ValueError
            longest = max(prompts, key=lambda one: len(one["prompt_token_ids"]))["prompt_token_ids"]
            raise ReadEnvError(
                f"models.teacher: vLLM gives no answers ({_reason(error)}); the longest of {len(prompts)} prompts has "
                f"{len(longest)} tokens and begins with {self.encoder.text(longest[:20])!r}"
            ) from error

    def _answer(self, output: Any) -> Answer:
        tokens = tuple(int(token) for token in output.token_ids)
        return Answer(tokens, self._targets(tokens, output.logprobs))

    def _targets(self, tokens: Sequence[int], positions: Sequence[Mapping[int, Any]]) -> TeacherTargets:
        """Targets from one mapping per position: token id -> log-probability and rank, the given token included."""
        ranked = [
            [
                (token, entry.logprob)
                for token, entry in sorted(position.items(), key=lambda item: item[1].rank or math.inf)
                if (entry.rank or math.inf) <= self.top_k
            ]
            for position in positions
        ]
        return targets_of(tokens, ranked, top_k=self.top_k, vocabulary=self.encoder.vocabulary, server="vLLM")


def _reason(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__


def import_vllm() -> Any:
    """Import vLLM.

    Raises:
        ReadEnvError: vLLM isn't installed; the message names the extra.
    """
    try:
        return importlib.import_module("vllm")
    except ImportError as error:
        raise ReadEnvError(
            f"a teacher {VLLM}NAME needs the package vllm ({error}); on a machine with a GPU: pip install 'read-env[vllm]'"
        ) from None
