"""From an event to what the costs table keeps of it: a priced ledger entry and its share of a rollup. Pure.

One rule: everything is derived from the event alone, so the same event always gives the same entry under the same key.

    entry   pk client#<client_id>#<day>   sk <ulid>                          every figure of one inference
    rollup  pk day#<day>                  sk <client_id>#<server>#<model>    sums over the entries of a day
"""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

from openai_proxy.events import Event, MalformedEventError
from openai_proxy.pricing import Cost, PriceBook
from openai_proxy.ulid import ulid_day, ulid_time
from openai_proxy.usage import Usage

CURRENCY = "USD"
RETENTION = timedelta(days=400)
"""How long an entry is kept. Longer than any replay of events: an entry is what keeps its event from counting twice."""

UNNAMED = "-"
"""The server or model in a rollup's key when the request named none."""

OUTCOMES = {"InferenceCompleted": "completed", "InferenceFailed": "failed"}

_CLIENT_ID = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_LONGEST_TEXT = 256
# Three names make the rollup's key: with up to 4 bytes a character they stay below the 1,024 bytes of a sort key.
_LONGEST_SERVER = 64
_LONGEST_MODEL = 128
_MOST_FINISH_REASONS = 16
_MOST_TOKENS = 10**12

Attributes = dict[str, Any]


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """One inference as recorded. `attributes` holds text, bool, int, Decimal and lists of text; nothing is null."""

    key: tuple[str, str]
    attributes: Attributes
    rollup_key: tuple[str, str]
    rollup_names: Mapping[str, str]
    rollup_share: Mapping[str, int | Decimal]


def entry_of(event: Event, prices: PriceBook) -> LedgerEntry:
    """The ledger entry of an InferenceCompleted or InferenceFailed. Raises MalformedEventError."""
    try:
        day = ulid_day(event.id)
        attributes = _attributes(event)
        usage = _usage(event.data["usage"])
        attributes |= _usage_attributes(usage) | _price_attributes(event, usage, prices, day)
        expires_at = int((ulid_time(event.id) + RETENTION).timestamp())
        server, model = attributes.get("server", UNNAMED), attributes.get("model", UNNAMED)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise MalformedEventError(f"not a {event.detail_type} event: {error!r}") from error
    return LedgerEntry(
        key=(f"client#{event.client_id}#{day}", event.id),
        attributes=attributes | {"day": day, "expires_at": expires_at},
        rollup_key=(f"day#{day}", f"{event.client_id}#{server}#{model}"),
        rollup_names={"day": day, "client_id": event.client_id, "server": server, "model": model},
        rollup_share=_share(attributes),
    )


def add_shares(shares: Iterable[Mapping[str, int | Decimal]]) -> dict[str, int | Decimal]:
    """The sum of several entries' shares of one rollup."""
    total: dict[str, int | Decimal] = {}
    for share in shares:
        for name, value in share.items():
            total[name] = total.get(name, 0) + value
    return total


def _attributes(event: Event) -> Attributes:
    data = event.data
    request, response, timings = data["request"], data["response"], data["timings"]
    if not _CLIENT_ID.fullmatch(event.client_id):
        raise ValueError("client_id")
    attributes: Attributes = {
        "outcome": OUTCOMES[event.detail_type],
        "client_id": event.client_id,
        "request_id": _text(event.request_id),
        "timestamp": _text(event.timestamp),
        "operation": _text(data["operation"]["name"]),
        "server": _text(data["server"]["name"], _LONGEST_SERVER),
        "method": _text(request["method"]),
        "path": _text(request["path"]),
        "request_model": _text(request["model"], _LONGEST_MODEL),
        "stream": bool(request["stream"]),
        "request_size": _count(request["size"]),
        "status_code": _count(response["status_code"]),
        "model": _text(response["model"] or request["model"], _LONGEST_MODEL),
        "response_id": _text(response["id"]),
        "finish_reasons": [_text(reason) or UNNAMED for reason in response["finish_reasons"][:_MOST_FINISH_REASONS]],
        "response_size": _count(response["size"]),
        "chunks": _count(response["chunks"]),
        "time_to_first_chunk": _optional_seconds(response["time_to_first_chunk"]),
        "duration": _seconds(timings["total"]),
        "authorization_duration": _seconds(timings["authorization"]),
        "upstream_duration": _seconds(timings["upstream"]),
        "proxy_duration": _seconds(timings["proxy"]),
        "cache_status": _text(data["cache"]["status"]),
        "door": _text(data["door"]),
    }
    if event.detail_type == "InferenceFailed":
        error = data["error"]
        attributes |= {"error_type": _text(error["type"]), "error_source": _text(error["source"])}
        attributes["upstream_status"] = None if error["upstream_status"] is None else _count(error["upstream_status"])
    return {name: value for name, value in attributes.items() if value is not None}


