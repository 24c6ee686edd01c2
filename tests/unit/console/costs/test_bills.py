"""Bills of AWS and Azure as exports, and the causes of a difference."""

import gzip
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from console.costs.billing_export import bill_of, line_of
from console.costs.causes import CAUSES, causes_of
from console.costs.reconcile import compare
from console.costs.summary import SUMS
from console.costs.usage_export import Export, read_exports
from console.errors import ConsoleError
from tests.examples import examples

DAY = date(2026, 11, 23)

# Headings as AWS and Microsoft write them, the columns that say nothing here left out; the figures are invented.
CUR = (
    "bill_payer_account_id,line_item_usage_start_date,line_item_line_item_type,line_item_product_code,"
    "line_item_usage_type,line_item_usage_amount,pricing_unit,line_item_unblended_cost,line_item_currency_code,"
    "line_item_line_item_description,product_servicecode\n"
    "1,2026-11-23T00:00:00.000Z,Usage,AmazonBedrock,USE1-Claude4.6Sonnet-input-tokens,12.5,1K tokens,0.0375,USD,,\n"
    "1,2026-11-23T01:00:00.000Z,Usage,AmazonBedrock,USE1-Claude4.6Sonnet-output-tokens,2,1K tokens,0.03,USD,,\n"
    "1,2026-11-23T01:00:00.000Z,Usage,AmazonBedrock,USE1-Claude4.6Sonnet-cache-read-input-token-count,40,1K tokens,"
    "0.012,USD,,\n"
    "1,2026-11-23T01:00:00.000Z,Usage,AmazonBedrock,USE1-Claude4.6Sonnet-cache-write-input-token-count,4,1K tokens,"
    "0.015,USD,,\n"
    "1,2026-11-24T01:00:00.000Z,Usage,AmazonBedrock,USE1-openai.gpt-oss-120b-mantle-input-tokens-flex,1,1K tokens,"
    "0.0001,USD,,\n"
    "1,2026-11-24T01:00:00.000Z,Usage,abc123,USE1-MP:USE1_OutputTokenCount-Units,7,Units,0.02,USD,"
    "Claude (Amazon Bedrock Edition),\n"
    "1,2026-11-23T01:00:00.000Z,Tax,AmazonBedrock,,1,,9,USD,,\n"
    "1,2026-11-23T01:00:00.000Z,Usage,AmazonS3,USE1-TimedStorage-ByteHrs,5,GB-Mo,3,USD,,\n"
)
AZURE = (
    "InvoiceSectionName,AccountName,Date,MeterCategory,MeterSubCategory,MeterName,Quantity,UnitOfMeasure,"
    "CostInBillingCurrency,BillingCurrencyCode,ConsumedService,ChargeType\n"
    "s,a,11/23/2026,Azure OpenAI,GPT4o,gpt-4o-0806-Inp-glbl Tokens,30,1K,0.075,USD,Microsoft.CognitiveServices,Usage\n"
    "s,a,11/23/2026,Azure OpenAI,GPT4o,gpt 4o 0806 cached Inp glbl Tokens,10,1K,0.0125,USD,,Usage\n"
    "s,a,11/23/2026,Foundry Models,GPT5,5.4 mini Opt Gl 1M Tokens,0.5,1M,1,USD,,Usage\n"
    "s,a,11/23/2026,Azure OpenAI,GPT4o,gpt 4o mini0718 BatchOutp DataZone Tokens,2,1K,0.0006,USD,,Usage\n"
    "s,a,11/23/2026,Storage,Blob,LRS Data Stored,3,1 GB/Month,5,USD,Microsoft.Storage,Usage\n"
)


def read(tmp_path: Path, text: str, name: str = "bill.csv") -> Export:
    path = tmp_path / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return read_exports([path], {})


