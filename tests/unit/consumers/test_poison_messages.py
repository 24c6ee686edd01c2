"""One poison message never takes its neighbours: whatever one field of an event holds, the others are booked.

Every field of a real event is replaced by odd values, one message each. All of a field's messages come in one batch,
between two good ones. The law: the batch does what its messages do one by one.
"""

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any, Protocol

import pytest
from aws_lambda_powertools import Logger
from botocore.exceptions import ClientError
from openai_proxy.cloudwatch import CloudWatch
from openai_proxy.events.batch import read_batch
from openai_proxy.events.envelope import Event
from openai_proxy.events.incoming import from_sqs_body
from openai_proxy.events.ulid import first_ulid_of, new_ulid
from openai_proxy.ledger.table import CostsTable
from openai_proxy.limits import Windows
from openai_proxy.pricing.price_book import load_price_book
from openai_proxy.throttles.entries import LATEST
from record_cost.consumer import RecordCost
from record_metrics.consumer import RecordMetrics
from record_metrics.markers import Markers
from record_throttles.consumer import RecordThrottles
from settle_limits.consumer import SettleLimits
from settle_limits.price_hints import PriceHints
from settle_limits.table import LimitsTable
from store_response.consumer import StoreResponse
from store_response.table import CacheTable

from tests.costs_fake import FakeCostsTable
from tests.limits.table import AsBoto3, LimitsItems
from tests.tables import failures

SAMPLES = Path(__file__).parents[3] / "events" / "samples"
PRICES = load_price_book()
LOGGER = Logger(service="poison", level="CRITICAL")
NOW = 1_795_426_900
YEAR_9999 = 253_402_300_799.0
DEEP = "@deep@"
"""Stands for thousands of lists in one another, which `json.dumps` does not write."""
DIGITS = "@digits@"
"""Stands for a number of 5,000 digits."""
GONE = object()
"""The field is not there."""
KEY_IDS = ("5f0c1b9a7d3e", "other")

WORST: tuple[Any, ...] = (GONE, None, [], {}, "abc", 1e120, -1, False, DEEP, first_ulid_of(YEAR_9999), "\ud800")
OTHER: tuple[Any, ...] = (
    *(True, 0, 0.5, 7, 10**13, 10**40, -1e300, math.nan, math.inf, YEAR_9999, 253_402_300_800, DIGITS),
    *("", "-1", "1e5", "1_000", " 5", "\u0665", "NaN", "Infinity", "1e400", "-0", "9" * 40, f"0.{'0' * 24}1"),
    *("x" * 3000, "\x00", "a#b", "9999-12-31T23:59:59Z", "0001-01-01T00:00:00+23:59", "24:00", "2026-11-23T09:30:39"),
    *("7" + "Z" * 25, "8" * 26, "i" * 26, [[]], [None], {"a": {}}, {"a": 1}, [1, 2]),
)
"""Each field gets some of them, in turn."""
SOME = 7


class Consumed(Protocol):
    """A consumer with services in memory."""

    def __call__(self, *messages: Mapping[str, str]) -> list[str]:
        """The messages of one batch that are to come again."""
        ...

    @property
    def state(self) -> Any:
        """All that it has written."""
        ...


class StrictCloudWatch:
    """Takes a whole call or nothing, as CloudWatch does: one value out of its range refuses all."""

    def __init__(self) -> None:
        self.sums: dict[Any, Decimal] = {}

    def put_metric_data(self, *, Namespace: str, MetricData: Sequence[Any]) -> Any:  # noqa: N803 - boto3's names
        assert Namespace
        for datum in MetricData:
            assert all(abs(value) <= 2.0**360 for value in datum["Values"]), "InvalidParameterValue"
            assert all(0 < len(each["Value"]) <= 1024 and each["Value"].isascii() for each in datum["Dimensions"])
            assert len(datum["Values"]) == len(datum["Counts"]) <= 150
        for datum in MetricData:
            key = datum["MetricName"], datum["Timestamp"], tuple(each["Value"] for each in datum["Dimensions"])
            for value, count in zip(datum["Values"], datum["Counts"], strict=True):
                self.sums[key] = self.sums.get(key, Decimal(0)) + Decimal(str(value)) * count
        return {"ResponseMetadata": {"RequestId": "r"}}


class Lake:
    """Takes everything that can be written."""

    def __init__(self) -> None:
        self.rows: dict[Any, str] = {}

    def put(self, entries: Any) -> dict[Any, str]:
        self.rows |= {entry.key: str(sorted(entry.attributes.items())) for entry in entries}
        return {}

    def put_again(self, items: Any) -> dict[Any, str]:
        self.rows |= {(item["pk"], item["sk"]): str(sorted(item.items())) for item in items}
        return {}


