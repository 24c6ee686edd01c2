"""From an event to what the costs table keeps of it: a priced ledger entry and its share of two rollups. Pure.

One rule: everything is derived from the event alone, so the same event always gives the same entry under the same key.

    entry   pk client#<client_id>#<day>   sk <ulid>                          every figure of one inference
    rollup  pk day#<day>                  sk <client_id>#<server>#<model>    sums over the entries of a day
    rollup  pk month#<month>              sk <client_id>#<server>#<model>    sums over the entries of a month
    claim   pk fetched#<digest>           sk fetched                         which entries tell of what was made before
"""

import hashlib
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from openai_proxy.events.envelope import calls_made
from openai_proxy.events.incoming import MalformedEventError
from openai_proxy.events.reader import CLIENT_ID, LARGEST_COUNT, MOST_SECONDS, RETENTION, RFC3339
from openai_proxy.events.ulid import ulid_of_fact, ulid_time
from openai_proxy.ledger.entry_cost import UNNAMED, price_attributes, prompt_cache_share, usage_attributes
from openai_proxy.ledger.faults import failure_share
from openai_proxy.ledger.latencies import latency_share
from openai_proxy.pricing.price_book import PriceBook
from openai_proxy.pricing.rates import EXACT
from openai_proxy.usage import Usage

if TYPE_CHECKING:
    from typing import TypeGuard

    from openai_proxy.events.types import AnyEvent, InferenceCompleted, InferenceEvent, LimitsData, TerminalEvent

OUTCOMES = {"InferenceCompleted": "completed", "InferenceFailed": "failed"}
THROTTLED = "throttled"
"""The outcome of what is in no ledger: `throttles` says what is kept of it."""

_LONGEST_TEXT, _LONGEST_END_USER = 256, 255
_MOST_TAGS = 50
_MOST_CLAIMS = 4
_MOST_PARTS = 15
# Three names make the rollup's key: with up to 4 bytes a character they stay below the 1,024 bytes of a sort key.
_LONGEST_SERVER = 64
_LONGEST_MODEL = 128
_MOST_FINISH_REASONS = 16

Key = tuple[str, str]
Attributes = dict[str, Any]
Share = Mapping[str, int | Decimal]


@dataclass(frozen=True, slots=True)
class Rollup:
    """A row of sums. `names` are what the key is made of, as attributes of their own."""

    key: Key
    names: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """One inference as recorded, and what it adds to each of its rollups.

    `attributes` holds text, bool, int, Decimal, lists of text and the map of tags; nothing is null.
    """

    key: Key
    attributes: Attributes
    rollups: tuple[Rollup, ...]
    share: Share
    event_id: str = ""
    """The entries of one event are written together."""
    claims: tuple[Key, ...] = ()
    """Items that say what the entry is of, if that may be told of again: `claims` says which entry counts then."""


def has_entry(event: "AnyEvent") -> "TypeGuard[InferenceEvent]":
    """Whether the ledger records it."""
    return event.detail_type in OUTCOMES


def entry_of(event: "InferenceEvent", prices: PriceBook) -> LedgerEntry:
    """The ledger entry of an InferenceCompleted or InferenceFailed. Raises MalformedEventError."""
    try:
        arrived = ulid_time(event.id)
        day = arrived.strftime("%Y-%m-%d")
        attributes = attributes_of(event) | {"day": day, "month": day[:7]} | attribution_of(event.data)
        attributes |= usage_attributes(Usage.from_event(event.data["usage"]))
        attributes["expires_at"] = int((arrived + RETENTION).timestamp())
        attributes |= price_attributes(event.id, attributes, prices)
        claims = _claims(event.data)
    except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise MalformedEventError(f"not a {event.detail_type} event: {error!r}") from error
    return LedgerEntry(
        key=(f"client#{event.client_id}#{day}", event.id),
        attributes=attributes,
        rollups=rollups_of(attributes),
        share=share_of(attributes),
        event_id=event.id,
        claims=claims,
    )


def entries_of(event: "InferenceEvent", prices: PriceBook) -> "list[tuple[InferenceEvent, LedgerEntry]]":
    """The entries of an event: one, or where it tells of several models one for each. Raises MalformedEventError."""
    try:
        return [(part, replace(entry_of(part, prices), event_id=event.id)) for part in _parts_of(event)]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise MalformedEventError(f"not a {event.detail_type} event: {error!r}") from error


