"""Fit of a surrogate to episodes of a world that is known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from known_world import NAMES, recorded

from read_env.errors import ReadEnvError
from read_env.surrogate.chance import fit_correlations, simulated
from read_env.surrogate.fit import as_tensors, fit, predictions, tensors
from read_env.surrogate.model import factors_of
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


def test_correlations_of_the_random_changes_are_found(known: World) -> None:
    worlds = World(**{name: np.stack([value] * 2) for name, value in known.to_dict().items()})
    worlds = as_tensors(replace(worlds, drift=0 * worlds.drift + 0.02, noise=0 * worlds.noise + 0.002))
    data = tensors(recorded(known, 400, seed=0))
    between = np.eye(4)
    between[0, 1] = between[1, 0] = 0.6
    unseen = predictions(worlds, data)[1][0, :, -1].numpy()
    for persistence, correlation in ((0.0, np.eye(4)), (0.6, between)):
        normals = torch.randn((2, 2, *data["tokens"].shape), generator=torch.Generator().manual_seed(1))
        factors = factors_of(persistence, correlation, data["tokens"].shape[1])
        played = {**data, "profiles": simulated(worlds, data, normals, factors)[0]}
        found = fit_correlations(worlds, played, unseen, seed=0)
        assert found[0] == pytest.approx(persistence, abs=0.12)
        np.testing.assert_allclose(found[1], correlation, atol=0.2)


def test_intervals_of_a_fit_hold_episodes_whose_changes_persist(known: World) -> None:
    """Nine in ten of the outcomes within the 90% interval, where independent changes hold far fewer."""
    record = recorded(known, 160, seed=0)
    worlds = World(**{name: value[None] for name, value in known.to_dict().items()})
    noisy = as_tensors(replace(worlds, drift=0 * worlds.drift + 0.015, noise=0 * worlds.noise + 0.001))
    data = tensors(record)
    normals = torch.randn((2, 1, *data["tokens"].shape), generator=torch.Generator().manual_seed(3))
    profiles = simulated(noisy, data, normals, factors_of(0.7, np.eye(4), data["tokens"].shape[1]))[0].numpy()
    record = replace(record, episodes=replace(record.episodes, profiles=profiles.astype(float)))
    even = np.arange(160) % 4 < 2
    surrogate = fit(record[even], 2, iterations=200)
    new = tensors(record[~even])
    normals = torch.randn((2, 100, 2, *new["tokens"].shape), generator=torch.Generator().manual_seed(4))

    def inside(factors: tuple[np.ndarray, np.ndarray]) -> float:
        ends = [simulated(as_tensors(surrogate.worlds), new, one, factors)[:, :, -1] for one in normals.unbind(1)]
        low, high = np.quantile(torch.cat(ends).numpy(), [0.05, 0.95], axis=0)
        final = record[~even].episodes.final
        return float(((final >= low) & (final <= high)).mean())

    independent = inside(factors_of(0.0, np.eye(4), surrogate.steps))
    assert 0.8 < inside(surrogate.factors) < 0.98 and independent < inside(surrogate.factors) - 0.05


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
