"""A counter that is divided: what its places are called, and what it says together with its shards."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai_proxy.shards.limits import place_end, place_in


@given(st.integers(0, 10**12))
def test_a_place_is_free_within_a_quarter_of_a_minute_after_its_lease_and_not_before(lease_end: int) -> None:
    end = place_end(place_in(lease_end))
    assert end is not None
    assert lease_end <= end < lease_end + 15


@pytest.mark.parametrize(
    "name", ["", "p", "p_", "p_x", "p_-1", "p_1_2", "p_1.5", "p_\u00b2", "p_\u0663", "q_12", "P_12", "left_12", "12"]
)
def test_other_attributes_are_no_places(name: str) -> None:
    assert place_end(name) is None


def test_a_number_that_no_moment_has_is_no_place() -> None:
    assert place_end(f"p_{'9' * 12}") == 15 * (10**12 - 1)
    assert place_end(f"p_{'9' * 13}") is None
