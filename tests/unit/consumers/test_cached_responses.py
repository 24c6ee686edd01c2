"""What store_response makes of an event: an item that fits together, or nothing."""

import base64
import hashlib
import importlib
import json
import sys
import zlib
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai_proxy.dynamodb import to_item
from openai_proxy.events.envelope import Event
from openai_proxy.events.incoming import MalformedEventError, from_envelope
from openai_proxy.pricing.price_book import PriceBook, parse_price_book
from openai_proxy.usage import Usage
from store_response.cached_response import AnswerTooLargeError, CachedResponse, cached_response_of
from store_response.item import item_of, item_size

LARGEST_BODY = 16_777_216

SAMPLES = Path(__file__).parents[3] / "events" / "samples"
CANARY = "canary-in-an-answer"
PRICES = parse_price_book(
    """
servers:
  openai:
    models:
      gpt-4o-mini-2024-07-18: {input: 0.15, output: 0.6}
      text-embedding-3-small: {input: 0.02, output: 0}
  demo: {free: true}
"""
)


def event(sample: str = "chat-stream", **changes: Any) -> Event[Any, Any]:
    envelope = json.loads((SAMPLES / f"ResponseCaptured.{sample}.json").read_text(encoding="utf-8"))
    for path, value in changes.items():
        target = envelope["detail"]
        *parents, last = path.split("__")
        for parent in parents:
            target = target[parent]
        target[last] = value
    return from_envelope(envelope)


def read(sample: str = "chat-stream", prices: PriceBook = PRICES, **changes: Any) -> CachedResponse:
    return cached_response_of(event(sample, **changes), prices)


def with_body(body: bytes, encoding: str = "zlib") -> dict[str, Any]:
    """The changes that make an event carry `body`."""
    encoded = zlib.compress(body, 1) if encoding == "zlib" else body
    return {
        "data__response__body": base64.b64encode(encoded).decode(),
        "data__response__body_size": len(body),
        "data__response__body_sha256": hashlib.sha256(body).hexdigest(),
        "data__response__encoding": encoding,
        "data__response__timing": None,
    }


def test_the_item_has_what_an_answer_needs():
    item = item_of(read())

    assert zlib.decompress(item["body"]["B"]).endswith(b"data: [DONE]\n\n")
    assert item["encoding"] == {"S": "zlib"}
    assert item["stream"] == {"BOOL": True}
    assert item["status_code"] == {"N": "200"}
    assert item["content_type"] == {"S": "text/event-stream"}
    assert item["usage"]["M"]["input_tokens"] == {"N": "5"}
    assert item["usage"]["M"]["cache_read"] == {"M": {"input_tokens": {"N": "0"}}}
    assert item["timing"] == {"S": "[[0,0],[109,35]]"}
    assert {item[name]["N"] for name in ("created_at", "expires_at")} == {"1795426761", "1796031000"}


@pytest.mark.parametrize("sample", ["chat-stream", "chat", "object"])
def test_an_item_says_all_that_its_event_says_and_what_the_answer_cost(sample: str):
    found = event(sample, data__namespace="tests")
    data, answer = found.data, found.data["response"]
    expected: dict[str, Any] = {
        "cache_key": data["cache_key"],
        "digest": data["digest"],
        "event_id": found.id,
        "client_id": found.client_id,
        "scope": data["scope"],
        "namespace": "tests",
        "server": data["server"]["name"],
        "path": data["request"]["path"],
        "model": data["request"]["model"],
        "stream": data["request"]["stream"],
        "status_code": 200,
        "content_type": answer["content_type"],
        "encoding": answer["encoding"],
        "body_size": answer["body_size"],
        "body_sha256": answer["body_sha256"],
        "usage": Usage.from_event(data["usage"]).to_event(),
        "created_at": data["created_at"],
        "expires_at": data["expires_at"],
    }
    if "object" in answer:
        expected["object"] = answer["object"]
    else:
        body = base64.b64decode(answer["body"])
        expected |= {"body": body, "stored_size": len(body)}
    if answer.get("timing"):
        expected["timing"] = json.dumps(answer["timing"], separators=(",", ":"))
    cost = read(sample).cost
    if cost is not None:
        expected |= {"cost": f"{cost.normalize():f}", "currency": "USD"}
    assert item_of(cached_response_of(found, PRICES)) == to_item(expected)


