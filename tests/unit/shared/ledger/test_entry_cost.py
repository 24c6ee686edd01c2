"""What a prompt cache saved, read from what the same request paid for the rest of its input."""

from decimal import Decimal
from typing import Any

import pytest
from openai_proxy.events.ulid import new_ulid
from openai_proxy.ledger.entry_cost import (
    PRICE_ATTRIBUTES,
    USED_ATTRIBUTES,
    price_attributes,
    prompt_cache_share,
    usage_attributes,
)
from openai_proxy.pricing.price_book import PriceBook, parse_price_book
from openai_proxy.pricing.rates import COMPONENTS
from openai_proxy.usage import Usage

PRICES = parse_price_book(
    "servers: {openai: {models: {m: {input: 2, cached_input: 0.5, cache_write: 2.5, output: 10}, gift: free}}}"
)


def entry(model: str = "m", cache_status: str = "MISS", book: PriceBook = PRICES, **counts: Any) -> dict[str, Any]:
    usage = Usage(source="reported", output_tokens=5, **counts)
    made = {"server": "openai", "model": model, "cache_status": cache_status} | usage_attributes(usage)
    return made | price_attributes(new_ulid(1_795_000_000), made, book)


@pytest.mark.parametrize(("fresh", "read", "written"), [(100, 900, 0), (1, 7, 3), (7, 0, 9), (333, 1, 1)])
def test_what_was_saved_is_the_difference_to_the_same_request_without_a_cache(
    fresh: int, read: int, written: int
) -> None:
    tokens: dict[str, Any] = {"input_tokens": fresh + read + written}
    with_cache = entry(**tokens, cache_read_input_tokens=read, cache_creation_input_tokens=written)
    share = prompt_cache_share(with_cache)
    assert share["cached_saved"] == entry(**tokens)["cost"] - with_cache["cost"]
    assert (share.get("cached_requests", 0), share.get("cached_tokens", 0)) == (int(read > 0), read)


@pytest.mark.parametrize(("read", "saved"), [(1, 2), (2, 3), (3, 4), (5, 8), (7, 10)])
def test_what_was_saved_has_twelve_decimals_and_a_half_becomes_even(read: int, saved: int) -> None:
    book = parse_price_book("servers: {openai: {models: {m: {input: 0.0000015, cached_input: 0, output: 10}}}}")
    used: dict[str, Any] = {"input_tokens": 10 + read, "cache_read_input_tokens": read}
    assert prompt_cache_share(entry(book=book, **used))["cached_saved"] == Decimal(saved).scaleb(-12)


def test_what_nobody_knows_is_counted_and_never_taken_for_nothing() -> None:
    used: dict[str, Any] = {"input_tokens": 900, "cache_read_input_tokens": 900}
    unknown = {"cached_requests": 1, "cached_tokens": 900, "cached_saved": 0, "cached_unpriced": 1}
    assert prompt_cache_share(entry(**used)) == unknown, "no other input says what it costs"
    used["input_tokens"] = 1000
    assert prompt_cache_share(entry("unlisted", **used)) == unknown
    assert prompt_cache_share(entry(input_tokens=9, cache_creation_input_tokens=9)) == {
        "cached_saved": 0,
        "cached_unpriced": 0,
    }


def test_what_a_cache_cannot_have_saved_adds_nothing() -> None:
    assert prompt_cache_share(entry(input_tokens=100)) == {}
    assert prompt_cache_share(entry(cache_status="HIT", input_tokens=100, cache_read_input_tokens=90)) == {}
    gift = prompt_cache_share(entry("gift", input_tokens=100, cache_read_input_tokens=90))
    assert gift == {"cached_requests": 1, "cached_tokens": 90, "cached_saved": 0, "cached_unpriced": 0}


@pytest.mark.parametrize("kind", ["audio", "image"])
def test_audio_and_images_with_a_price_of_their_own_are_no_other_input(kind: str) -> None:
    book = parse_price_book(
        f"servers: {{openai: {{models: {{m: {{input: 2, cached_input: 0.5, {kind}_input: 30, output: 10}}}}}}}}"
    )
    used: dict[str, Any] = {"input_tokens": 400, "cache_read_input_tokens": 100, f"input_{kind}_tokens": 100}
    saved = Decimal("0.00015")
    assert prompt_cache_share(entry(book=book, **used))["cached_saved"] == saved, "100 tokens at 2 - 0.5 USD a million"
    if kind == "image":
        assert prompt_cache_share(entry(**used))["cached_saved"] == saved, "without a price of their own they are input"


def test_what_has_no_price_says_so_and_why_and_by_which_prices() -> None:
    made = {"server": "openai", "model": "unlisted"} | usage_attributes(Usage(5, source="reported"))
    assert price_attributes(new_ulid(1_795_000_000), made, PRICES) == {
        "pricing": "unpriced",
        "unpriced_reason": "unknown_price",
        "price_version": PRICES.version,
        "currency": "USD",
    }


def test_all_that_an_entry_may_say_of_its_usage_and_its_cost_is_listed_and_nothing_else() -> None:
    counts = {name: 1 for name in Usage._fields if name.endswith("_tokens")}
    said = {"source": "reported", "reason": "r", "service_tier": "flex", "units": (("page", 1),)}
    every: Any = {**counts, **said, "duration": 1.0, "cost_reported": Decimal(1)}
    assert set(every) == set(Usage._fields)
    kinds = [entry("unlisted"), entry("m", units=(("page", 1),)), entry("m", "HIT")]
    found = {name for each in kinds for name in each} - {"server", "model", "cache_status", *usage_attributes(Usage())}
    assert found - {"units"} | {f"cost_{each}" for each in COMPONENTS} == set(PRICE_ATTRIBUTES)
    assert set(USED_ATTRIBUTES) == {*PRICE_ATTRIBUTES, *usage_attributes(Usage(**every))}
