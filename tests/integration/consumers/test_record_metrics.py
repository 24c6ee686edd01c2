"""record_metrics against CloudWatch and DynamoDB (moto): every event counts, and once unless something broke."""

import importlib
import json
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
import pytest
from aws_lambda_powertools import Logger
from botocore.exceptions import ClientError
from moto import mock_aws
from openai_proxy.cloudwatch import CloudWatch
from openai_proxy.events.envelope import rfc3339
from openai_proxy.events.ulid import new_ulid
from record_metrics.consumer import RecordMetrics
from record_metrics.markers import ATTEMPTS, Markers, MarkersUnavailableError

SAMPLES = Path(__file__).parents[3] / "events" / "samples"
NAMESPACE = "OpenAIProxy"
TABLE = "markers"
TOKENS = "gen_ai.client.token.usage"
NOW = datetime(2026, 11, 23, 9, 45, tzinfo=UTC).timestamp()


def message(sample: str, name: str = "", **metadata: Any) -> dict[str, str]:
    envelope = json.loads((SAMPLES / f"{sample}.json").read_text(encoding="utf-8"))
    envelope["detail"]["metadata"] |= metadata
    return {"messageId": name or envelope["detail"]["metadata"]["id"], "body": json.dumps(envelope)}


def batch(*records: dict[str, str]) -> dict[str, Any]:
    return {"Records": list(records)}


def failures(response: dict[str, list[dict[str, str]]]) -> list[str]:
    return [failure["itemIdentifier"] for failure in response["batchItemFailures"]]


