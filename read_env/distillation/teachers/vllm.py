"""A teacher inside vLLM, in this process: the answers of a large model many at a time.

Written after the interface of vLLM 0.33 and tested against a stand-in with the same types; it has not
been run on a GPU yet.
"""

from __future__ import annotations

import importlib
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from read_env.config import ModelConfig
from read_env.distillation.text.completion import Answer
from read_env.distillation.text.encoding import Encoder
from read_env.errors import ReadEnvError
from read_env.losses.targets import TeacherTargets

_LOG = logging.getLogger(__name__)

VLLM = "vllm:"
#: The least tail that a difference from 1 can show, where the kept probabilities are fp32.
_TAIL = 2.0**-24


class VllmTeacher:
    """A model in vLLM that decodes greedily, and scores what others wrote.

    The probabilities are the model's own (``raw_logprobs``): before penalties, temperature and the
    like. vLLM gives the K likeliest and no sum over the others, so the tail is 1 minus their sum, and
    at least 6e-8: below that the difference has no digits. Which prompts share a batch is vLLM's to
    decide, so two askings may differ in the last digits; the cache keeps the first.

    Args:
        location: folder or hub id, as vLLM takes it.
        models: dtype, share of the GPU's memory, GPUs.
        encoder: of the model's tokenizer, whose chat template wraps the prompts.
        weights: digest of the weights.
        max_completion_tokens: answers are cut here.
        top_k: probabilities kept a token.

    Raises:
        ReadEnvError: vLLM isn't installed, or can't load the model.
    """

    batched = True

    def __init__(
        self, location: str, models: ModelConfig, encoder: Encoder, weights: str, *, max_completion_tokens: int,
        top_k: int,
    ) -> None:  # fmt: skip
        vllm = import_vllm()
        self.encoder = encoder
        self.max_completion_tokens = max_completion_tokens
        self.top_k = min(top_k, encoder.vocabulary)
        # A fingerprint reads the whole vocabulary, and every key has the identity in it.
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
                max_model_len=-1,  # what fits into that share of the memory
                # Of the model's own decoding settings nothing is wanted: those of this class are part of the cache's key.
                generation_config="vllm",
            )
        except Exception as error:  # its engine runs in other processes, and raises whatever they died of
            reason = str(error).strip().partition("\n")[0] or type(error).__name__
            raise ReadEnvError(
                f"models.teacher: vLLM could not load {location!r} ({reason}); models.vllm_gpu_memory_utilization is "
                f"{models.vllm_gpu_memory_utilization:g} and models.vllm_tensor_parallel_size is {models.vllm_tensor_parallel_size}"
            ) from error
        _LOG.info(
            "teacher %s in vLLM %s: %s, %d GPUs, %.0f %% of each one's memory", location,
            getattr(vllm, "__version__", "of unknown version"), models.dtype, models.vllm_tensor_parallel_size, 100 * models.vllm_gpu_memory_utilization,
        )  # fmt: skip

    @property
    def identity(self) -> str:
        return self._identity

    def ask(self, texts: Sequence[str], arrived: Callable[[int, Answer], None] | None = None) -> tuple[Answer, ...]:
        """Answers in order."""
        eos = self.encoder.eos_id
        # The tokenizer's end of sequence and no other ends an answer, as with a teacher in transformers.
        greedy = self._parameters(
            temperature=0.0, max_tokens=self.max_completion_tokens, logprobs=self.top_k, detokenize=False,
            ignore_eos=True, stop_token_ids=[eos],
        )  # fmt: skip
        found = self._generate(self.encoder.prompts(texts), greedy)
        return tuple(self._answer(output.outputs[0]) for output in found)

    def score(
        self, texts: Sequence[str], token_ids: Sequence[Sequence[int]]
    ) -> list[tuple[TeacherTargets, torch.Tensor]]:
        """What the teacher thinks of completions that somebody else wrote in its vocabulary.

        Returns:
            For each: its likely tokens at every position, and the (m,) log-probabilities of the given tokens.
        """
        prompt_ids = self.encoder.prompts(texts)
        whole = [[*prompt, *said] for prompt, said in zip(prompt_ids, token_ids, strict=True)]
        # vLLM always writes a token; what it thinks of those before comes along.
        reading = self._parameters(temperature=0.0, max_tokens=1, prompt_logprobs=self.top_k, detokenize=False)
        scored = []
        for output, prompt, said in zip(self._generate(whole, reading), prompt_ids, token_ids, strict=True):
            # One entry a token of the prompt, None for the first, each given those before it.
            positions = list(output.prompt_logprobs)[len(prompt) :]
            targets = self._targets(said, positions)
            own = [position[token].logprob for token, position in zip(said, positions, strict=True)]
            scored.append((targets, torch.tensor(own, dtype=torch.float32)))
        return scored

    def _generate(self, prompt_ids: Sequence[Sequence[int]], parameters: Any) -> list[Any]:
        prompts = [{"prompt_token_ids": list(ids)} for ids in prompt_ids]
        return list(self._model.generate(prompts, parameters, use_tqdm=False))

    def _answer(self, output: Any) -> Answer:
        tokens = tuple(int(token) for token in output.token_ids)
        return Answer(tokens, self._targets(tokens, output.logprobs))

    def _targets(self, tokens: Sequence[int], positions: Sequence[Mapping[int, Any]]) -> TeacherTargets:
        """From one mapping a position, token id -> log-probability and rank; the token that stands there is among them.

        Raises:
            ReadEnvError: fewer than K likeliest tokens of the tokenizer's vocabulary.
        """
        top_ids, top_log_probs, log_tail = [], [], []
        for position in positions:
            likeliest = sorted(
                ((entry.rank, token, entry.logprob) for token, entry in position.items() if entry.rank <= self.top_k)
            )
            known = [(token, log_prob) for _, token, log_prob in likeliest if token < self.encoder.vocabulary]
            if len(known) < self.top_k:
                raise ReadEnvError(
                    f"models.teacher: vLLM gave {len(known)} of the {self.top_k} likeliest tokens at a position; the "
                    f"tokenizer has {self.encoder.vocabulary} tokens: right would be a smaller distill.teacher_top_k"
                )
            top_ids.append([token for token, _ in known])
            top_log_probs.append([log_prob for _, log_prob in known])
            rest = 1.0 - math.fsum(math.exp(log_prob) for _, log_prob in known)
            log_tail.append(math.log(max(rest, _TAIL)) if self.top_k < self.encoder.vocabulary else float("-inf"))
        shape = (len(tokens), self.top_k)
        return TeacherTargets(
            torch.tensor(list(tokens), dtype=torch.int64),
            torch.tensor(top_ids, dtype=torch.int64).view(shape),
            torch.tensor(top_log_probs, dtype=torch.float32).view(shape),
            torch.tensor(log_tail, dtype=torch.float32),
        )


def import_vllm() -> Any:
    """The package.

    Raises:
        ReadEnvError: it isn't installed; names the extra.
    """
    try:
        return importlib.import_module("vllm")
    except ImportError as error:
        raise ReadEnvError(
            f"a teacher {VLLM}NAME needs the package vllm ({error}); on a machine with a GPU: pip install 'read-env[vllm]'"
        ) from None
