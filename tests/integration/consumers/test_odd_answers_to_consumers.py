"""A consumer whose call is answered oddly: its messages come again, unless what failed is optional."""

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import boto3
import pytest
from aws_lambda_powertools import Logger
from botocore.config import Config
from openai_proxy.cloudwatch import CloudWatch
from openai_proxy.events.bus import Bus
from openai_proxy.ledger.lake import Lake
from openai_proxy.ledger.table import CostsTable
from openai_proxy.pricing.price_book import load_price_book
from record_cost.consumer import RecordCost
from record_metrics.consumer import RecordMetrics
from record_metrics.markers import Markers
from settle_limits.consumer import SettleLimits
from settle_limits.price_hints import PriceHints
from settle_limits.table import LimitsTable
from store_response.consumer import StoreResponse
from store_response.table import CacheTable

from tests.contract.template_stack import ROOT
from tests.fakes import Connection, Received, ScriptedServer

SAMPLES = ROOT / "events" / "samples"
NOW = 1795426800.0
PRICES = load_price_book()
LOGGER = Logger(service="test")
USED: dict[str, Any] = {"TableName": "t", "CapacityUnits": 1.0}
COUNTER = {"pk": {"S": "limits#l"}, "day": {"S": "2026-11-23"}, "day_spent": {"N": "9"}, "told_day": {"N": "0"}}
LIMITS: dict[str, Any] = {
    "id": "l",
    "status": "checked",
    "reserved": {"cost": "1", "tokens": 1},
    "has_budget": True,
    "lease": None,
    "taken_at": int(NOW),
    "budget_day": "10",
    "budget_month": None,
    "currency": "USD",
}
REAL: Mapping[str, dict[str, Any]] = {
    "TransactWriteItems": {"ConsumedCapacity": [USED]},
    "BatchGetItem": {"Responses": {}, "UnprocessedKeys": {}},
    "GetItem": {"ConsumedCapacity": USED, "Item": COUNTER},
    "PutItem": {"ConsumedCapacity": USED},
    "UpdateItem": {"ConsumedCapacity": USED},
    "PutEvents": {"FailedEntryCount": 0, "Entries": [{"EventId": "e"}]},
    "PutRecordBatch": {"FailedPutCount": 0, "RequestResponses": [{"RecordId": "r"}]},
}
ODD = {
    "empty": b"",
    "object": b"{}",
    "list": b"[]",
    "page": b"<html><body>Service unavailable</body></html>",
    "cut": b'{"ConsumedCapacity": [{"TableName": "t", "Capac',
    "error": b'{"__type": "com.amazonaws#InternalServerError", "message": "An error occurred"}',
    "nulls": b'{"ConsumedCapacity": null, "Responses": null, "UnprocessedKeys": null, "UnprocessedItems": null}',
    "lists": b'{"ConsumedCapacity": [], "Responses": [], "UnprocessedKeys": [], "UnprocessedItems": [1], "Item": [1]}',
    "texts": b'{"ConsumedCapacity": "x", "Responses": "x", "UnprocessedKeys": "x", "UnprocessedItems": "x", "Item": 1}',
    "numbers": b'{"ConsumedCapacity": [1], "RequestResponses": 7, "UnprocessedItems": {"t": 7}, "Responses": {"t": 7}}',
    "not text": b"\xff\xfe{}",
}

Client = Callable[[str], Any]
Consumer = Callable[[Mapping[str, Any]], dict[str, list[dict[str, str]]]]


def no_pause(_: int) -> None:
    """Nobody else wants the table."""


def record_cost(client: Client) -> Consumer:
    table, lake = CostsTable(client("dynamodb"), "t", no_pause), Lake(client("firehose"), "s", no_pause)
    return RecordCost(PRICES, table, LOGGER, lake, CloudWatch(client("cloudwatch"), "ns"), clock=lambda: NOW)


def record_metrics(client: Client) -> Consumer:
    markers = Markers(client("dynamodb"), "t", no_pause)
    return RecordMetrics(CloudWatch(client("cloudwatch"), "ns"), markers, LOGGER, clock=lambda: NOW)


def settle_limits(client: Client) -> Consumer:
    table = LimitsTable(client("dynamodb"), "t", no_pause, clock=lambda: NOW)
    hints = PriceHints(table.write_hint, table.usual_answer, LOGGER)
    return SettleLimits(PRICES, table, Bus(client("events"), "bus"), hints, LOGGER, clock=lambda: NOW)


