"""One chunk, top to bottom: allocation -> prompts -> completions -> batches -> student -> profile.

:class:`Distillation` owns the student, the streams and the ledger of one run. Each ``step`` spends
the next share of the budget in the wanted proportions and measures the student again.
"""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from read_env.capabilities import get_suite
from read_env.capabilities.base import Split
from read_env.capabilities.contamination import evaluation_hashes
from read_env.capabilities.stream import held_out
from read_env.config import Config
from read_env.distillation.budget import TokenBudget
from read_env.distillation.examples.allocation import Quotas, normalise_allocation
from read_env.distillation.examples.batching import update_groups
from read_env.distillation.examples.curriculum import tertile_shares
from read_env.distillation.examples.stream import Supply
from read_env.distillation.loading import cached, load_student, load_teacher
from read_env.distillation.student.evaluation import ProbeSet, exam, probe_profile
from read_env.distillation.student.on_policy import practise
from read_env.distillation.student.student import Student, UpdateStats
from read_env.distillation.teachers.base import ScoringTeacher, TeacherCache
from read_env.distillation.teachers.cache_use import CacheUse
from read_env.distillation.teachers.local import LocalTeacher
from read_env.distillation.text.alignment import Alignment, align
from read_env.distillation.text.completion import Example, Sample
from read_env.distillation.text.lengths import check_lengths, measure_lengths
from read_env.errors import DivergedError, ReadEnvError

#: Dev prompts a capability that an objective may learn from.
_VALIDATION_PROMPTS = 4


@dataclass(frozen=True)
class ChunkReport:
    """What one step did.

    Attributes:
        step: 1-based index of the step.
        allocation: (|C|,) wanted shares of completion tokens.
        tokens_by_capability: (|C|,) completion tokens given.
        examples_by_capability: (|C|,) examples given.
        completion_tokens: charged to B.
        prompt_tokens: went through the student beside them.
        updates: optimizer steps.
        loss: mean objective, nats per completion token.
        metrics: further means over the updates, as in ``UpdateStats``.
        profile_before, profile: (|C|,) capability profile before and after.
        exhausted: this was the last step.
        seconds: wall-clock by stage: prompts, teacher, cache (answers read from disk), student, probes, other.
        cache: what was asked of the teacher's cache. Like the seconds, no part of the result: it says what
            others had asked before.
    """

    step: int
    allocation: np.ndarray
    tokens_by_capability: np.ndarray
    examples_by_capability: np.ndarray
    completion_tokens: int
    prompt_tokens: int
    updates: int
    loss: float
    metrics: dict[str, float]
    profile_before: np.ndarray
    profile: np.ndarray
    exhausted: bool
    seconds: dict[str, float]
    cache: CacheUse

    @property
    def trained_tokens(self) -> int:
        """Tokens that went through the student, prompts included."""
        return self.completion_tokens + self.prompt_tokens


