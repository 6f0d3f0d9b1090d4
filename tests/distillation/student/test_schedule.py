"""Learning-rate schedules, and the optimizer steps and forward passes that they act on."""

import random
from types import SimpleNamespace
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from micro import micro_config

from read_env.config import DistillConfig
from read_env.distillation.examples.batching import forward_passes, update_groups
from read_env.distillation.process import Distillation
from read_env.distillation.student.schedule import learning_rate_factor

SCHEDULES = get_args(DistillConfig.model_fields["lr_scheduler_type"].annotation)


@given(
    schedule=st.sampled_from(SCHEDULES), progress=st.lists(st.floats(0, 1), min_size=2, max_size=2),
    warmup=st.floats(0, 0.9),
)  # fmt: skip
def test_a_rate_rises_to_its_peak_and_then_never_rises(schedule, progress, warmup):
    early, late = sorted(progress)
    first, second = (learning_rate_factor(schedule, p, warmup) for p in (early, late))
    assert 0 <= first <= 1 and 0 <= second <= 1
    assert first <= second if late < warmup else first >= second or early < warmup
    assert learning_rate_factor(schedule, warmup, warmup) == 1
    assert learning_rate_factor(schedule, 1.0, warmup) == (1 if schedule == "constant" else 0)


def test_wsd_is_constant_until_its_last_fifth():
    assert [learning_rate_factor("wsd", p) for p in (0, 0.5, 0.8, 0.9)] == pytest.approx([1, 1, 1, 0.5])
    assert learning_rate_factor("cosine", 0.5) == pytest.approx(0.5) == learning_rate_factor("linear", 0.5)


class Sized(SimpleNamespace):
    def __len__(self):
        return self.tokens


def made(rng, count):
    return [Sized(prompt_ids=range(rng.randint(1, 60)), tokens=rng.randint(1, 40), number=i) for i in range(count)]


@given(st.integers(0, 2**20), st.integers(1, 120), st.integers(20, 2000))
def test_every_example_is_in_one_update_and_in_one_pass(seed, count, most):
    rng = random.Random(seed)
    examples = made(rng, count)
    groups = update_groups(examples, 100, rng)
    assert sorted(e.number for g in groups for e in g) == list(range(count))
    for group in groups:
        passes = forward_passes(group, most)
        assert sorted(e.number for p in passes for e in p) == sorted(e.number for e in group)
        padded = [len(p) * max(len(e.prompt_ids) + len(e) for e in p) for p in passes]
        assert all(size <= most or len(p) == 1 for size, p in zip(padded, passes, strict=True))


def test_updates_mix_lengths_at_random_or_group_them():
    examples = made(random.Random(0), 400)
    spread = {}
    for by_length in (False, True):
        groups = update_groups(examples, 400, random.Random(1), group_by_length=by_length)
        assert [sum(map(len, g)) for g in groups] == pytest.approx([400] * len(groups), abs=40)
        spread[by_length] = np.mean([np.std([len(e.prompt_ids) + len(e) for e in g]) for g in groups])
    assert spread[False] > 5 * spread[True]


def test_passes_are_trained_on_but_counted_once():
    once, twice = (
        Distillation.load(micro_config(distill={"epochs": n, "lr_scheduler_type": "constant"})).step(np.ones(10))
        for n in (1, 2)
    )
    assert once.completion_tokens == twice.completion_tokens and 2 * once.updates == twice.updates
    assert 2 * once.trained_tokens == twice.trained_tokens
    assert np.array_equal(once.loss_by_capability, twice.loss_by_capability), "both are of the first pass"
    assert twice.profile.mean() != once.profile.mean()


def test_the_rate_of_a_run_follows_the_progress_through_its_budget():
    settings = {"lr_scheduler_type": "linear", "warmup_ratio": 0.0, "epochs": 1, "tokens_per_update": 50}
    distillation = Distillation.load(micro_config(distill=settings))
    rates = [distillation.step(np.ones(10)).metrics["learning_rate"] for _ in range(distillation.config.budget.steps)]
    steps, peak = len(rates), distillation.config.distill.learning_rate
    assert rates == pytest.approx([peak * (1 - (i + 0.5) / steps) for i in range(steps)], abs=0.04 * peak), (
        "means over updates, weighted by their tokens"
    )
