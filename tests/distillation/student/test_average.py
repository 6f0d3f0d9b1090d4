"""Average of the student's weights, which probes and dev measure."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from micro import micro_config, same_state

from read_env.distillation.process import Distillation
from read_env.distillation.student.average import WeightAverage

UNIFORM = np.ones(10)


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=8), st.floats(0.01, 0.99))
def test_the_average_weighs_recent_weights_most(values, decay):
    weight = torch.nn.Parameter(torch.zeros(2, dtype=torch.float64))
    average = WeightAverage({"w": weight}, decay)
    expected = 0.0
    for value in values:
        weight.data.fill_(value)
        average.update()
        expected = decay * expected + (1 - decay) * value
    with average.in_place():
        assert weight[0].item() == pytest.approx(expected, abs=1e-9)
    assert weight[0].item() == values[-1]


def test_the_weights_come_back_after_an_error_and_without_an_average_nothing_happens():
    weight = torch.nn.Parameter(torch.zeros(1))
    for decay in (0.0, 0.5):
        average = WeightAverage({"w": weight}, decay)
        weight.data.fill_(3.0)
        with pytest.raises(KeyError), average.in_place():
            assert weight.item() == (0.0 if decay else 3.0)
            raise KeyError
        assert weight.item() == 3.0 and bool(average.state_dict()) == bool(decay)
        weight.data.fill_(0.0)


@pytest.mark.parametrize("score", ["likelihood", "exact-match"])
def test_probes_measure_the_average_and_the_exam_the_student(score):
    plain, averaged = (
        Distillation.load(micro_config(4500, 1500, 12, eval={"ema_decay": decay, "score": score}))
        for decay in (0.0, 0.9)
    )
    assert np.array_equal(plain.profile, averaged.profile), "S_0 is its own average"
    for _ in range(2):
        first, second = plain.step(np.eye(10)[9]), averaged.step(np.eye(10)[9])
    assert first.loss == second.loss and np.array_equal(plain.exam(), averaged.exam()), "training is the same"
    assert not np.array_equal(plain.profile, averaged.profile)
    assert averaged.profile[9] > averaged.reset(0)[9] + 0.1, "the average follows"


def test_an_average_is_part_of_a_snapshot():
    distillation = Distillation.load(micro_config(1200, 400, eval={"ema_decay": 0.9}))
    distillation.step(UNIFORM)
    state = distillation.snapshot()
    after = [distillation.step(UNIFORM).profile for _ in range(2)]
    distillation.restore(state)
    assert same_state(distillation.snapshot(), state)
    assert np.array_equal([distillation.step(UNIFORM).profile for _ in range(2)], after)
    del state["student"]["average"]
    distillation.restore(state)  # a checkpoint without one
    assert np.isfinite(distillation.step(UNIFORM).profile).all()
