"""Fit of a surrogate to episodes of a world that is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from known_world import NAMES, recorded

from read_env.errors import ReadEnvError
from read_env.surrogate.fit import as_tensors, fit, predictions, tensors
from read_env.surrogate.record import Record
from read_env.surrogate.world import World


def test_a_fit_predicts_new_episodes_and_finds_the_drill(known: World) -> None:
    surrogate = fit(recorded(known, 120, seed=0), 3, iterations=250)
    assert (
        surrogate.capabilities == NAMES and surrogate.count == 3 and set(surrogate.starts) == {"student 0", "student 1"}
    )
    new = recorded(known, 60, seed=1)
    _, whole = predictions(as_tensors(surrogate.worlds), tensors(new))
    error = whole[:, :, -1].mean(0).numpy() - new.episodes.final
    gains = new.episodes.final - new.episodes.start
    assert (np.sqrt((error**2).mean(0)) < 0.35 * gains.std(0) + 0.01).all()
    transfer = surrogate.worlds.transfer.mean(0)
    assert transfer[0, 1] > 0.1 and transfer[0, 1] > 4 * np.delete(transfer.ravel(), 1).max()
    speed = surrogate.worlds.speed.mean(0)
    assert speed[[0, 2]].min() > 3 * speed[[1, 3]].max()
    np.testing.assert_allclose(surrogate.worlds.loss + surrogate.worlds.loss_slope, 2.1, rtol=0.05)


def test_noise_is_estimated_and_worlds_differ(known: World) -> None:
    quiet, loud = (fit(recorded(known, 60, seed=2, noise=noise), 3, iterations=120).worlds for noise in (0.002, 0.03))
    assert 0.02 < np.hypot(loud.noise, loud.drift / np.sqrt(2)).mean() < 0.045
    assert loud.noise.mean() > 2 * quiet.noise.mean()
    assert loud.speed.std(0).max() > 0


def test_few_episodes_are_refused(known: World) -> None:
    with pytest.raises(ReadEnvError, match="at least 20 recorded episodes, got 7"):
        fit(recorded(known, 7, seed=0), 2)


def test_a_saved_record_is_loaded_as_it_was(known: World, tmp_path: Path) -> None:
    record = recorded(known, 6, seed=0)
    record.save(tmp_path / "record.npz")
    loaded = Record.load(tmp_path / "record.npz")
    assert loaded.capabilities == record.capabilities and loaded.total_tokens == record.total_tokens
    np.testing.assert_allclose(loaded.episodes.profiles, record.episodes.profiles, atol=1e-4)
    np.testing.assert_allclose(loaded.episodes.tokens, record.episodes.tokens, atol=0.5)
    np.testing.assert_array_equal(loaded.episodes.students, record.episodes.students)
    np.testing.assert_allclose(loaded.rates, record.rates, atol=1e-3)


def test_a_damaged_record_is_refused(tmp_path: Path) -> None:
    (tmp_path / "record.npz").write_bytes(b"PK nothing")
    with pytest.raises(ReadEnvError, match="holds no recorded episodes"):
        Record.load(tmp_path / "record.npz")