def test_the_item_has_what_finds_it_again():
    item = item_of(read("chat"))

    assert item["client_id"] == {"S": "web-shop"}
    assert item["scope"] == {"S": "client:web-shop"}
    assert item["server"] == {"S": "openai"}
    assert item["model"] == {"S": "gpt-4o-mini"}
    assert item["body_size"] == {"N": "300"}
    assert item["stored_size"] == {"N": str(len(item["body"]["B"]))}


def test_an_answer_on_s3_is_pointed_to():
    item = item_of(read("object"))

    assert item["object"]["S"].startswith("captured/web-shop/")
    assert item["body_size"] == {"N": "2097152"}
    assert not item.keys() & {"body", "stored_size"}


def test_a_request_may_name_no_model_and_an_answer_no_timing():
    assert not item_of(read(data__request__model=None, data__response__timing=None)).keys() & {"model", "timing"}


class TestCost:
    def test_the_model_that_answered_sets_the_price(self):
        item = item_of(read("chat"))

        assert (item["cost"], item["currency"]) == ({"S": "0.00000375"}, {"S": "USD"})
        assert read("chat", data__request__model="text-embedding-3-small").cost == Decimal("0.00000375")

    def test_else_the_one_that_was_asked_for(self):
        assert read("embeddings", data__response__model="of-the-server").cost == Decimal("0.00000006")
        assert read("embeddings", data__response__model=None).cost == Decimal("0.00000006")

    @pytest.mark.parametrize("changes", [{}, {"data__server__name": "unknown"}], ids=["free", "unpriced"])
    def test_what_saves_nothing_or_nobody_knows_what_has_none(self, changes: dict[str, Any]):
        assert "cost" not in item_of(read(**changes))

    def test_missing_usage_has_no_cost(self):
        usage = event("chat").data["usage"] | {"source": "missing", "input_tokens": 0, "output_tokens": 0}

        assert read("chat", data__usage=usage).cost is None


@given(st.binary(max_size=2000), st.sampled_from(["identity", "zlib"]))
@settings(deadline=None)
def test_any_body_survives(body: bytes, encoding: str):
    response = read(**with_body(body, encoding))

    assert response.body is not None
    assert (zlib.decompress(response.body) if encoding == "zlib" else response.body) == body