@pytest.mark.parametrize("name", ["cur.csv", "cur-00001.csv.gz"])
def test_bedrocks_lines_of_a_cur(tmp_path: Path, name: str) -> None:
    export = read(tmp_path, CUR, name)
    next_day = date(2026, 11, 24)
    assert export.figures == {
        "cost": {(DAY, None): Decimal("0.0945"), (next_day, None): Decimal("0.0201")},
        "input_tokens": {(DAY, None): 56500, (next_day, None): 1000},
        "cached_tokens": {(DAY, None): 40000},
        "output_tokens": {(DAY, None): 2000},
    }
    assert (export.days, export.tiers) == ({DAY, next_day}, {next_day})


@pytest.mark.parametrize("heading", [str, str.lower])
def test_azures_meters(tmp_path: Path, heading: Any) -> None:
    first, _, lines = AZURE.partition("\n")
    export = read(tmp_path, f"{heading(first)}\n{lines}")
    assert {name: sums[DAY, None] for name, sums in export.figures.items()} == {
        "cost": Decimal("1.0881"),
        "input_tokens": 40000,
        "cached_tokens": 10000,
        "output_tokens": 502000,
    }
    assert export.tiers == {DAY}


@pytest.mark.parametrize("text", [CUR, AZURE], ids=["AWS", "Azure"])
def test_a_row_has_no_more_cells_than_there_are_columns(tmp_path: Path, text: str) -> None:
    first, second, third, *lines = text.splitlines()
    shifted = third.replace(",", ",Models, Inc.,", 1)  # a comma that stands in no quotation marks
    with pytest.raises(ConsoleError, match=r"bill\.csv, line 3: has more cells than there are columns"):
        read(tmp_path, "\n".join([first, second, shifted, *lines]))
    with pytest.raises(ConsoleError, match=r"bill\.csv, line 1: is not CSV"):
        read(tmp_path, "\n".join([first, f'"{"x" * 200_000}{second}']))


NO_QUANTITIES = ["1..2", ".", "1E999999999", "٣", f"1.{'0' * 99}", "1" * 90_000]


@pytest.mark.parametrize("quantity", NO_QUANTITIES, ids=range(len(NO_QUANTITIES)))
def test_of_a_quantity_that_is_no_number_only_the_cost_is_counted(tmp_path: Path, quantity: str) -> None:
    figures = read(tmp_path, CUR.replace("12.5", quantity)).figures
    assert (figures["input_tokens"][DAY, None], figures["cost"][DAY, None]) == (44000, Decimal("0.0945"))


def test_a_bill_without_models_says_so(tmp_path: Path) -> None:
    only_storage = "\n".join(line for line in CUR.splitlines() if "Bedrock" not in line or "payer" in line)
    with pytest.raises(ConsoleError, match=r"the columns of AWS CUR 2\.0, and no line about models"):
        read(tmp_path, only_storage)
    with pytest.raises(ConsoleError, match="amounts are in EUR"):
        read(tmp_path, AZURE.replace("USD", "EUR"))
    with pytest.raises(ConsoleError, match="neither a date"):
        read(tmp_path, AZURE.replace("11/23", "13/23"))


@pytest.mark.parametrize(
    ("unit", "tokens"),
    [
        ("1K tokens", 2000),
        ("1M", 2_000_000),
        ("1 Million Tokens", 2_000_000),
        ("1,000", 2000),
        ("Tokens", 2),
        ("Units", None),
        (f"1{' ' * 98}M", 2_000_000),
        (f"1{' ' * 99}M", None),
        (f"1{' ' * 90_000}K", None),
    ],
    ids=range(9),
)
def test_a_unit_that_says_nothing_counts_nothing(unit: str, tokens: int | None) -> None:
    row = {"MeterCategory": "Azure OpenAI", "MeterName": "x Inp Tokens", "Quantity": "2", "UnitOfMeasure": unit}
    bill = bill_of([*row, "Date", "Cost"])
    assert bill
    line = line_of(bill, row | {"Date": "11/23/2026", "Cost": "1"})
    assert line
    assert line.figures.get("input_tokens") == tokens


