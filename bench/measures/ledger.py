"""From the client's last byte to the ledger row, on the local stack: the real template, bus, queue and consumer.

Measured with the stack's batching window and again with none: the difference is what the window costs there.
"""

import http.client
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import boto3

from bench.measures.load import percentiles
from bench.measures.local_stack import SERVER
from bench.requests import STREAM

if TYPE_CHECKING:
    from mypy_boto3_dynamodb.service_resource import DynamoDBServiceResource, Table
    from mypy_boto3_lambda import LambdaClient

PAUSE = 0.1
"""Seconds between a client's last byte and its next request."""
_GIVE_UP = 60.0


@dataclass(frozen=True, slots=True)
class LedgerDelay:
    """Seconds from the last byte to the row, of `requests` requests, with a batching window of `window` seconds."""

    window: int
    requests: int
    p50: float
    p99: float


def measure(stack: dict[str, str], requests: int) -> list[LedgerDelay]:
    """The delays with the stack's own batching window, then without one."""
    # Any: the stubs of boto3's own functions name services whose stubs are not installed.
    session: Any = boto3.Session("test", "test", region_name=stack["AWS_REGION"])
    functions: LambdaClient = session.client("lambda", endpoint_url=stack["AWS_ENDPOINT_URL"])
    tables: DynamoDBServiceResource = session.resource("dynamodb", endpoint_url=stack["AWS_ENDPOINT_URL"])
    table = tables.Table(stack["COSTS_TABLE"])
    mapping = _cost_mapping(functions)
    found: list[LedgerDelay] = []
    for window in (mapping["MaximumBatchingWindowInSeconds"], 0):
        functions.update_event_source_mapping(UUID=mapping["UUID"], MaximumBatchingWindowInSeconds=window)
        _delays(stack, table, 10)
        found.append(LedgerDelay(window, requests, *percentiles(_delays(stack, table, requests))))
    return found


def _cost_mapping(functions: "LambdaClient") -> Any:
    """The event source mapping of record_cost's queue."""
    mappings = functions.list_event_source_mappings()["EventSourceMappings"]
    (found,) = [each for each in mappings if "RecordCost" in each.get("FunctionArn", "")]
    return found


def _delays(stack: dict[str, str], table: "Table", requests: int) -> list[float]:
    """Stream `requests` chats one after the other while a watcher looks for their rows: seconds each."""
    ended: dict[str, float] = {}
    watcher = _Watcher(table, requests)
    watcher.start()
    for _ in range(requests):
        identifier, moment = _stream(stack)
        ended[identifier] = moment
        time.sleep(PAUSE)
    watcher.join()
    return [watcher.seen[identifier] - moment for identifier, moment in ended.items()]


def _stream(stack: dict[str, str]) -> tuple[str, float]:
    """One streamed chat: the proxy's id of it, and the moment of its last byte."""
    connection = http.client.HTTPConnection(urlsplit(stack["FUNCTION_URL"]).netloc)
    headers = {"Authorization": f"Bearer {stack['OPENAI_API_KEY']}", "Content-Type": "application/json"}
    connection.request("POST", f"/{SERVER}/v1/chat/completions", STREAM.body, headers)
    answer = connection.getresponse()
    body = answer.read()
    moment = time.monotonic()
    connection.close()
    if b"[DONE]" not in body:
        raise RuntimeError(f"the local stack answered {answer.status}: {body[:500]!r}")
    return answer.headers["x-request-id"], moment


class _Watcher(threading.Thread):
    """Looks for new ledger rows of the demo client until it has seen as many as it waits for."""

    def __init__(self, table: "Table", expected: int) -> None:
        super().__init__(daemon=True)
        self._table = table
        self._expected = expected
        self._since = self._newest()
        self.seen: dict[str, float] = {}

    def run(self) -> None:
        """Ask every five milliseconds for rows newer than the newest one in order that all have been seen."""
        deadline = time.monotonic() + _GIVE_UP + self._expected
        while len(self.seen) < self._expected and time.monotonic() < deadline:
            for identifier in self._rows(self._since):
                self.seen.setdefault(identifier, time.monotonic())
            time.sleep(0.005)

    def _rows(self, since: str) -> list[str]:
        # The day of the rows is today's in UTC; a run over midnight loses rows and says so by a KeyError.
        day = time.strftime("%Y-%m-%d", time.gmtime())
        answer = self._table.query(
            KeyConditionExpression="pk = :pk AND sk > :since",
            ExpressionAttributeValues={":pk": f"client#demo#{day}", ":since": since},
            ProjectionExpression="sk",
            ConsistentRead=True,
        )
        return [str(item["sk"]) for item in answer["Items"]]

    def _newest(self) -> str:
        return max(self._rows("0"), default="0")
