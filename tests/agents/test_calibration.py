"""Calibration and the decay of κ, with numbers worked out by hand."""

from __future__ import annotations

from typing import Any

import pytest

from read_env.agents.calibration import Calibration


def test_the_line_through_three_checkpoints() -> None:
    calibration = Calibration(kappa=1.0)
    rewards = [0.02, 0.03, 0.01, 0.01, 0.03, 0.05]
    dev = [None, 0.40, None, 0.44, None, 0.50]
    for reward, utility in zip(rewards, dev, strict=True):
        calibration.record(reward, utility)
    # Since the first checkpoint (proxy .05, dev .40): x = 0, .02, .10 and y = 0, .04, .10.
    # Means .04 and .14/3; Sxx = .0016 + .0004 + .0036 = .0056,
    # Sxy = .04·.14/3 + .02·.02/3 + .06·.16/3 = (.0056 + .0004 + .0096)/3 = .0052.
    slope, offset = calibration.line()
    assert slope == pytest.approx(0.0052 / 0.0056)
    assert offset == pytest.approx(0.14 / 3 - 0.04 * 0.0052 / 0.0056)
    assert calibration.kappa == 1.0


def test_the_proxy_is_taken_at_its_word_before_two_checkpoints_differ() -> None:
    calibration = Calibration(kappa=1.0)
    assert calibration.line() == (1.0, 0.0)
    calibration.record(0.1, 0.3)
    assert calibration.line() == (1.0, 0.0)
    calibration.record(0.0, 0.4)  # no proxy reward in between: no slope to be had
    assert calibration.line() == (1.0, 0.0)


SEVEN_TENTHS = [(0.40, 2.0), (0.45, 2.0), (0.45, 1.4), (0.43, 0.98), (0.44, 0.686), (0.46, 0.686)]
WITHIN_THE_TOLERANCE = [(0.40, 2.0), (0.405, 1.0), (0.42, 1.0)]


@pytest.mark.parametrize(
    ("settings", "course"), [({}, SEVEN_TENTHS), ({"decay": 0.5, "tolerance": 0.01}, WITHIN_THE_TOLERANCE)]
)
def test_kappa_shrinks_at_each_checkpoint_without_progress(settings: Any, course: list[tuple[float, float]]) -> None:
    calibration = Calibration(kappa=2.0, **settings)
    for utility, kappa in course:
        calibration.record(0.01, None)
        calibration.record(0.01, utility)
        assert calibration.kappa == pytest.approx(kappa), utility


def test_an_episode_starts_anew_and_a_state_is_the_whole_of_it() -> None:
    calibration = Calibration(kappa=1.0)
    for utility in (0.4, 0.3, 0.35):
        calibration.record(0.02, utility)
    twin = Calibration(kappa=1.0)
    twin.load_state_dict(calibration.state_dict())
    assert (twin.kappa, twin.line(), twin.points) == (calibration.kappa, calibration.line(), calibration.points)
    calibration.start_episode()
    assert (calibration.kappa, calibration.points, calibration.proxy) == (1.0, [], 0.0)
