"""The candidate catalogue: always on the simplex, masked exactly where nothing can be applied."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from read_env.envs.catalogue import Catalogue, ranked_needs, shifted, starting_point, water_filling
from read_env.errors import ReadEnvError

SIZE = 8
CATALOGUE = Catalogue(SIZE)
SCORE = st.floats(0, 1)


def simplexes(size: int = SIZE) -> st.SearchStrategy[np.ndarray]:
    """Points on the simplex, corners and edges included, some of them rounded as observations are."""
    weights = st.lists(st.sampled_from([0.0, 0.0, 1.0, 2.0]) | st.floats(1e-3, 1), min_size=size, max_size=size)
    points = weights.filter(any).map(lambda w: np.array(w) / np.sum(w))
    return points | points.map(lambda w: w.astype(np.float32))


PROFILES = st.lists(SCORE, min_size=SIZE, max_size=SIZE).map(np.array)
LAST = simplexes() | st.just(np.zeros(SIZE))
#: Requirement, profile and last allocation.
Situation = tuple[np.ndarray, np.ndarray, np.ndarray]
SITUATIONS = st.tuples(simplexes(), PROFILES, LAST)


def assert_on_simplex(weights: np.ndarray) -> None:
    assert weights.shape == (SIZE,) and weights.dtype == np.float64
    assert weights.min() >= 0
    assert weights.sum() == pytest.approx(1, abs=1e-9)


@given(SITUATIONS)
def test_what_the_mask_allows_is_on_the_simplex_and_the_rest_is_refused(situation: Situation) -> None:
    mask = CATALOGUE.mask(*situation)
    assert mask.shape == (len(CATALOGUE),) and mask.dtype == bool
    assert mask[list(CATALOGUE.always_applicable)].all(), "the mask-free subset is applicable everywhere"
    for index in range(len(CATALOGUE)):
        if mask[index]:
            assert_on_simplex(CATALOGUE.allocation(index, *situation))
        else:
            with pytest.raises(ReadEnvError):
                CATALOGUE.allocation(index, *situation)


def test_the_mask_free_subset_is_the_largest_possible() -> None:
    # One need, and all weight on it: the state in which least can be done; and its mirror image.
    masks = [CATALOGUE.mask(np.eye(SIZE)[i], np.zeros(SIZE), np.eye(SIZE)[i]) for i in (0, 7)]
    assert tuple(np.flatnonzero(masks[0] & masks[1])) == CATALOGUE.always_applicable
    assert [CATALOGUE.names[i] for i in CATALOGUE.always_applicable] == [
        "need 1", "task-static", "uniform", "water-filling", "keep",
    ]  # fmt: skip


@given(SITUATIONS, st.data())
def test_arguments_are_left_alone(situation: Situation, data: st.DataObject) -> None:
    originals = [array.copy() for array in situation]
    index = data.draw(st.sampled_from(np.flatnonzero(CATALOGUE.mask(*situation)).tolist()))
    CATALOGUE.allocation(index, *situation)[:] = -1
    for array, original in zip(situation, originals, strict=True):
        np.testing.assert_array_equal(array, original)


def test_an_index_means_the_same_in_every_task() -> None:
    index = CATALOGUE.names.index("needs 1+2 at 0.25/0.75")
    for first, second in ((3, 5), (7, 0)):
        requirement = np.zeros(SIZE)
        requirement[[first, second]] = 0.6, 0.4
        weights = CATALOGUE.allocation(index, requirement, np.zeros(SIZE), np.zeros(SIZE))
        assert weights[first] == 0.25 and weights[second] == 0.75


def test_the_catalogue_in_full() -> None:
    kinds = [candidate.kind for candidate in CATALOGUE.candidates]
    assert kinds.count("needs") == 3 + 3 * 3
    assert kinds.count("shift") == 2 * 8 * 7
    assert len(CATALOGUE) == 128 == len(set(CATALOGUE.names))


def test_labels_appear_in_names() -> None:
    assert "shift 0.1 code>math" in Catalogue(2, k=2, labels=("math", "code")).names


def test_first_shift_starts_from_the_requirement() -> None:
    requirement = np.array([0.6, 0.4] + [0] * 6)
    index = CATALOGUE.names.index("shift 0.25 0>7")
    weights = CATALOGUE.allocation(index, requirement, np.zeros(SIZE), np.zeros(SIZE))
    np.testing.assert_allclose(weights, [0.35, 0.4, 0, 0, 0, 0, 0, 0.25])


def test_a_shift_takes_all_when_there_is_less() -> None:
    weights = shifted(np.array([0.06, 0.94]), 0, 1, 0.1)
    np.testing.assert_allclose(weights, [0, 1])
    assert weights[0] == 0  # no dust: the next mask refuses to shift from it


@given(LAST.filter(np.any), st.permutations(range(SIZE)), st.sampled_from([0.1, 0.25]))
def test_a_shift_moves_at_most_its_amount_between_two(last: np.ndarray, order: list[int], amount: float) -> None:
    start = starting_point(last, last)
    i, j, *others = order
    if start[i] > 1e-6:
        weights = shifted(start, i, j, amount)
        assert 0 < start[i] - weights[i] <= amount + 1e-6
        np.testing.assert_array_equal(weights[others], start[others])


def test_water_filling() -> None:
    requirement, profile = np.array([0.5, 0.5, 0]), np.array([0.9, 0.6, 0])
    np.testing.assert_allclose(water_filling(requirement, profile), [0.2, 0.8, 0])
    np.testing.assert_allclose(water_filling(requirement, np.ones(3)), requirement)  # nothing is missing


def test_equal_needs_are_ranked_in_suite_order() -> None:
    np.testing.assert_array_equal(ranked_needs(np.array([0, 0.25, 0.5, 0.25])), [2, 1, 3])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"k": 0}, "k must be between 1 and the 8"),
        ({"k": 9}, "k must be between 1 and the 8"),
        ({"grid": (0.5, 1.0)}, "grid must hold shares"),
        ({"shifts": (0.0,)}, "shifts must be above 0"),
        ({"labels": ("math",)}, "labels must name all 8"),
    ],
)
def test_bad_settings(settings: dict, message: str) -> None:
    with pytest.raises(ReadEnvError, match=message):
        Catalogue(SIZE, **settings)


@pytest.mark.parametrize("index", [-1, 128])
def test_bad_index(index: int) -> None:
    with pytest.raises(ReadEnvError, match=f"between 0 and 127, got {index}"):
        CATALOGUE.allocation(index, np.eye(SIZE)[0], np.zeros(SIZE), np.zeros(SIZE))