@given(st.data())
@settings(deadline=None)
def test_a_body_that_was_changed_or_cut_is_no_answer(data: st.DataObject):
    encoded = bytearray(base64.b64decode(event().data["response"]["body"]))
    if data.draw(st.booleans()):
        del encoded[data.draw(st.integers(0, len(encoded) - 1)) :]
    else:
        # Not the head: zlib does not look at all of its bits, and they are no part of the body.
        encoded[data.draw(st.integers(2, len(encoded) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    before = base64.b64decode(event().data["response"]["body"])

    try:
        response = read(data__response__body=base64.b64encode(encoded).decode())
    except MalformedEventError:
        return
    assert response.body is not None
    assert zlib.decompress(response.body) == zlib.decompress(before)


def test_a_small_body_that_becomes_a_huge_one_is_not_unpacked():
    bomb = zlib.compress(b"\0" * (64 * 1024 * 1024), 9)

    with pytest.raises(MalformedEventError):
        read(data__response__body=base64.b64encode(bomb).decode())


def test_what_is_larger_than_may_be_captured_is_refused_as_that():
    with pytest.raises(AnswerTooLargeError):
        read(data__response__body_size=LARGEST_BODY + 1)


@pytest.mark.parametrize(
    "changes",
    [
        {"metadata__id": "x"},
        {"metadata__client_id": "a b"},
        {"data__cache_key": "abc"},
        {"data__cache_key": None},
        {"data__digest": "A" * 64},
        {"data__created_at": -1},
        {"data__response__timing": [[0, -1]]},
        {"data__response__timing": [[-1, 0]]},
        {"data__scope": "client:somebody-else"},
        {"data__scope": "pool:x"},
        {"data__scope": "key-pool:a b"},
        {"data__response__body": "***"},
        {"data__response__body": "aGk"},
        {"data__response__body": base64.b64encode(zlib.compress(CANARY.encode())).decode()},
        {"data__response__body": base64.b64encode(CANARY.encode()).decode()},
        {"data__response__body": None},
        {"data__response__object": "captured/web-shop/01M83WG2WWY5ZPAS4GM821024C"},
        {"data__response__body_size": 1},
        {"data__response__body_size": -1},
        {"data__response__body_sha256": "0" * 64},
        {"data__response__encoding": "gzip"},
        {"data__response__status_code": "200"},
        {"data__response__status_code": True},
        {"data__response__status_code": 429},
        {"data__response__status_code": 300},
        {"data__response__status_code": 199},
        {"data__response__content_type": ""},
        {"data__response__content_type": "text/plain\r\nset-cookie: a=b"},
        {"data__response__content_type": "text/plain; x=" + "y" * 256},
        {"data__response__content_type": "application/json"},
        {"data__response__content_type": "text/event-streamed"},
        {"data__namespace": "a b"},
        {"data__namespace": ""},
        {"data__namespace": 1},
        {"data__response__timing": [[5, 0], [4, 1]]},
        {"data__response__timing": [[0, 5], [4, 1]]},
        {"data__response__timing": [[123, 5]]},
        {"data__response__timing": [[0, 0]] * 257},
        {"data__response__timing": [[0]]},
        {"data__request__model": 5},
        {"data__request__stream": 1},
        {"data__request__path": "\ud83d"},
        {"data__server": {}},
        {"data__expires_at": 1.5},
        {"data__expires_at": 1},
        {"data__created_at": 10**20},
        {"data__usage": {}},
        {"data__usage__input_tokens": "5"},
        {"data__usage__input_tokens": -5},
        {"data__usage__reasoning": {"output_tokens": True}},
        {"data__usage__source": "guessed"},
        {"data": []},
    ],
    ids=lambda changes: ascii(changes)[:70],
)
def test_an_event_that_does_not_follow_the_schema_is_malformed(changes: dict[str, Any]):
    with pytest.raises(MalformedEventError) as refused:
        read(**changes)

    assert CANARY not in str(refused.value)
    assert refused.value.__cause__ is None


@pytest.mark.parametrize(
    ("place", "wrong"),
    [
        ("metadata__client_id", "an odd one"),
        ("data__cache_key", "odd"),
        ("data__digest", "odd"),
        ("data__scope", "odd"),
        ("data__namespace", "an odd one"),
        ("data__expires_at", 1),
        ("data__response__status_code", 429),
        ("data__response__content_type", "odd"),
        ("data__response__encoding", "odd"),
        ("data__response__body", "aGk="),
        ("data__response__body_sha256", "odd"),
        ("data__response__timing", [[5, 0], [4, 1]]),
        ("data__response__timing", [[0, 0]] * 257),
    ],
)
def test_a_refused_event_names_the_field_that_is_wrong(place: str, wrong: Any):
    changes: dict[str, Any] = {place: wrong}
    with pytest.raises(MalformedEventError, match=rf"\b{place.rpartition('__')[2]}\b"):
        read(**changes)


@pytest.mark.parametrize(
    "key",
    [
        "captured/somebody-else/01M83WG2WWY5ZPAS4GM821024C",
        "captured/01M83WG2WWY5ZPAS4GM821024C",
        "other/web-shop/01M83WG2WWY5ZPAS4GM821024C",
        "captured/web-shop/../01M83WG2WWY5ZPAS4GM821024C",
        5,
    ],
)
def test_an_object_is_one_that_the_proxy_put_for_this_client(key: Any):
    with pytest.raises(MalformedEventError):
        read("object", data__response__object=key)


def test_the_size_of_an_item_counts_names_and_bytes():
    assert item_size({"name": {"S": "ü"}, "body": {"B": b"123"}, "n": {"N": "7"}}) == 4 + 2 + 4 + 3 + 1 + 21
    assert item_size({"usage": {"M": {"a": {"S": "b"}}}}) == 5 + 3 + 1 + 2
    assert item_size({"stream": {"BOOL": True}, "duration": {"NULL": True}}) == 6 + 1 + 8 + 1


def test_what_is_stored_goes_into_the_table_of_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def client(service: str, *, config: Any) -> Any:
        assert config.retries["mode"] == "standard"

        def put_item(**request: Any) -> Any:
            asked.append((service, request["TableName"], request["Item"]))
            return {"ConsumedCapacity": {"TableName": "cache"}}

        return SimpleNamespace(put_item=put_item)

    monkeypatch.setattr(boto3, "client", client)
    monkeypatch.setenv("CACHE_TABLE", "cache")
    item = {"cache_key": {"S": "k"}, "event_id": {"S": "01M8558AXTR9M5E4B7N3QK2VWC"}}
    try:
        assert importlib.import_module("store_response.handler")._store_response._cache.store(item)
    finally:
        sys.modules.pop("store_response.handler", None)
    assert asked == [("dynamodb", "cache", item)]