class Recorded:
    """A CloudWatch client that keeps what the service accepted: moto cannot tell one set of dimensions from another."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self.data: list[Any] = []

    def put_metric_data(self, **request: Any) -> Any:
        response = self._client.put_metric_data(**request)
        assert request["Namespace"] == NAMESPACE
        self.data += request["MetricData"]
        return response


class Account:
    """CloudWatch and DynamoDB of one emulated account, with what the tests read from them."""

    def __init__(self) -> None:
        self.cloudwatch: Any = Recorded(boto3.client("cloudwatch"))  # pyright: ignore[reportUnknownMemberType]
        self.dynamodb: Any = boto3.client("dynamodb")  # pyright: ignore[reportUnknownMemberType]
        self.dynamodb.create_table(
            TableName=TABLE,
            BillingMode="PAY_PER_REQUEST",
            AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
            KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        )

    def sum(self, metric: str, **dimensions: str) -> float:
        return sum(
            value * count
            for datum in self.cloudwatch.data
            if datum["MetricName"] == metric
            and {dimension["Name"]: dimension["Value"] for dimension in datum["Dimensions"]} == dimensions
            for value, count in zip(datum["Values"], datum["Counts"], strict=True)
        )

    def markers(self) -> list[Any]:
        return self.dynamodb.scan(TableName=TABLE)["Items"]


@pytest.fixture
def account() -> Iterator[Account]:
    with mock_aws():
        yield Account()


def consumer(account: Account, cloudwatch: Any = None, dynamodb: Any = None, now: float = NOW) -> RecordMetrics:
    return RecordMetrics(
        CloudWatch(cloudwatch or account.cloudwatch, NAMESPACE),
        Markers(dynamodb or account.dynamodb, TABLE, pause=lambda attempt: None),
        Logger(service="test"),
        clock=lambda: now,
    )


class Counting:
    """A client that counts its calls and fails when told to: `failing` maps a method to the error it raises."""

    def __init__(self, client: Any, **failing: Exception) -> None:
        self._client = client
        self._failing = failing
        self.calls: list[str] = []

    def __getattr__(self, name: str) -> Any:
        def call(**request: Any) -> Any:
            self.calls.append(name)
            if name in self._failing:
                raise self._failing[name]
            return getattr(self._client, name)(**request)

        return call


def failure(code: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": code}}, "Operation")


def test_the_samples_become_metrics(account: Account):
    names = sorted(path.stem for path in SAMPLES.glob("Inference*.json"))

    assert failures(consumer(account)(batch(*(message(name) for name in names)))) == []

    assert account.sum("Requests") == len(names) == 17
    assert account.sum("Failures") == 4
    assert account.sum("Failures", ErrorSource="upstream") == 3
    assert account.sum("Throttles", Source="key_rpm") == 1
    assert account.sum("Requests", Server="openai", Model="gpt-5-2025-08-07") == 1
    assert account.sum(TOKENS, Server="openai", TokenType="cache_read") == 9984
    assert account.sum(TOKENS, TokenType="reasoning") == 1920
    assert account.sum("EventsRecorded", Consumer="record_metrics") == len(names)
    assert account.sum("UsageMissing") == account.sum("UsageInvalid") == 1
    assert len(account.markers()) == 17


def test_duplicates_count_once(account: Account):
    first, again = message("InferenceCompleted.chat-stream", "m1"), message("InferenceCompleted.chat-stream", "m2")
    record_metrics = consumer(account)

    for delivery in (batch(first, again), batch(again), batch(message("InferenceFailed.broken-off"), first)):
        assert failures(record_metrics(delivery)) == []

    assert account.sum("Requests") == 2
    assert account.sum("EventsRecorded", Consumer="record_metrics") == 2
    assert account.sum(TOKENS, TokenType="input") == 1830 + 410


def told(*names: str, source: str = "reported") -> dict[str, str]:
    """The message of a request that was told of a batch by these names."""
    envelope = json.loads(message("InferenceCompleted.chat-stream", id=new_ulid(NOW))["body"])
    data = envelope["detail"]["data"]
    data["fetched"] = {"names": names, "others": []}
    data["request"]["method"] = "GET"
    data["usage"] |= {"service_tier": "batch", "source": source}
    return {"messageId": envelope["detail"]["metadata"]["id"], "body": json.dumps(envelope)}


def test_the_tokens_of_a_batch_count_once_and_each_request_that_is_told_of_it_too(account: Account):
    record_metrics = consumer(account)
    deliveries = batch(told("batch_1", "file-1", source="missing")), batch(told("file-1"), told("batch_1", "file-1"))
    for delivery in (*deliveries, batch(told("file-1")), batch(told("file-2"))):
        assert failures(record_metrics(delivery)) == []
        assert failures(record_metrics(delivery)) == []
    assert account.sum("Requests") == account.sum("EventsRecorded", Consumer="record_metrics") == 5
    assert account.sum(TOKENS, TokenType="input") == 2 * 1830


def test_a_malformed_message_fails_alone(account: Account):
    bad = [
        {"messageId": "no-json", "body": "nothing"},
        message("InferenceCompleted.chat-stream", "bad-id", id="x"),
        message("InferenceCompleted.chat-stream", "bad-time", timestamp="now"),
    ]

    assert failures(consumer(account)(batch(*bad, message("InferenceCompleted.embeddings")))) == [
        "no-json",
        "bad-id",
        "bad-time",
    ]
    assert account.sum("Requests") == 1


def test_events_of_other_kinds_are_none_of_its_business(account: Account):
    assert failures(consumer(account)(batch(message("ResponseCaptured.chat")))) == []
    assert account.markers() == []


def test_a_full_batch_takes_few_calls(account: Account):
    cloudwatch, dynamodb = Counting(account.cloudwatch), Counting(account.dynamodb)
    records = [
        message("InferenceCompleted.chat-stream", f"m{n}", id=new_ulid(NOW + n), timestamp=rfc3339(NOW + n * 6))
        for n in range(100)
    ]

    assert failures(consumer(account, cloudwatch, dynamodb)(batch(*records))) == []

    assert cloudwatch.calls == ["put_metric_data"]
    assert dynamodb.calls == ["batch_get_item"] + 4 * ["batch_write_item"]
    assert account.sum("Requests") == 100


def test_when_cloudwatch_fails_all_messages_come_again(account: Account):
    record = message("InferenceCompleted.chat-stream")

    with pytest.raises(ClientError, match="ThrottlingException"):
        consumer(account, cloudwatch=Counting(None, put_metric_data=failure("ThrottlingException")))(batch(record))
    assert account.markers() == []

    assert failures(consumer(account)(batch(record))) == []
    assert account.sum("Requests") == 1


def test_when_markers_cannot_be_read_nothing_is_counted(account: Account):
    dynamodb = Counting(None, batch_get_item=failure("InternalServerError"))

    with pytest.raises(ClientError, match="InternalServerError"):
        consumer(account, dynamodb=dynamodb)(batch(message("InferenceCompleted.chat-stream")))
    assert account.sum("Requests") == 0


def test_when_markers_cannot_be_written_the_messages_do_not_come_again(account: Account):
    dynamodb = Counting(account.dynamodb, batch_write_item=failure("InternalServerError"))

    assert failures(consumer(account, dynamodb=dynamodb)(batch(message("InferenceCompleted.chat-stream")))) == []
    assert account.sum("Requests") == 1


class Overloaded:
    """A DynamoDB client that processes one key or item a call, or none at all."""

    def __init__(self, client: Any, *, at_all: bool = True) -> None:
        self._client = client
        self._at_all = at_all

    def batch_get_item(self, **request: Any) -> Any:
        keys: list[Any] = request["RequestItems"][TABLE]["Keys"]
        if not self._at_all:
            return {"Responses": {}, "UnprocessedKeys": {TABLE: {"Keys": keys}}}
        response: Any = self._client.batch_get_item(RequestItems={TABLE: {"Keys": keys[:1]}})
        return response | {"UnprocessedKeys": {TABLE: {"Keys": keys[1:]}} if keys[1:] else {}}

    def batch_write_item(self, **request: Any) -> Any:
        writes: list[Any] = request["RequestItems"][TABLE]
        self._client.batch_write_item(RequestItems={TABLE: writes[:1]})
        return {"UnprocessedItems": {TABLE: writes[1:]} if writes[1:] else {}}


def test_what_dynamodb_left_over_is_asked_for_again(account: Account):
    record_metrics = consumer(account, dynamodb=Overloaded(account.dynamodb))
    records = [message("InferenceCompleted.chat-stream", f"m{n}", id=new_ulid(NOW + n)) for n in range(ATTEMPTS)]

    for _ in range(2):
        assert failures(record_metrics(batch(*records))) == []

    assert account.sum("Requests") == len(account.markers()) == ATTEMPTS


def test_it_is_not_asked_for_for_ever(account: Account):
    with pytest.raises(MarkersUnavailableError):
        consumer(account, dynamodb=Overloaded(None, at_all=False))(batch(message("InferenceCompleted.chat-stream")))
    assert account.sum("Requests") == 0


@pytest.mark.parametrize("days", [-15, 1])
def test_an_event_that_cloudwatch_would_refuse_does_not_hold_up_the_others(account: Account, days: int):
    far = message("InferenceCompleted.chat-stream", id=new_ulid(NOW), timestamp=rfc3339(NOW + days * 86400))

    assert failures(consumer(account)(batch(far, message("InferenceCompleted.embeddings")))) == []
    assert account.sum("Requests") == 1


def test_a_marker_lives_longer_than_an_event_can_be_counted(account: Account):
    consumer(account)(batch(message("InferenceCompleted.chat-stream")))

    [marker] = account.markers()
    assert marker["id"]["S"] == "record_metrics#01M83VWEZ54TFF59TDWH9EDD1R"
    assert int(marker["expires_at"]["N"]) == NOW + 15 * 86400


def test_the_handler_is_put_together(account: Account, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MARKERS_TABLE", TABLE)
    monkeypatch.setenv("METRICS_NAMESPACE", NAMESPACE)
    handler = importlib.import_module("record_metrics.handler").handler
    now = datetime.now(UTC).timestamp()
    try:
        response = handler(batch(message("InferenceFailed.broken-off", timestamp=rfc3339(now))), None)
    finally:
        del sys.modules["record_metrics.handler"]

    assert response == {"batchItemFailures": []}
    cloudwatch: Any = boto3.client("cloudwatch")  # pyright: ignore[reportUnknownMemberType]
    listed = {metric["MetricName"] for metric in cloudwatch.list_metrics(Namespace=NAMESPACE)["Metrics"]}
    assert listed >= {"Requests", "Failures", "ProxyOverhead"}
