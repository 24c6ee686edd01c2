"""ULIDs: order, form, time."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai_proxy.events.ulid import new_ulid, ulid_day, ulid_of_fact, ulid_time


@given(st.floats(0, 4e9), st.floats(0, 4e9))
def test_ulids_sort_by_their_time(one: float, other: float) -> None:
    if int(one * 1000) < int(other * 1000):
        assert new_ulid(one) < new_ulid(other)


def test_the_example_of_the_specification() -> None:
    assert ulid_time("01ARYZ6S41TSV4RRFFQ69G5FAV") == datetime(2016, 7, 30, 22, 36, 16, 385000, tzinfo=UTC)
    assert ulid_day("01ARYZ6S41TSV4RRFFQ69G5FAV") == "2016-07-30"


@pytest.mark.parametrize("wrong", ["", "x" * 26, "81ARYZ6S41TSV4RRFFQ69G5FAV", "01ARYZ6S41TSV4RRFFQ69G5FA"])
def test_what_is_no_ulid(wrong: str) -> None:
    with pytest.raises(ValueError, match="not a ULID"):
        ulid_time(wrong)


def test_the_same_fact_has_the_same_id() -> None:
    assert ulid_of_fact(1e9, "a") == ulid_of_fact(1e9, "a") != ulid_of_fact(1e9, "b")
    assert ulid_time(ulid_of_fact(1e9, "a")).timestamp() == 1e9