class Costs:
    """record_cost."""

    def __init__(self) -> None:
        self.table, self.lake, self.cloudwatch = FakeCostsTable(), Lake(), StrictCloudWatch()
        client: Any = self.table
        metrics: Any = self.cloudwatch
        ledger = CostsTable(client, "costs", pause=lambda _: None)
        cloudwatch = CloudWatch(metrics, "ns")
        self._consumer = RecordCost(PRICES, ledger, LOGGER, self.lake, cloudwatch, clock=lambda: NOW)

    def __call__(self, *messages: Mapping[str, str]) -> list[str]:
        return failures(self._consumer({"Records": messages}))

    @property
    def state(self) -> Any:
        return self.table.items, self.lake.rows, self.cloudwatch.sums


class MarkersTable:
    """Takes a whole batch of keys or none: one that is no text, or too long, refuses all."""

    def __init__(self) -> None:
        self.ids: set[str] = set()

    def batch_get_item(self, *, RequestItems: Any) -> Any:  # noqa: N803 - boto3's names
        ids = [self._checked(key["id"]["S"]) for key in RequestItems["markers"]["Keys"]]
        assert len(ids) == len(set(ids)) <= 100
        found = [{"id": {"S": each}} for each in ids if each in self.ids]  # of runs that are done
        return {"Responses": {"markers": found}, "UnprocessedKeys": {}}

    def transact_write_items(self, *, TransactItems: Any, **_: Any) -> Any:  # noqa: N803 - boto3's names
        ids = [self._checked(each["Put"]["Item"]["id"]["S"]) for each in TransactItems]
        assert len(ids) == len(set(ids)) <= 100
        if not self.ids.isdisjoint(ids):
            reasons = [{"Code": "ConditionalCheckFailed" if each in self.ids else "None"} for each in ids]
            error: Any = {"Error": {"Code": "TransactionCanceledException"}, "CancellationReasons": reasons}
            raise ClientError(error, "TransactWriteItems")
        self.ids |= set(ids)
        return {"ConsumedCapacity": [{"TableName": "markers"}]}

    def put_item(self, *, Item: Any, **_: Any) -> Any:  # noqa: N803 - boto3's names
        self.ids.add(self._checked(Item["id"]["S"]))
        return {"ConsumedCapacity": {"TableName": "markers"}}

    def _checked(self, text: Any) -> str:
        assert isinstance(text, str)
        assert 0 < len(text.encode()) <= 2048
        return text


class Metrics:
    """record_metrics."""

    def __init__(self) -> None:
        self.table, self.cloudwatch = MarkersTable(), StrictCloudWatch()
        markers: Any = self.table
        metrics: Any = self.cloudwatch
        self._consumer = RecordMetrics(CloudWatch(metrics, "ns"), Markers(markers, "markers"), LOGGER, lambda: NOW)

    def __call__(self, *messages: Mapping[str, str]) -> list[str]:
        return failures(self._consumer({"Records": messages}))

    @property
    def state(self) -> Any:
        return {each for each in self.table.ids if "#run#" not in each}, self.cloudwatch.sums


class Throttles:
    """record_throttles."""

    def __init__(self) -> None:
        self.table, self.lake, self.cloudwatch = FakeCostsTable(), Lake(), StrictCloudWatch()
        table: Any = self.table
        metrics: Any = self.cloudwatch
        ledger = CostsTable(table, "costs", lambda _: None)
        self._consumer = RecordThrottles(ledger, CloudWatch(metrics, "ns"), self, LOGGER, self.lake, clock=lambda: NOW)

    def among(self, hour: str, counts: Mapping[str, int]) -> frozenset[str]:
        return frozenset({"ci.nightly"})

    def __call__(self, *messages: Mapping[str, str]) -> list[str]:
        return failures(self._consumer({"Records": messages}))

    @property
    def state(self) -> Any:
        """Without what is true of a rollup's latest request: of several at once any may be the latest."""
        latest = {*LATEST, "expires_at"}
        items = {
            key: {name: value for name, value in item.items() if name not in latest or key[0].startswith("throttled#")}
            for key, item in self.table.items.items()
        }
        return items, self.cloudwatch.sums, self.lake.rows


@dataclass
class Told:
    """Keeps what is told of each budget; texts must be such as JSON has."""

    events: dict[tuple[str, str], int] = field(default_factory=dict[tuple[str, str], int])

    def publish(self, event: Event[Any, Any]) -> None:
        json.dumps(event.data, ensure_ascii=False).encode()
        self.events[event.data["limits"]["id"], event.data["period"]] = event.data["threshold"]