def ledger(model: str = "m", **sums: Any) -> dict[str, Any]:
    usual = dict.fromkeys(SUMS, Decimal(0)) | {"requests": Decimal(10), "day": str(DAY), "model": model}
    return usual | {name: Decimal(value) for name, value in sums.items()}


def exported(**figures: Any) -> Export:
    return Export({DAY}, {name: {(DAY, "m"): Decimal(value)} for name, value in figures.items()})


def causes(row: dict[str, Any] | None, export: Export) -> dict[str, Decimal]:
    rows = [row] if row else []
    return causes_of(compare(rows, export, [DAY], ["cost"]), rows, export)


TOKENS: dict[str, Any] = {"input_tokens": 100, "output_tokens": 100}


@pytest.mark.parametrize(
    ("row", "export", "expected"),
    [
        (ledger(cost=1), exported(cost=1), {}),
        (ledger(cost=1), exported(cost="1.004"), {"rounding": "0.004"}),
        (None, exported(cost=2), {"elsewhere": 2}),
        (ledger(cost=2, **TOKENS), exported(cost=0), {"not_billed": -2}),
        (ledger(cost=8, unpriced=2, **TOKENS), exported(cost=10, **TOKENS), {"unpriced": 2}),
        (ledger(unpriced=10, **TOKENS), exported(cost=10, **TOKENS), {"unpriced": 10}),
        (ledger(cost=10, usage_estimated=1, **TOKENS), exported(cost="9.5"), {"estimated": "-0.5"}),
        (ledger(cost=10, **TOKENS), exported(cost=15, **TOKENS), {"price": 5}),
        (ledger(cost=10, **TOKENS), exported(cost=20, input_tokens=200, output_tokens=200), {"elsewhere": 10}),
        (ledger(cost=10, **TOKENS), exported(cost=5, input_tokens=50, output_tokens=50), {"not_billed": -5}),
        (ledger(cost=10, **TOKENS), exported(cost=15), {"unexplained": 5}),
    ],
)
def test_a_difference_has_its_cause(row: dict[str, Any] | None, export: Export, expected: dict[str, Any]) -> None:
    assert causes(row, export) == {name: Decimal(value) for name, value in expected.items()}


def test_the_same_tokens_at_another_price_on_a_day_with_a_tier() -> None:
    export = exported(cost=5, **TOKENS)
    export.tiers.add(DAY)
    assert causes(ledger(cost=10, **TOKENS), export) == {"tier": -5}
    assert causes(ledger(cost=10), Export({DAY}, {"cost": {(DAY, None): Decimal(5)}}, {DAY})) == {"tier": -5}


COUNT = st.integers(0, 20)


@settings(max_examples=examples(60))
@given(st.lists(st.tuples(COUNT, COUNT, COUNT, COUNT, COUNT, COUNT, st.booleans()), min_size=1, max_size=4))
def test_causes_add_up_to_the_difference(cases: list[tuple[int, int, int, int, int, int, bool]]) -> None:
    rows, export = list[dict[str, Any]](), Export({DAY}, {"cost": {}, "input_tokens": {}, "output_tokens": {}})
    for number, (ours, theirs, tokens, their_tokens, unpriced, estimated, has_tier) in enumerate(cases):
        sums = {
            "cost": ours,
            "input_tokens": tokens,
            "unpriced": min(unpriced, 10),
            "usage_estimated": min(estimated, 10),
        }
        rows.append(ledger(f"m{number}", **sums))
        export.figures["cost"][DAY, f"m{number}"] = Decimal(theirs) / 7
        export.figures["input_tokens"][DAY, f"m{number}"] = Decimal(their_tokens)
        export.tiers |= {DAY} if has_tier else set()
    found = causes_of(compare(rows, export, [DAY], ["cost"]), rows, export)
    # Without a price nothing is known of the ledger's cost, and all that was charged is to be explained.
    known = sum((row["cost"] for row in rows), Decimal(0))
    assert sum(found.values()) == pytest.approx(sum(export.figures["cost"].values()) - known)
    assert set(found) <= set(CAUSES)
