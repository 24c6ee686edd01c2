"""The items of the limits table, as everybody who writes or reads them has them."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai_proxy.dynamodb import from_item, to_item
from openai_proxy.limits import (
    LONGEST_MODEL,
    Leased,
    counter_key,
    hint_key,
    hint_values,
    leases,
    limits_id_of,
    read_hint,
)

MONEY = st.decimals("0", "1000000", places=12)
LEASES = st.builds(Leased, st.integers(0, 10**10), MONEY, st.integers(0, 10**10))


@given(st.dictionaries(st.text(min_size=1, max_size=5), LEASES, max_size=3))
def test_leases_of_keys_with_a_budget_are_read_as_they_are_written(written: dict[str, Leased]):
    counter = to_item({"live": {name: lease._asdict() for name, lease in written.items()}})

    assert leases(counter) == written


def test_a_lease_that_says_nothing_of_money_reserves_none():
    assert Leased.of({"end": 5}) == Leased(5, Decimal(0), 0)


def test_leases_of_other_keys_are_their_ends():
    counter = to_item({"live": {"a": 5}, "took": {"b": 6}})

    assert (leases(counter), leases(counter, "took")) == ({"a": Leased(5)}, {"b": Leased(6)})
    assert leases({}) == {}


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
