"""store_response against DynamoDB (moto): the newest answer is kept, whatever the order of delivery."""

import base64
import hashlib
import importlib
import io
import json
import sys
from collections.abc import Iterator
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
from aws_lambda_powertools import Logger
from botocore.exceptions import ClientError, ConnectTimeoutError
from openai_proxy.events.ulid import first_ulid_of, new_ulid
from openai_proxy.pricing.price_book import PriceBook, load_price_book
from openai_proxy.usage import Usage
from proxy.cache.item import answer_of, header_of
from store_response.cached_response import cached_response_of
from store_response.consumer import StoreResponse
from store_response.item import item_of, item_size
from store_response.table import CacheTable

from tests.fakes import read_event
from tests.tables import failures, mocked_table

LARGEST_BODY, LARGEST_ITEM = 16_777_216, 409_600

SAMPLES = Path(__file__).parents[3] / "events" / "samples"
TABLE = "cache"
NOW = 1_795_426_900
PRICES = PriceBook()


def message(name: str = "m", sample: str = "chat", body: bytes | None = None, at: float = NOW, **data: Any) -> Any:
    envelope = json.loads((SAMPLES / f"ResponseCaptured.{sample}.json").read_text(encoding="utf-8"))
    detail = envelope["detail"]
    detail["metadata"]["id"] = new_ulid(at)
    detail["data"] |= data
    if body is not None:
        detail["data"]["response"] |= {
            "body": base64.b64encode(body).decode(),
            "body_size": len(body),
            "body_sha256": hashlib.sha256(body).hexdigest(),
            "encoding": "identity",
        }
    return {"messageId": name, "body": json.dumps(envelope)}


def message_with(name: str, sample: str, **response: Any) -> Any:
    envelope = json.loads(message(name, sample)["body"])
    envelope["detail"]["data"]["response"] |= response
    return {"messageId": name, "body": json.dumps(envelope)}


@pytest.fixture
def client() -> Iterator[Any]:
    with mocked_table(TABLE, "cache_key") as client:
        yield client


@pytest.fixture
def store_response(client: Any) -> StoreResponse:
    return StoreResponse(CacheTable(client, TABLE), PRICES, Logger(service="test"), clock=lambda: NOW)


def items(client: Any) -> list[Any]:
    return client.scan(TableName=TABLE)["Items"]


def test_an_answer_is_stored_as_it_came(client: Any, store_response: StoreResponse):
    samples = ("chat", "chat-stream", "embeddings", "object")
    records = [message(sample, sample) for sample in samples[:3]]
    records.append({"messageId": "object", "body": (SAMPLES / "ResponseCaptured.object.json").read_text()})

    assert failures(store_response({"Records": records})) == []

    stored = {item["cache_key"]["S"]: item for item in items(client)}
    for record in records:
        response = cached_response_of(read_event(record["body"]), PRICES)
        assert stored.pop(response.cache_key) == item_of(response)
    assert stored == {}


@pytest.mark.parametrize("sample", ["chat", "chat-stream", "embeddings"])
def test_the_proxy_reads_what_was_stored(client: Any, sample: str):
    record = message(sample=sample)
    data = json.loads(record["body"])["detail"]["data"]
    StoreResponse(CacheTable(client, TABLE), load_price_book(), Logger(service="test"), lambda: NOW)(
        {"Records": [record]}
    )

    stored = stored_as_json(client)
    label = header_of(stored, data["digest"], now=data["created_at"] + 60, ttl=3600, max_age=3600)

    assert label.packed is not None
    answer = answer_of(label, label.packed)
    assert hashlib.sha256(answer.body).hexdigest() == data["response"]["body_sha256"]
    assert (answer.is_stream, answer.content_type) == (sample == "chat-stream", data["response"]["content_type"])
    assert (answer.usage, answer.age) == (Usage.from_event(data["usage"]), 60)
    assert answer.timing == pairs(data["response"].get("timing"))
    assert answer.saved == f"{stored['cost']['S']} USD"


def test_the_proxy_reads_where_an_object_is(client: Any, store_response: StoreResponse):
    body = (SAMPLES / "ResponseCaptured.object.json").read_text(encoding="utf-8")
    data = json.loads(body)["detail"]["data"]
    store_response({"Records": [{"messageId": "m", "body": body}]})

    label = header_of(stored_as_json(client), data["digest"], data["created_at"], 3600, 3600)

    assert (label.packed, label.object, label.size) == (None, data["response"]["object"], 2_097_152)
    assert label.timing == pairs(data["response"]["timing"])


def pairs(timing: list[list[int]] | None) -> tuple[tuple[int, int], ...]:
    return tuple((begin, milliseconds) for begin, milliseconds in timing or ())


def stored_as_json(client: Any) -> dict[str, Any]:
    """The one item, as DynamoDB's JSON has it: bytes in base64."""
    [item] = items(client)
    return {
        name: {"B": base64.b64encode(value["B"]).decode()} if "B" in value else value for name, value in item.items()
    }


@pytest.mark.parametrize("order", list(permutations(["old", "new", "newest"])), ids=",".join)
@pytest.mark.parametrize("together", [True, False], ids=["one batch", "three batches"])
def test_the_newest_answer_stays(client: Any, store_response: StoreResponse, order: list[str], together: bool):
    ages = {"old": NOW - 20, "new": NOW - 10, "newest": NOW}
    records = [message(name, body=name.encode(), at=ages[name]) for name in order]

    for delivery in [records] if together else [[record] for record in records]:
        assert failures(store_response({"Records": delivery})) == []

    [item] = items(client)
    assert item["body"]["B"] == b"newest"