class Limits:
    """settle_limits, with two keys of which requests have reserved what the good messages say."""

    def __init__(self, now: int = NOW) -> None:
        self.table, self.bus = LimitsItems(), Told()
        windows = Windows.of(now)
        for name in KEY_IDS:
            counter = {"day": {"S": windows.day}, "month": {"S": windows.month}, windows.bucket: {"N": "0.5"}}
            amounts = {f"{period}_{kind}": {"N": "4.5"} for period in ("day", "month") for kind in ("cost", "spent")}
            self.table.items[f"limits#{name}"] = {"pk": {"S": f"limits#{name}"}, **counter, **amounts}
        client: Any = AsBoto3(self.table)
        table = LimitsTable(client, "limits", lambda _: None, lambda: now)
        hints = PriceHints(table.write_hint, table.usual_answer, LOGGER, lambda: now)
        self._consumer = SettleLimits(PRICES, table, self.bus, hints, LOGGER, lambda: now)

    def __call__(self, *messages: Mapping[str, str]) -> list[str]:
        return failures(self._consumer({"Records": messages}))

    @property
    def state(self) -> Any:
        """Without what was told, and without price hints: of several at once only one is told, and one is kept."""
        counters = {name: item for name, item in self.table.items.items() if not name.startswith("price#")}
        return {
            key: {name: value for name, value in item.items() if not name.startswith("told_")}
            for key, item in counters.items()
        }


class Cache:
    """store_response, whose table replaces what is older, and what is from the future."""

    def __init__(self) -> None:
        self.items: dict[str, Any] = {}
        client: Any = self
        self._consumer = StoreResponse(CacheTable(client, "cache", lambda: NOW), PRICES, LOGGER, lambda: NOW)

    def put_item(self, *, Item: Any, ExpressionAttributeValues: Any, **_: Any) -> Any:  # noqa: N803 - boto3's names
        json.dumps({name: str(value) for name, value in Item.items()}, ensure_ascii=False).encode()
        known = self.items.get(Item["cache_key"]["S"], {"event_id": {"S": ""}})["event_id"]["S"]
        latest = ExpressionAttributeValues[":latest"]["S"]
        if Item["event_id"]["S"] <= known <= latest:
            raise ClientError({"Error": {"Code": "ConditionalCheckFailedException"}}, "PutItem")
        self.items[Item["cache_key"]["S"]] = Item
        return {"ConsumedCapacity": {"TableName": "cache"}}

    def __call__(self, *messages: Mapping[str, str]) -> list[str]:
        return failures(self._consumer({"Records": messages}))

    @property
    def state(self) -> Any:
        return self.items


# ------------------------------------------------------------------------------------------------------------ messages


def envelope_of(sample: str, number: int = 0) -> Any:
    envelope = json.loads((SAMPLES / f"{sample}.json").read_text(encoding="utf-8"))
    metadata, data = envelope["detail"]["metadata"], envelope["detail"]["data"]
    metadata["id"] = new_ulid(NOW + number / 1000)
    if "expires_at" in data:
        data |= {"created_at": NOW, "expires_at": NOW + 3600}
    elif sample.startswith("Inference"):
        data["client"] = {"key_id": KEY_IDS[0], "name": "Web shop", "owner": "Team", "tags": {"env": "prod"}}
        data["limits"] = {
            "id": KEY_IDS[0],
            "status": "checked",
            "has_budget": True,
            "reserved": {"cost": "0.01", "tokens": 900},
            "lease": None,
            "taken_at": NOW,
            "budget_day": "5",
            "budget_month": "9",
            "currency": "USD",
        }
        if sample == "InferenceCompleted.embeddings":  # as if it told of a batch
            others = [{"model": "other", "usage": dict(data["usage"])}]
            data["fetched"] = {"names": [f"batch_{number}", f"file-{number}"], "others": others}
    return envelope


def written(envelope: Any) -> str:
    body = json.dumps(envelope).replace(f'"{DEEP}"', "[" * 50_000 + "]" * 50_000)
    return body.replace(f'"{DIGITS}"', "9" * 5000)


Place = tuple[str | int, ...]


def places_in(value: Any, place: Place = ()) -> Iterator[Place]:
    """The place of every value in an event."""
    holder: Any = value
    found: Any = holder.items() if isinstance(value, dict) else enumerate(holder) if isinstance(value, list) else ()
    for name, inner in found:
        yield (*place, name)
        yield from places_in(inner, (*place, name))


