"""Where each figure and text of an event stands in its entry, and how long or large each may be."""

import copy
import hashlib
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from openai_proxy.events.incoming import MalformedEventError
from openai_proxy.events.ulid import ulid_of_fact, ulid_time
from openai_proxy.ledger.entries import LedgerEntry, Rollup, entries_of, entry_of, price_share, rollups_of
from openai_proxy.pricing.price_book import parse_price_book

from tests.fakes import read_event

SAMPLE = json.loads(
    (Path(__file__).parents[4] / "events" / "samples" / "InferenceFailed.broken-off.json").read_text(encoding="utf-8")
)
FREE = parse_price_book("servers: {main: {free: true}}")
TEXTS = {
    "request_id": ("metadata/request_id", 256),
    "operation": ("data/operation/name", 256),
    "server": ("data/server/name", 64),
    "method": ("data/request/method", 256),
    "path": ("data/request/path", 256),
    "request_model": ("data/request/model", 128),
    "model": ("data/response/model", 128),
    "response_id": ("data/response/id", 256),
    "cache_status": ("data/cache/status", 256),
    "door": ("data/door", 256),
    "error_type": ("data/error/type", 256),
    "error_source": ("data/error/source", 256),
    "key_id": ("data/client/key_id", 256),
    "client_name": ("data/client/name", 256),
    "client_owner": ("data/client/owner", 256),
    "end_user": ("data/end_user", 255),
    "team": ("data/team/name", 256),
}
"""Of each attribute that is a text: where it is in an event, and its longest."""
COUNTS = {
    "request_size": "data/request/size",
    "status_code": "data/response/status_code",
    "response_size": "data/response/size",
    "chunks": "data/response/chunks",
    "upstream_status": "data/error/upstream_status",
    "input_tokens": "data/usage/input_tokens",
    "output_tokens": "data/usage/output_tokens",
    "cache_read_input_tokens": "data/usage/cache_read/input_tokens",
    "cache_creation_input_tokens": "data/usage/cache_creation/input_tokens",
    "cache_creation_1h_input_tokens": "data/usage/cache_creation/ephemeral_1h_input_tokens",
    "reasoning_output_tokens": "data/usage/reasoning/output_tokens",
    "input_audio_tokens": "data/usage/audio/input_tokens",
    "output_audio_tokens": "data/usage/audio/output_tokens",
    "input_image_tokens": "data/usage/image/input_tokens",
    "output_image_tokens": "data/usage/image/output_tokens",
}
SECONDS = {
    "time_to_first_chunk": "data/response/time_to_first_chunk",
    "time_per_output_token": "data/response/time_per_output_token",
    "duration": "data/timings/total",
    "authorization_duration": "data/timings/authorization",
    "upstream_duration": "data/timings/upstream",
    "proxy_duration": "data/timings/proxy",
    "audio_duration": "data/usage/duration",
}
REST = {
    "data/usage/source": "reported",
    "data/usage/reason": "rounded",
    "data/usage/cost_reported": "0.25",
    "data/usage/service_tier": "flex",
    "data/usage/units": {"web_search": 3},
    "data/tags": {"of": "request", "both": "request"},
    "data/client/tags": {"both": "key", "env": "prod"},
    "data/response/finish_reasons": ["stop", "", "length"],
    "data/request/stream": True,
    "data/attempts": [{"error": None}, {"error": "circuit_open"}, {"error": "upstream_timeout"}],
}


def put(detail: dict[str, Any], values: dict[str, Any]) -> None:
    for path, value in values.items():
        place, *names = detail, *path.split("/")
        for name in names[:-1]:
            place[name] = dict(place.get(name) or {})
            place = place[name]
        place[names[-1]] = value


def event_with(values: dict[str, Any]) -> dict[str, Any]:
    """An event in which each text and figure is another, but for `values` by their places."""
    envelope = copy.deepcopy(SAMPLE)
    told: dict[str, Any] = {path: f"the {name}" for name, (path, _) in TEXTS.items()}
    told |= {path: 100 + number for number, path in enumerate(COUNTS.values())}
    told |= {path: number + 0.5 for number, path in enumerate(SECONDS.values())}
    put(envelope["detail"], told | REST | values)
    return envelope


