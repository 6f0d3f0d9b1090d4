"""Dynamics of a surrogate."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from read_env.surrogate.model import Surrogate
from read_env.surrogate.wide import draw_requirements, draw_worlds
from read_env.surrogate.world import World, expected, plain


def test_own_tokens_teach_and_those_of_others_do_not() -> None:
    after = expected(plain(3), np.full(3, 0.2), np.array([2.0, 0.0, 0.0]), 1.0)
    assert after[0] > 0.25 and after[1:].tolist() == [0.2, 0.2]


def test_tokens_teach_less_at_a_lower_rate_and_nothing_at_none() -> None:
    world, start, tokens = plain(2), np.full(2, 0.2), np.array([2.0, 2.0])
    gains = [float((expected(world, start, tokens, rate) - start).sum()) for rate in (1.0, 0.5, 0.0)]
    assert gains[0] > gains[1] > gains[2] == 0


def test_a_helper_that_is_missing_slows_learning_and_a_drill_teaches_others() -> None:
    start, tokens = np.array([0.0, 0.2]), np.array([0.0, 2.0])
    helpers = np.array([[0.0, 1.0], [1.0, 0.0]])
    stuck = plain(2, dependence=[0.0, 1.0], helpers=helpers)
    assert expected(stuck, start, tokens, 1.0)[1] == pytest.approx(0.2)
    helped = expected(stuck, np.array([1.0, 0.2]), tokens, 1.0)[1]
    assert helped == pytest.approx(float(expected(plain(2), start, tokens, 1.0)[1]))
    drill = plain(2, transfer=[[0.0, 0.5], [0.0, 0.0]])
    assert expected(drill, start, np.array([2.0, 0.0]), 1.0)[1] > 0.5


def test_a_few_own_tokens_prevent_forgetting() -> None:
    world = plain(2, interference=[[0.0, 0.3], [0.0, 0.0]], speed=0.0, rehearsal=0.05)
    start = np.full(2, 0.8)
    neglected, rehearsed = (expected(world, start, np.array([2.0, own]), 1.0)[1] for own in (0.0, 0.2))
    assert neglected < 0.5 and rehearsed > 0.78


@given(seed=st.integers(0, 10_000), size=st.integers(2, 16))
def test_scores_stay_between_bottom_and_ceiling_in_every_drawn_world(seed: int, size: int) -> None:
    rng = np.random.default_rng(seed)
    worlds, now = draw_worlds(rng, 8, size)
    assert ((now >= worlds.bottom - 1e-6) & (now <= worlds.ceiling + 1e-6)).all()
    for _ in range(5):
        now = expected(worlds, now, 5 * rng.dirichlet(np.ones(size), 8).astype(np.float32), 0.7)
        assert ((now >= worlds.bottom - 1e-5) & (now <= worlds.ceiling + 1e-5)).all()


def test_one_world_many_worlds_and_torch_give_the_same() -> None:
    rng = np.random.default_rng(0)
    worlds, starts = draw_worlds(rng, 3, 5)
    tokens = rng.dirichlet(np.ones(5), 3).astype(np.float32)
    many = expected(worlds, starts, tokens, 0.5)
    for row in range(3):
        np.testing.assert_allclose(many[row], expected(worlds[row], starts[row], tokens[row], 0.5), rtol=1e-5)
    there = World(**{name: torch.from_numpy(value) for name, value in worlds.to_dict().items()})
    np.testing.assert_allclose(
        many, expected(there, torch.from_numpy(starts), torch.from_numpy(tokens), 0.5), rtol=1e-4
    )


@given(seed=st.integers(0, 10_000), size=st.integers(1, 16))
def test_drawn_requirements_lie_on_the_simplex_with_at_most_five_needs(seed: int, size: int) -> None:
    drawn = draw_requirements(np.random.default_rng(seed), 16, size)
    np.testing.assert_allclose(drawn.sum(1), 1, rtol=1e-5)
    assert (drawn >= 0).all() and ((drawn > 0).sum(1) <= min(5, size)).all()


def surrogate(known: World) -> Surrogate:
    worlds = World(**{name: np.stack([value, value]) for name, value in known.to_dict().items()})
    return Surrogate(("a", "b", "c", "d"), 10_000, 3_000, worlds, {"even": np.full(4, 0.25)}, np.full(4, 0.9))


def test_the_tokens_of_the_steps_sum_to_the_budget_and_the_rate_falls(known: World) -> None:
    made = surrogate(known)
    assert made.steps == 3 and made.tokens.tolist() == [3_000, 3_000, 4_000]
    assert (np.diff(made.rates) < 0).all() and made.rates[0] < 1


def test_a_saved_surrogate_is_loaded_as_it_was(known: World, tmp_path) -> None:  # type: ignore[no-untyped-def]
    made = surrogate(known)
    made.save(tmp_path / "s.json")
    loaded = Surrogate.load(tmp_path / "s.json")
    assert loaded.capabilities == made.capabilities and loaded.tokens.tolist() == made.tokens.tolist()
    np.testing.assert_allclose(loaded.worlds.transfer, made.worlds.transfer, atol=1e-6)
    np.testing.assert_array_equal(loaded.starts["even"], made.starts["even"])


def test_random_changes_of_a_file_of_format_2_are_independent(known: World, tmp_path) -> None:  # type: ignore[no-untyped-def]
    import json

    surrogate(known).save(tmp_path / "s.json")
    values = json.loads((tmp_path / "s.json").read_text())
    (tmp_path / "s.json").write_text(json.dumps({k: v for k, v in values.items() if k not in _NEW} | {"format": 2}))
    over_steps, over_capabilities = Surrogate.load(tmp_path / "s.json").factors
    np.testing.assert_array_equal(over_steps, np.eye(3))
    np.testing.assert_array_equal(over_capabilities, np.eye(4))


#: Keys that files of format 2 lack.
_NEW = ("persistence", "correlation")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v: v.pop("worlds"), "is no surrogate: KeyError"),
        (lambda v: v.update(format=7), "has surrogate format 7"),
        (lambda v: v.update(capabilities=["a"]), "don't fit its 1 capabilities"),
        (lambda v: v.update(starts={}), "don't fit"),
        (lambda v: v.update(step_tokens=0), "is no surrogate: ZeroDivisionError"),
        (lambda v: v.update(correlation=np.full((4, 4), -1.0).tolist()), "is no surrogate: LinAlgError"),
        (lambda v: v.update(correlation=[[1.0]]), "don't fit its 4 capabilities"),
    ],
)
def test_a_file_that_is_no_surrogate_is_refused(known: World, tmp_path, change, message: str) -> None:  # type: ignore[no-untyped-def]
    import json

    from read_env.errors import ReadEnvError

    surrogate(known).save(tmp_path / "s.json")
    values = json.loads((tmp_path / "s.json").read_text())
    change(values)
    (tmp_path / "s.json").write_text(json.dumps(values))
    with pytest.raises(ReadEnvError, match=message):
        Surrogate.load(tmp_path / "s.json")


def test_a_missing_surrogate_is_named() -> None:
    from read_env.errors import ReadEnvError

    with pytest.raises(ReadEnvError, match="unknown surrogate 'mircro': did you mean 'micro'"):
        Surrogate.load("mircro")
    with pytest.raises(ReadEnvError, match="no such file"):
        Surrogate.load("nowhere.json")
