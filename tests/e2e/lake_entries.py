"""Thousands of different ledger entries, and what the queries of the cookbook must find in them, computed in Python.

Its one rule: nothing of what is expected comes from SQL, or from the code that prices or writes.
"""

import copy
import json
import math
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

from openai_proxy.events.envelope import rfc3339
from openai_proxy.events.ulid import new_ulid
from openai_proxy.ledger.entries import LedgerEntry, entry_of
from openai_proxy.pricing.price_book import parse_price_book

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
    data["end_user"] = random.choice([None, "u-1", "u-2"])
    return entry_of(read_event(envelope | {"detail": detail}), PRICES)


def _usage(random: Random, model: str) -> Row:
    cached, written, fresh = random.randrange(5000), random.choice([0, 0, 700]), random.randrange(1, 4000)
    audio = random.randrange(1, 300) if model == "gpt-audio" else 0
    text, thought, spoken = random.randrange(900), random.randrange(500), random.randrange(200) if audio else 0
    # Servers may count images of models that have no price of their own for them.
    seen = random.randrange(500) if model in ("gpt-image", "gpt-small") else None
    drawn = random.randrange(2000) if model == "gpt-image" else None
    return {
        "input_tokens": fresh + cached + written + audio + (seen or 0),
        "output_tokens": text + thought + spoken + (drawn or 0),
        "image": {"input_tokens": seen, "output_tokens": drawn},
        "cache_read": {"input_tokens": cached},
        "cache_creation": {"input_tokens": written},
        "reasoning": {"output_tokens": thought},
        "audio": {"input_tokens": audio, "output_tokens": spoken},
        "duration": None,
        "source": "reported",
    }


# ------------------------------------------------------------------------------------------ what the queries must find


def groups(rows: Iterable[Row], *names: str) -> dict[tuple[Any, ...], list[Row]]:
    found: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        found.setdefault(tuple(row.get(name, "-") for name in names), []).append(row)
    return found


def total(rows: Iterable[Row], name: str) -> Any:
    """A sum as SQL has it: of nothing it is NULL."""
    values = [row[name] for row in rows if name in row]
    return sum(values) if values else None


def counted(rows: Sequence[Row], name: str, value: str) -> int:
    return sum(row.get(name) == value for row in rows)


def _summary(rows: list[Row]) -> Row:
    return {
        "requests": len(rows),
        "failed": counted(rows, "outcome", "failed"),
        "unpriced": counted(rows, "pricing", "unpriced"),
        "input_tokens": total(rows, "input_tokens"),
        "output_tokens": total(rows, "output_tokens"),
        "cost": total(rows, "cost"),
    }


def cost_by_client(rows: list[Row]) -> list[Row]:
    found = [{"client_id": client, **_summary(own)} for (client,), own in groups(rows, "client_id").items()]
    return sorted(found, key=lambda row: (-(row["cost"] or 0), row["client_id"]))


def cost_by_model(rows: list[Row]) -> list[Row]:
    found = [
        {"server": server, "model": model, **_summary(own)}
        | {"cache_read_input_tokens": total(own, "cache_read_input_tokens")}
        for (server, model), own in groups(rows, "server", "model").items()
    ]
    return sorted(found, key=lambda row: (-(row["cost"] or 0), row["server"], row["model"]))


def cost_by_day(rows: list[Row]) -> list[Row]:
    return [
        {"day": day, **_summary(own), "clients": len(groups(own, "client_id"))}
        for (day,), own in sorted(groups(rows, "day").items())
    ]


def cost_by_team(rows: list[Row]) -> list[Row]:
    tagged = [{**row, "team": row.get("tags", {}).get("team", "-")} for row in rows]
    found = [
        {"team": team, **_summary(own), "clients": len(groups(own, "client_id"))}
        for (team,), own in groups(tagged, "team").items()
    ]
    kept = ("team", "requests", "clients", "input_tokens", "output_tokens", "cost")
    ordered = sorted(found, key=lambda row: (-(row["cost"] or 0), row["team"]))
    return [{name: row[name] for name in kept} for row in ordered]


def top_talkers(rows: list[Row]) -> list[Row]:
    all_tokens = total(rows, "input_tokens") + total(rows, "output_tokens")
    found: list[Row] = []
    for (client, key, user), own in groups(rows, "client_id", "key_id", "end_user").items():
        tokens = total(own, "input_tokens") + total(own, "output_tokens")
        who = {"client_id": client, "key_id": key, "end_user": user, "requests": len(own), "tokens": tokens}
        found.append(who | {"percent_of_tokens": round(100 * tokens / all_tokens, 2), "cost": total(own, "cost")})
    return sorted(found, key=lambda row: (-row["tokens"], row["client_id"], row["key_id"], row["end_user"]))[:20]


def _percentile(rows: list[Row], name: str, part: float) -> float | None:
    values = sorted(float(row[name]) for row in rows if name in row)
    return values[math.ceil(part * len(values)) - 1] if values else None


def latency_percentiles(rows: list[Row]) -> list[Row]:
    answered = [row for row in rows if row["outcome"] == "completed" and row["cache_status"] != "HIT"]
    found: list[Row] = []
    for (server, model), own in groups(answered, "server", "model").items():
        row: Row = {"server": server, "model": model, "requests": len(own)}
        for name, column in (("duration", "duration"), ("first_chunk", "time_to_first_chunk")):
            for percent in (50, 95, 99):
                row[f"{name}_p{percent}"] = _percentile(own, column, percent / 100)
        found.append(row | {"proxy_p99": _percentile(own, "proxy_duration", 0.99)})
    return sorted(found, key=lambda row: (-row["requests"], row["server"], row["model"]))


