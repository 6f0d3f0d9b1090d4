"""``regmix`` by numbers."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from rule_records import write_run
from rule_steps import observation

from read_env.agents import make_agent
from read_env.agents.rules.regmix import boosted, fit_surface, surface
from read_env.errors import ReadEnvError

NAMES = ("a", "b", "c")
NEEDS = [0.5, 0.5, 0.0]


def bowl(mixtures: np.ndarray) -> np.ndarray:
    """Losses of a, b and c: squared distances from a mixture of each."""
    centers = np.array([[0.6, 0.3, 0.1], [0.4, 0.3, 0.3], [0.0, 0.0, 1.0]])
    return 0.5 + ((mixtures[:, None] - centers) ** 2).sum(axis=-1)


@pytest.fixture
def records(tmp_path: Path) -> Path:
    for index, mixture in enumerate(np.random.default_rng(0).dirichlet(np.ones(3), 25)):
        write_run(tmp_path / "runs" / str(index), NAMES, mixture, [0.2] * 3, np.exp(-bowl(mixture[None])[0]))
    return tmp_path


def allocation(records: Path, **options: Any) -> np.ndarray:
    agent = make_agent("regmix", capabilities=NAMES, options={"runs": str(records), **options})
    return agent.predict(observation([0.2] * 3, NEEDS))[0]


def test_the_surface_is_exact_for_a_quadratic() -> None:
    rng = np.random.default_rng(1)
    mixtures, unseen = rng.dirichlet(np.ones(3), (2, 20))
    assert surface(unseen) @ fit_surface(mixtures, bowl(mixtures), 1e-9) == pytest.approx(bowl(unseen), abs=1e-5)


def test_the_ridge_flattens_products_only() -> None:
    rng = np.random.default_rng(2)
    mixtures = rng.dirichlet(np.ones(3), 20)
    losses = np.column_stack([mixtures @ [1.0, 2.0, 3.0], mixtures[:, 0] * mixtures[:, 1]])
    fitted = fit_surface(mixtures, losses, 1e6)
    assert fitted[:, 0] == pytest.approx([1, 2, 3, 0, 0, 0], abs=1e-4)
    assert np.abs(fitted[3:, 1]).max() < 1e-4


def test_the_best_draws_lie_around_the_minimum(records: Path) -> None:
    # The mean of two squared distances is least halfway between a's and b's mixture.
    found = allocation(records, ridge=1e-9, draws=20_000, best=20)
    assert found == pytest.approx([0.5, 0.3, 0.2], abs=0.02)
    centroid = np.array([1.0, 0.6, 1.4]) / 3
    assert allocation(records, ridge=1e-9, draws=20_000, best=20, objective="mean") == pytest.approx(centroid, abs=0.02)


def test_all_draws_together_are_uniform(records: Path) -> None:
    expected = np.random.default_rng(0).dirichlet(np.ones(3), 50).mean(axis=0)
    assert allocation(records, draws=50, best=50) == pytest.approx(expected, abs=1e-6)


def test_best_is_at_most_draws() -> None:
    with pytest.raises(ReadEnvError, match="'regmix', option 'best' is 20: right would be at most draws, 10"):
        make_agent("regmix", capabilities=NAMES, options={"draws": 10, "best": 20})


def test_lightgbm(records: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in that predicts by the nearest run takes the place of the package."""
    asked: list[dict[str, Any]] = []

    class Nearest:
        def __init__(self, **settings: Any) -> None:
            asked.append(settings)

        def fit(self, x: np.ndarray, y: np.ndarray) -> Nearest:
            self.x, self.y = x, y
            return self

        def predict(self, x: np.ndarray) -> np.ndarray:
            return self.y[((x[:, None] - self.x) ** 2).sum(axis=-1).argmin(axis=1)]

    monkeypatch.setitem(sys.modules, "lightgbm", SimpleNamespace(LGBMRegressor=Nearest))
    found = allocation(records, regressor="lightgbm", draws=5000, best=20)
    assert found == pytest.approx([0.5, 0.3, 0.2], abs=0.15)
    assert len(asked) == 3 and all(one["n_estimators"] == 1000 and one["learning_rate"] == 0.01 for one in asked)


def test_boosted_trees_tell_few_runs_apart() -> None:
    pytest.importorskip("lightgbm")
    rng = np.random.default_rng(0)
    mixtures = rng.dirichlet(np.ones(3), 24)
    losses = 2 - mixtures  # each loss falls with the capability's own share
    draws = rng.dirichlet(np.ones(3), 200)
    predicted = boosted(mixtures, losses, draws)
    assert predicted.shape == (200, 3)
    for column in range(3):
        assert np.corrcoef(predicted[:, column], draws[:, column])[0, 1] < -0.8


def test_a_missing_lightgbm_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lightgbm", None)
    with pytest.raises(
        ReadEnvError, match="'regressor' is 'lightgbm', which is not installed; .*pip install 'read-env.lightgbm.'"
    ):
        make_agent("regmix", capabilities=NAMES, options={"regressor": "lightgbm"})
