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
from botocore.exceptions import ClientError, ConnectionClosedError, ReadTimeoutError
from moto import mock_aws
from openai_proxy.aws_answers import NoAnswerError
from openai_proxy.cloudwatch import CONFIG, CloudWatch
from openai_proxy.events.envelope import rfc3339
from openai_proxy.events.ulid import new_ulid
from record_metrics.consumer import RecordMetrics
from record_metrics.markers import Markers, MarkersUnavailableError

from tests.tables import Log, make_table

ATTEMPTS, CLAIM_SECONDS = 5, 60

SAMPLES = Path(__file__).parents[3] / "events" / "samples"
NAMESPACE = "OpenAIProxy"
TABLE = "markers"
TOKENS = "gen_ai.client.token.usage"
NOW = datetime(2026, 11, 23, 9, 45, tzinfo=UTC).timestamp()
LATER = NOW + 240
"""When a message that was not done comes again."""


def message(sample: str, name: str = "", **metadata: Any) -> dict[str, str]:
    envelope = json.loads((SAMPLES / f"{sample}.json").read_text(encoding="utf-8"))
    if "id" in metadata:  # an event has its request's id, but where it tells of what others may fetch again
        metadata = {"request_id": metadata["id"], **metadata}
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
        make_table(self.dynamodb, TABLE, "id")

    def sum(self, metric: str, **dimensions: str) -> float:
        return sum(
            value * count
            for datum in self.cloudwatch.data
            if datum["MetricName"] == metric
            and {dimension["Name"]: dimension["Value"] for dimension in datum["Dimensions"]} == dimensions
            for value, count in zip(datum["Values"], datum["Counts"], strict=True)
        )

    def markers(self) -> list[Any]:
        """Those of events: a run that is done has one of its own."""
        return [each for each in self.dynamodb.scan(TableName=TABLE)["Items"] if "#run#" not in each["id"]["S"]]


@pytest.fixture
def account() -> Iterator[Account]:
    with mock_aws():
        yield Account()


