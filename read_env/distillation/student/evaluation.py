"""Evaluation of a student: the probe score that agents see and the exam's exact match.

*Probe score*: mean over prompts of p(reference completion | prompt) under the model, which is the expected exact
match of one sampled completion. It needs one forward pass and no decoding, and changes smoothly with every update,
unlike exact match. Prompts with several right completions: see ``text/choices.py``. *Exam*: greedy decoding; the
capability's verifier checks the final answer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch

from read_env.capabilities.base import Split, Suite
from read_env.capabilities.stream import held_out
from read_env.distillation.models.decoding import greedy
from read_env.distillation.models.head import logit_chunks
from read_env.distillation.models.memory import run_with_halving
from read_env.distillation.text.choices import in_batch, log_right, other_tokens
from read_env.distillation.text.encoding import Batch, Encoder, collate, length_buckets

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class ProbeSet:
    """Fixed held-out set, encoded and batched once.

    Attributes:
        batches: length-bucketed batches.
        capability_ids: for every batch, (n,) capability index of every sequence.
        others: for every batch, two (m,) tensors: indices into its targets, and the other tokens that are right there.
        sizes: (|C|,) prompts per capability.
        scored_tokens: completion tokens scored per evaluation.
        vocabulary: V; token ids are below it.

    Example:
        >>> from read_env.capabilities.micro import MICRO
        >>> from read_env.distillation.loading import load
        >>> ProbeSet.build(MICRO, load("embedded:micro/student").encoder, "probes", per_capability=2).sizes.tolist()
        [2, 2, 2, 2, 2, 2, 2, 2, 2, 2]
    """

    batches: tuple[Batch, ...]
    capability_ids: tuple[torch.Tensor, ...]
    others: tuple[tuple[torch.Tensor, torch.Tensor], ...]
    sizes: np.ndarray
    scored_tokens: int
    vocabulary: int

    @classmethod
    def build(
        cls, suite: Suite, encoder: Encoder, split: Split, per_capability: int, *, seed: int = 0,
        tokens_per_batch: int = 2048,
    ) -> ProbeSet:  # fmt: skip
        """Encode ``per_capability`` prompts of every capability, in batches of about ``tokens_per_batch`` padded tokens."""
        prompts = [p for c in suite for p in held_out(c, split, per_capability, seed)]
        index = {name: i for i, name in enumerate(suite.names)}
        pairs = encoder.pairs([p.text for p in prompts], [p.reference for p in prompts])
        prompt_ids, completion_ids = zip(*pairs, strict=True)
        lengths = [len(p) + len(c) for p, c in pairs]
        right = [other_tokens(encoder, prompt, ids) for prompt, ids in zip(prompts, completion_ids, strict=True)]
        batches, capability_ids, others = [], [], []
        for bucket in length_buckets(lengths, tokens_per_batch):
            batches.append(
                collate([prompt_ids[i] for i in bucket], [completion_ids[i] for i in bucket], encoder.pad_id)
            )
            capability_ids.append(torch.tensor([index[prompts[i].capability] for i in bucket]))
            others.append(in_batch([right[i] for i in bucket], [len(completion_ids[i]) for i in bucket]))
        sizes = np.full(len(suite), per_capability)
        tokens = sum(len(c) for c in completion_ids)
        return cls(tuple(batches), tuple(capability_ids), tuple(others), sizes, tokens, encoder.vocabulary)

    def part(self, chosen: slice) -> ProbeSet:
        """Some of the batches. The profiles of parts that have all batches between them sum to that of the whole."""
        return replace(
            self, batches=self.batches[chosen], capability_ids=self.capability_ids[chosen], others=self.others[chosen]
        )


@torch.inference_mode()
def probe_profile(model: PreTrainedModel, probes: ProbeSet, *, per_token: bool = False) -> np.ndarray:
    """(|C|,) float64 capability profile: mean likelihood of the reference completion, in [0, 1].

    Args:
        model: the student.
        probes: held-out set to score.
        per_token: geometric mean over a reference's tokens in place of their product.
    """
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    totals = np.zeros(len(probes.sizes))
    for batch, ids, others in zip(probes.batches, probes.capability_ids, probes.others, strict=True):
        batch = batch.to(device)
        log_p = torch.cat([
            log_right(logits.float(), batch.targets[part], others, part.start)
            for part, logits in logit_chunks(model, batch, probes.vocabulary)
        ])  # fmt: skip
        sequence = torch.zeros(len(ids), dtype=torch.float64).index_add_(0, batch.rows.cpu(), log_p.double().cpu())
        if per_token:
            sequence /= torch.bincount(batch.rows.cpu(), minlength=len(ids))
        np.add.at(totals, ids.numpy(), sequence.exp().numpy())
    model.train(was_training)
    return totals / probes.sizes


def exam(
    model: PreTrainedModel, encoder: Encoder, suite: Suite, *, split: Split = "exam", per_capability: int = 128,
    seed: int = 0, max_new_tokens: int = 48, batch_size: int = 256,
) -> tuple[dict[str, float], int]:  # fmt: skip
    """Exact match of every capability on a held-out split; see :func:`examine`.

    Args:
        model: the student.
        encoder: encoder of its tokenizer.
        suite: capabilities with their verifiers.
        split: held-out split.
        per_capability: prompts per capability.
        seed: seed of the held-out prompts.
        max_new_tokens: maximum length of a completion, tokens.
        batch_size: prompts decoded together; halved on out-of-memory.

    Returns:
        By capability, the share in [0, 1] of prompts whose greedily decoded final answer the verifier accepts, or the
        likelihood of the references per token where there are no answers to compare with; and the number of tokens generated.
    """
    return examine(
        partial(answer, model, encoder), partial(probe_profile, model), encoder, suite, split=split,
        per_capability=per_capability, seed=seed, max_new_tokens=max_new_tokens, batch_size=batch_size,
    )  # fmt: skip


def examine(
    answers: Callable[[Sequence[str], int], list[list[int]]], profile: Callable[..., np.ndarray], encoder: Encoder,
    suite: Suite, *, split: Split, per_capability: int, seed: int = 0, max_new_tokens: int, batch_size: int,
) -> tuple[dict[str, float], int]:  # fmt: skip
    """Result of :func:`exam` for a student that answers by a function.

    Args:
        answers: token ids of the answers to prompts, of at most that many tokens.
        profile: :func:`probe_profile` of the student.
        encoder: encoder of its tokenizer.
        suite: capabilities with their verifiers.
        split: held-out split.
        per_capability: prompts per capability.
        seed: seed of the held-out prompts.
        max_new_tokens: maximum length of a completion, tokens.
        batch_size: prompts decoded together.
    """
    prompts = [p for c in suite if c.graded for p in held_out(c, split, per_capability, seed)]
    prompts.sort(key=lambda p: len(p.text))
    correct = dict.fromkeys(suite.names, 0)
    generated = 0
    for start in range(0, len(prompts), batch_size):
        group = prompts[start : start + batch_size]
        completions = answers([p.text for p in group], max_new_tokens)
        for prompt, ids in zip(group, completions, strict=True):
            correct[prompt.capability] += suite[prompt.capability].verify(prompt, encoder.text(ids))
            generated += len(ids)
    scores = {name: count / per_capability for name, count in correct.items()}
    others = Suite(suite.name, tuple(c for c in suite if not c.graded))
    if len(others):
        probes = ProbeSet.build(others, encoder, split, per_capability, seed=seed)
        scores |= dict(zip(others.names, profile(probes, per_token=True), strict=True))
    return scores, generated


def answer(model: PreTrainedModel, encoder: Encoder, texts: Sequence[str], max_new_tokens: int) -> list[list[int]]:
    """Token ids of the greedily decoded answers to a batch of prompts, which is halved on out-of-memory."""
    decode = partial(
        greedy, model, max_new_tokens=max_new_tokens, stop_ids=encoder.stop_ids, pad_id=encoder.pad_id,
        vocabulary=encoder.vocabulary,
    )  # fmt: skip
    remedy = "a smaller distill.max_completion_tokens"
    return run_with_halving(decode, encoder.prompts(texts), "decoding an exam", remedy)