def with_each(envelope: Any, place: Place, values: Sequence[Any]) -> Iterator[str]:
    """Bodies of messages that have each of `values` at this place; each event has an id of its own."""
    *outer, last = place
    name: Any = last
    holder: Any = envelope
    metadata = envelope["detail"]["metadata"]
    for each in outer:
        holder = holder[each]
    kept = holder[name]
    for number, value in enumerate(values):
        metadata["id"] = new_ulid(NOW + (number + 10) / 1000)
        if value is GONE:
            holder.pop(name)
            yield written(envelope)
            if isinstance(holder, list):
                holder.insert(name, kept)  # pyright: ignore[reportUnknownMemberType]
        else:
            holder[name] = value
            yield written(envelope)
    holder[name] = kept


NOT_READ = {"version", "id", "source", "account", "time", "region", "resources"}
CONSUMERS: tuple[tuple[Callable[[], Consumed], str, str], ...] = (
    (Costs, "InferenceCompleted.chat-stream", ""),
    (Costs, "InferenceFailed.broken-off", "error"),
    (Costs, "InferenceCompleted.embeddings", "fetched"),
    (Metrics, "InferenceCompleted.chat-stream", ""),
    (Metrics, "InferenceFailed.broken-off", "error"),
    (Metrics, "InferenceThrottled.key-rpm", "throttle"),
    (Throttles, "InferenceThrottled.key-rpm", ""),
    (Throttles, "InferenceThrottled.upstream", "announced"),
    (Limits, "InferenceCompleted.chat-stream", ""),
    (Cache, "ResponseCaptured.chat-stream", ""),
)


@pytest.mark.parametrize(("consumer", "sample", "part"), CONSUMERS)
def test_a_message_with_one_wrong_field_leaves_its_neighbours_alone(
    consumer: Callable[[], Consumed], sample: str, part: str
) -> None:
    first = {"messageId": "first", "body": written(envelope_of(sample, 1))}
    last = {"messageId": "last", "body": written(envelope_of(sample, 99))}
    envelope = envelope_of(sample)
    places = [place for place in places_in(envelope) if place[0] not in NOT_READ and part in ("", *place)]
    for turn, place in enumerate(places):
        begin = turn * SOME % len(OTHER)
        values = WORST + (OTHER + OTHER)[begin : begin + SOME]
        poison = [{"messageId": str(n), "body": body} for n, body in enumerate(with_each(envelope, place, values))]
        together, apart = consumer(), consumer()
        failed = together(first, *poison, last)
        assert set(failed) <= {each["messageId"] for each in poison}, place
        accepted = [each for each in poison if each["messageId"] not in failed]
        assert [name for message in (first, *accepted, last) for name in apart(message)] == [], place
        is_same = together.state == apart.state
        assert is_same, place


# --------------------------------------------------------------------------------------------- what is refused, and how


AMOUNTS = (
    "abc",
    "1e5",
    "1_000",
    " 5",
    "5 ",
    "+5",
    "-1",
    "-0",
    "\u0665",
    "NaN",
    "Infinity",
    "1e400",
    ".5",
    "5.",
    "1.2.3",
)
UNFIT: tuple[Any, ...] = (*AMOUNTS, "", "1000000000.1", "9" * 40, f"0.{'0' * 24}1", 5, 0.5, True, [], {}, ["5"])
REFUSED: tuple[tuple[Callable[[], Consumed], Place, tuple[Any, ...]], ...] = (
    (Limits, ("limits", "reserved", "cost"), (*UNFIT, None)),
    (Limits, ("limits", "budget_day"), (*UNFIT, "0", "0.00")),
    (Limits, ("limits", "budget_month"), (*UNFIT, "0", "0.00")),
    (Limits, ("limits", "taken_at"), ("5", -1, True, 0.5, None, 253_402_300_800, 1e9)),
    (Limits, ("limits", "currency"), ("EUR", None, "", 1)),
    (Limits, ("limits", "id"), ("", "a#b", "x" * 65, None, 5)),
    (Costs, ("usage", "cost_reported"), (*AMOUNTS, "", "1000000000.1", 5)),
    (Costs, ("usage", "service_tier"), ("", "Flex", "a b", "x" * 33, 5, [], True)),
    (
        Costs,
        ("usage", "units"),
        ([1], "a", {"Web": 1}, {"a": -1}, {"a": "1"}, {"a": True}, {f"u{n}": 1 for n in range(17)}),
    ),
    (Costs, ("usage", "cache_creation"), ({"input_tokens": 1, "ephemeral_1h_input_tokens": -1},)),
    (Costs, ("usage", "input_tokens"), (-1, 0.5, "5", None, True, 10**12 + 1)),
    (Costs, ("timings", "total"), (-1, "5", None, math.nan, math.inf, 10**9 + 1)),
    (Metrics, ("timings", "proxy"), (-1, "5", None, True, math.nan, math.inf, 1e120, 10**400)),
)


