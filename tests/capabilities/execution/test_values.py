"""The text of plain values."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from read_env.capabilities.execution.values import Unsuitable, text_of

plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=5)
    | st.binary(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.tuples(inner) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(plain)
def test_the_text_of_a_plain_value_is_its_repr(value: Any) -> None:
    assert text_of(value) == repr(value)


def test_the_text_of_a_set_is_in_order() -> None:
    assert text_of({10, 9, 1}) == "{1, 9, 10}"
    assert text_of(frozenset("ba")) == "frozenset({'a', 'b'})"
    assert (text_of(set()), text_of(frozenset())) == ("set()", "frozenset()")
    assert text_of({frozenset({2, 1}), 1}) == "{1, frozenset({1, 2})}"


@pytest.mark.parametrize(
    "value", [object(), range(3), int, len, type("T", (int,), {})(1), "x" * 10**6, [[0] * 9000] * 9]
)
def test_other_values_have_no_text(value: Any) -> None:
    with pytest.raises(Unsuitable):
        text_of(value)
