"""What a ledger entry cost: its price attributes, made of its other attributes and the price book. Pure.

One rule: nothing but the entry and the book matters, so that an entry can be priced again at any time
(`openai-proxy costs reprice`) and gets what it would have got when it was recorded.
"""

from collections.abc import Mapping
from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import Any

from openai_proxy.events.ulid import ulid_time
from openai_proxy.pricing.price_book import PriceBook, Unpriced
from openai_proxy.pricing.rates import COMPONENTS, EXACT
from openai_proxy.usage import Usage, counted_units

CURRENCY = "USD"
UNNAMED = "-"
"""What stands where a name is wanted and there is none."""

PRICE_ATTRIBUTES = (
    "pricing",
    "price_version",
    "price_rule",
    "unpriced_reason",
    "currency",
    "cost",
    *(f"cost_{component}" for component in COMPONENTS),
    "unpriced_units",
    "cost_saved",
)
"""All that `price_attributes` may give an entry. What it does not give is not there: no cost, no reason, no component.

A priced or free entry has at least these components; others are there when they are not zero; a cost that the server
stated (`reported`) has none. `unpriced_units` are those of its `units` that have no price. `cost_saved` is what an
answer of the response cache would have cost; a hit without it saved what nobody knows.
"""
USED_ATTRIBUTES = (
    *PRICE_ATTRIBUTES,
    *("input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens"),
    *("cache_creation_1h_input_tokens", "reasoning_output_tokens", "input_audio_tokens", "output_audio_tokens"),
    *("input_image_tokens", "output_image_tokens", "audio_duration", "units", "service_tier"),
    *("usage_source", "usage_reason", "cost_reported"),
)
"""All that says what an entry used and what that cost."""
_ROUNDING = Context(prec=60, rounding=ROUND_HALF_EVEN)
_OF_PROMPTS = ("input", "cached_input", "cache_write")
_SAVED_DECIMALS = Decimal(1).scaleb(-12)
_ALWAYS_GIVEN = {f"cost_{component}": Decimal(0) for component in ("input", "cached_input", "cache_write", "output")}
_HIT = {"pricing": "free", "price_rule": "response cache", "cost": Decimal(0)} | _ALWAYS_GIVEN


def price_attributes(event_id: str, entry: Mapping[str, Any], prices: PriceBook) -> dict[str, Any]:
    """The price attributes of an entry; its own are not looked at. `cost` is the exact sum of the components."""
    cost, _ = prices.price_answer(
        usage_of_entry(entry), entry.get("server"), entry.get("model"), entry.get("request_model"), ulid_time(event_id)
    )
    attributes: dict[str, Any] = {"pricing": cost.pricing, "price_version": prices.version, "currency": CURRENCY}
    if entry.get("cache_status") == "HIT":
        saved = {} if isinstance(cost, Unpriced) else {"cost_saved": cost.total}
        return attributes | _HIT | saved
    if isinstance(cost, Unpriced):
        return attributes | {"unpriced_reason": cost.reason}
    attributes |= {"price_rule": cost.rule or UNNAMED, "cost": cost.total}
    if cost.unpriced_units:
        attributes["unpriced_units"] = cost.unpriced_units
    components = {f"cost_{name}": usd for name, usd in cost.components.items()}
    return attributes if cost.pricing == "reported" else attributes | _ALWAYS_GIVEN | components


def prompt_cache_share(entry: Mapping[str, Any]) -> dict[str, int | Decimal]:
    """What an entry adds to its rollups of what the server's prompt cache saved, if it was used, at the price that the
    same request paid for the rest of its input. `cached_unpriced`: nobody knows, as nothing of it had such a price.
    """
    read, written = entry["cache_read_input_tokens"], entry["cache_creation_input_tokens"]
    if entry.get("cache_status") == "HIT" or not (read or written):
        return {}
    seen = entry.get("input_image_tokens", 0) if "cost_image_input" in entry else 0
    fresh = entry["input_tokens"] - read - written - entry.get("input_audio_tokens", 0) - seen
    saved, is_known = Decimal(0), entry["pricing"] in ("priced", "free") and fresh > 0
    if is_known:
        paid, cached, wrote = (entry.get(f"cost_{name}", Decimal(0)) for name in _OF_PROMPTS)
        otherwise = _ROUNDING.divide(EXACT.multiply(paid, read + written), fresh)
        difference = EXACT.subtract(_ROUNDING.quantize(otherwise, _SAVED_DECIMALS), EXACT.add(cached, wrote))
        saved = difference.normalize(EXACT)  # without the zeros of its decimals
    used = {"cached_requests": 1, "cached_tokens": read} if read else {}
    return used | {"cached_saved": saved, "cached_unpriced": int(bool(read) and not is_known)}


def nothing_used(entry: Mapping[str, Any]) -> dict[str, Any]:
    """The attributes of `USED_ATTRIBUTES` that an entry has if it used nothing, whatever the price book."""
    priced = {"pricing": "none", "price_version": entry["price_version"], "currency": CURRENCY, "price_rule": UNNAMED}
    return usage_attributes(Usage(source="none")) | priced | {"cost": Decimal(0)} | _ALWAYS_GIVEN


def usage_attributes(usage: Usage) -> dict[str, Any]:
    """An entry's attributes that say what was used."""
    attributes: dict[str, Any] = {
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "cache_read_input_tokens": usage.cache_read_input_tokens,
        "cache_creation_input_tokens": usage.cache_creation_input_tokens,
        "reasoning_output_tokens": usage.reasoning_output_tokens,
        "input_audio_tokens": usage.input_audio_tokens,
        "output_audio_tokens": usage.output_audio_tokens,
        "usage_source": usage.source,
    }
    if usage.duration is not None:
        attributes["audio_duration"] = Decimal(str(round(usage.duration, 6)))
    seldom = {
        "input_image_tokens": usage.input_image_tokens,
        "output_image_tokens": usage.output_image_tokens,
        "usage_reason": usage.reason,
        "cost_reported": usage.cost_reported,
        "service_tier": usage.service_tier,
        "cache_creation_1h_input_tokens": usage.cache_creation_1h_input_tokens or None,
        "units": dict(usage.units) or None,
    }
    return attributes | {name: value for name, value in seldom.items() if value is not None}


def usage_of_entry(entry: Mapping[str, Any]) -> Usage:
    """The inverse of `usage_attributes`. Entries of before have no audio."""
    duration = entry.get("audio_duration")
    seen, drawn = entry.get("input_image_tokens"), entry.get("output_image_tokens")
    return Usage(
        input_tokens=int(entry["input_tokens"]),
        output_tokens=int(entry["output_tokens"]),
        cache_read_input_tokens=int(entry["cache_read_input_tokens"]),
        cache_creation_input_tokens=int(entry["cache_creation_input_tokens"]),
        reasoning_output_tokens=int(entry["reasoning_output_tokens"]),
        source=entry["usage_source"],
        input_audio_tokens=int(entry.get("input_audio_tokens", 0)),
        output_audio_tokens=int(entry.get("output_audio_tokens", 0)),
        duration=None if duration is None else float(duration),
        input_image_tokens=None if seen is None else int(seen),
        output_image_tokens=None if drawn is None else int(drawn),
        reason=entry.get("usage_reason"),
        cost_reported=entry.get("cost_reported"),
        service_tier=entry.get("service_tier"),
        cache_creation_1h_input_tokens=int(entry.get("cache_creation_1h_input_tokens", 0)),
        units=counted_units({name: int(count) for name, count in entry.get("units", {}).items()}),
    )