def entry(values: dict[str, Any]) -> LedgerEntry:
    return entry_of(read_event(event_with(values)), FREE)


def test_each_text_and_figure_stands_where_it_belongs() -> None:
    metadata = SAMPLE["detail"]["metadata"]
    arrived = ulid_time(metadata["id"])
    recorded = entry({})
    assert recorded.attributes == {
        **{name: f"the {name}" for name in TEXTS},
        **{name: 100 + number for number, name in enumerate(COUNTS)},
        **{name: Decimal(number) + Decimal("0.5") for number, name in enumerate(SECONDS)},
        "outcome": "failed",
        "client_id": metadata["client_id"],
        "timestamp": metadata["timestamp"],
        "day": f"{arrived:%Y-%m-%d}",
        "month": f"{arrived:%Y-%m}",
        "stream": True,
        "finish_reasons": ["stop", "-", "length"],
        "attempts": 2,
        "tags": {"both": "key", "env": "prod", "of": "request"},
        "usage_source": "reported",
        "usage_reason": "rounded",
        "cost_reported": Decimal("0.25"),
        "service_tier": "flex",
        "units": {"web_search": 3},
        "expires_at": int((arrived + timedelta(days=400)).timestamp()),
        "pricing": "reported",
        "price_rule": "the server's own cost",
        "cost": Decimal("0.25"),
        "price_version": FREE.version,
        "currency": "USD",
    }
    assert recorded.key == (f"client#{metadata['client_id']}#{arrived:%Y-%m-%d}", metadata["id"])
    assert list(recorded.attributes["tags"]) == ["both", "env", "of"], "those of the key are the last to be cut"
    assert recorded.share == {
        **{name: 100 + number for number, name in enumerate(COUNTS) if name.endswith("_tokens") and "1h" not in name},
        **{name: recorded.attributes[name] for name in ("duration", "time_to_first_chunk", "audio_duration")},
        "requests": 1,
        "failed": 1,
        "cache_hits": 0,
        "hits_priced": 0,
        "usage_missing": 0,
        "usage_estimated": 0,
        "first_chunks": 1,
        "unpriced": 0,
        "cost": Decimal("0.25"),
        "cost_saved": 0,
        "costs_reported": 1,
        "cost_reported": Decimal("0.25"),
        "cached_requests": 1,
        "cached_tokens": recorded.attributes["cache_read_input_tokens"],
        "cached_saved": 0,
        "cached_unpriced": 1,
    }


@pytest.mark.parametrize("name", TEXTS)
def test_each_text_is_cut_at_its_own_length_and_must_be_one(name: str) -> None:
    path, longest = TEXTS[name]
    for size in (longest - 1, longest, longest + 1):
        assert entry({path: "é" * size}).attributes[name] == "é" * min(size, longest)
    if name == "model":
        assert entry({path: ""}).attributes[name] == entry({path: None}).attributes[name] == "the request_model"
    elif name != "request_id":
        assert name not in entry({path: None}).attributes.keys() | entry({path: ""}).attributes.keys()
    for wrong in (5, ["a"], {"a": "b"}, True):
        with pytest.raises(MalformedEventError):
            entry({path: wrong})


def refused(path: str, *wrong: Any) -> bool:
    for value in wrong:
        with pytest.raises(MalformedEventError):
            entry({path: value})
    return True


@pytest.mark.parametrize("name", COUNTS)
def test_each_count_is_a_whole_number_up_to_a_bound(name: str) -> None:
    path = COUNTS[name]
    for value in (1, 10**12):
        assert entry({path: value}).attributes[name] == value
    assert entry({path: 0}).attributes.get(name, 0) == 0
    assert refused(path, -1, 10**12 + 1, 1.0, True, "1", [])


@pytest.mark.parametrize("name", SECONDS)
def test_each_time_is_kept_to_the_microsecond_up_to_a_bound(name: str) -> None:
    path = SECONDS[name]
    for value in (0, 1, 0.5, 10**9):
        assert entry({path: value}).attributes[name] == Decimal(str(value))
    assert entry({path: 1.23456751}).attributes[name] == Decimal("1.234568")
    assert refused(path, -0.001, 10**9 + 0.001, float("inf"), float("nan"), "1", [])


