"""Thousands of different ledger entries, as record_cost makes them of events."""

import copy
import json
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

from openai_proxy.events.envelope import rfc3339
from openai_proxy.events.ulid import new_ulid
from openai_proxy.ledger.entries import LedgerEntry, entry_of
from openai_proxy.pricing.price_book import parse_price_book
from openai_proxy.throttles.entries import FewModels, throttle_entry_of

from tests.fakes import read_event

FIRST_DAY, DAYS = date(2026, 2, 2), 14
SAMPLES = Path(__file__).parents[2] / "events" / "samples"
PRICES = parse_price_book(
    """
    servers:
      openai:
        models:
          gpt-small: {input: 0.15, cached_input: 0.075, output: 0.6}
          gpt-large: {input: 2.513, cached_input: 0.333333333, cache_write: 3.1, output: 10.07, request: 0.0001}
          gpt-audio: {input: 2.5, audio_input: 32, output: 10, audio_output: 64}
          gpt-image: {input: 5, cached_input: 1.25, image_input: 8, output: 10, image_output: 32.000000001}
      local: {free: true}
    """
)
LATER_PRICES = parse_price_book(
    """
    servers:
      openai:
        models:
          gpt-small: {input: 0.12, cached_input: 0.075, output: 0.7}
          gpt-large: {input: 2.513, cached_input: 0.333333333, cache_write: 3.1, output: 10.07, request: 0.0001}
          gpt-audio: {input: 2.5, audio_input: 32, output: 10, audio_output: 64}
      local: {free: true}
    """
)
CHANGE = date(2026, 2, 9)
"""From this day on LATER_PRICES hold."""
Row = dict[str, Any]


def made_entries(random: Random, count: int) -> list[LedgerEntry]:
    """Entries of FIRST_DAY and the days after it, completed and failed, priced, free and unpriced."""
    return [_entry(random) for _ in range(count)]


def _entry(random: Random) -> LedgerEntry:
    is_failed = random.random() < 0.1
    name = "InferenceFailed.upstream-error" if is_failed else "InferenceCompleted.chat-stream"
    envelope: Any = json.loads((SAMPLES / f"{name}.json").read_text(encoding="utf-8"))
    detail = copy.deepcopy(envelope["detail"])
    start = datetime(FIRST_DAY.year, FIRST_DAY.month, FIRST_DAY.day, tzinfo=UTC).timestamp()
    moment = start + random.randrange(DAYS * 86_400_000) / 1000
    client = random.choice(["shop", "search", "help-desk"])
    detail["metadata"] |= {"id": new_ulid(moment), "timestamp": rfc3339(moment), "client_id": client}
    data = detail["data"]
    server = random.choice(["openai", "openai", "local"])
    model = random.choice(["gpt-small", "gpt-large", "gpt-audio", "gpt-image", "gpt-new"])
    data["server"]["name"] = server
    data["request"]["model"] = data["response"]["model"] = model
    data["usage"] = _usage(random, model)
    data["timings"] |= {"total": round(random.expovariate(0.3), 6), "proxy": round(random.random() / 50, 6)}
    data["response"]["time_to_first_chunk"] = random.choice([None, round(random.random() * 3, 6)])
    data["cache"]["status"] = "BYPASS" if is_failed else random.choice(["HIT", "MISS", "BYPASS", "MISS"])
    data["client"] = {
        "key_id": random.choice(["0a1b2c3d4e5f", "5f4e3d2c1b0a"]),
        "name": "a key, with a comma and a \"quote\" and a 'quote'",
        "owner": None,
        "tags": random.choice([{}, {"team": "web"}, {"team": "größe", "stage": "prod"}]),
    }
    data["tags"] = random.choice([{}, {"feature": "search"}, {"feature": "chat", "conversation": f"c-{client[:2]}"}])
    data["team"] = random.choice([None, {"name": "web", "limits": None}, {"name": "lab", "limits": None}])
    data["end_user"] = random.choice([None, "u-1", "u-2"])
    if random.random() < 0.2:
        data["attempts"] = [data["attempts"][0] | {"error": "upstream_unreachable"}, *data["attempts"]]
    prices = PRICES if moment < start + (CHANGE - FIRST_DAY).days * 86_400 else LATER_PRICES
    return entry_of(read_event(envelope | {"detail": detail}), prices)


def made_throttles(random: Random, count: int) -> list[LedgerEntry]:
    """Entries of refused requests, as record_throttles makes them of events; some of models that nothing answered."""
    return [_throttle(random) for _ in range(count)]


def _throttle(random: Random) -> LedgerEntry:
    envelope: Any = json.loads((SAMPLES / "InferenceThrottled.key-rpm.json").read_text(encoding="utf-8"))
    start = datetime(FIRST_DAY.year, FIRST_DAY.month, FIRST_DAY.day, tzinfo=UTC).timestamp()
    moment = start + random.randrange(DAYS * 86_400_000) / 1000
    client = random.choice(["shop", "search", "help-desk", "new"])
    envelope["detail"]["metadata"] |= {"id": new_ulid(moment), "timestamp": rfc3339(moment), "client_id": client}
    data = envelope["detail"]["data"]
    data["server"]["name"] = random.choice(["openai", "local"])
    data["request"]["model"] = random.choice(["gpt-small", "gpt-large", "gpt-none"])
    event: Any = read_event(envelope)
    return throttle_entry_of(event, FewModels())


def _usage(random: Random, model: str) -> Row:
    cached, written, fresh = random.randrange(5000), random.choice([0, 0, 700]), random.randrange(1, 4000)
    audio = random.randrange(1, 300) if model == "gpt-audio" else 0
    text, thought, spoken = random.randrange(900), random.randrange(500), random.randrange(200) if audio else 0
    # Servers may count images of models that have no price of their own for them.
    seen = random.randrange(500) if model in ("gpt-image", "gpt-small") else None
    drawn = random.randrange(2000) if model == "gpt-image" else None
    source = random.choices(["reported", "estimated", "missing"], [18, 1, 1])[0]
    return {
        "input_tokens": fresh + cached + written + audio + (seen or 0),
        "output_tokens": text + thought + spoken + (drawn or 0),
        "image": {"input_tokens": seen, "output_tokens": drawn},
        "cache_read": {"input_tokens": cached},
        "cache_creation": {"input_tokens": written},
        "reasoning": {"output_tokens": thought},
        "audio": {"input_tokens": audio, "output_tokens": spoken},
        "duration": None,
        "source": source,
    }


def priced_again(entry: LedgerEntry) -> Row:
    """The attributes of an entry after its price was corrected: half as much again, and one part of it new."""
    attributes = dict(entry.attributes)
    if "cost" in attributes:
        attributes |= {"cost": attributes["cost"] * Decimal("1.5"), "cost_request": attributes["cost"] / 2}
    return attributes | {"price_version": "later"}


PERIOD_END = FIRST_DAY + timedelta(days=DAYS - 1)