DAMAGED_IDS: list[tuple[str, Any]] = [
    ("none", None),
    ("of no text", {"N": "7"}),
    ("of tomorrow", {"S": first_ulid_of(NOW + 86400)}),
    ("that is no ULID", {"S": "zzz"}),
    ("of the end of time", {"S": "8" * 26}),
]


@pytest.mark.parametrize("event_id", [case[1] for case in DAMAGED_IDS], ids=[case[0] for case in DAMAGED_IDS])
def test_an_item_with_a_damaged_id_is_replaced(client: Any, event_id: Any):
    table = CacheTable(client, TABLE, clock=lambda: NOW)
    good = item_of(cached_response_of(read_event(message(body=b"good")["body"]), PRICES))
    damaged = {"cache_key": good["cache_key"], "body": {"B": b"damaged"}}
    client.put_item(TableName=TABLE, Item=damaged | ({"event_id": event_id} if event_id else {}))

    assert table.store(good)

    assert items(client) == [good]


def test_the_clock_of_another_sandbox_may_be_a_little_ahead(client: Any):
    table = CacheTable(client, TABLE, clock=lambda: NOW)
    ahead, now = (item_of(cached_response_of(read_event(message(at=at)["body"]), PRICES)) for at in (NOW + 60, NOW))

    assert table.store(ahead)

    assert not table.store(now)


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
    response = cached_response_of(read_event(message(body=b"")["body"]), PRICES)
    return LARGEST_ITEM - item_size(item_of(response))


def test_an_answer_that_is_too_large_is_dropped_and_logged(
    client: Any, store_response: StoreResponse, caplog: pytest.LogCaptureFixture
):
    records = [
        message("too-large", body=b"x" * (largest_body() + 1)),
        message_with("never-captured", "object", body_size=LARGEST_BODY + 1),
        message("fits", "embeddings"),
    ]

    assert failures(store_response({"Records": records})) == []

    assert len(items(client)) == 1
    logged = [vars(record) for record in caplog.records if "too large" in record.message]
    assert [(each["levelname"], each["size"]) for each in logged] == [
        ("WARNING", LARGEST_ITEM + 1),
        ("WARNING", LARGEST_BODY + 1),
    ]


def test_a_refusal_says_nothing_of_the_answer(store_response: StoreResponse, caplog: pytest.LogCaptureFixture):
    canary = "canary-in-an-answer"
    encoded = base64.b64encode(canary.encode()).decode()
    records = [message_with("not-packed", "chat", body=encoded), message_with("no-base64", "chat", body=canary)]

    assert failures(store_response({"Records": records})) == ["not-packed", "no-base64"]

    assert canary not in caplog.text + "".join(str(vars(record)) for record in caplog.records)


def test_an_answer_that_has_expired_is_dropped(client: Any, store_response: StoreResponse):
    assert failures(store_response({"Records": [message(expires_at=NOW)]})) == []
    assert items(client) == []


@pytest.mark.parametrize(
    "wrong", [{"cache_key": "x"}, {"usage": None}, {"response": {}}, {"created_at": "now"}], ids=str
)
def test_what_has_expired_is_dropped_though_it_cannot_be_read(
    client: Any, store_response: StoreResponse, wrong: dict[str, Any]
):
    over, young = message("over", expires_at=NOW - 1, **wrong), message("young", expires_at=NOW + 1, **wrong)

    assert failures(store_response({"Records": [over, young]})) == ["young"]
    assert items(client) == []


@pytest.mark.parametrize("unclear", [None, "0", [], {}])
def test_what_says_no_time_is_refused(store_response: StoreResponse, unclear: Any):
    assert failures(store_response({"Records": [message(expires_at=unclear)]})) == ["m"]


class FakeCache:
    """A cache that remembers what it stored, and fails for one cache key."""

    def __init__(self, error: Exception | None = None, cache_key: str = "") -> None:
        self._error = error
        self._cache_key = cache_key
        self.stored: list[dict[str, Any]] = []

    def store(self, item: dict[str, Any]) -> bool:
        if self._error and item["cache_key"]["S"] == self._cache_key:
            raise self._error
        self.stored.append(item)
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
    store_response = StoreResponse(cache, PRICES, Logger(service="test"), clock=lambda: NOW)

    response = store_response({"Records": [message(key[0], cache_key=key) for key in keys]})

    assert failures(response) == ["b"]
    assert [stored["cache_key"]["S"] for stored in cache.stored] == [keys[0], keys[2]]


def test_a_batch_says_how_many_messages_answers_and_failures_it_had():
    lines = io.StringIO()
    cache = FakeCache(ValueError("no"), "a" * 64)
    logger = Logger(service="stored-batches", stream=lines)
    keys = ["a" * 64, "b" * 64, "c" * 64, "c" * 64]
    records = [message(f"{number}", cache_key=key) for number, key in enumerate(keys)]
    StoreResponse(cache, PRICES, logger, clock=lambda: NOW)({"Records": [*records, {"messageId": "x", "body": "{"}]})
    line = json.loads(lines.getvalue().splitlines()[-1])
    assert (line["message"], line["messages"], line["answers"], line["failed"]) == ("A batch was stored", 5, 3, 2)


def test_the_largest_answer_that_fits_is_stored():
    cache = FakeCache()  # moto counts a binary in base64

    store_response = StoreResponse(cache, PRICES, Logger(service="test"), clock=lambda: NOW)
    store_response({"Records": [message(body=b"x" * largest_body())]})

    assert [item_size(stored) for stored in cache.stored] == [LARGEST_ITEM] == [409_600]


def test_the_handler_is_put_together(client: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CACHE_TABLE", TABLE)
    handler = importlib.import_module("store_response.handler").handler
    try:
        assert handler({"Records": [message(expires_at=4_000_000_000)]}, None) == {"batchItemFailures": []}
    finally:
        del sys.modules["store_response.handler"]
    assert len(items(client)) == 1