@pytest.mark.parametrize("path", ["data/response/time_to_first_chunk", "data/response/time_per_output_token"])
def test_a_time_that_nobody_measured_is_not_there(path: str) -> None:
    name = path.rpartition("/")[2]
    recorded = entry({path: None})
    assert name not in recorded.attributes
    if name == "time_to_first_chunk":
        assert (recorded.share["first_chunks"], recorded.share[name]) == (0, 0)


def numbered(count: int) -> dict[str, str]:
    return {f"{number:02}": "x" for number in range(count)}


def test_there_are_so_many_tags_and_finish_reasons_and_no_more() -> None:
    for count in (49, 50, 51):
        own = entry({"data/client/tags": numbered(count), "data/tags": {}}).attributes["tags"]
        assert own == numbered(min(count, 50))
        given = entry({"data/client/tags": {"zz": "key"}, "data/tags": numbered(count)}).attributes["tags"]
        assert given == {"zz": "key", **numbered(min(count, 49))}
    for count in (15, 16, 17):
        reasons = entry({"data/response/finish_reasons": ["stop"] * count}).attributes["finish_reasons"]
        assert reasons == ["stop"] * min(count, 16)
    for size in (255, 256, 257):
        long, cut = "x" * size, "x" * min(size, 256)
        recorded = entry({"data/tags": {long: long}, "data/client/tags": {}, "data/response/finish_reasons": [long]})
        assert (recorded.attributes["tags"], recorded.attributes["finish_reasons"]) == ({cut: cut}, [cut])


@pytest.mark.parametrize(("size", "fits"), [(1, True), (64, True), (65, False)])
def test_a_client_is_called_by_no_more_than_sixty_four_characters(size: int, fits: bool) -> None:
    if fits:
        assert entry({"metadata/client_id": ("A_.-z9" * 11)[:size]}).key[0].startswith("client#A")
    else:
        assert refused("metadata/client_id", "a" * size, "a/", "a b", "é")


@pytest.mark.parametrize("source", ["reported", "estimated", "missing", "invalid", "none"])
@pytest.mark.parametrize("status", ["HIT", "MISS"])
def test_what_is_counted_of_usage_and_cache(source: str, status: str) -> None:
    share = entry({"data/usage/source": source, "data/cache/status": status}).share
    counted = {name: share.get(name, 0) for name in ("usage_missing", "usage_estimated", "usage_invalid", "cache_hits")}
    expected = dict.fromkeys(counted, 0) | {f"usage_{source}": 1, "cache_hits": int(status == "HIT")}
    assert counted == {name: expected[name] for name in counted}
    assert ("usage_invalid" in share) == (source == "invalid")
    assert share.get("costs_reported", 0) == (status != "HIT")


UNCHECKED: list[tuple[Any, bool]] = [
    ({"status": "unchecked"}, True),
    ({"status": "checked"}, False),
    (None, False),
    ({}, False),
]


@pytest.mark.parametrize(("limits", "is_there"), UNCHECKED)
def test_what_passed_unchecked_is_marked(limits: Any, is_there: bool) -> None:
    assert entry({"data/limits": limits}).attributes.get("limits") == ("unchecked" if is_there else None)


def test_the_share_of_a_price_has_a_figure_for_each_part() -> None:
    nothing = {"unpriced": 0, "hits_priced": 0, "cost": 0, "cost_saved": 0}
    assert price_share({"pricing": "free"}) == nothing
    assert price_share({"pricing": "unpriced", "unpriced_units": 2}) == nothing | {"unpriced": 1, "unpriced_units": 2}
    assert price_share({"pricing": "priced", "cost": Decimal(3), "cost_units": Decimal(1)}) == nothing | {
        "cost": 3,
        "cost_units": 1,
    }
    assert price_share({"pricing": "free", "cost": Decimal(0), "cost_saved": Decimal(2)}) == nothing | {
        "hits_priced": 1,
        "cost_saved": 2,
    }


def test_an_entry_that_names_no_month_or_server_is_part_of_what_it_names() -> None:
    names = {"client_id": "a", "server": "-", "model": "-"}
    assert rollups_of({"client_id": "a", "day": "2026-11-23"}) == (
        Rollup(("day#2026-11-23", "a#-#-"), {"day": "2026-11-23", **names}),
    )


