import copy
import json
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from boto3.dynamodb.types import TypeSerializer
from hypothesis import given
from hypothesis import strategies as st
from openai_proxy.dynamodb import to_item
from openai_proxy.events.incoming import MalformedEventError
from openai_proxy.events.ulid import new_ulid
from openai_proxy.ledger.entries import LedgerEntry, Rollup, add_shares, entry_of
from openai_proxy.ledger.entry_cost import PRICE_ATTRIBUTES, usage_attributes, usage_of_entry
from openai_proxy.ledger.faults import FAULTS, failure_share, fault_of
from openai_proxy.ledger.table import in_transactions
from openai_proxy.ledger.transactions import build_transaction
from openai_proxy.pricing.price_book import load_price_book, parse_price_book
from openai_proxy.usage import Usage

from tests.fakes import read_event

MOST_ITEMS = 100

SAMPLES = Path(__file__).parents[4] / "events" / "samples"
PRICES = parse_price_book(
    """
    servers:
      openai:
        models:
          gpt-4o-mini-*: {input: 0.15, cached_input: 0.075, output: 0.6}
          gpt-4o-*: {input: 2.5, output: 10}
          gpt-4o: {input: 3, output: 10}
          gpt-audio: {input: 2.5, audio_input: 32, output: 10, audio_output: 64, request: 0.01, audio_minute: 0.06}
      ollama: {free: true}
    """
)


def sample(name: str) -> Any:
    return json.loads((SAMPLES / f"{name}.json").read_text(encoding="utf-8"))


def entry(name: str, **changes: Any) -> LedgerEntry:
    """The entry of a sample, with `changes` to its data given as path__to__field=value."""
    envelope = sample(name)
    for path, value in changes.items():
        target = envelope["detail"]
        *parents, last = path.split("__")
        for parent in parents:
            target = target.setdefault(parent, {})
        target[last] = value
    return entry_of(read_event(envelope), PRICES)


def test_names_that_differ_in_half_a_character_are_claimed_once():
    """DynamoDB takes no transaction that writes an item twice."""
    names = ["file_?", "file_\ud800", "file_\ud801"]
    claims = entry("InferenceCompleted.chat-stream", data__fetched={"names": names, "digest": None}).claims
    assert claims == entry("InferenceCompleted.chat-stream", data__fetched={"names": names[:1], "digest": None}).claims
    assert len(claims) == 1


def test_an_entry_keeps_every_figure_of_the_inference():
    recorded = entry("InferenceCompleted.chat-stream")

    assert recorded.key == ("client#web-shop#2026-11-23", "01M83VWEZ54TFF59TDWH9EDD1R")
    assert recorded.attributes == {
        "outcome": "completed",
        "client_id": "web-shop",
        "request_id": "01M83VWEZ54TFF59TDWH9EDD1R",
        "timestamp": "2026-11-23T09:30:39.315Z",
        "day": "2026-11-23",
        "month": "2026-11",
        "operation": "chat",
        "server": "openai",
        "method": "POST",
        "path": "/chat/completions",
        "request_model": "gpt-4o-mini",
        "model": "gpt-4o-mini-2024-07-18",
        "stream": True,
        "request_size": 412,
        "status_code": 200,
        "response_id": "chatcmpl-C8fKq2mXw1",
        "finish_reasons": ["stop"],
        "response_size": 16384,
        "chunks": 66,
        "time_to_first_chunk": Decimal("0.412356"),
        "time_per_output_token": Decimal("0.02365"),
        "duration": Decimal("1.902311"),
        "attempts": 1,
        "authorization_duration": Decimal("0.011802"),
        "upstream_duration": Decimal("1.884127"),
        "proxy_duration": Decimal("0.018184"),
        "cache_status": "BYPASS",
        "door": "function_url",
        "key_id": "3f2a91c07be4",
        "client_name": "Chat widget",
        "input_tokens": 1830,
        "output_tokens": 64,
        "cache_read_input_tokens": 0,
        "cache_creation_input_tokens": 0,
        "reasoning_output_tokens": 0,
        "input_audio_tokens": 0,
        "output_audio_tokens": 0,
        "usage_source": "reported",
        "pricing": "priced",
        "price_version": PRICES.version,
        "price_rule": "own:openai/gpt-4o-mini-*",
        "currency": "USD",
        "cost": Decimal("0.0003129"),
        "cost_input": Decimal("0.0002745"),
        "cost_cached_input": Decimal(0),
        "cost_cache_write": Decimal(0),
        "cost_output": Decimal("0.0000384"),
        "expires_at": int(datetime(2027, 12, 28, 9, 30, 37, 413000, tzinfo=UTC).timestamp()),
    }


