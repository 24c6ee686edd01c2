"""The items of the limits table, as everybody who writes or reads them has them."""

from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai_proxy.dynamodb import from_item, to_item
from openai_proxy.limits import (
    EVER,
    EXPIRES_AT,
    LIVE,
    MINUTE,
    PARTS,
    PERIODS,
    REQUESTS,
    TOKENS,
    TOOK,
    WEEKDAYS,
    Calendar,
    Leased,
    Windows,
    bucket_windows,
    counter_key,
    hint_key,
    hint_values,
    leases,
    limits_id_of,
    read_hint,
    shard_id,
)

LONGEST_MODEL = 128

MOMENTS = st.integers(1_700_000_000, 4_000_000_000)
CALENDARS = st.builds(Calendar, st.none() | st.integers(0, 6), st.integers(1, 28), st.booleans())
MONEY = st.decimals("0", "1000000", places=12)
LEASES = st.builds(Leased, st.integers(0, 10**10), MONEY, st.integers(0, 10**10))


@given(st.dictionaries(st.text(min_size=1, max_size=5), LEASES, max_size=3))
def test_leases_of_keys_with_a_budget_are_read_as_they_are_written(written: dict[str, Leased]):
    counter = to_item({"live": {name: lease._asdict() for name, lease in written.items()}})

    assert leases(counter) == written


def test_a_lease_that_says_nothing_of_money_reserves_none():
    assert Leased.of({"end": 5}) == Leased(5, Decimal(0), 0)


def test_days_of_the_week_are_called_as_in_a_calendar_and_a_week_begins_on_the_day_that_is_named():
    for number, name in enumerate(WEEKDAYS):
        day = date.fromisoformat(Windows.of(1_700_000_000, Calendar(number, 1, False)).start("week"))
        assert f"{day:%A}".lower() == name


def test_leases_of_other_keys_are_their_ends():
    counter = to_item({"live": {"a": 5}, "took": {"b": 6}})

    assert (leases(counter), leases(counter, "took")) == ({"a": Leased(5)}, {"b": Leased(6)})
    assert leases({}) == {}


@given(MOMENTS, CALENDARS)
def test_a_period_goes_on_until_the_second_in_which_the_next_begins(moment: int, calendar: Calendar):
    windows = Windows.of(moment, calendar)

    assert windows.periods == tuple(
        each
        for each in PERIODS
        if (each != "week" or calendar.week is not None) and (each != "total" or calendar.total)
    )
    for period in windows.periods:
        start = windows.start(period)
        seconds = windows.to_next(period)
        assert windows.is_in(period, start)
        if seconds is None:
            assert (period, start) == ("total", "ever")
            continue
        last, following = Windows.of(moment + seconds - 1, calendar), Windows.of(moment + seconds, calendar)
        assert last.start(period) == start < following.start(period)
        assert not following.is_in(period, start)
        assert not windows.is_in(period, following.start(period))
        assert moment + seconds <= moment + {"day": 1, "week": 7, "month": 31}[period] * 86400


@given(MOMENTS, CALENDARS)
def test_a_period_begins_with_its_own_day(moment: int, calendar: Calendar):
    windows = Windows.of(moment, calendar)

    assert windows.month <= windows.day
    assert windows.month[7:] in ("", f"-{calendar.month:02}")
    if windows.week:
        assert date.fromisoformat(windows.week).weekday() == calendar.week
        assert 0 <= (date.fromisoformat(windows.day) - date.fromisoformat(windows.week)).days < 7


@given(MOMENTS, CALENDARS, CALENDARS)
def test_a_period_by_a_calendar_of_before_goes_on_until_a_later_one_begins(moment: int, old: Calendar, new: Calendar):
    before, after = Windows.of(moment, old), Windows.of(moment, new)

    for period in set(before.periods) & set(after.periods):
        known = before.start(period)
        assert after.is_in(period, known) == (known >= after.start(period))


@given(MOMENTS, CALENDARS)
def test_a_bucket_says_in_which_periods_it_is_counted(moment: int, calendar: Calendar):
    windows = Windows.of(moment, calendar)
    other = Calendar(calendar.week if calendar.week is not None else 3, calendar.month, total=not calendar.total)

    found = bucket_windows(windows.bucket, other)
    assert found is not None
    assert [found.start(each) for each in PERIODS] == [windows.start(each) for each in PERIODS]
    assert bucket_windows("day_cost", other) is None
    assert bucket_windows(f"r_20261123_{'9' * 12}", other) is None


DAMAGED: list[Any] = [{"cost": 1}, {"end": "x"}, {"end": 1, "cost": "?"}, {"end": 1, "at": []}, "soon", None, []]


@pytest.mark.parametrize("value", DAMAGED)
def test_a_damaged_lease_is_none(value: Any):
    with pytest.raises((KeyError, TypeError, ValueError, ArithmeticError)):
        Leased.of(value)


@given(MONEY, MONEY, st.none() | st.integers(1, 10**9))
def test_a_price_hint_is_read_as_it_is_written(per_input: Decimal, per_output: Decimal, answer: int | None):
    written = hint_key("up", "m") | to_item(hint_values(per_input, per_output, answer))

    assert read_hint(from_item(written)) == (per_input, per_output, answer)


def test_a_hint_is_found_by_as_much_of_a_name_as_it_is_written_by():
    assert hint_key("up", "m" * 500) == hint_key("up", "m" * LONGEST_MODEL) != hint_key("up", "m" * 100)


def test_a_counter_is_its_line_of_keys():
    assert limits_id_of(counter_key("0123456789ab")["pk"]["S"]) == "0123456789ab"


def test_the_names_of_attributes_are_those_that_stacks_have_stored():
    """A sandbox of the version before reads what this one writes, and the other way round."""
    stored = to_item({"live": {"a": {"end": 5}}, "took": {"b": {"end": 6}}})
    assert (LIVE, TOOK, MINUTE, REQUESTS, TOKENS) == ("live", "took", "minute", "requests", "tokens")
    assert (EXPIRES_AT, EVER, PARTS) == ("expires_at", "ever", "parts")
    assert counter_key(shard_id("k", 0)) == counter_key("k")
    assert counter_key(shard_id("k", 7)) == {"pk": {"S": "limits#k#7"}}
    assert (leases(stored, LIVE), leases(stored, TOOK)) == ({"a": Leased(5)}, {"b": Leased(6)})