def fetched(others: int, names: list[str | None]) -> dict[str, Any]:
    usage = {**event_with({})["detail"]["data"]["usage"], "input_tokens": 7}
    return {"data/fetched": {"names": names, "others": [{"model": f"m{n}", "usage": usage} for n in range(others)]}}


@pytest.mark.parametrize("others", [0, 1, 14, 15, 16])
def test_each_model_of_what_is_fetched_has_an_entry_with_its_usage_and_nothing_else(others: int) -> None:
    event = read_event(event_with(fetched(others, ["a"])))
    (first_part, first), *rest = entries_of(event, FREE)
    assert (first_part, first) == (event, entry_of(event, FREE))
    assert len(rest) == min(others, 15)
    seconds = ulid_time(event.id).timestamp()
    for number, (part, recorded) in enumerate(rest):
        assert recorded.key == (first.key[0], ulid_of_fact(seconds, f"{event.id}\0m{number}"))
        assert part.id == recorded.key[1]
        assert (recorded.event_id, recorded.claims) == (event.id, first.claims)
        nothing = {"response_size": 0, "chunks": 0, "duration": 0, "authorization_duration": 0, "upstream_duration": 0}
        nothing |= {"proxy_duration": 0, "attempts": 0}
        own = {"model": f"m{number}", "input_tokens": 7, "expires_at": first.attributes["expires_at"]}
        expected = {**first.attributes, **nothing, **own}
        del expected["time_to_first_chunk"]
        assert recorded.attributes == expected


def claim(server: str, name: str) -> tuple[str, str]:
    fact = f"{server}\0{name}".encode()
    return f"fetched#{hashlib.sha256(fact).hexdigest()}", "fetched"


@pytest.mark.parametrize(
    ("names", "claimed"),
    [([], []), (["a"], ["a"]), (["a", "b", "a"], ["a", "b"]), (list("abcde"), list("abcd")), (["\ud800"], ["?"])],
)
def test_what_is_fetched_is_claimed_by_each_of_its_names(names: list[str | None], claimed: list[str]) -> None:
    recorded = entry(fetched(0, names))
    assert recorded.claims == tuple(claim("the server", name) for name in claimed)


WRONG: list[dict[str, Any]] = [
    {"data/fetched": {"names": None, "others": []}},
    {"data/fetched": {"names": ["a"], "others": None}},
    {"data/fetched": {"names": ["a"], "others": [{}]}},
    {"data/fetched": {"names": ["a"], "others": [None]}},
    {"data/fetched": {"names": [["a"]], "others": []}},
    {"data/fetched": "a"},
    {"metadata/id": "no"},
    {"data/attempts": [{}]},
]


@pytest.mark.parametrize("wrong", WRONG)
def test_what_was_fetched_in_a_wrong_form_makes_the_whole_event_malformed(wrong: dict[str, Any]) -> None:
    event = read_event(event_with(wrong))
    with pytest.raises(MalformedEventError):
        entries_of(event, FREE)


@pytest.mark.parametrize(
    ("moment", "is_one"),
    [
        ("2026-11-23T09:30:39Z", True),
        ("2026-11-23T09:30:39.1Z", True),
        ("2026-11-23T09:30:39.123456Z", True),
        ("2026-11-23T09:30:39.1234567Z", False),
        ("2026-11-23T09:30:39+00:00", False),
        ("2026-02-29T09:30:39Z", False),
        (5, False),
        (None, False),
    ],
)
def test_a_timestamp_is_a_moment_in_utc(moment: Any, is_one: bool) -> None:
    recorded: Callable[[], LedgerEntry] = lambda: entry({"metadata/timestamp": moment})  # noqa: E731
    if is_one:
        assert recorded().attributes["timestamp"] == moment
        assert datetime.fromisoformat(moment).tzinfo == UTC
    else:
        with pytest.raises(MalformedEventError):
            recorded()


@pytest.mark.parametrize("digest", [None, "", "0a1b"])
def test_a_copy_of_answers_is_known_by_its_digest_at_whichever_server(digest: str | None) -> None:
    recorded = entry({"data/fetched": {"names": ["one"], "others": [], "digest": digest}})
    copies = [(f"fetched#{hashlib.sha256(bytes(1) + b'0a1b').hexdigest()}", "fetched")] if digest else []
    assert list(recorded.claims[1:]) == copies
