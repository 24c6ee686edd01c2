"""record_cost by itself: CPU and DynamoDB calls per event, in full and in single batches.

The real consumer with boto3's real clients; in the place of the network stands an answer that is there at once.
"""

import json
import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import boto3
from aws_lambda_powertools import Logger
from botocore.awsrequest import AWSResponse
from botocore.compat import HTTPHeaders
from botocore.config import Config
from openai_proxy.cloudwatch import CloudWatch
from openai_proxy.events.envelope import rfc3339
from openai_proxy.ledger.lake import Lake
from openai_proxy.ledger.table import CostsTable
from openai_proxy.pricing.price_book import load_price_book
from record_cost.consumer import RecordCost

from bench.chapters import Bench
from bench.report import Figure, table
from bench.units import BEGAN, event

_ANSWERS = {
    "dynamodb": b'{"ConsumedCapacity": [{"TableName": "costs", "CapacityUnits": 1.0}]}',
    "firehose": b'{"FailedPutCount": 0, "RequestResponses": [{"RecordId": "1"}]}',
    "cloudwatch": b'<PutMetricDataResponse xmlns="http://monitoring.amazonaws.com/doc/2010-08-01/"/>',
}
_SIZES = ((25, 1), (25, 5), (25, 25), (1, 1))
_MOST_CALLS = 0.3


@dataclass(frozen=True, slots=True)
class Recording:
    """What one event takes."""

    cpu_seconds: float
    calls: float
    """Of DynamoDB."""


@dataclass(slots=True)
class _Calls:
    """Counts the requests of each service, and answers them."""

    count: dict[str, int] = field(default_factory=dict[str, int])

    def client(self, service: str) -> Any:
        config = Config(parameter_validation=False, retries={"mode": "standard"})
        session: Any = boto3.Session("test", "test", region_name="us-east-1")
        client = session.client(service, config=config)
        client.meta.events.register(f"before-send.{service}.*", self._answer(service))
        return client

    def _answer(self, service: str) -> Callable[..., AWSResponse]:
        def answer(request: Any, **_: Any) -> AWSResponse:
            self.count[service] = self.count.get(service, 0) + 1
            headers: Any = HTTPHeaders()
            headers["x-amzn-requestid"] = "1"
            return AWSResponse(request.url, 200, headers, _Body(_ANSWERS[service]))

        return answer


@dataclass(slots=True)
class _Body:
    content: bytes

    def stream(self) -> list[bytes]:
        return [self.content]


def record(batch: int, models: int, events: int) -> Recording:
    """What an event takes, on the average of `events` in batches of `batch`."""
    calls = _Calls()
    consumer = RecordCost(
        load_price_book(),
        CostsTable(calls.client("dynamodb"), "costs"),
        Logger(service="bench", level="INFO", logger_handler=logging.StreamHandler(open(os.devnull, "w"))),  # noqa: SIM115, PTH123
        Lake(calls.client("firehose"), "lake"),
        CloudWatch(calls.client("cloudwatch"), "OpenAIProxy"),
        clock=lambda: float(BEGAN),
    )
    batches = [_messages(first, batch, models) for first in range(0, events, batch)]
    consumer(batches[0])  # prices and connections are there for all others
    calls.count.clear()
    began = time.process_time()
    for each in batches:
        if consumer(each)["batchItemFailures"]:
            raise RuntimeError("record_cost did not record its events")
    taken = time.process_time() - began
    return Recording(taken / (len(batches) * batch), calls.count["dynamodb"] / (len(batches) * batch))


def _messages(first: int, batch: int, models: int) -> dict[str, Any]:
    records: list[dict[str, str]] = []
    for number in range(first, first + batch):
        entry = event(number, number % models).to_entry("bus")
        detail = json.loads(entry["Detail"])
        detail["metadata"]["timestamp"] = rfc3339(datetime.fromtimestamp(BEGAN, UTC).timestamp())
        body = {"detail-type": entry["DetailType"], "source": entry["Source"], "detail": detail}
        records.append({"messageId": str(number), "body": json.dumps(body)})
    return {"Records": records}


async def recording(bench: Bench) -> list[Figure]:
    """What record_cost takes for an event."""
    found = {size: record(*size, bench.times(5000, 100)) for size in _SIZES}
    rows = [
        (batch, models, round(1 / each.cpu_seconds), 1000 * each.cpu_seconds, each.calls)
        for (batch, models), each in found.items()
    ]
    header = ["record_cost: events in a batch", "of so many models", "events per CPU second", "ms of CPU per event"]
    table([*header, "DynamoDB calls per event"], rows)
    full = max(each.calls for (batch, _), each in found.items() if batch > 1)
    return [Figure("DynamoDB calls per event in full batches", _MOST_CALLS, full)]
