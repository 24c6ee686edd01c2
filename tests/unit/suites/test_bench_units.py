"""docs/scale.md says what `bench/units.py` computes, and its sums are right."""

import re
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path

import pytest
from boto3.dynamodb.types import TypeSerializer
from openai_proxy.pricing.price_book import load_price_book

from bench.units import Units, size_of, units

SCALE = (Path(__file__).parents[3] / "docs" / "scale.md").read_text(encoding="utf-8")
COLUMNS = ((25, 1), (25, 5), (25, 25), (1, 1))


def row(name: str) -> list[str]:
    """The cells behind a row's name."""
    [line] = [line for line in SCALE.splitlines() if line.startswith(f"| {name} |")]
    return [cell.strip().strip("*") for cell in line.strip("|").split("|")[1:]]


@pytest.fixture(scope="module")
def measured() -> list[Units]:
    book = load_price_book()
    return [units(*each, book) for each in COLUMNS]


@pytest.mark.parametrize(
    ("name", "attribute"),
    [
        ("DynamoDB transactions", "transactions"),
        ("write units of the ledger", "write_units"),
        ("of them in the partition of the day", "rollup_units"),
    ],
)
def test_the_units_are_those_of_the_code(name: str, attribute: str, measured: list[Units]) -> None:
    assert [float(cell) for cell in row(name)] == [getattr(each, attribute) for each in measured]


def test_the_sizes_are_those_of_the_code(measured: list[Units]) -> None:
    names = ("the event, `InferenceCompleted`", "its ledger entry", "a rollup", "its line for the lake")
    said = [int(row(name)[0].replace(",", "")) for name in names]
    largest = max(each.rollup_bytes for each in measured)
    one = measured[0]
    assert said == [one.event_bytes, one.entry_bytes, largest, one.lake_bytes]


def test_every_line_of_the_bill_and_their_sum_are_right() -> None:
    bill = SCALE.partition("## A million requests")[2].partition("So the wait")[0]
    lines = re.findall(r"\| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \|$", bill, re.MULTILINE)
    assert len(lines) == 14
    for amount, price, product in lines:
        cents = (Decimal(amount) * Decimal(price)).quantize(Decimal("0.01"), ROUND_HALF_UP)
        assert cents == Decimal(product)
    total = sum(Decimal(product) for _, _, product in lines)
    assert f"**{total}**" in bill
    of_proxy = Decimal(row("proxy: GB-s, 10 s at 0.25 GB")[2])
    assert f"${total - of_proxy} for a million" in SCALE


def test_an_item_is_as_large_as_dynamodb_counts_it() -> None:
    serialize = TypeSerializer().serialize
    attributes = {"name": "größe", "n": Decimal("123.4500"), "yes": True, "list": ["a"], "map": {"k": "vv"}}

    # name 4 + 7 bytes; n 1 + 1 + 3 for five digits; yes 3 + 1; list 4 + 3 + 1 + 1; map 3 + 3 + 1 + 1 + 2
    assert size_of({name: serialize(value) for name, value in attributes.items()}) == 11 + 5 + 4 + 9 + 10
