"""What the metrics add up to when sandboxes are killed, at any moment, and copies of a batch are under way at once.

A kill is simulated: it happens before or after one certain call to AWS, for each of them in turn. Only one moment may
count an event twice, and it is named here as in docs/metrics.md: when CloudWatch has the figures, and nobody noted it.
"""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from botocore.exceptions import ClientError
from openai_proxy.cloudwatch import CloudWatch
from openai_proxy.events.envelope import rfc3339
from openai_proxy.events.ulid import new_ulid
from openai_proxy.ledger.table import CostsTable
from openai_proxy.pricing.price_book import load_price_book
from record_cost.consumer import RecordCost
from record_metrics.consumer import RecordMetrics
from record_metrics.markers import Markers

from tests.costs_fake import FakeCostsTable
from tests.tables import Log, failures

SAMPLE = Path(__file__).parents[3] / "events" / "samples" / "InferenceCompleted.chat-stream.json"
NOON = datetime(2026, 11, 23, 12, tzinfo=UTC).timestamp()
EVENTS = 6
CALLS = ("transact_write_items", "put_metric_data", "put_item")
"""All that the consumer calls for a batch of which nothing is known."""


class KilledError(BaseException):
    """The sandbox is gone: nothing handles this."""


class Moment(NamedTuple):
    """Before or after a call of this name."""

    call: str
    is_after: bool


MOMENTS = [Moment(call, is_after) for call in CALLS for is_after in (False, True)]
COUNTED_IN_VAIN = [Moment("put_metric_data", is_after=True), Moment("put_item", is_after=False)]
"""CloudWatch has the figures, and the run was not noted as done."""


class MarkersTable:
    """The part of a DynamoDB client that the markers need. Another test holds them to moto, which takes longer."""

    def __init__(self) -> None:
        self._items: dict[str, dict[str, Any]] = {}

    def transact_write_items(self, *, TransactItems: Any, **_: Any) -> Any:  # noqa: N803 - boto3's names
        puts = [each["Put"] for each in TransactItems]
        reasons = [{"Code": "None" if self._may_stand(put) else "ConditionalCheckFailed"} for put in puts]
        if any(reason["Code"] != "None" for reason in reasons):
            error: Any = {"Error": {"Code": "TransactionCanceledException"}, "CancellationReasons": reasons}
            raise ClientError(error, "TransactWriteItems")
        self._items |= {put["Item"]["id"]["S"]: put["Item"] for put in puts}
        return {"ConsumedCapacity": [{"TableName": "markers"}]}

    def _may_stand(self, put: Any) -> bool:
        there = self._items.get(put["Item"]["id"]["S"])
        return there is None or there["owner"] == put.get("ExpressionAttributeValues", {}).get(":seen", "nobody")

    def batch_get_item(self, *, RequestItems: Any) -> Any:  # noqa: N803 - boto3's names
        keys = [key["id"]["S"] for key in RequestItems["markers"]["Keys"]]
        found = [self._items[key] for key in keys if key in self._items]
        return {"Responses": {"markers": found}, "UnprocessedKeys": {}}

    def put_item(self, *, Item: Any, **_: Any) -> Any:  # noqa: N803 - boto3's names
        self._items[Item["id"]["S"]] = Item
        return {"ConsumedCapacity": {"TableName": "markers"}}