def store_response(client: Client) -> Consumer:
    return StoreResponse(CacheTable(client("dynamodb"), "t", lambda: NOW), PRICES, LOGGER, clock=lambda: NOW)


AGAIN, DONE = "all messages come again", "all messages are done"
CASES = [
    (record_cost, "TransactWriteItems", AGAIN),
    (record_cost, "PutRecordBatch", AGAIN),
    (record_cost, "PutMetricData", DONE),  # entries may not be lost for it
    (record_metrics, "TransactWriteItems", AGAIN),
    (record_metrics, "PutMetricData", AGAIN),
    (record_metrics, "PutItem", DONE),  # the metrics are there: again, they would count twice
    (settle_limits, "TransactWriteItems", AGAIN),
    (settle_limits, "GetItem", AGAIN),
    (settle_limits, "PutEvents", AGAIN),
    (settle_limits, "UpdateItem", AGAIN),
    (settle_limits, "PutItem", DONE),  # a hint is optional
    (store_response, "PutItem", AGAIN),
]


class Services:
    """All that consumers call. Each call is answered as AWS does, but for those of `operation`: with `body`."""

    operation, body = "", b""

    def script(self, connection: Connection, received: Received) -> None:
        operation = (received.headers.get("x-amz-target") or received.target.replace("/", ".")).rpartition(".")[2]
        if operation == self.operation:
            connection.answer(self.body, content_type="application/x-amz-json-1.0")
        elif operation == "PutMetricData":
            more = "smithy-protocol: rpc-v2-cbor\r\nx-amzn-requestid: r\r\n"
            connection.answer(b"\xa0", content_type="application/cbor", more=more)
        else:
            connection.answer(json.dumps(REAL[operation]).encode(), content_type="application/x-amz-json-1.0")


@pytest.fixture(scope="module")
def services() -> Iterator[tuple[Services, Client]]:
    found, clients = Services(), dict[str, Any]()
    session: Any = boto3
    with ScriptedServer(found.script) as server:
        config = Config(retries={"total_max_attempts": 1}, parameter_validation=False)

        def client(name: str) -> Any:
            if name not in clients:
                clients[name] = session.client(name, endpoint_url=server.url, config=config)
            return clients[name]

        yield found, client
        for each in clients.values():
            with contextlib.suppress(Exception):
                each.close()


def batch_for(consumer: Callable[[Client], Consumer]) -> dict[str, Any]:
    """Two messages that the consumer has something to do for; of settle_limits one, because a key is told once."""
    name = "ResponseCaptured.chat" if consumer is store_response else "InferenceCompleted.chat-stream"
    event = json.loads((SAMPLES / f"{name}.json").read_text())
    metadata, data = event["detail"]["metadata"], event["detail"]["data"]
    records: list[dict[str, str]] = []
    for number in range(1 if consumer is settle_limits else 2):
        own = {"cache_key": data["cache_key"][:-1] + str(number)} if consumer is store_response else {"limits": LIMITS}
        detail = {"metadata": metadata | {"id": metadata["id"][:-1] + str(number)}, "data": data | own}
        records.append({"messageId": f"m{number}", "body": json.dumps(event | {"detail": detail})})
    return {"Records": records}


def what_becomes_of(consumer: Consumer, batch: dict[str, Any]) -> str:
    try:
        failed = {each["itemIdentifier"] for each in consumer(batch)["batchItemFailures"]}
    except Exception:  # noqa: BLE001  # SQS gives the whole batch again
        return AGAIN
    return {0: DONE, len(batch["Records"]): AGAIN}.get(len(failed), f"again: {sorted(failed)}")


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize(("consumer", "operation", "expected"), CASES)
def test_no_message_is_lost_to_an_odd_answer(
    services: tuple[Services, Client],
    consumer: Callable[[Client], Consumer],
    operation: str,
    expected: str,
    odd: str,
) -> None:
    service, client = services
    service.operation, service.body = operation, ODD[odd]
    assert what_becomes_of(consumer(client), batch_for(consumer)) == expected


@pytest.mark.parametrize("consumer", [record_cost, record_metrics, settle_limits, store_response])
def test_what_is_answered_as_aws_does_is_done(
    services: tuple[Services, Client], consumer: Callable[[Client], Consumer]
) -> None:
    service, client = services
    service.operation = ""
    assert what_becomes_of(consumer(client), batch_for(consumer)) == DONE
