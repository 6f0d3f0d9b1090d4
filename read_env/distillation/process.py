"""One chunk, top to bottom: allocation -> prompts -> completions -> batches -> student -> profile.

:class:`Distillation` owns the student, the example stream and the token budget of one run. Each ``step`` spends
the next share of the budget in the given proportions and evaluates the student on the probes.
"""

from __future__ import annotations

import random
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import TypeAdapter

from read_env.capabilities import get_suite
from read_env.capabilities.base import Capability
from read_env.capabilities.contamination import evaluation_hashes
from read_env.capabilities.splits import fit_splits
from read_env.capabilities.stream import held_out
from read_env.config import Config
from read_env.distillation.budget import TokenBudget, check_group_of_samples
from read_env.distillation.defaults import resolve
from read_env.distillation.examples.allocation import Quotas, normalise_allocation
from read_env.distillation.examples.batching import update_groups
from read_env.distillation.examples.curriculum import tertile_shares
from read_env.distillation.examples.references import with_references
from read_env.distillation.examples.stream import ExampleStream
from read_env.distillation.loading import cached, load_student, load_teachers
from read_env.distillation.measurement import Measurement
from read_env.distillation.pasts import weights_of
from read_env.distillation.report import ChunkReport
from read_env.distillation.starts import EVEN, parse_past
from read_env.distillation.student.on_policy import TrainedChunk, train_on_policy
from read_env.distillation.student.student import Student, UpdateStats
from read_env.distillation.teachers.base import TeacherCache
from read_env.distillation.teachers.routing import align_each, readers_of
from read_env.distillation.text.alignment import Alignment
from read_env.distillation.text.completion import Example
from read_env.distillation.text.lengths import LengthLimit, Reader, fitting_suite, measure_lengths
from read_env.errors import DivergedError, ReadEnvError
from read_env.tasks.card import TaskCard
from read_env.tasks.prompts import TaskPrompts

#: Dev prompts per capability for objectives that validate.
_VALIDATION_PROMPTS = 4