def test_its_share_of_its_rollups():
    recorded = entry("InferenceCompleted.chat-stream")
    names = {"client_id": "web-shop", "server": "openai", "model": "gpt-4o-mini-2024-07-18"}
    sort_key = "web-shop#openai#gpt-4o-mini-2024-07-18"

    assert recorded.rollups == (
        Rollup(("day#2026-11-23", sort_key), {"day": "2026-11-23", **names}),
        Rollup(("month#2026-11", sort_key), {"month": "2026-11", **names}),
    )
    assert recorded.share == {
        "requests": 1,
        "failed": 0,
        "cache_hits": 0,
        "hits_priced": 0,
        "unpriced": 0,
        "usage_missing": 0,
        "usage_estimated": 0,
        "input_tokens": 1830,
        "output_tokens": 64,
        "cache_read_input_tokens": 0,
        "cache_creation_input_tokens": 0,
        "reasoning_output_tokens": 0,
        "input_audio_tokens": 0,
        "output_audio_tokens": 0,
        "input_image_tokens": 0,
        "output_image_tokens": 0,
        "audio_duration": 0,
        "cost": Decimal("0.0003129"),
        "cost_saved": 0,
        "duration": Decimal("1.902311"),
        "first_chunks": 1,
        "time_to_first_chunk": Decimal("0.412356"),
        "t12": 1,
        "d18": 1,
    }


def test_every_component_of_a_cost_is_there_and_they_add_up():
    recorded = entry(
        "InferenceCompleted.chat-stream",
        data__response__model="gpt-audio",
        data__usage__input_tokens=1000,
        data__usage__output_tokens=100,
        data__usage__cache_read__input_tokens=100,
        data__usage__cache_creation__input_tokens=10,
        data__usage__reasoning__output_tokens=7,
        data__usage__audio={"input_tokens": 200, "output_tokens": 30},
        data__usage__duration=7.1234567,
    )

    costs = {name: value for name, value in recorded.attributes.items() if name.startswith("cost_")}
    assert costs == {
        "cost_input": Decimal("0.001725"),
        "cost_cached_input": Decimal("0.00025"),
        "cost_cache_write": Decimal("0.000025"),
        "cost_audio_input": Decimal("0.0064"),
        "cost_output": Decimal("0.00063"),
        "cost_reasoning": Decimal("0.00007"),
        "cost_audio_output": Decimal("0.00192"),
        "cost_request": Decimal("0.01"),
        "cost_audio_duration": Decimal("0.007123457"),
    }
    assert recorded.attributes["cost"] == sum(costs.values()) == recorded.share["cost"]
    assert recorded.attributes["audio_duration"] == recorded.share["audio_duration"] == Decimal("7.123457")
    assert set(costs) | {"cost"} <= set(PRICE_ATTRIBUTES)


def searched(prices: str, **units: int) -> LedgerEntry:
    book = parse_price_book(f"servers: {{openai: {{models: {{'*': {prices}}}}}}}")
    event = copy.deepcopy(sample("InferenceCompleted.chat-stream"))
    event["detail"]["data"]["usage"]["units"] = units
    event["detail"]["data"]["usage"]["cache_creation"] = {"input_tokens": 1000, "ephemeral_1h_input_tokens": 400}
    return entry_of(read_event(event), book)