@pytest.mark.parametrize(
    ("consumer", "place", "values"), REFUSED, ids=["-".join(case[1]) + "-" + case[0].__name__ for case in REFUSED]
)
def test_what_cannot_be_is_refused_and_never_read_as_something_else(
    consumer: Callable[[], Consumed], place: Place, values: tuple[Any, ...]
) -> None:
    envelope = envelope_of("InferenceCompleted.chat-stream")
    bodies = with_each(envelope, ("detail", "data", *place), values)
    poison = [{"messageId": str(number), "body": body} for number, body in enumerate(bodies)]
    world, untouched = consumer(), consumer()
    assert world(*poison) == [each["messageId"] for each in poison]
    assert world.state == untouched.state


def with_limits(number: int, **limits: Any) -> dict[str, str]:
    envelope = envelope_of("InferenceCompleted.chat-stream", number)
    envelope["detail"]["data"]["limits"] |= limits
    return {"messageId": str(number), "body": written(envelope)}


@pytest.mark.parametrize("order", [1, -1])
def test_a_request_of_another_time_hides_no_threshold_of_its_neighbours(order: int) -> None:
    world = Limits()
    messages = [with_limits(1), with_limits(2, taken_at=int(YEAR_9999)), with_limits(3, taken_at=0, reserved=None)]
    assert world(*messages[::order]) == []
    assert world.bus.events == {(KEY_IDS[0], "day"): 80, (KEY_IDS[0], "month"): 50}


@pytest.mark.parametrize("taken_at", [int(YEAR_9999), NOW + 86400, NOW + 31 * 86400])
def test_a_request_of_the_future_begins_no_period(taken_at: int) -> None:
    world, untouched = Limits(), Limits()
    assert world(with_limits(1, taken_at=taken_at, reserved=None, status="unchecked")) == []
    name = f"limits#{KEY_IDS[0]}"
    for period in ("day", "month"):
        assert world.table.items[name][period] == untouched.table.items[name][period]
    assert world.table.items[name]["day_cost"] == untouched.table.items[name]["day_cost"]


@pytest.mark.parametrize(("seconds", "begins"), [(299, True), (300, True), (301, False)])
def test_a_request_of_a_clock_that_is_ahead_by_a_moment_begins_the_day(seconds: int, begins: bool) -> None:
    midnight = NOW - NOW % 86400 + 86400
    world = Limits(midnight - seconds)
    assert world(with_limits(1, taken_at=midnight, reserved=None, status="unchecked")) == []
    item = world.table.items[f"limits#{KEY_IDS[0]}"]
    assert (item["day"]["S"] == Windows.of(midnight).day) == begins


def test_a_counter_that_is_damaged_holds_up_no_other_key() -> None:
    world = Limits()
    world.table.items[f"limits#{KEY_IDS[1]}"] |= {"told_day": {"S": "abc"}, "told_day_budget": {"N": "5"}}
    assert world(with_limits(1, id=KEY_IDS[1]), with_limits(2)) == ["1"]
    assert world.bus.events == {(KEY_IDS[0], "day"): 80, (KEY_IDS[0], "month"): 50}


def test_a_message_whose_reading_fails_as_nobody_has_foreseen_fails_alone(caplog: pytest.LogCaptureFixture) -> None:
    def length(body: str) -> int:
        if body == "odd":
            raise ZeroDivisionError("canary of a prompt")
        return len(body)

    def read(body: str) -> int:
        return length(body)

    records = [{"messageId": name, "body": name} for name in ("a", "odd", "bc")]
    found, refused = read_batch({"Records": records}, read, Logger(service="poison-read"))
    assert (found, refused) == ([("a", 1), ("bc", 2)], ["odd"])
    [line] = [vars(record) for record in caplog.records]
    line_of_raise = length.__code__.co_firstlineno + 2
    assert line["reason"] == f"ZeroDivisionError in length, line {line_of_raise}"


def test_the_reason_of_a_refusal_is_not_as_long_as_the_message(caplog: pytest.LogCaptureFixture) -> None:
    body = written(envelope_of("InferenceCompleted.chat-stream") | {"detail-type": ["x" * 100_000]})
    read_batch({"Records": [{"messageId": "m", "body": body}]}, from_sqs_body, Logger(service="poison-read"))
    [line] = [vars(record) for record in caplog.records]
    assert len(line["reason"]) <= 300