class Distillation:
    """Budgeted distillation run of one teacher and one student.

    Args:
        config: the resolved configuration.
        student: the student, at S_0.
        cache: cache of the teacher; may be shared between runs.
        alignment: converts the teacher's answers into the student's vocabulary.
        past: part of the prompts; by default that of the starting student.
        refused: normalised hashes of further prompts that are never trained on.

    Attributes:
        start: starting student of the run, as in ``models.start``.
        suite: capabilities, without lines of files that are too long.
        overlong: number of such lines by capability, where there are any.
        budget: ledger of the tokens.
        profile: (|C|,) probe scores, each in [0, 1].
        measurement: what measures the student; it doesn't count the tokens.
        task_score: score on the task's probes, in [0, 1]; None for a task without prompts of its own.

    Raises:
        ReadEnvError: prompts that are too long for one of the models.
    """

    def __init__(
        self, config: Config, student: Student, cache: TeacherCache, alignment: Alignment, past: bool | None = None,
        refused: frozenset[int] = frozenset(),
    ) -> None:  # fmt: skip
        self._past = past
        self._weights: dict[tuple[str, frozenset[int]], Mapping[str, torch.Tensor]] = {}
        self.alignment = alignment
        self.student = student
        self.cache = cache
        readers = [Reader.of("student", student.encoder, student.model), *readers_of(cache.teachers)]
        self._limit = LengthLimit(readers, config.distill.max_completion_tokens)
        suite, self.overlong = fitting_suite(get_suite(config.suite), self._limit, config)
        config = fit_splits(config, suite)
        self.suite = with_references(suite, cache, config)
        # A teacher that leaves prompts without an answer leaves fewer.
        self.config = config = fit_splits(config, self.suite)
        for reader in readers:
            if any(map(reader.reads, self.suite.names)):
                measure_lengths(self.suite, reader, config)
        self._excluded_hashes = evaluation_hashes(config.decontamination_files) | refused
        self.measurement = Measurement(config, self.suite, student, cache, self._limit)
        self.task_score: float | None = None
        self.reset(config.seed)

    @classmethod
    def load(cls, config: Config) -> Distillation:
        """Load both models and encode the probes.

        Raises:
            ReadEnvError: a model can't be loaded, its context is too short for the prompts, or the objective needs
                probabilities and the vocabularies differ.
        """
        config = fit_splits(config)
        torch.set_num_threads(config.models.threads)
        config = resolve(config)
        student = load_student(config)
        teachers = load_teachers(config, student)
        # The context is checked for completions of at most that many tokens.
        cut = config.distill.max_completion_tokens
        alignment = align_each(teachers, student.encoder, config.distill.loss, cut)
        return cls(config, student, cached(teachers, config.cache), alignment)

    def reset(self, seed: int, start: str = "", card: TaskCard | None = None) -> np.ndarray:
        """Start a run: student S_0, full budget, streams of this seed.

        Args:
            seed: seed of prompts and batches.
            start: starting student; empty: ``models.start``. It is made first if it isn't on disk.
            card: the task. Where it has prompts of its own, they are measured with the probes and never trained on.

        Returns:
            (|C|,) profile s_0, each in [0, 1].

        Raises:
            ReadEnvError: the budget is below one completion, or on-policy below one group of samples.
        """
        config = self.config
        start = start or config.models.start
        self.take_task(card)
        weights = self._starting_weights(start)
        self.seed, self.start = seed, start
        self.step_index = 0
        self.exhausted = False
        self.budget = TokenBudget(config.budget.total_tokens)
        self._stream = self._new_stream()
        self._quotas = Quotas(len(self.suite))
        self._rng = random.Random(f"batches/{seed}")
        self.student.reset(seed, weights)
        if self.student.validates:
            if not self.student.validation:
                self.student.take_validation(self._validation())
            self.budget = self.budget.count(dev_tokens=sum(map(len, self.student.validation)))
        self._check_affordable()
        self.profile = self._measure()
        return self.profile.copy()

    def take_task(self, card: TaskCard | None) -> None:
        """Measure this task from now on, and keep its prompts out of the streams.

        Raises:
            ReadEnvError: its prompts can't be read, or all of them are too long.
        """
        self.measurement.take_task(card)
        self.task_score = None

    def step(self, weights: Sequence[float] | np.ndarray) -> ChunkReport:
        """Distil one chunk.

        Args:
            weights: (|C|,) non-negative shares of the chunk's completion tokens.

        Raises:
            ReadEnvError: bad weights, or the budget is spent.
            DivergedError: the update diverged. After any error the state is that of before the step.
        """
        allocation = normalise_allocation(weights, len(self.suite))
        if self.exhausted:
            raise ReadEnvError(
                f"the budget is spent ({self.budget.spent} of {self.budget.total} tokens): reset before the next step"
            )
        started, used = time.perf_counter(), self.cache.use
        before = self.snapshot()
        self._stream.seconds = dict.fromkeys(self._stream.seconds, 0.0)
        try:
            last = self._grant(allocation)
            train = self._train_on_samples if self.student.objective.on_policy else self._train_on_answers
            chunk, training_started = train(allocation, last)
            training_ended = time.perf_counter()
            profile_before, self.profile = self.profile, self._measure()
        except BaseException:  # also an interrupt
            self.restore(before)
            raise
        skipped, self._stream.skipped = tuple(self._stream.skipped), []
        measured = time.perf_counter()
        cache = self.cache.use - used
        stages = {**self._stream.seconds, "cache": cache.read_seconds}
        stages["teacher"] -= cache.read_seconds  # the teacher's clock includes the reads from disk
        seconds = {
            **stages, "student": training_ended - training_started, "probes": measured - training_ended,
            "other": training_started - started - sum(stages.values()),
        }  # fmt: skip
        return ChunkReport.of(
            chunk, self.suite.names, self.student.encoder.stop_ids, step=self.step_index, allocation=allocation,
            profile_before=profile_before.copy(), profile=self.profile.copy(), task_score=self.task_score,
            exhausted=self.exhausted, seconds=seconds, cache=cache, skipped=skipped,
        )  # fmt: skip

    @property
    def task(self) -> Capability | None:
        """Prompts of the task itself; None for a task without."""
        return self.measurement.task

    def dev_profile(self) -> np.ndarray:
        """(|C|,) probe score on the dev split, each in [0, 1]: for calibration at coarse checkpoints."""
        profile, tokens = self.measurement.profile("dev")
        self.budget = self.budget.count(dev_tokens=tokens)
        return profile

    def task_probes(self) -> float | None:
        """Score on the task's probes, as :attr:`task_score` holds it; None for a task without prompts of its own."""
        score, tokens = self.measurement.task_score("probes")
        self.budget = self.budget.count(probe_tokens=tokens)
        return score

    def task_dev(self) -> float | None:
        """Score on the task's dev split; None for a task without prompts of its own."""
        score, tokens = self.measurement.task_score("dev")
        self.budget = self.budget.count(dev_tokens=tokens)
        return score

    def task_exam(self) -> float | None:
        """Share of the task's exam that is answered rightly, as :meth:`exam`; None for a task without prompts of its own."""
        score, generated = self.measurement.task_exam()
        self.budget = self.budget.count(generated_tokens=generated)
        return score

    def exam(self) -> np.ndarray:
        """(|C|,) exact match of greedily decoded answers on the exam, each in [0, 1]. For final reports only."""
        profile, generated = self.measurement.exam()
        self.budget = self.budget.count(generated_tokens=generated)
        return profile

    def snapshot(self) -> dict[str, Any]:
        """Whole state of the run as tensors, numbers, strings and lists."""
        version, internal, gauss = self._rng.getstate()
        return {
            "seed": self.seed,
            "start": self.start,
            "step_index": self.step_index,
            "exhausted": self.exhausted,
            "budget": self.budget.to_dict(),
            "stream": self._stream.state_dict(),
            "quotas": self._quotas.state_dict(),
            "rng": [version, list(internal), gauss],
            "profile": self.profile.tolist(),
            **({} if self.task_score is None else {"task_score": self.task_score}),
            "student": self.student.state_dict(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Restore a snapshot, exactly.

        Raises:
            ReadEnvError: the snapshot has another budget.
        """
        if state["budget"]["total"] != self.budget.total:
            raise ReadEnvError(
                f"the snapshot's budget.total_tokens is {state['budget']['total']}, the configuration's {self.budget.total}"
            )
        self.seed, self.start = int(state["seed"]), str(state["start"])
        if self._stream_of != (self.seed, self.start, self.measurement.task_hashes):
            self._stream = self._new_stream()
        profile = np.array(state["profile"], dtype=np.float64)
        if profile.shape != self.profile.shape:
            raise ReadEnvError(f"the snapshot's profile has shape {profile.shape}, not {self.profile.shape}")
        self.step_index = int(state["step_index"])
        self.exhausted = bool(state["exhausted"])
        self.budget = TypeAdapter(TokenBudget).validate_python(state["budget"])
        self._stream.load_state_dict(state["stream"])
        self._quotas.load_state_dict(state["quotas"])
        version, internal, gauss = state["rng"]
        self._rng.setstate((version, tuple(internal), gauss))
        self.profile = profile
        self.task_score = state.get("task_score")
        self.student.load_state_dict(state["student"])

    def save_student(self, path: Path | str) -> None:
        """Save the student in Hugging Face form, tokenizer included."""
        self.student.save(path)

    def close(self) -> None:
        """End the other processes of a student on several devices."""
        self.student.close()

    # --- the stages of a step, in order -------------------------------------------------------

    def _grant(self, allocation: np.ndarray) -> bool:
        """Add this step's tokens to the quotas; True if it is the last step."""
        steps = self.config.budget.steps
        # Shares of the whole budget, not of what is left: unspent tokens of a step stay owed to their capability.
        total = self.budget.total
        self._quotas.grant(allocation, (self.step_index + 1) * total // steps - self.step_index * total // steps)
        self._stream.shares = tertile_shares(self.step_index / max(1, steps - 1), self.config.distill.curriculum)
        self.step_index += 1
        self.exhausted = self.step_index >= steps
        return self.exhausted

    def _train_on_answers(self, allocation: np.ndarray, last: bool) -> tuple[TrainedChunk, float]:
        """Updates on the teacher's answers, and the time at which the answers were complete."""
        examples, capability_ids = self._gather(allocation, last)
        self._charge(examples)
        gathered, validated = time.perf_counter(), self.student.validated_tokens
        distill = self.config.distill
        passes = [
            update_groups(examples, distill.tokens_per_update, self._rng, group_by_length=distill.group_by_length)
            for _ in range(distill.epochs)
        ]
        updates: list[list[UpdateStats]] = []
        count, done = sum(map(len, passes)), 0
        for groups in passes:
            updates.append([])
            for group in groups:
                # ``step_index`` already counts this step. The middle of an update: the last one's rate is above 0.
                progress = (self.step_index - 1 + (done + 0.5) / count) / self.config.budget.steps
                updates[-1].append(self.student.update(group, progress, observe=len(updates) == 1))
                done += 1
        self.budget = self.budget.count(dev_tokens=self.student.validated_tokens - validated)
        return TrainedChunk(examples, capability_ids, updates[0], distill.epochs), gathered

    def _train_on_samples(self, allocation: np.ndarray, last: bool) -> tuple[TrainedChunk, float]:
        """Updates on the student's own samples, and the time at which sampling began."""
        started = time.perf_counter()
        chunk = train_on_policy(
            self.student, self.cache.teachers, self.suite, self._stream, self._quotas, self.config.distill,
            eligible=allocation > 0, tokens_left=self.budget.left, total=self.budget.total, last=last, seed=f"rollout/{self.seed}/{self.step_index}",
        )  # fmt: skip
        self._charge(chunk.examples)
        self.budget = self.budget.count(generated_tokens=sum(map(len, chunk.examples)))
        return chunk, started

    def _charge(self, examples: Sequence[Example]) -> None:
        self.budget = self.budget.spend(sum(map(len, examples)), sum(len(e.prompt_ids) for e in examples))

    def _gather(self, allocation: np.ndarray, last: bool) -> tuple[list[Example], list[int]]:
        """Whole examples for this step by quota, and the capability index of each."""
        left = self.budget.left
        eligible = allocation > 0
        lengths = [len(self._stream.peek(c)) if eligible[c] else 0 for c in range(len(allocation))]
        examples: list[Example] = []
        capability_ids: list[int] = []
        while (choice := self._quotas.choose(eligible, lengths, fill=last)) is not None:
            if lengths[choice] > left:
                eligible[choice] = False
                continue
            example = self._stream.take(choice)
            self._quotas.take(choice, len(example))
            examples.append(example)
            capability_ids.append(choice)
            left -= len(example)
            lengths[choice] = len(self._stream.peek(choice))
        return examples, capability_ids

    # --- evaluation ----------------------------------------------------------------------------

    def _validation(self) -> list[Example]:
        """Dev prompts with the teacher's answers, for objectives that learn from held-out examples."""
        prompts = [p for c in self.suite for p in held_out(c, "dev", min(_VALIDATION_PROMPTS, self.config.eval.dev))]
        prompt_ids = self.student.encoder.prompts([p.text for p in prompts])
        answers = self.cache.complete([p.text for p in prompts], [p.capability for p in prompts])
        return [
            self.alignment(prompt, ids, answer)
            for prompt, ids, answer in zip(prompts, prompt_ids, answers, strict=True)
            if not answer.skipped
        ]

    def _new_stream(self) -> ExampleStream:
        self._stream_of = (self.seed, self.start, self.measurement.task_hashes)
        return ExampleStream(
            self.suite, self.student.encoder, self.cache, self.alignment, self.seed,
            self.config.distill.teacher_batch_size, self._excluded_hashes | self.measurement.task_hashes, self._limit,
            self._past if self.start == EVEN else False,
        )  # fmt: skip

    def _starting_weights(self, start: str) -> Mapping[str, torch.Tensor] | None:
        """Trained weights of a starting student; None for the student as it was loaded."""
        past = parse_past(start, self.suite.names)
        if past is None:
            return None
        # The past must not have seen the user's prompts either; no suite makes those that ship.
        refused = self.measurement.task_hashes if isinstance(self.task, TaskPrompts) else frozenset()
        if (start, refused) not in self._weights:
            self._weights[start, refused] = weights_of(past, self, refused)
        return self._weights[start, refused]

    def _measure(self) -> np.ndarray:
        profile, tokens = self.measurement.profile("probes")
        self.task_score = self.task_probes()
        if not np.isfinite(profile).all():
            raise DivergedError(
                f"the student update diverged: the probe profile is not finite, {profile.tolist()}; "
                f"lower distill.learning_rate (now {self.config.distill.learning_rate})"
            )
        self.budget = self.budget.count(probe_tokens=tokens)
        return profile

    def _check_affordable(self) -> None:
        check_group_of_samples(self.config)
        if self.student.objective.on_policy or self.budget.total >= self.config.distill.max_completion_tokens:
            return  # enough for any completion
        shortest = min(len(self._stream.peek(c)) for c in range(len(self.suite)))
        if self.budget.total < shortest:
            raise ReadEnvError(
                f"budget.total_tokens is {self.budget.total}, below one completion: the shortest at hand has {shortest} tokens"
            )