class World:
    """A table of markers, the sums of CloudWatch, and one thing that happens at one moment."""

    def __init__(self, dynamodb: Any) -> None:
        self._dynamodb = dynamodb
        self.requests = 0.0
        self.now = NOON + 60
        self.moment: Moment | None = None
        self.happens: Callable[[], None] = lambda: None
        self.log: Any = Log()

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(**request: Any) -> Any:
            self._reach(Moment(name, is_after=False))
            answer = self._put(request) if name == "put_metric_data" else getattr(self._dynamodb, name)(**request)
            self._reach(Moment(name, is_after=True))
            return answer

        return call

    def _reach(self, moment: Moment) -> None:
        if moment == self.moment:
            self.moment = None
            self.happens()

    def _put(self, request: Any) -> Any:
        for datum in request["MetricData"]:
            if datum["MetricName"] == "Requests" and not datum["Dimensions"]:
                self.requests += sum(datum["Counts"])
        return {"ResponseMetadata": {"RequestId": "1"}}

    def record_metrics(self, batch: Any) -> list[str]:
        """What a sandbox does with a batch. Returns the messages that come again."""
        client: Any = self
        markers = Markers(client, "markers", lambda attempt: None)
        metrics = CloudWatch(client, "ns", lambda attempt: None)
        return failures(RecordMetrics(metrics, markers, self.log, clock=lambda: self.now)(batch))

    def until_done(self, batch: Any, *moments: Moment) -> None:
        """Deliver a batch until nothing of it comes again; a sandbox is killed at each of the moments."""

        def killed() -> None:
            raise KilledError

        left, kills = list(batch["Records"]), list(moments)
        for _ in range(8):
            self.moment, self.happens = kills.pop(0) if kills else None, killed
            try:
                again = self.record_metrics({"Records": left})
            except KilledError:
                again = [record["messageId"] for record in left]
            left = [record for record in left if record["messageId"] in again]
            self.now += 240  # as long as SQS hides a message
            if not left:
                return
        pytest.fail("messages come again for ever")


@pytest.fixture
def world() -> World:
    return World(MarkersTable())


def batch_of(*numbers: int, start: float = NOON) -> Any:
    """Messages with one event each; those of the same number and start have the same event."""
    envelope = json.loads(SAMPLE.read_text(encoding="utf-8"))
    records: list[dict[str, str]] = []
    for number in numbers:
        envelope["detail"]["metadata"] |= {"id": IDS[start, number], "timestamp": rfc3339(NOON)}
        records.append({"messageId": f"m{number}", "body": json.dumps(envelope)})
    return {"Records": records}


class Ids(dict[tuple[float, int], str]):
    """The id of each event, made when it is first asked for."""

    def __missing__(self, key: tuple[float, int]) -> str:
        self[key] = new_ulid(NOON)
        return self[key]


IDS = Ids()


@pytest.mark.parametrize("first", MOMENTS, ids=lambda each: f"{'after' if each.is_after else 'before'} {each.call}")
def test_a_kill_at_any_moment_leaves_the_metrics_as_the_ledger_is_but_for_the_one_that_is_told(
    world: World, first: Moment
) -> None:
    for number, second in enumerate([None, *MOMENTS]):
        start, before = float(100 * MOMENTS.index(first) + number), world.requests
        moments = [first, *([second] if second else [])]
        batch = batch_of(*range(EVENTS), start=start)
        world.until_done(batch, *moments)
        in_vain = len([moment for moment in moments if moment in COUNTED_IN_VAIN])
        if first == Moment("put_item", is_after=True):  # the run is done: the second kill meets nothing to count
            in_vain = 0
        assert world.requests - before == EVENTS * (1 + in_vain), moments


def test_copies_that_are_under_way_at_once_count_once_wherever_they_meet(world: World) -> None:
    for number, moment in enumerate(MOMENTS):
        start, before = 5000.0 + number, world.requests
        batch, other = batch_of(*range(EVENTS), start=start), batch_of(*range(2, EVENTS + 2), start=start)
        again: list[str] = []
        world.moment, world.happens = moment, lambda other=other, again=again: again.extend(world.record_metrics(other))
        left = set(world.record_metrics(batch))
        world.now += 240
        for records in (batch["Records"], other["Records"]):
            come = [
                record for record in records if record["messageId"] in (left if records is batch["Records"] else again)
            ]
            assert not come or world.record_metrics({"Records": come}) == []
        assert world.requests - before == EVENTS + 2, moment


def test_metrics_are_the_ledger_after_a_soak_with_kills(world: World) -> None:
    """Batches that overlap, copies of copies, and a kill at another moment each time."""
    harmless = [moment for moment in MOMENTS if moment not in COUNTED_IN_VAIN]
    costs: Any = FakeCostsTable()
    ledger = RecordCost(load_price_book(), CostsTable(costs, "costs"), world.log, clock=lambda: world.now)
    for number in range(12):
        batch = batch_of(*range(3 * number, 3 * number + EVENTS), start=9000.0)
        world.until_done(batch, harmless[number % len(harmless)], harmless[number // 2 % len(harmless)])
        assert failures(ledger(batch)) == []
    entries = [key for key in costs.items if key[0].startswith("client#")]
    assert world.requests == len(entries) == 3 * 11 + EVENTS