def _parts_of(event: "InferenceEvent") -> "Iterator[InferenceEvent]":
    """The event, and one more for each other model that it tells of: with that model's usage and nothing else of it."""
    yield event
    data = event.data
    for part in (data.get("fetched") or {"others": ()})["others"][:_MOST_PARTS]:
        response = {**data["response"], "model": part["model"], "size": 0, "chunks": 0, "time_to_first_chunk": None}
        timings = dict.fromkeys(data["timings"], 0)
        fields: Any = {**data, "response": response, "usage": part["usage"], "timings": timings, "attempts": []}
        part_id = ulid_of_fact(ulid_time(event.id).timestamp(), f"{event.id}\0{part['model']}")
        yield event._replace(id=part_id, data=fields)


def _claims(data: "InferenceCompleted") -> tuple[Key, ...]:
    fetched: Mapping[str, Any] = data.get("fetched") or {"names": ()}
    facts = [f"{data['server']['name']}\0{name}" for name in dict.fromkeys(fetched["names"][:_MOST_CLAIMS])]
    facts += [f"\0{digest}"] if (digest := fetched.get("digest")) else []  # a copy has other names, at another server
    keys = ((f"fetched#{hashlib.sha256(each.encode(errors='replace')).hexdigest()}", "fetched") for each in facts)
    return tuple(dict.fromkeys(keys))  # a transaction takes no item twice, and half a character is like another


def rollups_of(entry: Mapping[str, Any]) -> tuple[Rollup, ...]:
    """The rollups that an entry is part of: that of its day, and that of its month if it names one.

    Entries that were recorded before there were rollups of months name none.
    """
    client, server, model = entry["client_id"], entry.get("server", UNNAMED), entry.get("model", UNNAMED)
    names = {"client_id": client, "server": server, "model": model}
    sort_key = f"{client}#{server}#{model}"
    periods = [(period, entry[period]) for period in ("day", "month") if period in entry]
    return tuple(Rollup((f"{name}#{value}", sort_key), {name: value} | names) for name, value in periods)


def add_shares(shares: Iterable[Share]) -> dict[str, int | Decimal]:
    """The sum of several entries' shares of one rollup, to the last digit."""
    total: dict[str, int | Decimal] = {}
    for share in shares:
        for name, value in share.items():
            so_far = total.get(name, 0)
            total[name] = EXACT.add(so_far, value) if isinstance(value, Decimal) else so_far + value
    return total


def price_share(entry: Mapping[str, Any]) -> dict[str, int | Decimal]:
    """The part of an entry's share that its price attributes make. `hits_priced` are hits whose saving is known."""
    seldom = {name: entry[name] for name in ("cost_units", "unpriced_units") if name in entry}
    return seldom | {
        "unpriced": int(entry["pricing"] == "unpriced"),
        "hits_priced": int("cost_saved" in entry),
        "cost": entry.get("cost", Decimal(0)),
        "cost_saved": entry.get("cost_saved", Decimal(0)),
    }


def attributes_of(event: "TerminalEvent") -> Attributes:
    """What an event says of its request and of how it went. Raises KeyError, TypeError or ValueError."""
    data = event.data
    request, response, timings = data["request"], data["response"], data["timings"]
    if not CLIENT_ID.fullmatch(event.client_id):
        raise ValueError("client_id")
    attributes: Attributes = {
        "outcome": OUTCOMES.get(event.detail_type, THROTTLED),
        "client_id": event.client_id,
        "request_id": text_of(event.request_id),
        "timestamp": _timestamp(event.timestamp),
        "operation": text_of(data["operation"]["name"]),
        "server": text_of(data["server"]["name"], _LONGEST_SERVER),
        "method": text_of(request["method"]),
        "path": text_of(request["path"]),
        "request_model": text_of(request["model"], _LONGEST_MODEL),
        "stream": bool(request["stream"]),
        "request_size": count_of(request["size"]),
        "request_digest": text_of(request.get("digest"), 16),
        "status_code": count_of(response["status_code"]),
        "model": text_of(response["model"], _LONGEST_MODEL) or text_of(request["model"], _LONGEST_MODEL),
        "response_id": text_of(response["id"]),
        "finish_reasons": [text_of(reason) or UNNAMED for reason in response["finish_reasons"][:_MOST_FINISH_REASONS]],
        "response_size": count_of(response["size"]),
        "chunks": count_of(response["chunks"]),
        "time_to_first_chunk": _optional_seconds(response["time_to_first_chunk"]),
        "time_per_output_token": _optional_seconds(response.get("time_per_output_token")),
        "duration": seconds_of(timings["total"]),
        "authorization_duration": seconds_of(timings["authorization"]),
        "upstream_duration": seconds_of(timings["upstream"]),
        "proxy_duration": seconds_of(timings["proxy"]),
        "attempts": _calls_of(data),
        "cache_status": text_of(data["cache"]["status"]),
        "door": text_of(data["door"]),
        "limits": "unchecked" if _is_unchecked(data.get("limits")) else None,
    }
    if event.detail_type == "InferenceFailed":
        error = event.data["error"]
        attributes |= {"error_type": text_of(error["type"]), "error_source": text_of(error["source"])}
        attributes["upstream_status"] = None if error["upstream_status"] is None else count_of(error["upstream_status"])
    return {name: value for name, value in attributes.items() if value is not None}


