"""record_cost against DynamoDB (moto): whatever is delivered, however often and in whatever order, counts once."""

import importlib
import json
import sys
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import boto3
import pytest
from aws_lambda_powertools import Logger
from boto3.dynamodb.types import TypeDeserializer
from botocore.exceptions import ClientError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from moto import mock_aws
from openai_proxy.pricing import load_price_book
from openai_proxy.ulid import new_ulid
from record_cost.consumer import RecordCost
from record_cost.table import ATTEMPTS, CostsTable

from tests.tables import failures

SAMPLES = Path(__file__).parents[2] / "events" / "samples"
TABLE = "costs"


def message(sample: str, name: str = "", **changes: Any) -> dict[str, str]:
    """An SQS record with a sample; `changes` to its metadata (id, client_id), response model or usage."""
    envelope = json.loads((SAMPLES / f"{sample}.json").read_text(encoding="utf-8"))
    detail = envelope["detail"]
    for key, value in changes.items():
        target = {"model": detail["data"]["response"], "input_tokens": detail["data"]["usage"]}
        target.get(key, detail["metadata"])[key] = value
    return {"messageId": name or detail["metadata"]["id"], "body": json.dumps(envelope)}


def batch(*records: dict[str, str]) -> dict[str, Any]:
    return {"Records": list(records)}


@pytest.fixture
def client() -> Iterator[Any]:
    with mock_aws():
        client: Any = boto3.client("dynamodb")  # pyright: ignore[reportUnknownMemberType]
        create_table(client)
        yield client


def create_table(client: Any) -> None:
    client.create_table(
        TableName=TABLE,
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[
            {"AttributeName": "pk", "AttributeType": "S"},
            {"AttributeName": "sk", "AttributeType": "S"},
        ],
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
    )


@pytest.fixture
def record_cost(client: Any) -> RecordCost:
    return consumer(client)


def consumer(client: Any, pauses: list[int] | None = None) -> RecordCost:
    table = CostsTable(client, TABLE, pause=(pauses if pauses is not None else []).append)
    return RecordCost(load_price_book(), table, Logger(service="test"))


def stored(client: Any) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """All entries and all rollups."""
    pages = client.get_paginator("scan").paginate(TableName=TABLE)
    read = TypeDeserializer().deserialize
    items = [{name: read(value) for name, value in item.items()} for page in pages for item in page["Items"]]
    rollups = [item for item in items if item["pk"].startswith("day#")]
    return [item for item in items if item not in rollups], rollups


def assert_rollups_are_the_sums_of_the_entries(client: Any) -> None:
    entries, rollups = stored(client)
    for rollup in rollups:
        own = [
            entry
            for entry in entries
            if (entry["day"], entry["client_id"], entry.get("server", "-"), entry.get("model", "-"))
            == (rollup["day"], rollup["client_id"], rollup["server"], rollup["model"])
        ]
        assert rollup["requests"] == len(own)
        assert rollup["cost"] == sum(entry.get("cost", Decimal(0)) for entry in own)
        for name in ("input_tokens", "output_tokens", "cache_read_input_tokens", "duration"):
            assert rollup[name] == sum(entry[name] for entry in own)
    assert sum(rollup["requests"] for rollup in rollups) == len(entries)


def test_the_samples_become_entries_and_rollups(client: Any, record_cost: RecordCost):
    names = sorted(path.stem for path in SAMPLES.glob("Inference[CF]*.json"))

    assert record_cost(batch(*(message(name) for name in names))) == {"batchItemFailures": []}

    entries, rollups = stored(client)
    assert len(entries) == len(names) == 11
    assert len(rollups) == 10  # two of them are of the same client, server and model
    streamed = next(entry for entry in entries if entry.get("response_id") == "chatcmpl-C8fKq2mXw1")
    assert streamed["pk"] == "client#web-shop#2026-11-23"
    assert streamed["cost"] == Decimal("0.0003129")
    assert streamed["finish_reasons"] == ["stop"]
    assert_rollups_are_the_sums_of_the_entries(client)


def test_duplicates_within_a_batch_and_between_batches_count_once(client: Any, record_cost: RecordCost):
    first = message("InferenceCompleted.chat-stream", "m1")
    again = message("InferenceCompleted.chat-stream", "m2")
    other = message("InferenceCompleted.chat-stream", "m3", id=new_ulid(1_795_000_000))

    assert failures(record_cost(batch(first, again))) == []
    assert failures(record_cost(batch(again, other, first))) == []
    assert failures(record_cost(batch(other))) == []

    entries, [rollup, _] = stored(client)
    assert len(entries) == 2
    assert rollup["requests"] == 1
    assert_rollups_are_the_sums_of_the_entries(client)


