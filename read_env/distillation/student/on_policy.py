"""A chunk on the student's own samples: quotas -> prompts -> rollouts -> updates, until the tokens are used.

On-policy methods train on what the student says now, so rollouts and updates take turns, and how many
tokens a prompt takes is known only afterwards. The ledger stays exact all the same: no rollout is begun
that could cost more than what is left, and what was sampled is charged as it is. Samples are never cut
to fit, since a verifier takes a cut answer for a wrong one. Where the budget ends, rollouts become
small; they go into one last update together.
"""

from __future__ import annotations

import itertools
import zlib
from dataclasses import dataclass

import numpy as np

from read_env.capabilities.base import Suite
from read_env.config import DistillConfig
from read_env.distillation.examples.allocation import Quotas
from read_env.distillation.examples.stream import Supply
from read_env.distillation.student.rollouts import roll_out
from read_env.distillation.student.student import Student, UpdateStats
from read_env.distillation.teachers.base import ScoringTeacher
from read_env.distillation.text.completion import Sample


@dataclass(frozen=True)
class Practice:
    """What a chunk on own samples did: its samples, the capability of each, and the optimizer steps."""

    samples: list[Sample]
    owners: list[int]
    updates: list[UpdateStats]


def practise(
    student: Student, teacher: ScoringTeacher, suite: Suite, supply: Supply, quotas: Quotas, config: DistillConfig, *,
    open_: np.ndarray, left: int, last: bool, progress: float, seed: str,
) -> Practice:  # fmt: skip
    """Rollouts and updates until the quotas are met, or in the last chunk until the budget is.

    Args:
        student: learns.
        teacher: scores what it says.
        suite: whose verifiers grade it.
        supply: of prompts.
        quotas: what each capability is owed, in sampled tokens.
        config: group size, prompts a rollout, longest sample.
        open_: (|C|,) which capabilities may get tokens.
        left: completion tokens that may be spent.
        last: spend what is left.
        progress: share of the budget that is spent, in [0, 1].
        seed: of the draws in this chunk.
    """
    done = Practice([], [], [])
    group, longest = config.num_generations, config.max_completion_tokens
    few = config.rollout_batch_size / 2
    waiting: list[Sample] = []  # for an update; the student has not changed since they were sampled

    def learn() -> None:
        if waiting:
            done.updates.append(student.update(waiting, progress))
            waiting.clear()

    for number in itertools.count():
        limit = min(config.rollout_batch_size, left // (group * longest))
        chosen = _choose(supply, quotas, open_, student, group, limit, last)
        if not chosen or (done.updates and not last and len(chosen) < limit / 2):
            break  # what is owed waits for the next chunk: an update on one or two prompts is mostly noise
        samples = roll_out(
            [supply.take_prompt(capability) for capability in chosen],
            student,
            teacher,
            suite,
            group=group,
            max_new_tokens=longest,
            seed=zlib.crc32(f"{seed}/{number}".encode()),
        )
        owners = [capability for capability in chosen for _ in range(group)]
        for capability, sample in zip(owners, samples, strict=True):
            quotas.take(capability, len(sample))
            left -= len(sample)
        done.samples.extend(samples)
        done.owners.extend(owners)
        waiting.extend(samples)
        if left // (group * longest) >= few:
            learn()
    learn()
    return done


def _choose(
    supply: Supply, quotas: Quotas, open_: np.ndarray, student: Student, group: int, limit: int, last: bool
) -> list[int]:
    """Capabilities of the next prompts by quota, as if every sample were as long as the prompt's reference."""

    def expected(capability: int) -> int:
        return group * len(student.encoder.completions([supply.peek_prompt(capability).reference])[0])

    ahead = Quotas(len(open_))
    ahead.owed = quotas.owed.copy()
    chosen: list[int] = []
    lengths = [expected(c) if open_[c] else 0 for c in range(len(open_))]
    while len(chosen) < limit:
        choice = ahead.choose(open_, lengths, fill=last)
        if choice is None:
            break
        ahead.take(choice, lengths[choice])
        chosen.append(choice)
    return chosen