def _calls_of(data: Mapping[str, Any]) -> int | None:
    """How many calls of servers were made; events of before do not tell."""
    return calls_made(each["error"] for each in data["attempts"]) if "attempts" in data else None


def _is_unchecked(limits: "LimitsData | None") -> bool:
    """Whether the request passed although the limits of its key could not be checked."""
    return limits is not None and limits.get("status") == "unchecked"


def attribution_of(data: "InferenceCompleted") -> Attributes:
    """Whom the request was for, as far as the event says: the client key, its name, owner and tags, and its own user.

    If key and request have a tag of the same name, the key's counts.
    """
    client: Mapping[str, Any] = data.get("client") or {}
    of_key: Mapping[str, Any] = client.get("tags") or {}
    given = {**of_key, **(data.get("tags") or {}), **of_key}
    tags = [(text_of(name), text_of(value) or "") for name, value in given.items()]
    attributes: Attributes = {
        "key_id": text_of(client.get("key_id")),
        "client_name": text_of(client.get("name")),
        "client_owner": text_of(client.get("owner")),
        "tags": {name: value for name, value in tags[:_MOST_TAGS] if name} or None,
        "end_user": text_of(data.get("end_user"), _LONGEST_END_USER),
        "team": text_of((data.get("team") or {}).get("name")),
    }
    return {name: value for name, value in attributes.items() if value is not None}


def share_of(entry: Mapping[str, Any]) -> dict[str, int | Decimal]:
    """What an entry adds to each of its rollups."""
    seldom = {"usage_invalid": 1} if entry["usage_source"] == "invalid" else dict[str, int | Decimal]()
    if "cost_reported" in entry and entry.get("cache_status") != "HIT":
        seldom |= {"costs_reported": 1, "cost_reported": entry["cost_reported"]}
    return seldom | {
        "requests": 1,
        **failure_share(entry),
        "cache_hits": int(entry.get("cache_status") == "HIT"),
        "usage_missing": int(entry["usage_source"] == "missing"),
        "usage_estimated": int(entry["usage_source"] == "estimated"),
        "input_tokens": entry["input_tokens"],
        "output_tokens": entry["output_tokens"],
        "cache_read_input_tokens": entry["cache_read_input_tokens"],
        "cache_creation_input_tokens": entry["cache_creation_input_tokens"],
        "reasoning_output_tokens": entry["reasoning_output_tokens"],
        "input_audio_tokens": entry["input_audio_tokens"],
        "output_audio_tokens": entry["output_audio_tokens"],
        "input_image_tokens": entry.get("input_image_tokens", 0),
        "output_image_tokens": entry.get("output_image_tokens", 0),
        "audio_duration": entry.get("audio_duration", Decimal(0)),
        **price_share(entry),
        **prompt_cache_share(entry),
        **latency_share(entry),
    }


def _timestamp(value: str) -> str:
    """`value` if it is a moment in UTC. One that is not would fail every query of the lake, where it becomes a time."""
    if not RFC3339.fullmatch(value):
        raise ValueError(f"{value!r} is not a timestamp")
    datetime.fromisoformat(value)
    return value


def text_of(value: Any, longest: int = _LONGEST_TEXT) -> str | None:
    """A text that a table accepts, however long and broken the original: clients choose models and paths freely."""
    if value is not None and not isinstance(value, str):
        raise TypeError(f"{value!r} is not a text")
    return value[:longest].encode(errors="replace").decode() if value else None


def count_of(value: Any) -> int:
    """A count. Raises ValueError for what is none."""
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= LARGEST_COUNT:
        raise ValueError(f"{value!r} is not a count")
    return value


def _optional_seconds(value: Any) -> Decimal | None:
    return None if value is None else seconds_of(value)


def seconds_of(value: Any) -> Decimal:
    """A duration. Raises ValueError for what is none."""
    if not isinstance(value, int | float) or not math.isfinite(value) or not 0 <= value <= MOST_SECONDS:
        raise ValueError(f"{value!r} is not a duration")
    return Decimal(str(round(value, 6)))