def test_a_malformed_message_fails_alone(client: Any, record_cost: RecordCost):
    good = message("InferenceCompleted.chat-stream", "good")
    bad = [
        {"messageId": "no-json", "body": "{"},
        {"messageId": "no-event", "body": "[]"},
        {"messageId": "no-data", "body": '{"detail-type": "InferenceCompleted", "detail": {"metadata": {}}}'},
        message("InferenceCompleted.chat-stream", "bad-version", version="2.0"),
        message("InferenceCompleted.chat-stream", "bad-id", id="x"),
        message("InferenceCompleted.chat-stream", "bad-usage", input_tokens="many"),
    ]

    assert failures(record_cost(batch(*bad[:3], good, *bad[3:]))) == [record["messageId"] for record in bad]
    assert len(stored(client)[0]) == 1


def test_events_of_other_kinds_are_none_of_its_business(client: Any, record_cost: RecordCost):
    assert failures(record_cost(batch(message("InferenceThrottled.key-rpm"), message("ResponseCaptured.chat")))) == []
    assert stored(client) == ([], [])


def test_a_batch_larger_than_one_transaction(client: Any, record_cost: RecordCost):
    records = [
        message("InferenceCompleted.chat-stream", f"m{n}", id=new_ulid(1_795_000_000 + n), model=f"gpt-{n % 10}")
        for n in range(105)
    ]

    assert failures(record_cost(batch(*records))) == []
    assert failures(record_cost(batch(*reversed(records)))) == []

    entries, rollups = stored(client)
    assert (len(entries), len(rollups)) == (105, 10)
    assert_rollups_are_the_sums_of_the_entries(client)


class Unreliable:
    """A DynamoDB client whose transactions do what the script says, one step a call, and work when it is over.

    A step is an error to raise, "lost" (it is written, but the answer does not arrive), or "ok".
    """

    def __init__(self, client: Any, *script: Exception | str) -> None:
        self._client = client
        self._script = list(script)
        self.calls = 0

    def transact_write_items(self, **request: Any) -> Any:
        self.calls += 1
        step = self._script.pop(0) if self._script else "ok"
        if isinstance(step, Exception):
            raise step
        response = self._client.transact_write_items(**request)
        if step == "lost":
            raise failure("InternalServerError")
        return response


class AlwaysInConflict(Unreliable):
    def transact_write_items(self, **request: Any) -> Any:
        self.calls += 1
        raise cancelled("None", "TransactionConflict")


class RefusesModel(Unreliable):
    """Refuses every transaction with an item that names a model, and says which item it was, or does not."""

    def __init__(self, client: Any, model: str, says_which: bool) -> None:
        super().__init__(client)
        self._model = model
        self._says_which = says_which

    def transact_write_items(self, **request: Any) -> Any:
        hits = [self._model in json.dumps(item) for item in request["TransactItems"]]
        if any(hits):
            self.calls += 1
            raise (
                cancelled(*("ValidationError" if hit else "None" for hit in hits))
                if self._says_which
                else failure("ValidationException")
            )
        return super().transact_write_items(**request)