def consumer(
    account: Account, cloudwatch: Any = None, dynamodb: Any = None, now: float = NOW, logger: Any = None
) -> RecordMetrics:
    return RecordMetrics(
        CloudWatch(cloudwatch or account.cloudwatch, NAMESPACE, lambda attempt: None),
        Markers(dynamodb or account.dynamodb, TABLE, pause=lambda attempt: None),
        logger or Logger(service="test"),
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

    assert account.sum("Requests") == len(names) == 19
    assert account.sum("Failures") == 5
    assert account.sum("Failures", ErrorSource="upstream") == 3
    assert account.sum("Throttles", Source="key_rpm") == 1
    assert account.sum("Requests", Server="openai", Model="gpt-5-2025-08-07") == 1
    assert account.sum(TOKENS, Server="openai", TokenType="cache_read") == 9984
    assert account.sum(TOKENS, TokenType="reasoning") == 1920
    assert account.sum("EventsRecorded", Consumer="record_metrics") == len(names)
    assert (account.sum("UsageMissing"), account.sum("UsageInvalid")) == (2, 1)
    assert len(account.markers()) == 19 + 1, "one event has another id than its request"


def test_duplicates_count_once(account: Account):
    first, again = message("InferenceCompleted.chat-stream", "m1"), message("InferenceCompleted.chat-stream", "m2")
    record_metrics = consumer(account)

    for delivery in (batch(first, again), batch(again), batch(message("InferenceFailed.broken-off"), first)):
        assert failures(record_metrics(delivery)) == []

    assert account.sum("Requests") == 2
    assert account.sum("EventsRecorded", Consumer="record_metrics") == 2
    assert account.sum(TOKENS, TokenType="input") == 1830 + 410


def test_who_fetches_an_answer_again_counts_nothing_of_it_again_but_the_event_that_has_arrived(account: Account):
    """The proxy counts each event that it has published."""
    fact = {"id": new_ulid(NOW)}
    first, again = (
        message("InferenceCompleted.chat-stream", name, **fact, request_id=new_ulid(NOW)) for name in ("m1", "m2")
    )
    record_metrics = consumer(account)
    for delivery in (batch(first), batch(first, again), batch(again)):
        assert failures(record_metrics(delivery)) == []
    assert account.sum("EventsRecorded", Consumer="record_metrics") == 2
    assert account.sum("Requests") == 1
    assert account.sum(TOKENS, TokenType="input") == 1830


@pytest.mark.parametrize("odd", ["", "x" * 3000, "0" * 25 + "i"])
def test_a_request_whose_id_is_none_is_counted_by_its_event(account: Account, odd: str):
    record = message("InferenceCompleted.chat-stream", request_id=odd)
    assert failures(consumer(account)(batch(record, record))) == []
    assert account.sum("EventsRecorded", Consumer="record_metrics") == account.sum("Requests") == 1


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
    assert dynamodb.calls == ["transact_write_items", "put_item"]
    assert account.sum("Requests") == 100


def test_when_cloudwatch_fails_all_messages_come_again(account: Account):
    record = message("InferenceCompleted.chat-stream")
    throttled = Counting(None, put_metric_data=failure("ThrottlingException"))

    with pytest.raises(ClientError, match="ThrottlingException"):
        consumer(account, cloudwatch=throttled)(batch(record))
    assert throttled.calls == ["put_metric_data"] * 3

    assert failures(consumer(account, now=LATER)(batch(record))) == []
    assert account.sum("Requests") == 1


UNHEARD = [
    ReadTimeoutError(endpoint_url="https://monitoring"),
    ConnectionClosedError(endpoint_url="https://monitoring"),
    ClientError({"Error": {"Code": "x"}, "ResponseMetadata": {"HTTPStatusCode": 503}}, "Operation"),  # pyright: ignore[reportArgumentType]
]


@pytest.mark.parametrize("error", UNHEARD, ids=lambda error: type(error).__name__)
def test_metrics_that_may_have_arrived_are_not_put_again_in_silence(account: Account, error: Exception):
    cloudwatch, log = Counting(None, put_metric_data=error), Log()
    with pytest.raises(NoAnswerError):
        consumer(account, cloudwatch=cloudwatch, logger=log)(batch(message("InferenceCompleted.chat-stream")))
    assert cloudwatch.calls == ["put_metric_data"]
    [line] = log.lines
    assert line["message"].startswith("Metrics were not confirmed")
    assert line["events"] == 1


def test_botocore_does_not_repeat_what_timed_out():
    # A client's own settings: botocore writes its defaults into the retries of what it is given.
    made: Any = boto3.client("cloudwatch", region_name="us-east-1", config=CONFIG)  # pyright: ignore[reportUnknownMemberType] - stubs of all services
    assert made.meta.config.retries["total_max_attempts"] == 1


@pytest.mark.parametrize("method", ["transact_write_items", "batch_get_item"])
def test_when_nothing_can_be_claimed_nothing_is_counted(account: Account, method: str):
    dynamodb = Counting(account.dynamodb, **{method: failure("AccessDeniedException")})
    record = message("InferenceCompleted.chat-stream")
    counted = consumer(account)
    assert method != "batch_get_item" or failures(counted(batch(record))) == []

    with pytest.raises(ClientError, match="AccessDeniedException"):
        consumer(account, dynamodb=dynamodb)(batch(record, message("InferenceCompleted.embeddings")))
    assert account.sum("Requests") == (1 if method == "batch_get_item" else 0)


def test_when_the_end_of_a_run_cannot_be_written_the_messages_do_not_come_again(account: Account):
    dynamodb = Counting(account.dynamodb, put_item=failure("InternalServerError"))

    assert failures(consumer(account, dynamodb=dynamodb)(batch(message("InferenceCompleted.chat-stream")))) == []
    assert account.sum("Requests") == 1


def test_an_event_that_is_being_counted_comes_again_and_is_known_then(account: Account):
    record, other = message("InferenceCompleted.chat-stream"), message("InferenceCompleted.embeddings")
    answers: list[list[str]] = []

    class Meanwhile(Counting):
        """While the figures of the first copy are on their way, a second one and another event are counted."""

        def __getattr__(self, name: str) -> Any:
            answers.append(failures(consumer(account)(batch(record, other))))
            return getattr(account.cloudwatch, name)

    assert failures(consumer(account, cloudwatch=Meanwhile(None))(batch(record))) == []
    assert answers == [[record["messageId"]]]
    assert failures(consumer(account, now=LATER)(batch(record, other))) == []
    assert account.sum("Requests") == 2


def test_the_claim_of_a_run_that_died_ends(account: Account):
    record = message("InferenceCompleted.chat-stream")
    with pytest.raises(ClientError):
        consumer(account, cloudwatch=Counting(None, put_metric_data=failure("ValidationError")))(batch(record))

    assert failures(consumer(account, now=NOW + CLAIM_SECONDS - 1)(batch(record))) == [record["messageId"]]
    assert account.sum("Requests") == 0
    assert failures(consumer(account, now=NOW + CLAIM_SECONDS)(batch(record))) == []
    assert account.sum("Requests") == 1


def test_what_was_marked_before_runs_had_names_has_been_counted(account: Account):
    record = message("InferenceCompleted.chat-stream")
    marker = {"id": {"S": "record_metrics#01M83VWEZ54TFF59TDWH9EDD1R"}, "expires_at": {"N": "1999999999"}}
    account.dynamodb.put_item(TableName=TABLE, Item=marker)
    assert failures(consumer(account)(batch(record))) == []
    assert account.sum("Requests") == 0


def cancelled(codes: list[str]) -> ClientError:
    error: Any = {
        "Error": {"Code": "TransactionCanceledException"},
        "CancellationReasons": [{"Code": c} for c in codes],
    }
    return ClientError(error, "TransactWriteItems")


class Contended:
    """A DynamoDB client whose first calls do not work as they should, each in its own way."""

    def __init__(self, client: Any, *faults: Any) -> None:
        self._client = client
        self._faults = list(faults)

    def transact_write_items(self, **request: Any) -> Any:
        fault = self._faults.pop(0) if self._faults else None
        if isinstance(fault, Exception):
            raise fault
        answer = self._client.transact_write_items(**request)
        return {} if fault == "lost" else answer

    def batch_get_item(self, **request: Any) -> Any:
        """One key a call."""
        keys: list[Any] = request["RequestItems"][TABLE]["Keys"]
        response: Any = self._client.batch_get_item(RequestItems={TABLE: {"Keys": keys[:1]}})
        return response | {"UnprocessedKeys": {TABLE: {"Keys": keys[1:]}} if keys[1:] else {}}

    def put_item(self, **request: Any) -> Any:
        return self._client.put_item(**request)


FAULTS = [cancelled(["TransactionConflict", "None"]), cancelled([]), failure("ThrottlingException"), "lost"]


@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_a_claim_that_did_not_work_or_whose_answer_was_lost_is_made_again(account: Account, fault: Any):
    record_metrics = consumer(account, dynamodb=Contended(account.dynamodb, fault))
    records = [message("InferenceCompleted.chat-stream", f"m{n}", id=new_ulid(NOW + n)) for n in range(2)]
    for _ in range(2):
        assert failures(record_metrics(batch(*records))) == []
    assert account.sum("Requests") == len(account.markers()) == 2


def test_it_is_not_asked_for_for_ever(account: Account):
    contended = Contended(None, *[failure("ThrottlingException")] * ATTEMPTS)
    with pytest.raises(MarkersUnavailableError):
        consumer(account, dynamodb=contended)(batch(message("InferenceCompleted.chat-stream")))
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
        of_now = {"id": new_ulid(now), "timestamp": rfc3339(now)}
        response = handler(batch(message("InferenceFailed.broken-off", **of_now)), None)
    finally:
        del sys.modules["record_metrics.handler"]

    assert response == {"batchItemFailures": []}
    cloudwatch: Any = boto3.client("cloudwatch")  # pyright: ignore[reportUnknownMemberType]
    listed = {metric["MetricName"] for metric in cloudwatch.list_metrics(Namespace=NAMESPACE)["Metrics"]}
    assert listed >= {"Requests", "Failures", "ProxyOverhead"}
