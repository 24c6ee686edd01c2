"""`costs export --format focus`: laws of a bill, over generated entries."""

import json
import re
from collections.abc import Mapping
from decimal import Decimal
from itertools import groupby
from random import Random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from console.export.focus import FOCUS_COLUMNS, focus_rows, parts_of
from tests.examples import examples
from tests.lake.entries import made_entries

MANDATORY = {
    *("BilledCost", "BillingAccountId", "BillingAccountName", "BillingCurrency", "BillingPeriodEnd"),
    *("BillingPeriodStart", "ChargeCategory", "ChargeClass", "ChargeDescription", "ChargePeriodEnd"),
    *("ChargePeriodStart", "ContractedCost", "EffectiveCost", "InvoiceIssuerName", "ListCost", "PricingQuantity"),
    *("PricingUnit", "ProviderName", "PublisherName", "ServiceCategory", "ServiceName"),
}
NEVER_NULL = (MANDATORY - {"ChargeClass"}) | {
    "ConsumedQuantity",
    "ConsumedUnit",
    "ListUnitPrice",
    "SkuId",
    "SkuPriceId",
}


def entries(seed: int, count: int = 40) -> list[dict[str, Any]]:
    made = [each.attributes for each in made_entries(Random(seed), count)]
    dice = Random(seed)
    for each in made:
        if dice.random() < 0.1 and "cost" in each and each.get("cache_status") != "HIT":
            kept = {name: value for name, value in each.items() if not name.startswith("cost_")}
            each.clear()
            each.update(kept | {"pricing": "reported", "cost_reported": each.get("cost", kept["cost"])})
        elif dice.random() < 0.1 and each["pricing"] == "priced":
            each["units"] = {"web_search": dice.randrange(1, 4)} | ({"tool": 1} if dice.random() < 0.5 else {})
            each["cost_units"] = Decimal("0.01") * sum(each["units"].values())
            each["cost"] += each["cost_units"]
    return sorted(made, key=lambda each: each["day"])


@settings(max_examples=examples(15))
@given(st.integers(0, 10**6))
def test_the_bill_is_what_the_entries_cost_to_the_last_digit(seed: int) -> None:
    made = entries(seed)
    rows = list(focus_rows(made))
    billed = [each for each in made if each.get("cache_status") != "HIT"]
    for name in ("BilledCost", "ListCost", "ContractedCost", "EffectiveCost"):
        assert sum(row[name] for row in rows) == sum(each.get("cost", 0) for each in billed)
    for each in billed:
        assert sum(part.cost for part in parts_of(each)) == each.get("cost", 0)
    tokens = sum(row["ConsumedQuantity"] for row in rows if row["ConsumedUnit"] == "Tokens")
    assert tokens == sum(
        each["input_tokens"] + each["output_tokens"] for each in billed if each["pricing"] != "reported"
    ), "each token is in one row"
    for row in rows:
        assert abs(row["ListUnitPrice"] * row["PricingQuantity"] - row["ListCost"]) < Decimal("1e-20")


@settings(max_examples=examples(15))
@given(st.integers(0, 10**6))
def test_rows_are_as_the_specification_wants_them(seed: int) -> None:
    rows = list(focus_rows(entries(seed)))
    assert set(FOCUS_COLUMNS) >= MANDATORY
    keys = [
        json.dumps({k: str(v) for k, v in row.items() if not re.search("Cost|Quantity|Requests", k)}) for row in rows
    ]
    assert len(keys) == len(set(keys)), "what belongs together is one row"
    prices: dict[str, set[str]] = {}
    for row in rows:
        assert tuple(row) == FOCUS_COLUMNS
        assert all(row[name] is not None for name in NEVER_NULL)
        assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT00:00:00Z", row[name]) for name in row if "Period" in name)
        assert row["BillingPeriodStart"] <= row["ChargePeriodStart"] < row["ChargePeriodEnd"] <= row["BillingPeriodEnd"]
        assert row["BillingPeriodStart"][8:10] == row["BillingPeriodEnd"][8:10] == "01"
        assert (row["PricingQuantity"], row["PricingUnit"]) == (row["ConsumedQuantity"], row["ConsumedUnit"])
        assert row["PricingQuantity"] > 0
        assert isinstance(json.loads(row["Tags"]), dict)
        assert row["x_PricingStatus"] != "unpriced" or (
            row["BilledCost"] == 0 and "no price" in row["ChargeDescription"]
        )
        prices.setdefault(row["SkuPriceId"], set()).add(row["SkuId"])
    assert all(len(skus) == 1 for skus in prices.values())


def test_days_come_one_after_another_and_only_one_is_kept() -> None:
    made = entries(3, 80)
    consumed: list[str] = []

    def watched() -> Any:
        for each in made:
            consumed.append(each["day"])
            yield each

    rows = focus_rows(watched())
    first = next(rows)
    assert consumed[-1] == sorted({each["day"] for each in made})[1], (
        "the first day is told as soon as the second begins"
    )
    days = [day for day, _ in groupby([first, *rows], key=lambda row: row["ChargePeriodStart"])]
    assert days == sorted(set(days))


def used(**given_: Any) -> Mapping[str, Any]:
    usual = {"outcome": "completed", "cache_status": "MISS", "pricing": "priced", "usage_source": "reported"}
    tokens = dict.fromkeys(
        ("input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens"), 0
    )
    return usual | tokens | {"reasoning_output_tokens": 0} | given_


def test_every_kind_of_meter() -> None:
    entry = used(
        input_tokens=100,
        cache_read_input_tokens=40,
        cache_creation_input_tokens=10,
        input_audio_tokens=60,
        output_tokens=9,
        reasoning_output_tokens=4,
        audio_duration=Decimal("2.5"),
        units={"web_search": 2, "tool": 1},
        cost_input=Decimal(0),
        cost_cached_input=Decimal(3),
        cost_cache_write=Decimal(1),
        cost_audio_input=Decimal(5),
        cost_cached_audio_input=Decimal(1),
        cost_output=Decimal(5),
        cost_reasoning=Decimal(4),
        cost_audio_duration=Decimal(2),
        cost_request=Decimal(1),
        cost_units=Decimal(3),
        cost=Decimal(25),
    )
    assert {part.meter: (part.unit, part.quantity, part.cost) for part in parts_of(entry)} == {
        "cached_input": ("Tokens", 30, 3),
        "cache_write": ("Tokens", 10, 1),
        "audio_input": ("Tokens", 50, 5),
        "cached_audio_input": ("Tokens", 10, 1),
        "output": ("Tokens", 5, 5),
        "reasoning": ("Tokens", 4, 4),
        "request": ("Requests", 1, 1),
        "audio_duration": ("Seconds", Decimal("2.5"), 2),
        "units": ("Units", 3, 3),
    }


def test_what_costs_without_being_counted_is_told_too() -> None:
    [part] = parts_of(used(cost_output=Decimal(2), cost=Decimal(2)))
    assert part == ("other", "Requests", 1, 2)
    [stated] = parts_of(used(pricing="reported", input_tokens=5, cost=Decimal(7)))
    assert stated == ("stated cost", "Requests", 1, 7)
    assert parts_of(used(cache_status="HIT", input_tokens=5, pricing="free", cost=Decimal(0))) == []
    assert parts_of(used(pricing="none", cost=Decimal(0))) == []