PRICED = "{input: 0, output: 0, cache_write: 10, cache_write_1h: 20, units: {web_search: 0.01, new: 0}}"


def test_what_is_billed_by_the_piece_and_caches_for_an_hour_have_their_own_prices():
    recorded = searched(PRICED, web_search=3, new=1)
    kept = {
        name: recorded.attributes[name] for name in ("units", "cache_creation_1h_input_tokens", "cost", "cost_units")
    }
    assert kept == {
        "units": {"web_search": 3, "new": 1},
        "cache_creation_1h_input_tokens": 400,
        "cost": Decimal("0.044"),
        "cost_units": Decimal("0.03"),
    }
    assert recorded.attributes["cost_cache_write"] == Decimal("0.014") == 600 * Decimal("1e-5") + 400 * Decimal("2e-5")
    assert recorded.attributes["cache_creation_input_tokens"] == recorded.share["cache_creation_input_tokens"] == 1000
    assert recorded.share["cost_units"] == Decimal("0.03")
    assert "unpriced_units" not in recorded.attributes.keys() | recorded.share.keys()
    assert usage_of_entry(recorded.attributes).units == (("new", 1), ("web_search", 3))


def test_a_piece_without_a_price_is_counted_beside_what_has_one():
    recorded = searched(PRICED, web_search=1, code_interpreter=2, other=3)
    assert (recorded.attributes["pricing"], recorded.attributes["cost"]) == ("priced", Decimal("0.024"))
    assert recorded.attributes["unpriced_units"] == recorded.share["unpriced_units"] == 5
    assert recorded.share["unpriced"] == 0


def test_where_nothing_but_such_pieces_would_cost_nothing_is_known():
    recorded = searched("{input: 0, output: 0}", web_search=1)
    assert (recorded.attributes["pricing"], recorded.attributes["unpriced_reason"]) == ("unpriced", "unknown_price")
    assert searched("free", web_search=1).attributes["cost"] == 0
    assert searched("{units: {web_search: 2}}", web_search=1).attributes["cost"] == 2


def test_image_tokens_have_their_own_price_and_are_on_the_entry():
    recorded = entry_of(read_event(sample("InferenceCompleted.images")), load_price_book())

    assert recorded.attributes["price_rule"] == "list:openai/gpt-image-1.5"
    costs = {name: value for name, value in recorded.attributes.items() if name.startswith("cost_") and value}
    assert costs == {
        "cost_input": Decimal("0.0005"),  # 100 tokens of text at 5 USD a million
        "cost_image_input": Decimal("0.0016"),
        "cost_output": Decimal("0.00032"),
        "cost_image_output": Decimal("0.050176"),
    }
    assert recorded.attributes["cost"] == sum(costs.values())
    assert recorded.attributes["input_image_tokens"] == recorded.share["input_image_tokens"] == 200
    assert recorded.attributes["output_image_tokens"] == recorded.share["output_image_tokens"] == 1568
    assert usage_of_entry(recorded.attributes) == Usage.from_event(
        sample("InferenceCompleted.images")["detail"]["data"]["usage"]
    )


def test_what_an_entry_does_not_have_adds_nothing():
    share = entry("InferenceFailed.upstream-unreachable").share

    assert {name for name, value in share.items() if value} == {"requests", "failed", "failed_server", "duration"}


