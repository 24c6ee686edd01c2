import copy
import json
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai_proxy.events import Event, MalformedEventError
from openai_proxy.pricing import parse_price_book
from openai_proxy.ulid import new_ulid
from record_cost.ledger import LedgerEntry, add_shares, entry_of
from record_cost.table import MOST_ITEMS, build_transaction, in_transactions

SAMPLES = Path(__file__).parents[2] / "events" / "samples"
PRICES = parse_price_book(
    """
    version: test
    servers:
      openai:
        gpt-4o-mini-*: {input: 0.15, cached_input: 0.075, output: 0.6}
        gpt-4o-*: {input: 2.5, output: 10}
        gpt-4o: {input: 3, output: 10}
      ollama: {"*": free}
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
            target = target[parent]
        target[last] = value
    return entry_of(Event.from_envelope(envelope), PRICES)


def test_an_entry_keeps_every_figure_of_the_inference():
    recorded = entry("InferenceCompleted.chat-stream")

    assert recorded.key == ("client#web-shop#2026-11-23", "01M83VWEZ54TFF59TDWH9EDD1R")
    assert recorded.attributes == {
        "outcome": "completed",
        "client_id": "web-shop",
        "request_id": "01M83VWEZ54TFF59TDWH9EDD1R",
        "timestamp": "2026-11-23T09:30:39.315Z",
        "day": "2026-11-23",
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
        "duration": Decimal("1.902311"),
        "authorization_duration": Decimal("0.011802"),
        "upstream_duration": Decimal("1.884127"),
        "proxy_duration": Decimal("0.018184"),
        "cache_status": "BYPASS",
        "door": "function_url",
        "input_tokens": 1830,
        "output_tokens": 64,
        "cache_read_input_tokens": 0,
        "cache_creation_input_tokens": 0,
        "reasoning_output_tokens": 0,
        "usage_source": "reported",
        "pricing": "priced",
        "price_version": "test",
        "price_rule": "openai/gpt-4o-mini-*",
        "currency": "USD",
        "cost": Decimal("0.0003129"),
        "cost_input": Decimal("0.0002745"),
        "cost_cached_input": Decimal(0),
        "cost_cache_write": Decimal(0),
        "cost_output": Decimal("0.0000384"),
        "expires_at": int(datetime(2027, 12, 28, 9, 30, 37, 413000, tzinfo=UTC).timestamp()),
    }


def test_its_share_of_the_rollup():
    recorded = entry("InferenceCompleted.chat-stream")

    assert recorded.rollup_key == ("day#2026-11-23", "web-shop#openai#gpt-4o-mini-2024-07-18")
    assert recorded.rollup_names == {
        "day": "2026-11-23",
        "client_id": "web-shop",
        "server": "openai",
        "model": "gpt-4o-mini-2024-07-18",
    }
    assert recorded.rollup_share == {
        "requests": 1,
        "failed": 0,
        "cache_hits": 0,
        "unpriced": 0,
        "usage_missing": 0,
        "input_tokens": 1830,
        "output_tokens": 64,
        "cache_read_input_tokens": 0,
        "cache_creation_input_tokens": 0,
        "reasoning_output_tokens": 0,
        "cost": Decimal("0.0003129"),
        "duration": Decimal("1.902311"),
        "first_chunks": 1,
        "time_to_first_chunk": Decimal("0.412356"),
    }


def test_a_failed_inference_costs_what_it_used_until_then():
    recorded = entry("InferenceFailed.broken-off")

    assert recorded.attributes["outcome"] == "failed"
    assert recorded.attributes["error_type"] == "upstream_broken_off"
    assert recorded.attributes["error_source"] == "upstream"
    assert recorded.attributes["upstream_status"] == 200
    assert recorded.attributes["usage_source"] == "estimated"
    assert recorded.attributes["cost"] == Decimal("0.001185")
    assert recorded.rollup_share["failed"] == recorded.rollup_share["requests"] == 1


def test_a_request_that_named_nothing_known_has_a_rollup_too():
    recorded = entry("InferenceFailed.unknown-server")

    assert recorded.rollup_key == ("day#2026-11-23", "ci.nightly#-#-")
    assert recorded.attributes["pricing"] == "none"
    assert recorded.attributes.keys().isdisjoint({"server", "model", "upstream_status", "time_to_first_chunk"})


def test_what_has_no_price_has_no_cost_and_is_counted():
    recorded = entry("InferenceCompleted.chat-stream", data__server__name="elsewhere")

    assert (recorded.attributes["pricing"], recorded.attributes["unpriced_reason"]) == ("unpriced", "unknown_price")
    assert "cost" not in recorded.attributes
    assert (recorded.rollup_share["unpriced"], recorded.rollup_share["cost"]) == (1, 0)


def test_missing_usage_is_flagged_not_priced_as_zero():
    recorded = entry(
        "InferenceCompleted.usage-missing", data__server__name="openai", data__response__model="gpt-4o-2024-08-06"
    )

    assert (recorded.attributes["pricing"], recorded.attributes["unpriced_reason"]) == ("unpriced", "usage_missing")
    assert (recorded.rollup_share["unpriced"], recorded.rollup_share["usage_missing"]) == (1, 1)


def test_the_model_that_answered_sets_the_price():
    recorded = entry(
        "InferenceCompleted.chat-stream", data__request__model="gpt-4o", data__response__model="gpt-4o-mini-2024-07-18"
    )

    assert recorded.attributes["price_rule"] == "openai/gpt-4o-mini-*"


def test_an_alias_has_its_own_price_when_the_model_behind_it_has_none():
    recorded = entry(
        "InferenceCompleted.chat-stream", data__request__model="gpt-4o", data__response__model="gpt-next-2027-01-01"
    )

    assert recorded.attributes["price_rule"] == "openai/gpt-4o"
    assert recorded.attributes["model"] == "gpt-next-2027-01-01"


def test_an_answer_from_the_response_cache_is_free():
    recorded = entry("InferenceCompleted.cache-hit")

    assert (recorded.attributes["pricing"], recorded.attributes["cost"]) == ("free", 0)
    assert recorded.rollup_share["cache_hits"] == 1


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

    assert len(recorded.rollup_key[1].encode()) <= 1024
    assert len(json.dumps(recorded.attributes, default=str)) < 20_000


def test_half_a_character_in_a_model_name_does_no_harm():
    recorded = entry("InferenceFailed.upstream-error", data__request__model=json.loads('"gpt-\\ud83d"'))

    assert recorded.rollup_names["model"] == "gpt-?"


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
        {"data__timings__total": "fast"},
        {"data__timings__total": -1},
        {"data__timings__total": float("inf")},
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
    return entry_of(Event.from_envelope(envelope), PRICES)


@given(st.lists(shares, max_size=30), st.randoms(use_true_random=False))
def test_a_rollup_is_exactly_the_sum_of_its_entries_in_any_order(facts: list[dict[str, Any]], random: Any):
    entries = [entry_with(fact) for fact in facts]
    shuffled = random.sample(entries, len(entries))

    total = add_shares(recorded.rollup_share for recorded in shuffled)

    assert total.get("requests", 0) == len(entries)
    assert total.get("cost", 0) == sum(recorded.attributes.get("cost", 0) for recorded in entries)
    assert total.get("input_tokens", 0) == sum(recorded.attributes["input_tokens"] for recorded in entries)
    assert total.get("duration", 0) == sum(recorded.attributes["duration"] for recorded in entries)
    assert total.get("unpriced", 0) == sum("cost" not in recorded.attributes for recorded in entries)


@given(st.lists(st.sampled_from([f"model-{n}" for n in range(200)]), max_size=300))
def test_transactions_hold_every_entry_once_with_its_rollup_and_keep_the_limit(models: list[str]):
    entries = [
        LedgerEntry(("client#c#day", str(n)), {}, ("day#d", model), {"model": model}, {"requests": 1})
        for n, model in enumerate(models)
    ]

    packs = list(in_transactions(entries))

    assert [recorded for pack in packs for recorded in pack] == entries
    for pack in packs:
        items: list[Any] = build_transaction("costs", pack)
        updates = [item["Update"] for item in items if "Update" in item]
        assert 0 < len(items) <= MOST_ITEMS
        assert len(items) - len(updates) == len(pack)
        assert sum(int(update["ExpressionAttributeValues"][":requests"]["N"]) for update in updates) == len(pack)
        assert len({update["Key"]["sk"]["S"] for update in updates}) == len(updates)


def test_a_full_batch_of_one_model_needs_two_transactions():
    rollup: Any = (("day#d", "c#s#m"), {}, {"requests": 1})
    entries = [LedgerEntry(("client#c#d", str(n)), {}, *rollup) for n in range(100)]

    assert [len(pack) for pack in in_transactions(entries)] == [99, 1]
