"""store_response against DynamoDB (moto): the newest answer is kept, whatever the order of delivery."""

import base64
import importlib
import json
import sys
from collections.abc import Iterator
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
from aws_lambda_powertools import Logger
from botocore.exceptions import ClientError, ConnectTimeoutError
from openai_proxy.events import Event
from openai_proxy.ulid import new_ulid
from store_response.cached_response import LARGEST_ITEM, CachedResponse, cached_response_of, item_size
from store_response.consumer import StoreResponse
from store_response.table import CacheTable

from tests.tables import failures, mocked_table

SAMPLES = Path(__file__).parents[2] / "events" / "samples"
TABLE = "cache"
NOW = 1_795_426_200


def message(name: str = "m", sample: str = "chat", body: bytes | None = None, at: float = NOW, **data: Any) -> Any:
    envelope = json.loads((SAMPLES / f"ResponseCaptured.{sample}.json").read_text(encoding="utf-8"))
    detail = envelope["detail"]
    detail["metadata"]["id"] = new_ulid(at)
    detail["data"] |= data
    if body is not None:
        detail["data"]["response"] |= {"body": base64.b64encode(body).decode(), "body_size": len(body)}
    return {"messageId": name, "body": json.dumps(envelope)}


@pytest.fixture
def client() -> Iterator[Any]:
    with mocked_table(TABLE, "cache_key") as client:
        yield client


@pytest.fixture
def store_response(client: Any) -> StoreResponse:
    return StoreResponse(CacheTable(client, TABLE), Logger(service="test"), clock=lambda: NOW)


def items(client: Any) -> list[Any]:
    return client.scan(TableName=TABLE)["Items"]


def test_an_answer_is_stored_as_it_came(client: Any, store_response: StoreResponse):
    records = [message("m1", "chat"), message("m2", "chat-stream"), message("m3", "embeddings")]

    assert failures(store_response({"Records": records})) == []

    stored = {item["content_type"]["S"]: item for item in items(client) if item["server"]["S"] == "demo"}
    assert stored["text/event-stream"]["body"]["B"].endswith(b"data: [DONE]\n\n")
    assert int(stored["text/event-stream"]["expires_at"]["N"]) == 1_796_031_000
    assert len(items(client)) == 3


@pytest.mark.parametrize("order", list(permutations(["old", "new", "newest"])), ids=",".join)
@pytest.mark.parametrize("together", [True, False], ids=["one batch", "three batches"])
def test_the_newest_answer_stays(client: Any, store_response: StoreResponse, order: list[str], together: bool):
    ages = {"old": NOW - 20, "new": NOW - 10, "newest": NOW}
    records = [message(name, body=name.encode(), at=ages[name]) for name in order]

    for delivery in [records] if together else [[record] for record in records]:
        assert failures(store_response({"Records": delivery})) == []

    [item] = items(client)
    assert item["body"]["B"] == b"newest"


def test_a_duplicate_changes_nothing(client: Any, store_response: StoreResponse):
    record = message(body=b"once")

    assert failures(store_response({"Records": [record, record]})) == []
    before = items(client)
    assert failures(store_response({"Records": [record]})) == []

    assert items(client) == before
    assert len(before) == 1


def test_a_malformed_message_fails_alone(client: Any, store_response: StoreResponse):
    records = [{"messageId": "no-json", "body": "<"}, message("bad-key", cache_key="x"), message("good")]

    assert failures(store_response({"Records": records})) == ["no-json", "bad-key"]
    assert len(items(client)) == 1


def test_an_answer_of_another_kind_is_none_of_its_business(client: Any, store_response: StoreResponse):
    body = (SAMPLES / "InferenceCompleted.chat-stream.json").read_text(encoding="utf-8")

    assert failures(store_response({"Records": [{"messageId": "m", "body": body}]})) == []
    assert items(client) == []


def largest_body() -> int:
    """How many bytes of body still fit into one item."""
    return LARGEST_ITEM - item_size(read(message(body=b"")).to_item())


def read(record: Any) -> CachedResponse:

    return cached_response_of(Event.from_sqs_body(record["body"]))


def test_an_answer_that_is_too_large_is_dropped_and_logged(
    client: Any, store_response: StoreResponse, caplog: pytest.LogCaptureFixture
):
    too_large = message("too-large", body=b"x" * (largest_body() + 1))

    assert failures(store_response({"Records": [too_large, message("fits", "embeddings")]})) == []

    assert len(items(client)) == 1
    [record] = [record for record in caplog.records if "too large" in record.message]
    assert (record.levelname, vars(record)["item_size"]) == ("WARNING", LARGEST_ITEM + 1)


def test_an_answer_that_has_expired_is_dropped(client: Any, store_response: StoreResponse):
    assert failures(store_response({"Records": [message(expires_at=NOW)]})) == []
    assert items(client) == []


class FakeCache:
    """A cache that remembers what it stored, and fails for one cache key."""

    def __init__(self, error: Exception | None = None, cache_key: str = "") -> None:
        self._error = error
        self._cache_key = cache_key
        self.stored: list[CachedResponse] = []

    def store(self, response: CachedResponse) -> bool:
        if self._error and response.cache_key == self._cache_key:
            raise self._error
        self.stored.append(response)
        return True


@pytest.mark.parametrize(
    "error",
    [
        ClientError({"Error": {"Code": "ThrottlingException", "Message": "slow down"}}, "PutItem"),
        ConnectTimeoutError(endpoint_url="http://dynamodb"),
    ],
    ids=["throttled", "unreachable"],
)
def test_what_could_not_be_stored_comes_again_alone(error: Exception):
    keys = ["a" * 64, "b" * 64, "c" * 64]
    cache = FakeCache(error, keys[1])
    store_response = StoreResponse(cache, Logger(service="test"), clock=lambda: NOW)

    response = store_response({"Records": [message(key[0], cache_key=key) for key in keys]})

    assert failures(response) == ["b"]
    assert [stored.cache_key for stored in cache.stored] == [keys[0], keys[2]]


def test_the_largest_answer_that_fits_is_stored():
    cache = FakeCache()  # moto counts a binary in base64

    StoreResponse(cache, Logger(service="test"), clock=lambda: NOW)({"Records": [message(body=b"x" * largest_body())]})

    assert [item_size(stored.to_item()) for stored in cache.stored] == [LARGEST_ITEM]


def test_the_handler_is_put_together(client: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CACHE_TABLE", TABLE)
    handler = importlib.import_module("store_response.handler").handler
    try:
        assert handler({"Records": [message(expires_at=4_000_000_000)]}, None) == {"batchItemFailures": []}
    finally:
        del sys.modules["store_response.handler"]
    assert len(items(client)) == 1