@pytest.mark.parametrize(
    ("error", "fault"),
    [
        ({"error_source": "upstream", "upstream_status": 500}, "server"),
        ({"error_source": "client", "status_code": 400}, "client"),
        ({"error_source": "proxy", "status_code": 500}, "proxy"),
        ({"error_source": "upstream", "upstream_status": 429, "status_code": 200}, "limit"),
        *(
            ({"error_source": "upstream", "error_type": code, "status_code": 200}, "limit")
            for code in ("rate_limit_exceeded", "insufficient_quota", "budget_reserved")
        ),
        ({"error_source": "of later", "status_code": 500}, None),
        ({}, None),
    ],
)
def test_a_failure_is_somebody_s_and_counts_once(error: dict[str, Any], fault: str | None):
    assert fault_of({"outcome": "failed", **error}) == fault
    assert (fault in FAULTS) == (fault is not None)
    assert failure_share({"outcome": "failed", **error}) == {"failed": 1} | ({f"failed_{fault}": 1} if fault else {})
    assert failure_share({"outcome": "completed", **error}) == {"failed": 0}


def test_what_was_used_is_read_again_from_an_entry_and_from_those_of_before():
    used = Usage(10, 20, 3, 4, 5, "reported", 6, 7, 8.5, 9, 11, "rounded", Decimal("0.5"), "flex", 2)
    used = used._replace(units=(("page", 3), ("web_search", 1)))
    attributes = usage_attributes(used)
    assert attributes["audio_duration"] == Decimal("8.5")
    assert usage_of_entry(attributes) == used
    assert (
        usage_of_entry({name: Decimal(value) if type(value) is int else value for name, value in attributes.items()})
        == used
    )
    before = ("input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
    kept = {name: attributes[name] for name in (*before, "reasoning_output_tokens", "usage_source")}
    assert usage_of_entry(kept) == Usage(10, 20, 3, 4, 5, "reported")
    assert usage_attributes(Usage(duration=0.12345678))["audio_duration"] == Decimal("0.123457")


def test_what_the_server_did_not_tell_apart_is_not_on_the_entry():
    recorded = entry("InferenceCompleted.chat-stream")

    assert recorded.attributes.keys().isdisjoint({"input_image_tokens", "output_image_tokens"})
    assert usage_of_entry(recorded.attributes).input_image_tokens is None


@pytest.mark.parametrize(
    ("server", "saved"), [("openai", Decimal("0.000036")), ("ollama", Decimal(0)), ("elsewhere", None)]
)
def test_a_hit_of_the_response_cache_costs_nothing_and_saves_what_it_would_have_cost(
    server: str, saved: Decimal | None
):
    recorded = entry("InferenceCompleted.cache-hit", data__server__name=server)

    assert (recorded.attributes["pricing"], recorded.attributes["price_rule"]) == ("free", "response cache")
    assert (recorded.attributes["cost"], recorded.share["cost"], recorded.share["unpriced"]) == (0, 0, 0)
    assert recorded.attributes.get("cost_saved") == saved
    assert recorded.share["cost_saved"] == (saved or 0)
    assert (recorded.share["cache_hits"], recorded.share["hits_priced"]) == (1, int(saved is not None))


def test_what_no_cache_answered_saves_nothing():
    assert "cost_saved" not in entry("InferenceCompleted.chat-stream").attributes


def test_for_whom_a_request_was_is_on_the_entry():
    recorded = entry(
        "InferenceCompleted.chat-stream",
        data__client={
            "key_id": "3f2a",
            "name": "chat widget",
            "owner": "shop team",
            "tags": {"stage": "prod", "empty": "", "": "x"},
        },
        data__end_user="5b0e" * 16,
    )

    assert recorded.attributes["key_id"] == "3f2a"
    assert recorded.attributes["client_name"] == "chat widget"
    assert recorded.attributes["client_owner"] == "shop team"
    assert recorded.attributes["tags"] == {"stage": "prod", "empty": ""}
    assert recorded.attributes["end_user"] == "5b0e" * 16


@pytest.mark.parametrize(
    "changes",
    [{"data__client": None, "data__end_user": None}, {"data__client": {}}, {"data__client": {"tags": {}}}],
    ids=str,
)
def test_what_is_not_said_is_not_there(changes: dict[str, Any]):
    recorded = entry("InferenceCompleted.chat-stream", **changes)

    assert recorded.attributes.keys().isdisjoint({"key_id", "client_name", "client_owner", "tags", "end_user"})


def test_an_event_of_before_audio_and_attempts_is_recorded_too():
    envelope = sample("InferenceCompleted.chat-stream")
    data = envelope["detail"]["data"]
    del data["usage"]["audio"], data["usage"]["duration"], data["attempts"], data["response"]["time_per_output_token"]

    recorded = entry_of(read_event(envelope), PRICES)

    assert recorded.attributes.keys().isdisjoint({"attempts", "audio_duration", "time_per_output_token"})
    assert recorded.attributes["cost"] == Decimal("0.0003129")


def test_a_failed_inference_costs_what_it_used_until_then():
    recorded = entry("InferenceFailed.broken-off")

    assert recorded.attributes["outcome"] == "failed"
    assert recorded.attributes["error_type"] == "upstream_broken_off"
    assert recorded.attributes["error_source"] == "upstream"
    assert recorded.attributes["upstream_status"] == 200
    assert recorded.attributes["usage_source"] == "estimated"
    assert recorded.attributes["cost"] == Decimal("0.001185")
    assert recorded.share["failed"] == recorded.share["requests"] == recorded.share["usage_estimated"] == 1


def test_a_request_that_named_nothing_known_has_a_rollup_too():
    recorded = entry("InferenceFailed.unknown-server")

    assert [rollup.key for rollup in recorded.rollups] == [
        ("day#2026-11-23", "ci.nightly#-#-"),
        ("month#2026-11", "ci.nightly#-#-"),
    ]
    assert recorded.attributes["pricing"] == "none"
    assert recorded.attributes.keys().isdisjoint({"server", "model", "upstream_status", "time_to_first_chunk"})


def test_what_has_no_price_has_no_cost_and_is_counted():
    recorded = entry("InferenceCompleted.chat-stream", data__server__name="elsewhere")

    assert (recorded.attributes["pricing"], recorded.attributes["unpriced_reason"]) == ("unpriced", "unknown_price")
    assert "cost" not in recorded.attributes
    assert (recorded.share["unpriced"], recorded.share["cost"]) == (1, 0)


def test_missing_usage_is_flagged_not_priced_as_zero():
    recorded = entry(
        "InferenceCompleted.usage-missing", data__server__name="openai", data__response__model="gpt-4o-2024-08-06"
    )

    assert (recorded.attributes["pricing"], recorded.attributes["unpriced_reason"]) == ("unpriced", "usage_missing")
    assert (recorded.share["unpriced"], recorded.share["usage_missing"]) == (1, 1)


def test_the_model_that_answered_sets_the_price():
    recorded = entry(
        "InferenceCompleted.chat-stream", data__request__model="gpt-4o", data__response__model="gpt-4o-mini-2024-07-18"
    )

    assert recorded.attributes["price_rule"] == "own:openai/gpt-4o-mini-*"


def test_an_alias_has_its_own_price_when_the_model_behind_it_has_none():
    recorded = entry(
        "InferenceCompleted.chat-stream", data__request__model="gpt-4o", data__response__model="gpt-next-2027-01-01"
    )

    assert recorded.attributes["price_rule"] == "own:openai/gpt-4o"
    assert recorded.attributes["model"] == "gpt-next-2027-01-01"


def test_an_answer_from_the_response_cache_is_free():
    recorded = entry("InferenceCompleted.cache-hit")

    assert (recorded.attributes["pricing"], recorded.attributes["cost"]) == ("free", 0)
    assert recorded.share["cache_hits"] == 1


def test_a_local_server_is_free():
    assert entry("InferenceCompleted.local-server").attributes["pricing"] == "free"


def test_what_clients_make_up_is_cut_to_size():
    name = "\N{PILE OF POO}" * 100_000
    recorded = entry(
        "InferenceFailed.upstream-error",
        metadata__client_id="c" * 64,
        data__server__name=name,
        data__request__model=name,
        data__request__path="/" + name,
    )

    assert max(len(rollup.key[1].encode()) for rollup in recorded.rollups) <= 1024
    assert len(json.dumps(recorded.attributes, default=str)) < 20_000


def test_half_a_character_in_a_model_name_does_no_harm():
    recorded = entry("InferenceFailed.upstream-error", data__request__model=json.loads('"gpt-\\ud83d"'))

    assert [rollup.names["model"] for rollup in recorded.rollups] == ["gpt-?", "gpt-?"]


def test_the_day_is_that_of_the_request_not_of_its_end():
    midnight = datetime(2026, 11, 24, tzinfo=UTC).timestamp()
    recorded = entry("InferenceCompleted.chat-stream", metadata__id=new_ulid(midnight - 0.001))

    assert recorded.attributes["day"] == "2026-11-23"


def test_the_same_event_gives_the_same_entry():
    assert entry("InferenceCompleted.chat-stream") == entry("InferenceCompleted.chat-stream")


@pytest.mark.parametrize(
    "changes",
    [
        {"metadata__id": "not-a-ulid"},
        {"metadata__id": 7},
        {"metadata__client_id": "a#b"},
        {"metadata__client_id": ""},
        {"metadata__client_id": None},
        {"data__usage": None},
        {"data__usage__input_tokens": -1},
        {"data__usage__input_tokens": 1.5},
        {"data__usage__input_tokens": True},
        {"data__usage__output_tokens": "7"},
        {"data__usage__output_tokens": 10**13},
        {"data__usage__cache_creation": {}},
        {"data__usage__source": "guessed"},
        {"data__usage__audio": {"input_tokens": -1, "output_tokens": 0}},
        {"data__usage__audio": {"input_tokens": 1}},
        {"data__usage__duration": -1},
        {"data__usage__duration": "3 s"},
        {"data__client": "web"},
        {"data__client": {"tags": {"a": 1}}},
        {"data__end_user": 7},
        {"data__attempts": None},
        {"metadata__id": "7ZZZZZZZZZZZZZZZZZZZZZZZZZ"},
        {"metadata__timestamp": "2026-11-23T09:30:39"},
        {"metadata__timestamp": "2026-11-23"},
        {"metadata__timestamp": "2026-11-23T24:00:00Z"},
        {"data__timings__total": "fast"},
        {"data__timings__total": -1},
        {"data__timings__total": float("inf")},
        {"data__timings__total": 10**9 + 1},
        {"data__request": []},
        {"data__response__finish_reasons": None},
        {"data__response__model": 5},
        {"data__server": None},
        {"data": {}},
        {"data": None},
    ],
    ids=str,
)
def test_an_event_that_does_not_follow_the_schema_is_malformed(changes: dict[str, Any]):
    with pytest.raises(MalformedEventError):
        entry("InferenceCompleted.chat-stream", **changes)


def test_the_longest_time_is_a_time():
    assert entry("InferenceCompleted.chat-stream", data__timings__total=10**9).attributes["duration"] == 10**9


def test_fields_that_are_new_do_no_harm():
    assert entry("InferenceCompleted.chat-stream", data__usage__new=1, data__new={}) == entry(
        "InferenceCompleted.chat-stream"
    )


tokens = st.integers(0, 10**9)
shares = st.fixed_dictionaries(
    {
        "client": st.sampled_from(["a", "b"]),
        "model": st.sampled_from(["gpt-4o-mini-1", "gpt-4o", "unlisted", None]),
        "usage": st.tuples(tokens, tokens, tokens, st.sampled_from(["reported", "estimated", "missing", "none"])),
        "seconds": st.floats(0, 900),
        "first_chunk": st.none() | st.floats(0, 900),
        "type": st.sampled_from(["InferenceCompleted.chat-stream", "InferenceFailed.broken-off"]),
    }
)


def entry_with(facts: dict[str, Any]) -> LedgerEntry:
    envelope = copy.deepcopy(sample(facts["type"]))
    detail = envelope["detail"]
    detail["metadata"] |= {"id": new_ulid(1_795_000_000), "client_id": facts["client"]}
    detail["data"]["response"] |= {"model": facts["model"], "time_to_first_chunk": facts["first_chunk"]}
    detail["data"]["timings"]["total"] = facts["seconds"]
    fresh, cached, output, source = facts["usage"]
    detail["data"]["usage"] |= {"input_tokens": fresh + cached, "output_tokens": output, "source": source}
    detail["data"]["usage"]["cache_read"]["input_tokens"] = cached
    return entry_of(read_event(envelope), PRICES)


@given(st.lists(shares, max_size=30), st.randoms(use_true_random=False))
def test_a_rollup_is_exactly_the_sum_of_its_entries_in_any_order(facts: list[dict[str, Any]], random: Any):
    entries = [entry_with(fact) for fact in facts]
    shuffled = random.sample(entries, len(entries))

    total = add_shares(recorded.share for recorded in shuffled)

    assert total.get("requests", 0) == len(entries)
    assert total.get("cost", 0) == sum(recorded.attributes.get("cost", 0) for recorded in entries)
    assert total.get("input_tokens", 0) == sum(recorded.attributes["input_tokens"] for recorded in entries)
    assert total.get("duration", 0) == sum(recorded.attributes["duration"] for recorded in entries)
    assert total.get("unpriced", 0) == sum("cost" not in recorded.attributes for recorded in entries)


def a_rollup(period: str, model: str) -> Rollup:
    return Rollup((period, model), {"model": model})


@given(st.lists(st.tuples(st.integers(0, 200), st.integers(1, 3)), max_size=300))
def test_transactions_hold_every_entry_once_with_its_rollups_and_keep_the_limit(facts: list[tuple[int, int]]):
    entries = [
        LedgerEntry(
            ("client#c#day", str(n)),
            {},
            (a_rollup(f"day#{day}", f"model-{model}"), a_rollup("month#1", f"model-{model}")),
            {"requests": 1},
        )
        for n, (model, day) in enumerate(facts)
    ]

    packs = list(in_transactions(entries))

    assert [recorded for pack in packs for recorded in pack] == entries
    for pack in packs:
        items: list[Any] = build_transaction("costs", pack)
        updates = [item["Update"] for item in items if "Update" in item]
        assert 0 < len(items) <= MOST_ITEMS
        assert len(items) - len(updates) == len(pack)
        assert sum(int(update["ExpressionAttributeValues"][":requests"]["N"]) for update in updates) == 2 * len(pack)
        assert len({(update["Key"]["pk"]["S"], update["Key"]["sk"]["S"]) for update in updates}) == len(updates)


@pytest.mark.parametrize(
    ("models", "packs"), [(1, [98, 2]), (100, [33, 33, 33, 1])], ids=["of one model", "each of a model of its own"]
)
def test_how_many_entries_one_transaction_takes(models: int, packs: list[int]):
    entries = [
        LedgerEntry(
            ("client#c#d", str(n)), {}, (a_rollup("day#d", f"{n % models}"), a_rollup("month#m", f"{n % models}")), {}
        )
        for n in range(100)
    ]

    assert [len(pack) for pack in in_transactions(entries)] == packs


def test_attributes_become_items_as_boto_makes_them():
    attributes = entry(
        "InferenceCompleted.chat-stream", data__client={"tags": {"a": "b"}}, data__response__model="unlisted"
    ).attributes

    serialize = TypeSerializer().serialize
    assert to_item(attributes) == {name: serialize(value) for name, value in attributes.items()}
    assert to_item({"nested": {"list": ["a", 1, True, Decimal("0.10")]}}) == {
        "nested": {"M": {"list": {"L": [{"S": "a"}, {"N": "1"}, {"BOOL": True}, {"N": "0.10"}]}}}
    }