def _usage(usage: Mapping[str, Any]) -> Usage:
    figures = Usage.from_event(usage)
    if figures.source not in ("reported", "estimated", "missing", "none"):
        raise ValueError(f"usage.source {figures.source!r}")
    for tokens in (figures.input_tokens, figures.output_tokens, figures.cache_read_input_tokens):
        _count(tokens)
    _count(figures.cache_creation_input_tokens)
    _count(figures.reasoning_output_tokens)
    return figures


def _usage_attributes(usage: Usage) -> Attributes:
    return {
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "cache_read_input_tokens": usage.cache_read_input_tokens,
        "cache_creation_input_tokens": usage.cache_creation_input_tokens,
        "reasoning_output_tokens": usage.reasoning_output_tokens,
        "usage_source": usage.source,
    }


def _price_attributes(event: Event, usage: Usage, prices: PriceBook, day: str) -> Attributes:
    attributes: Attributes = {"price_version": prices.version, "currency": CURRENCY}
    if event.data["cache"]["status"] == "HIT":
        return attributes | _cost_attributes(Cost("free", rule="response cache"))
    server, when = event.data["server"]["name"], date.fromisoformat(day)
    # The model that answered sets the price; an alias that the server resolved to an unlisted name still has its own.
    for model in (event.data["response"]["model"], event.data["request"]["model"]):
        cost = prices.price(usage, server, model, when)
        if isinstance(cost, Cost):
            return attributes | _cost_attributes(cost)
        if cost.reason != "unknown_price":
            break
    return attributes | {"pricing": cost.pricing, "unpriced_reason": cost.reason}


def _cost_attributes(cost: Cost) -> Attributes:
    return {
        "pricing": cost.pricing,
        "price_rule": cost.rule or UNNAMED,
        "cost": cost.total,
        "cost_input": cost.input,
        "cost_cached_input": cost.cached_input,
        "cost_cache_write": cost.cache_write,
        "cost_output": cost.output,
    }


def _share(entry: Attributes) -> dict[str, int | Decimal]:
    return {
        "requests": 1,
        "failed": int(entry["outcome"] == "failed"),
        "cache_hits": int(entry.get("cache_status") == "HIT"),
        "unpriced": int(entry["pricing"] == "unpriced"),
        "usage_missing": int(entry["usage_source"] == "missing"),
        "input_tokens": entry["input_tokens"],
        "output_tokens": entry["output_tokens"],
        "cache_read_input_tokens": entry["cache_read_input_tokens"],
        "cache_creation_input_tokens": entry["cache_creation_input_tokens"],
        "reasoning_output_tokens": entry["reasoning_output_tokens"],
        "cost": entry.get("cost", Decimal(0)),
        "duration": entry["duration"],
        "first_chunks": int("time_to_first_chunk" in entry),
        "time_to_first_chunk": entry.get("time_to_first_chunk", Decimal(0)),
    }


def _text(value: Any, longest: int = _LONGEST_TEXT) -> str | None:
    """A text that a table bears, however long and broken: models and paths are what clients make them."""
    if value is not None and not isinstance(value, str):
        raise TypeError(f"{value!r} is not a text")
    return value[:longest].encode(errors="replace").decode() if value else None


def _count(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _MOST_TOKENS:
        raise ValueError(f"{value!r} is not a count")
    return value


def _optional_seconds(value: Any) -> Decimal | None:
    return None if value is None else _seconds(value)


def _seconds(value: Any) -> Decimal:
    if not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
        raise ValueError(f"{value!r} is not a duration")
    return Decimal(str(round(value, 6)))