def failure(code: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": code}}, "TransactWriteItems")


def cancelled(*codes: str) -> ClientError:
    response: Any = {
        "Error": {"Code": "TransactionCanceledException", "Message": "cancelled"},
        "CancellationReasons": [{"Code": code} for code in codes],
    }
    return ClientError(response, "TransactWriteItems")


@pytest.mark.parametrize(
    "error",
    [cancelled("None", "TransactionConflict"), cancelled("ThrottlingError", "None"), failure("ThrottlingException")],
    ids=["conflict", "throttled item", "throttled call"],
)
def test_a_transaction_that_lost_against_another_is_tried_again(client: Any, error: ClientError):
    pauses: list[int] = []
    unreliable = Unreliable(client, error, error)

    assert failures(consumer(unreliable, pauses)(batch(message("InferenceCompleted.chat-stream")))) == []
    assert (unreliable.calls, pauses) == (3, [1, 2])
    assert_rollups_are_the_sums_of_the_entries(client)
    assert len(stored(client)[0]) == 1


def test_after_a_bounded_number_of_tries_the_messages_come_again(client: Any):
    pauses: list[int] = []
    conflicts = AlwaysInConflict(client)
    record_cost = consumer(conflicts, pauses)
    duplicates = [message("InferenceCompleted.chat-stream", name) for name in ("m1", "m2")]

    assert failures(record_cost(batch(*duplicates))) == ["m1", "m2"]
    assert conflicts.calls == ATTEMPTS
    assert pauses == list(range(1, ATTEMPTS))
    assert stored(client) == ([], [])


def test_a_write_whose_answer_was_lost_counts_once(client: Any):
    unreliable = Unreliable(client, "lost")

    assert failures(consumer(unreliable)(batch(message("InferenceCompleted.chat-stream")))) == []
    assert len(stored(client)[0]) == 1
    assert_rollups_are_the_sums_of_the_entries(client)


def test_a_crash_between_two_transactions_loses_and_doubles_nothing(client: Any):
    records = [
        message("InferenceCompleted.chat-stream", f"m{n}", id=new_ulid(1_795_000_000 + n), model=f"gpt-{n}")
        for n in range(55)
    ]
    crash = failure("ResourceNotFoundException")

    with pytest.raises(ClientError, match="ResourceNotFoundException"):
        consumer(Unreliable(client, "ok", crash))(batch(*records))
    assert len(stored(client)[0]) == 50

    assert failures(consumer(client)(batch(*records))) == []
    assert len(stored(client)[0]) == 55
    assert_rollups_are_the_sums_of_the_entries(client)


@pytest.mark.parametrize("says_which", [True, False], ids=["named", "unnamed"])
def test_an_entry_that_the_table_refuses_fails_alone(client: Any, says_which: bool):
    records = [
        message("InferenceCompleted.chat-stream", f"m{n}", id=new_ulid(1_795_000_000 + n), model=f"gpt-{n}")
        for n in range(5)
    ]

    assert failures(consumer(RefusesModel(client, "gpt-3", says_which))(batch(*records))) == ["m3"]
    assert len(stored(client)[0]) == 4
    assert_rollups_are_the_sums_of_the_entries(client)


def test_no_access_is_not_taken_for_a_fault_of_the_messages(client: Any):
    denied = Unreliable(client, failure("AccessDeniedException"))

    with pytest.raises(ClientError, match="AccessDenied"):
        consumer(denied)(batch(message("InferenceCompleted.chat-stream")))


deliveries = st.lists(st.lists(st.integers(0, 11), min_size=1, max_size=8), max_size=6)


@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(deliveries=deliveries, lost=st.sets(st.integers(0, 8)))
def test_any_deliveries_give_the_same_books(client: Any, deliveries: list[list[int]], lost: set[int]):
    client.delete_table(TableName=TABLE)
    create_table(client)
    unreliable = Unreliable(client, *("lost" if call in lost else "ok" for call in range(9)))
    record_cost = consumer(unreliable)
    records = [
        message("InferenceCompleted.chat-stream", f"m{n}", id=f"01M83VWEZ54TFF59TDWH9EDD{n:02}", model=f"gpt-{n % 3}")
        for n in range(12)
    ]

    for delivery in deliveries:
        assert failures(record_cost(batch(*(records[n] for n in delivery)))) == []

    delivered = {n for delivery in deliveries for n in delivery}
    assert {entry["sk"][-2:] for entry in stored(client)[0]} == {f"{n:02}" for n in delivered}
    assert_rollups_are_the_sums_of_the_entries(client)


@pytest.fixture
def load_handler(client: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], Any]]:
    monkeypatch.setenv("COSTS_TABLE", TABLE)
    yield lambda: importlib.import_module("record_cost.handler").handler
    sys.modules.pop("record_cost.handler", None)


def test_the_handler_is_put_together(client: Any, load_handler: Callable[[], Any]):
    handler = load_handler()

    assert handler(batch(message("InferenceCompleted.chat-stream")), None) == {"batchItemFailures": []}
    assert stored(client)[0][0]["price_version"] == load_price_book().version


def test_the_owner_can_use_another_price_file(
    client: Any, load_handler: Callable[[], Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    prices = tmp_path / "prices.yaml"
    prices.write_text('version: ours\nservers: {openai: {"*": free}}\n')
    monkeypatch.setenv("PRICES_FILE", str(prices))

    load_handler()(batch(message("InferenceCompleted.chat-stream")), None)

    [entry] = stored(client)[0]
    assert (entry["price_version"], entry["pricing"]) == ("ours", "free")
