"""On-policy chunk: quotas -> prompts -> rollouts -> updates, until the tokens are used.

Rollouts and updates alternate, and the number of tokens of a sample is known only afterwards. The budget is
still never overspent: a rollout begins only if its longest possible samples fit into what is left. Samples
are never cut to fit, since a verifier rejects a cut answer. Near the end of the budget rollouts get small;
they are collected for one last update.
"""

from __future__ import annotations

import itertools
import zlib
from dataclasses import dataclass, field

import numpy as np

from read_env.capabilities.base import Suite
from read_env.config import DistillConfig
from read_env.distillation.examples.allocation import Quotas
from read_env.distillation.examples.stream import ExampleStream
from read_env.distillation.student.rollouts import sample_rollouts
from read_env.distillation.student.student import Student, UpdateStats
from read_env.distillation.teachers.base import Teachers
from read_env.distillation.text.completion import Example


@dataclass(frozen=True)
class TrainedChunk:
    """Examples that a chunk trained on, the capability index of each, the optimizer steps of the first pass, and the passes."""

    examples: list[Example] = field(default_factory=list)
    capability_ids: list[int] = field(default_factory=list)
    updates: list[UpdateStats] = field(default_factory=list)
    epochs: int = 1


def train_on_policy(
    student: Student, teacher: Teachers, suite: Suite, stream: ExampleStream, quotas: Quotas,
    config: DistillConfig, *, eligible: np.ndarray, tokens_left: int, total: int, last: bool, seed: str,
) -> TrainedChunk:  # fmt: skip
    """Roll out and update until the quotas are met; in the last chunk until the budget is spent.

    Args:
        student: the student.
        teacher: teachers that score the samples.
        suite: capabilities whose verifiers grade the samples.
        stream: stream of prompts.
        quotas: sampled tokens that each capability is owed.
        config: samples per prompt, prompts per rollout, maximum length.
        eligible: (|C|,) bool, capabilities that may get tokens.
        tokens_left: completion tokens left in the budget.
        total: B, completion tokens.
        last: True in the last chunk of the budget.
        seed: seed of the draws in this chunk.
    """
    chunk = TrainedChunk()
    longest_group = config.num_generations * config.max_completion_tokens
    pending: list[Example] = []  # samples of the current student that no update has used

    def update() -> None:
        if pending:
            spent = total - tokens_left
            chunk.updates.append(student.update(pending, (spent - sum(map(len, pending)) / 2) / total))
            pending.clear()

    for number in itertools.count():
        limit = min(config.rollout_batch_size, tokens_left // longest_group)
        chosen = _choose_prompts(stream, quotas, eligible, student, config.num_generations, limit, last)
        if not chosen or (chunk.updates and not last and len(chosen) < limit / 2):
            break  # what is owed waits for the next chunk: an update on one or two prompts is mostly noise
        samples = sample_rollouts(
            [stream.take_prompt(capability) for capability in chosen], student, teacher, suite,
            num_generations=config.num_generations, max_new_tokens=config.max_completion_tokens,
            seed=zlib.crc32(f"{seed}/{number}".encode()),
        )  # fmt: skip
        capability_ids = [capability for capability in chosen for _ in range(config.num_generations)]
        for capability, sample in zip(capability_ids, samples, strict=True):
            quotas.take(capability, len(sample))
            tokens_left -= len(sample)
        chunk.examples.extend(samples)
        chunk.capability_ids.extend(capability_ids)
        pending.extend(samples)
        if tokens_left // longest_group >= config.rollout_batch_size / 2:
            update()
    update()
    return chunk


def _choose_prompts(
    stream: ExampleStream, quotas: Quotas, eligible: np.ndarray, student: Student, num_generations: int, limit: int,
    last: bool,
) -> list[int]:  # fmt: skip
    """Capability indices of the next prompts by quota, if every sample were as long as the prompt's reference."""

    def expected_tokens(capability: int) -> int:
        prompt = stream.peek_prompt(capability)
        return num_generations * len(student.encoder.completions([prompt.reference], [prompt.text])[0])

    planned = Quotas(len(eligible))
    planned.load_state_dict(quotas.state_dict())
    chosen: list[int] = []
    lengths = [expected_tokens(c) if eligible[c] else 0 for c in range(len(eligible))]
    while len(chosen) < limit and (choice := planned.choose(eligible, lengths, fill=last)) is not None:
        planned.take(choice, lengths[choice])
        chosen.append(choice)
    return chosen
