"""`costs what-if`: laws of the comparison over generated entries, and what is said of what cannot be known."""

from collections.abc import Mapping
from decimal import Decimal
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai_proxy.pricing.price_book import parse_price_book

from console.what_if.command import as_document, as_text, is_version_of
from console.what_if.figures import OF_ENTRIES, STATED, UNKNOWABLE, Target, WhatIf, what_if
from tests.examples import examples
from tests.lake.entries import LATER_PRICES, PRICES, made_entries

BOOK = parse_price_book(
    """
    servers:
      mistral:
        models:
          large: {input: 2, cached_input: 0.5, output: 6, units: {web_search: 0.03}}
          flat: {request: 0.01}
          pages: {input: 1, image_input: 9, output: 2}
    """
)
LARGE = Target(BOOK, "mistral", "large")


def entries(seed: int, count: int = 40) -> list[dict[str, Any]]:
    """As they are read for the comparison: no other attributes."""
    made = [{"pk": each.key[0], "sk": each.key[1], **each.attributes} for each in made_entries(Random(seed), count)]
    return [{name: value for name, value in each.items() if name in OF_ENTRIES} for each in made]


def is_asked(entry: Mapping[str, Any]) -> bool:
    return entry.get("cache_status") != "HIT"


@settings(max_examples=examples(10))
@given(st.integers(0, 10**6))
def test_the_prices_that_held_change_nothing(seed: int) -> None:
    made = [each for each in entries(seed) if each["pricing"] in ("priced", "free", "none")]
    for book in (PRICES, LATER_PRICES):
        own = [each for each in made if not is_asked(each) or each.get("price_version") == book.version]
        found = what_if(own, Target(book), ["client", "model"])
        assert found.total.old == found.total.new
        assert all(sums.difference == 0 for sums in (*found.classes.values(), *found.groups.values()))
        assert found.total.requests + found.cache_hits == len(own)
        assert not found.reasons


@settings(max_examples=examples(10))
@given(st.integers(0, 10**6))
def test_another_model_is_priced_by_class_to_the_last_digit(seed: int) -> None:
    made = entries(seed)
    found = what_if(made, LARGE, ["client", "tag:team"])
    both = [each for each in made if is_asked(each) and "cost" in each and each["usage_source"] != "missing"]
    million = Decimal(10) ** 6
    cached = sum(each["cache_read_input_tokens"] for each in both)
    fresh = sum(each["input_tokens"] for each in both) - cached
    new = (2 * fresh + Decimal("0.5") * cached + 6 * sum(each["output_tokens"] for each in both)) / million
    assert (found.total.requests, found.total.old, found.total.new) == (len(both), sum(e["cost"] for e in both), new)
    assert found.classes["cached_input"].new == Decimal("0.5") * cached / million
    for name in ("old", "new"):
        for sums in (found.classes, found.groups):
            assert sum(getattr(each, name) for each in sums.values()) == getattr(found.total, name)
    assert found.new_without_cache == new + Decimal("1.5") * cached / million
    assert found.total.requests + found.cache_hits + found.unpriced_before + sum(found.reasons.values()) == len(made)


def used(**given_: Any) -> dict[str, Any]:
    usual = {
        "sk": "01M83VWEZ54TFF59TDWH9EDD1R",
        "client_id": "shop",
        "server": "openai",
        "model": "gpt",
        "outcome": "completed",
    }
    usual |= {"cache_status": "MISS", "pricing": "priced", "usage_source": "reported", "cost": Decimal(1)}
    tokens = ("input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
    return usual | dict.fromkeys(tokens, 0) | {"reasoning_output_tokens": 0} | given_


def test_what_has_no_price_on_either_side_is_counted_with_its_reason() -> None:
    unpriced = used(pricing="unpriced", input_tokens=5)
    del unpriced["cost"]
    images = used(input_tokens=5)
    found = what_if([unpriced, used(usage_source="missing"), used(cache_status="HIT"), used(input_tokens=5)], LARGE)
    assert (found.unpriced_before, found.reasons, found.cache_hits) == (1, {"usage_missing": 1}, 1)
    assert (found.total.requests, found.total.old, found.total.new) == (1, 1, Decimal("0.00001"))
    assert what_if([images], Target(BOOK, "mistral", "pages")).reasons == {"usage_incomplete": 1}
    assert what_if([images], Target(BOOK, "mistral", "none")).reasons == {"unknown_price": 1}


def test_tiers_stated_costs_and_pieces_are_those_of_the_server_that_answered() -> None:
    stated = used(pricing="reported", cost_reported=Decimal(1), service_tier="flex", input_tokens=10**6)
    searched = used(units={"web_search": 2, "maps": 3}, input_tokens=10**6, usage_source="estimated")
    found = what_if([stated, searched], LARGE)
    assert (found.classes[STATED].old, found.classes[STATED].new) == (1, 0)
    assert (found.classes["input"].new, found.classes["units"].new) == (4, Decimal("0.06"))
    assert (found.tiers, found.unpriced_units, found.usage_estimated) == (1, 3, 1)
    assert what_if([stated], Target(BOOK)).total.new == 1, "with its own model the server's word holds"
    flat = what_if([used()], Target(BOOK, "mistral", "flat"))
    assert (flat.classes["request"].new, flat.total.percent) == (Decimal("0.01"), -99)


def test_what_it_says() -> None:
    found = what_if([used(input_tokens=100), used(usage_source="missing"), used(cache_status="HIT")], LARGE, ["client"])
    text = as_text(found)
    assert "TOTAL" in text
    assert "shop" in text
    assert "1 usage_missing" in text
    assert all(each in text for each in UNKNOWABLE)
    document = as_document(found, LARGE)
    assert document["groups"] == [
        {
            "client_id": "shop",
            "requests": 1,
            "cost_old": 1,
            "cost_new": Decimal("0.0002"),
            "cost_difference": Decimal("-0.9998"),
        }
    ]
    assert document["left_out"] == {"without_new_price": {"usage_missing": 1}, "without_old_price": 0, "cache_hits": 1}
    assert as_text(WhatIf()).startswith("CLASS"), "nothing is nothing"


@pytest.mark.parametrize(
    ("model", "is_it"),
    [
        ("gpt-5.4", True),
        ("gpt-5.4-2026-03-05", True),
        ("gpt-5.4@20260305", True),
        ("gpt-5.4-mini", False),
        ("gpt-5x4", False),
    ],
)
def test_a_model_is_named_with_or_without_its_date(model: str, is_it: bool) -> None:
    assert is_version_of(model, "gpt-5.4") is is_it
