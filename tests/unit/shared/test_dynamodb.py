"""The one codec of values: against boto3's, and exact."""

import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from boto3.dynamodb.types import Binary, TypeDeserializer, TypeSerializer
from hypothesis import given
from hypothesis import strategies as st
from openai_proxy.aws_answers import is_item
from openai_proxy.dynamodb import from_attribute, from_item, to_attribute, to_item

NUMBERS = st.integers(-(10**37), 10**37) | st.decimals(
    allow_nan=False, allow_infinity=False, min_value=-(10**20), max_value=10**20, places=15
)
SCALARS = st.text(max_size=5) | st.booleans() | st.none() | NUMBERS
SETS = (
    st.frozensets(st.text(max_size=3), min_size=1, max_size=3)
    | st.frozensets(NUMBERS, min_size=1, max_size=3)
    | st.frozensets(st.binary(max_size=3), min_size=1, max_size=3)
)
VALUES: st.SearchStrategy[Any] = st.recursive(
    SCALARS | st.binary(max_size=5) | SETS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


def plain(value: Any) -> Any:
    """As it is read back: bytes that are no object of boto3, numbers that are Decimal."""
    kind: type = type(value)  # pyright: ignore[reportUnknownVariableType]
    return READ_AS.get(kind, lambda same: same)(value)


READ_AS: dict[type, Callable[[Any], Any]] = {
    Binary: lambda binary: binary.value,
    dict: lambda parts: {name: plain(each) for name, each in parts.items()},
    list: lambda parts: list(map(plain, parts)),
    set: lambda parts: set(map(plain, parts)),
    frozenset: lambda parts: set(map(plain, parts)),
}


@given(VALUES)
def test_a_value_is_read_as_it_was_written_to_the_last_digit(value: Any):
    assert from_attribute(to_attribute(value)) == plain(value)


@given(VALUES)
def test_what_is_written_is_what_boto3_reads_and_what_boto3_writes_is_read_as_by_boto3(value: Any):
    read: Any = TypeDeserializer().deserialize

    assert plain(read(to_attribute(value))) == plain(value)
    written = TypeSerializer().serialize(value)
    assert from_attribute(written) == plain(read(written))


@given(st.dictionaries(st.text(max_size=3), SCALARS | st.lists(SCALARS, max_size=3), min_size=1, max_size=3))
def test_what_is_written_is_an_item_on_the_wire(values: dict[str, Any]):
    wire = json.loads(json.dumps(to_item(values)))

    assert is_item(wire)
    assert from_item(wire) == values


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_float_is_written_with_all_its_digits(number: float):
    assert from_attribute(to_attribute(number), float) == number


@pytest.mark.parametrize(
    ("value", "digits"),
    [(Decimal("1E-12"), "0.000000000001"), (Decimal("1E+3"), "1000"), (Decimal("0.10"), "0.10"), (7, "7")],
)
def test_numbers_are_written_in_plain_digits(value: Any, digits: str):
    assert to_attribute(value) == {"N": digits}


def test_a_tuple_is_a_list_and_numbers_may_be_read_otherwise():
    assert from_item(to_item({"a": (1, 2), "b": {"c": 3}}), int) == {"a": [1, 2], "b": {"c": 3}}


UNFIT: list[Any] = [object(), frozenset(), {1, "a"}, {True}, [object()], {"a": object()}]


@pytest.mark.parametrize("value", UNFIT)
def test_what_has_no_form_is_refused(value: Any):
    with pytest.raises(TypeError):
        to_attribute(value)


@pytest.mark.parametrize("attribute", [{}, {"S": "a", "N": "1"}, {"X": 1}, {"N": "?"}, {"M": 1}, {"L": [1]}, None, "S"])
def test_what_is_no_attribute_is_refused(attribute: Any):
    with pytest.raises((ValueError, TypeError, AttributeError, ArithmeticError)):
        from_attribute(attribute)