def cache_savings(rows: list[Row]) -> list[Row]:
    found: list[Row] = []
    for (server, model), own in groups(rows, "server", "model").items():
        paid = [row for row in own if row["pricing"] == "priced" and row["cache_status"] != "HIT"]
        hits, cached = counted(own, "cache_status", "HIT"), total(paid, "cache_read_input_tokens")
        if not hits and not cached:
            continue
        row: Row = {"server": server, "model": model, "requests": len(own), "response_cache_hits": hits}
        row |= {"cache_read_input_tokens": cached, "prompt_cache_saved": None}
        row["response_cache_saved"] = total(own, "cost_saved")
        row["hits_without_price"] = hits - sum("cost_saved" in each for each in own)
        row["percent_of_input"] = round(100 * cached / total(paid, "input_tokens"), 2) if paid else None
        if paid:
            written, audio = total(paid, "cache_creation_input_tokens"), total(paid, "input_audio_tokens")
            images = total([each for each in paid if "cost_image_input" in each], "input_image_tokens") or 0
            fresh = total(paid, "input_tokens") - cached - written - audio - images
            for_cache = total(paid, "cost_cached_input") + total(paid, "cost_cache_write")
            row["prompt_cache_saved"] = float(total(paid, "cost_input") / fresh * (cached + written) - for_cache)
        found.append(row)
    return sorted(found, key=lambda row: (-_saved(row), row["server"], row["model"]))


def _saved(row: Row) -> float:
    return (row["prompt_cache_saved"] or 0) + float(row["response_cache_saved"] or 0)


def unpriced(rows: list[Row]) -> list[Row]:
    found: list[Row] = []
    without = [row for row in rows if row["pricing"] == "unpriced"]
    for (reason, server, model), own in groups(without, "unpriced_reason", "server", "model").items():
        days = sorted(row["day"] for row in own)
        what = {"unpriced_reason": reason, "server": server, "model": model, "requests": len(own)}
        what |= {"input_tokens": total(own, "input_tokens"), "output_tokens": total(own, "output_tokens")}
        found.append(what | {"first_day": days[0], "last_day": days[-1]})
    return sorted(found, key=lambda row: (-row["requests"], row["unpriced_reason"], row["server"], row["model"]))


def tokens_by_class(rows: list[Row]) -> list[Row]:
    found: list[Row] = []
    for (server, model), own in sorted(groups(rows, "server", "model").items()):
        cached, written = total(own, "cache_read_input_tokens"), total(own, "cache_creation_input_tokens")
        heard, said = total(own, "input_audio_tokens"), total(own, "output_audio_tokens")
        thought = total(own, "reasoning_output_tokens")
        seen, drawn = total(own, "input_image_tokens") or 0, total(own, "output_image_tokens") or 0
        tokens = {
            "fresh_input_tokens": total(own, "input_tokens") - cached - written - heard - seen,
            "cached_input_tokens": cached,
            "cache_write_tokens": written,
            "audio_input_tokens": heard,
            "cached_audio_input_tokens": 0,
            "image_input_tokens": seen,
            "cached_image_input_tokens": 0,
            "text_output_tokens": total(own, "output_tokens") - thought - said - drawn,
            "reasoning_tokens": thought,
            "audio_output_tokens": said,
            "image_output_tokens": drawn,
        }
        classes = [*("input", "cached_input", "cache_write", "audio_input", "cached_audio_input")]
        classes += ["image_input", "cached_image_input", "output", "reasoning", "audio_output", "image_output"]
        costs = {f"cost_{name}": total(own, f"cost_{name}") for name in classes}
        found.append({"server": server, "model": model} | tokens | costs)
    return found


def failures(rows: list[Row]) -> list[Row]:
    names = ("error_source", "error_type", "status_code", "upstream_status", "server", "model")
    found: list[Row] = []
    for key, own in groups([row for row in rows if row["outcome"] == "failed"], *names).items():
        last = max(row["timestamp"] for row in own).replace("T", " ").replace("Z", "")
        what = {"requests": len(own), "clients": len(groups(own, "client_id")), "last_time": last}
        found.append(dict(zip(names, key, strict=True)) | what | {"cost": total(own, "cost")})
    return sorted(found, key=lambda row: (-row["requests"], *(row[name] for name in names)))


EXPECTED: dict[str, Callable[[list[Row]], list[Row]]] = {
    function.__name__.replace("_", "-"): function
    for function in (
        *(cost_by_client, cost_by_model, cost_by_day, cost_by_team, top_talkers, latency_percentiles),
        *(cache_savings, unpriced, tokens_by_class, failures),
    )
}
"""Named query → what it must find in the entries (without copies; what is priced again at its new price)."""


def priced_again(entry: LedgerEntry) -> Row:
    """The attributes of an entry after its price was corrected: half as much again, and one part of it new."""
    attributes = dict(entry.attributes)
    if "cost" in attributes:
        attributes |= {"cost": attributes["cost"] * Decimal("1.5"), "cost_request": attributes["cost"] / 2}
    return attributes | {"price_version": "later"}


PERIOD_END = FIRST_DAY + timedelta(days=DAYS - 1)