class Distillation:
    """A budgeted distillation run of one teacher and one student.

    Args:
        config: the resolved configuration.
        student: the student, at S_0.
        cache: the teacher behind its cache; may be shared between runs.
        alignment: the way from the teacher's vocabulary to the student's.
    """

    def __init__(self, config: Config, student: Student, cache: TeacherCache, alignment: Alignment) -> None:
        self.config = config
        self.alignment = alignment
        self.suite = get_suite(config.suite)
        self.student = student
        self.cache = cache
        self._refused = evaluation_hashes(config.decontamination_files)
        self._probe_sets: dict[Split, ProbeSet] = {}
        self.reset(config.seed)

    @classmethod
    def load(cls, config: Config) -> Distillation:
        """Loads both models and encodes the probes.

        Raises:
            ReadEnvError: a model can't be loaded, its context is too short for the prompts, or the objective can't
                cross from one vocabulary to the other.
        """
        torch.set_num_threads(config.models.threads)
        student = load_student(config)
        teacher = load_teacher(config, student)
        check_lengths("student", measure_lengths(config, student.encoder, student.model))
        if isinstance(teacher, LocalTeacher):  # a server doesn't say what its model can read
            check_lengths("teacher", measure_lengths(config, teacher.encoder, teacher.model))
        alignment = align(teacher.encoder, student.encoder, config.distill.loss)
        return cls(config, student, cached(teacher, config.cache), alignment)

    def reset(self, seed: int) -> np.ndarray:
        """Starts a run: student S_0, full budget, the streams of this seed. Returns the profile s_0, (|C|,).

        Raises:
            ReadEnvError: the budget is below one completion, or on-policy below one group of samples.
        """
        config = self.config
        self.seed = seed
        self.step_index = 0
        self.exhausted = False
        self.budget = TokenBudget(config.budget.total_tokens)
        self._supply = self._new_supply()
        self._quotas = Quotas(len(self.suite))
        self._rng = random.Random(f"batches/{seed}")
        self.student.reset(seed)
        if self.student.validates:
            self.student.validation = self.student.validation or self._validation()
            self.budget = self.budget.count(dev_tokens=sum(map(len, self.student.validation)))
        self._check_affordable()
        self.profile = self._measure()
        return self.profile.copy()

    def step(self, weights: Sequence[float] | np.ndarray) -> ChunkReport:
        """Distils one chunk.

        Args:
            weights: (|C|,) non-negative shares of the chunk's completion tokens.

        Raises:
            ReadEnvError: bad weights, or the budget is spent.
            DivergedError: the update exploded. After this error, or any other, everything is as before the step.
        """
        allocation = normalise_allocation(weights, len(self.suite))
        if self.exhausted:
            raise ReadEnvError(
                f"the budget is spent ({self.budget.spent} of {self.budget.total} tokens): reset before the next step"
            )
        started, used = time.perf_counter(), self.cache.use
        before = self.snapshot()
        self._supply.seconds = dict.fromkeys(self._supply.seconds, 0.0)
        try:
            last = self._grant(allocation)
            learned, owners, updates, gathered = (
                self._practise(allocation, last) if self.student.on_policy else (self._teach(allocation, last))
            )
            trained = time.perf_counter()
            profile_before, self.profile = self.profile, self._measure()
        except BaseException:  # a teacher that gave up, an interrupt: a step is taken or it isn't
            self.restore(before)
            raise
        measured = time.perf_counter()
        cache = self.cache.use - used
        stages = {**self._supply.seconds, "cache": cache.read_seconds}
        stages["teacher"] -= cache.read_seconds  # its clock runs until the answers are there
        seconds = {
            **stages, "student": trained - gathered, "probes": measured - trained,
            "other": gathered - started - sum(stages.values()),
        }  # fmt: skip
        return self._report(allocation, learned, owners, updates, profile_before, seconds, cache)

    def dev_profile(self) -> np.ndarray:
        """(|C|,) the probe score on the dev split: for calibration at coarse checkpoints."""
        profile, tokens = self._score("dev", self.config.eval.dev)
        self.budget = self.budget.count(dev_tokens=tokens)
        return profile

    def exam(self) -> np.ndarray:
        """(|C|,) exact match of greedily decoded answers on the exam. For final reports only."""
        profile, generated = self._exact_match(self.config.eval.exam_split, self.config.eval.exam)
        self.budget = self.budget.count(generated_tokens=generated)
        return profile

    def snapshot(self) -> dict[str, Any]:
        """The whole state of the run as tensors, numbers, strings and lists."""
        version, internal, gauss = self._rng.getstate()
        return {
            "seed": self.seed,
            "step_index": self.step_index,
            "exhausted": self.exhausted,
            "budget": self.budget.to_dict(),
            "supply": self._supply.snapshot(),
            "owed": self._quotas.owed.tolist(),
            "rng": [version, list(internal), gauss],
            "profile": self.profile.tolist(),
            "student": self.student.snapshot(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Goes back to a snapshot, exactly.

        Raises:
            ReadEnvError: a snapshot of another budget.
        """
        if state["budget"]["total"] != self.budget.total:
            raise ReadEnvError(
                f"the snapshot's budget.total_tokens is {state['budget']['total']}, the configuration's {self.budget.total}"
            )
        if state["seed"] != self.seed:
            self.seed = state["seed"]
            self._supply = self._new_supply()
        self.step_index = state["step_index"]
        self.exhausted = state["exhausted"]
        self.budget = TokenBudget(**state["budget"])
        self._supply.restore(state["supply"])
        self._quotas.owed = np.array(state["owed"])
        version, internal, gauss = state["rng"]
        self._rng.setstate((version, tuple(internal), gauss))
        self.profile = np.array(state["profile"])
        self.student.restore(state["student"])

    def save_student(self, path: Path | str) -> None:
        """The student in Hugging Face form, tokenizer included."""
        self.student.save(path)

    # --- the stages of a step, in order -------------------------------------------------------

    def _grant(self, allocation: np.ndarray) -> bool:
        """Adds this step's tokens to the quotas; whether it is the last step."""
        steps = self.config.budget.steps
        # Shares of the whole, not of what is left: what one step leaves over stays owed to its capability.
        total = self.budget.total
        self._quotas.grant(allocation, (self.step_index + 1) * total // steps - self.step_index * total // steps)
        self._supply.shares = tertile_shares(self.step_index / max(1, steps - 1), self.config.distill.curriculum)
        self.step_index += 1
        self.exhausted = self.step_index >= steps
        return self.exhausted

    def _teach(self, allocation: np.ndarray, last: bool) -> tuple[list[Example], list[int], list[UpdateStats], float]:
        """Examples of the teacher and updates on them, and when the examples were there."""
        examples, owners = self._gather(allocation, last)
        self._charge(examples)
        gathered, validated = time.perf_counter(), self.student.validated_tokens
        updates = self._train(examples)
        self.budget = self.budget.count(dev_tokens=self.student.validated_tokens - validated)
        return examples, owners, updates, gathered

    def _practise(self, allocation: np.ndarray, last: bool) -> tuple[list[Sample], list[int], list[UpdateStats], float]:
        """Samples of the student's own and updates on them; the clock of the student's stage begins at once."""
        began = time.perf_counter()
        assert isinstance(self.cache.teacher, ScoringTeacher), "load refuses others"
        done = practise(
            self.student, self.cache.teacher, self.suite, self._supply, self._quotas, self.config.distill,
            open_=allocation > 0, left=self.budget.left, last=last,
            progress=(self.step_index - 1) / self.config.budget.steps, seed=f"rollout/{self.seed}/{self.step_index}",
        )  # fmt: skip
        self._charge(done.samples)
        self.budget = self.budget.count(generated_tokens=sum(map(len, done.samples)))
        return done.samples, done.owners, done.updates, began

    def _charge(self, learned: Sequence[Example | Sample]) -> None:
        self.budget = self.budget.spend(sum(map(len, learned)), sum(len(one.prompt_ids) for one in learned))

    def _gather(self, allocation: np.ndarray, last: bool) -> tuple[list[Example], list[int]]:
        """Whole examples for this step, by quota, and the capability of each."""
        left = self.budget.left
        open_ = allocation > 0
        lengths = [len(self._supply.peek(c)) if open_[c] else 0 for c in range(len(allocation))]
        examples: list[Example] = []
        owners: list[int] = []
        while (choice := self._quotas.choose(open_, lengths, fill=last)) is not None:
            if lengths[choice] > left:
                open_[choice] = False
                continue
            if not lengths[choice]:  # no quota would ever be met
                raise ReadEnvError(f"an answer to a prompt of {self.suite.names[choice]} has no tokens for the student")
            example = self._supply.take(choice)
            self._quotas.take(choice, len(example))
            examples.append(example)
            owners.append(choice)
            left -= len(example)
            lengths[choice] = len(self._supply.peek(choice))
        return examples, owners

    def _train(self, examples: list[Example]) -> list[UpdateStats]:
        """Optimizer steps of about ``tokens_per_update`` completion tokens, sequences of like length together."""
        groups = update_groups(examples, self.config.distill.tokens_per_update, self._rng)
        steps = self.config.budget.steps
        # The step index has moved on: these updates lie between the one before and this.
        return [
            self.student.update(group, (self.step_index - 1 + i / len(groups)) / steps)
            for i, group in enumerate(groups)
        ]

    def _report(
        self, allocation: np.ndarray, examples: Sequence[Example | Sample], owners: list[int],
        updates: list[UpdateStats],
        profile_before: np.ndarray, seconds: dict[str, float], cache: CacheUse,
    ) -> ChunkReport:  # fmt: skip
        lengths = np.array([len(e) for e in examples], dtype=np.int64)
        size = len(self.suite)
        tokens = np.bincount(owners, weights=lengths, minlength=size).astype(np.int64)
        weights = [u.tokens for u in updates]
        return ChunkReport(
            step=self.step_index,
            allocation=allocation,
            tokens_by_capability=tokens,
            examples_by_capability=np.bincount(owners, minlength=size),
            completion_tokens=int(tokens.sum()),
            prompt_tokens=sum(len(e.prompt_ids) for e in examples),
            updates=len(updates),
            loss=_mean([u.loss for u in updates], weights),
            metrics={
                name: _mean([u.metrics[name] for u in updates], weights)
                for name in (updates[0].metrics if updates else ())
            },
            profile_before=profile_before.copy(),
            profile=self.profile.copy(),
            exhausted=self.exhausted,
            seconds=seconds,
            cache=cache,
        )

    # --- measuring ----------------------------------------------------------------------------

    def _validation(self) -> list[Example]:
        """Dev prompts with the teacher's answers: for objectives that learn from held-out examples."""
        prompts = [p for c in self.suite for p in held_out(c, "dev", _VALIDATION_PROMPTS)]
        prompt_ids = self.student.encoder.prompts([p.text for p in prompts])
        answers = self.cache.ask([p.text for p in prompts])
        return list(map(self.alignment.example, prompts, prompt_ids, answers))

    def _new_supply(self) -> Supply:
        block_size = self.config.distill.teacher_batch_size
        return Supply(
            self.suite, self.student.encoder, self.cache, self.alignment, self.seed, block_size, self._refused
        )

    def _measure(self) -> np.ndarray:
        profile, tokens = self._score("probes", self.config.eval.probes)
        if not np.isfinite(profile).all():
            raise DivergedError(
                f"the student update diverged: the probe profile is not finite, {profile.tolist()}; "
                f"lower distill.learning_rate (now {self.config.distill.learning_rate})"
            )
        self.budget = self.budget.count(probe_tokens=tokens)
        return profile

    def _score(self, split: Split, per_capability: int) -> tuple[np.ndarray, int]:
        """(|C|,) probe score on a split, and the completion tokens that it took."""
        if self.config.eval.score == "exact-match":
            return self._exact_match(split, per_capability)
        if split not in self._probe_sets:
            self._probe_sets[split] = ProbeSet.build(self.suite, self.student.encoder, split, per_capability)
        probes = self._probe_sets[split]
        with self.student.placement.computing():
            per_token = self.config.eval.score == "token-likelihood"
            return probe_profile(self.student.model, probes, per_token=per_token), probes.scored_tokens

    def _exact_match(self, split: Split, per_capability: int) -> tuple[np.ndarray, int]:
        """(|C|,) exact match of greedily decoded answers on a split, and the tokens that were generated."""
        with self.student.placement.computing():
            scores, generated = exam(
                self.student.model, self.student.encoder, self.suite, split=split, per_capability=per_capability,
                max_new_tokens=self.config.distill.max_completion_tokens,
                batch_size=self.config.eval.eval_batch_size,
            )  # fmt: skip
        return np.array([scores[name] for name in self.suite.names]), generated

    def _check_affordable(self) -> None:
        distill = self.config.distill
        if self.student.on_policy:
            if self.budget.total < distill.num_generations * distill.max_completion_tokens:
                raise ReadEnvError(
                    f"budget.total_tokens is {self.budget.total}, below one group of samples, which may take "
                    f"distill.num_generations ({distill.num_generations}) times distill.max_completion_tokens "
                    f"({distill.max_completion_tokens}) tokens"
                )
            return
        if self.budget.total >= distill.max_completion_tokens:
            return  # whatever the prompts are
        shortest = min(len(self._supply.peek(c)) for c in range(len(self.suite)))
        if self.budget.total < shortest:
            raise ReadEnvError(
                f"budget.total_tokens is {self.budget.total}, below one completion: the shortest at hand has {shortest} tokens"
            )


def _mean(values: list[float], weights: list[int]) -> float:
    return float(np.average(values, weights=weights)) if values else 0.0
