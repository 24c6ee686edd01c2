"""settle_limits against DynamoDB (moto): what was reserved is settled once, however often and in whatever order."""

import importlib
import json
import re
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import boto3
import pytest
from aws_lambda_powertools import Logger
from boto3.dynamodb.types import TypeDeserializer
from botocore.exceptions import ClientError
from hypothesis import given, settings
from hypothesis import strategies as st
from moto.dynamodb.models.dynamo_type import DynamoType
from openai_proxy.events.bus import Bus, NotPublishedError
from openai_proxy.events.envelope import Event
from openai_proxy.events.incoming import from_envelope, from_sqs_body
from openai_proxy.limits import Windows, bucket_day
from openai_proxy.pricing.price_book import PriceBook, load_price_book
from openai_proxy.pricing.rates import EXACT
from settle_limits.consumer import SettleLimits
from settle_limits.price_hints import PriceHints
from settle_limits.settlement import PriceHint, settlement_of
from settle_limits.table import LimitsTable

from tests.costs_fake import Unreliable, cancelled, failure
from tests.fakes import envelope_of
from tests.limits.table import AsBoto3, LimitsItems
from tests.tables import failures, mocked_table

SAMPLES = Path(__file__).parents[3] / "events" / "samples"
TABLE = "limits"
KEY = "5f0c1b9a7d3e"
NOON = int(datetime(2026, 11, 23, 12, tzinfo=UTC).timestamp())
DAY = 86400
ATTEMPTS, MARKER_LIFETIME, HINT_LIFETIME = 8, 32 * DAY, 30 * DAY
LEAST_SECONDS, LEAST_SECONDS_OF_ANSWER, RENEWED_AFTER = 600, 60, DAY
COST = Decimal("0.0003129")
"""Of the sample: 1,830 tokens of input and 64 of output of gpt-4o-mini."""

Item = dict[str, Any]


@pytest.fixture(scope="module")
def prices() -> PriceBook:
    return load_price_book()


@pytest.fixture(autouse=True, scope="module")
def numbers_as_in_dynamodb() -> Iterator[None]:
    """moto 5.2 cannot add to a number that it wrote with an exponent itself, such as 3E-7 or 0E-9."""

    def add(self: DynamoType, other: DynamoType) -> DynamoType:
        return DynamoType({"N": f"{EXACT.add(Decimal(self.value), Decimal(other.value)):f}"})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DynamoType, "__add__", add)
        yield


@pytest.fixture(scope="module")
def aws() -> Iterator[Any]:
    with mocked_table(TABLE, "pk") as client:
        yield client


@pytest.fixture
def client(aws: Any) -> Any:
    """Each test begins with an empty table."""
    empty(aws)
    return aws


def empty(client: Any) -> None:
    for item in client.scan(TableName=TABLE)["Items"]:
        client.delete_item(TableName=TABLE, Key={"pk": item["pk"]})


@dataclass
class RecordingBus:
    """A bus that keeps what it is given, or refuses so many events first."""

    refuses: int = 0
    published: list[Event[Any, Any]] = field(default_factory=list[Event[Any, Any]])

    def publish(self, event: Event[Any, Any]) -> None:
        if self.refuses:
            self.refuses -= 1
            raise NotPublishedError("ThrottlingException")
        self.published.append(event)

    @property
    def told(self) -> list[tuple[str, int]]:
        return [(event.data["period"], event.data["threshold"]) for event in self.published]


@dataclass
class World:
    """A table, and a consumer of it."""

    client: Any
    prices: PriceBook
    bus: RecordingBus = field(default_factory=RecordingBus)
    pauses: list[int] = field(default_factory=list[int])
    now: float = NOON

    def consumer(self, client: Any = None) -> SettleLimits:
        table = LimitsTable(client or self.client, TABLE, self.pauses.append, lambda: self.now)
        logger = Logger(service="test")
        hints = PriceHints(table.write_hint, table.usual_answer, logger, lambda: self.now)
        return SettleLimits(self.prices, table, self.bus, hints, logger, lambda: self.now)

    def settle(self, *records: dict[str, str]) -> list[str]:
        return failures(self.consumer()({"Records": list(records)}))

    def put(self, **attributes: Any) -> None:
        item = {
            name: {"S": value} if isinstance(value, str) else {"N": str(value)} for name, value in attributes.items()
        }
        self.client.put_item(TableName=TABLE, Item={"pk": {"S": f"limits#{KEY}"}, **item})

    def update(self, expression: str, names: Mapping[str, str], values: Mapping[str, Any]) -> None:
        self.client.update_item(
            TableName=TABLE,
            Key={"pk": {"S": f"limits#{KEY}"}},
            UpdateExpression=expression,
            ExpressionAttributeNames={f"#{name}": name for name in re.findall(r"#(\w+)", expression)} | dict(names),
            ExpressionAttributeValues={
                name: {"S": value} if isinstance(value, str) else {"N": str(value)} for name, value in values.items()
            },
        )

    def take(self, at: int, cost: Decimal) -> None:
        """Reserve as the proxy does."""
        windows = Windows.of(at)
        self.update(
            "SET #day = :day, #month = :month ADD #day_cost :cost, #month_cost :cost, #bucket :cost",
            {"#bucket": windows.bucket},
            {":day": windows.day, ":month": windows.month, ":cost": cost},
        )

    def items(self) -> dict[str, Item]:
        read = TypeDeserializer().deserialize
        found = self.client.scan(TableName=TABLE)["Items"]
        return {item["pk"]["S"]: {name: read(value) for name, value in item.items()} for item in found}

    @property
    def counter(self) -> Item:
        return LimitsTable(self.client, TABLE).counter(KEY)

    @property
    def settled(self) -> set[str]:
        return {pk.removeprefix("settled#") for pk in self.items() if pk.startswith("settled#")}


@pytest.fixture
def world(prices: PriceBook) -> World:
    """A table in memory, which knows what DynamoDB refuses."""
    return World(AsBoto3(LimitsItems()), prices)


@pytest.fixture
def moto(client: Any, prices: PriceBook) -> World:
    """A table of moto, which reads expressions as DynamoDB does: slow, so each kind of call is made there once."""
    return World(client, prices)


def event_id(number: int) -> str:
    return f"01M83VWEZ54TFF59TDWH9EDD{number:02}"


def message(number: int = 0, sample: str = "InferenceCompleted.chat-stream", name: str = "", **changes: Any) -> Any:
    """An SQS record with a sample of a key with a budget; `changes` to its limits, model, cache status or usage."""
    envelope = json.loads((SAMPLES / f"{sample}.json").read_text(encoding="utf-8"))
    envelope["detail"]["metadata"]["id"] = event_id(number)
    data = envelope["detail"]["data"]
    data["client"] = {"key_id": KEY, "name": "Web shop", "owner": None, "tags": {"env": "prod"}}
    data["limits"] = {
        "id": KEY,
        "status": "checked",
        "has_budget": True,
        "reserved": {"cost": changes.pop("reserved", "0.01"), "tokens": 900},
        "taken_at": NOON,
        "budget_day": "5",
        "budget_month": "100",
        "currency": "USD",
    }
    for key, value in changes.items():
        match key:
            case "model":
                data["request"]["model"] = data["response"]["model"] = value
            case "cache":
                data["cache"]["status"] = value
            case "input_tokens" | "source":
                data["usage"][key] = value
            case _:
                data["limits"][key] = value
    return {"messageId": name or f"m{number}", "body": json.dumps(envelope)}


# ---------------------------------------------------------------------------------------------------------- settlement


def test_a_reservation_becomes_what_it_cost(moto: World):
    moto.take(NOON, Decimal("0.01"))
    moto.take(NOON, Decimal("0.02"))

    assert moto.settle(message()) == []

    counter = moto.counter
    assert counter["day_spent"] == counter["month_spent"] == COST
    assert counter["day_cost"] == counter["month_cost"] == Decimal("0.02") + COST
    assert counter[Windows.of(NOON).bucket] == Decimal("0.02")
    assert moto.settled == {event_id(0)}
    assert moto.items()[f"settled#{event_id(0)}"]["expires_at"] == NOON + MARKER_LIFETIME
    assert moto.bus.published == []


@pytest.mark.parametrize(
    ("changes", "cost"),
    [
        ({"cache": "HIT"}, "0"),
        ({"source": "none"}, "0"),
        ({"sample": "InferenceThrottled.upstream"}, "0"),
        ({"sample": "InferenceFailed.upstream-unreachable"}, "0"),
        ({"sample": "InferenceCompleted.local-server"}, "0"),
        ({"model": "unheard-of"}, "0.01"),
        ({"source": "missing"}, "0.01"),
        ({"sample": "InferenceCompleted.usage-missing"}, "0.01"),
    ],
    ids=str,
)
def test_what_costs_nothing_is_returned_and_what_is_unknown_is_not(world: World, changes: Any, cost: str):
    world.take(NOON, Decimal("0.01"))

    assert world.settle(message(**changes)) == []

    assert world.counter["day_cost"] == world.counter["month_spent"] == Decimal(cost)
    assert world.counter[Windows.of(NOON).bucket] == 0


def test_a_failed_inference_costs_what_it_used(world: World):
    world.take(NOON, Decimal("0.01"))

    assert world.settle(message(sample="InferenceFailed.broken-off")) == []

    assert 0 < world.counter["day_spent"] == world.counter["day_cost"] < Decimal("0.01")


@pytest.mark.parametrize(
    ("rolled", "expected"),
    [
        ({}, {"day_cost": COST, "day_spent": COST, "month_cost": COST, "month_spent": COST}),
        (
            {"day": "2026-11-24", "day_cost": 3},
            {"day_cost": 3, "day_spent": 0, "month_cost": COST, "month_spent": COST},
        ),
        (
            {"day": "2026-12-01", "month": "2026-12", "day_cost": 3, "month_cost": 4},
            {"day_cost": 3, "day_spent": 0, "month_cost": 4, "month_spent": 0},
        ),
    ],
    ids=["same day", "next day", "next month"],
)
@pytest.mark.parametrize("is_expired", [False, True])
def test_only_the_windows_that_are_still_there_change(moto: World, rolled: Any, expected: Item, is_expired: bool):
    bucket = Windows.of(NOON).bucket
    held = {} if is_expired else {bucket: "0.01"}
    reserved = {"day_cost": 0 if is_expired else "0.01", "month_cost": 0 if is_expired else "0.01"}
    before = {"day": "2026-11-23", "month": "2026-11", **reserved, "day_spent": 0, "month_spent": 0, **rolled}
    numbers = {
        name: Decimal(value) if name not in ("day", "month") else value for name, value in (before | held).items()
    }
    moto.put(**numbers)

    assert moto.settle(message()) == []
    assert moto.settle(message()) == []

    after = moto.counter
    assert {name: after[name] for name in expected} == expected
    assert after.get(bucket, 0) == 0
    assert (bucket in after) != is_expired


def test_of_a_counter_that_is_gone_only_the_marker_is_left(world: World):
    assert world.settle(message()) == []
    assert (world.counter, world.settled, world.pauses) == ({}, {event_id(0)}, [])

    world.take(NOON, Decimal(1))
    assert world.settle(message()) == []
    assert world.counter["day_cost"] == 1


def test_what_could_not_be_reserved_counts_all_the_same(moto: World):
    moto.take(NOON, Decimal(1))
    unchecked = {"status": "unchecked"}

    assert moto.settle(message(0, **unchecked), unreserved(1), unreserved(1)) == []

    assert moto.counter["day_spent"] == 2 * COST
    assert moto.counter["day_cost"] == 1 - Decimal("0.01") + 2 * COST


def unreserved(number: int) -> Any:
    record = message(number)
    envelope = json.loads(record["body"])
    envelope["detail"]["data"]["limits"]["reserved"] = None
    return record | {"body": json.dumps(envelope)}


def test_events_of_keys_without_a_budget_are_none_of_its_business(world: World):
    records = [message(0, has_budget=False), message(1, "ResponseCaptured.chat")]
    without = json.loads(message(2)["body"])
    without["detail"]["data"]["limits"] = None

    assert world.settle(*records, {"messageId": "m2", "body": json.dumps(without)}) == []
    assert world.items() == {}


@pytest.mark.parametrize(
    "bad",
    [
        {"messageId": "bad", "body": "{"},
        {"messageId": "bad", "body": "[]"},
        message(9, name="bad", taken_at=None),
        message(9, name="bad", taken_at=True),
        message(9, name="bad", taken_at=-1),
        message(9, name="bad", taken_at=10**15),
        message(9, name="bad", reserved="-1"),
        message(9, name="bad", reserved="NaN"),
        message(9, name="bad", reserved="1e400"),
        message(9, name="bad", reserved=0.5),
        message(9, name="bad", budget_day="0"),
        message(9, name="bad", currency="EUR"),
        message(9, name="bad", id="a#b"),
        message(9, name="bad", input_tokens=-5),
        message(9, name="bad", input_tokens="5"),
        message(9, name="bad", source="guessed"),
    ],
    ids=lambda record: record["body"][:4] if len(record["body"]) < 5 else None,
)
def test_a_malformed_message_fails_alone(world: World, bad: Any):
    world.take(NOON, Decimal("0.01"))

    assert world.settle(bad, message()) == ["bad"]
    assert world.settled == {event_id(0)}
    assert world.counter["day_cost"] == COST


def test_many_of_one_key_are_settled_in_few_transactions(moto: World):
    for _ in range(50):
        moto.take(NOON, Decimal("0.01"))
    counting = Unreliable(moto.client)

    records = [message(number) for number in range(50)]
    assert failures(moto.consumer(counting)({"Records": records})) == []
    assert counting.calls == 1
    assert moto.counter["day_cost"] == 50 * COST
    assert len(moto.settled) == 50


# ------------------------------------------------------------------------------------------------- others are faster


@pytest.mark.parametrize(
    "error",
    [cancelled("None", "TransactionConflict"), cancelled("ThrottlingError", "None"), failure("ThrottlingException")],
    ids=["conflict", "throttled item", "throttled call"],
)
def test_a_transaction_that_lost_against_a_request_is_tried_again(world: World, error: ClientError):
    world.take(NOON, Decimal("0.01"))
    unreliable = Unreliable(world.client, error, error)

    assert failures(world.consumer(unreliable)({"Records": [message()]})) == []
    assert (unreliable.calls, world.pauses) == (3, [1, 2])
    assert world.counter["day_cost"] == COST


def test_after_a_bounded_number_of_tries_the_messages_come_again(world: World):
    world.take(NOON, Decimal("0.01"))
    conflicts = Unreliable(world.client, *(cancelled("None", "TransactionConflict") for _ in range(ATTEMPTS)))

    twice = [message(name="a"), message(name="b")]
    assert failures(world.consumer(conflicts)({"Records": twice})) == ["a", "b"]
    assert (conflicts.calls, len(world.pauses)) == (ATTEMPTS, ATTEMPTS - 1)
    assert world.settled == set()

    assert world.settle(*twice) == []
    assert world.counter["day_cost"] == COST


def test_a_transaction_whose_answer_was_lost_settles_once(world: World):
    world.take(NOON, Decimal("0.01"))

    assert failures(world.consumer(Unreliable(world.client, "lost"))({"Records": [message()]})) == []
    assert world.counter["day_cost"] == COST


class RefusesId(Unreliable):
    """Refuses every transaction with this event, and says which item it was, or does not."""

    def __init__(self, client: Any, refused: str, says_which: bool) -> None:
        super().__init__(client)
        self._refused = refused
        self._says_which = says_which

    def transact_write_items(self, **request: Any) -> Any:
        hits = [self._refused in json.dumps(item) for item in request["TransactItems"]]
        if any(hits):
            codes = ("ValidationError" if hit else "None" for hit in hits)
            raise cancelled(*codes) if self._says_which else failure("ValidationException")
        return super().transact_write_items(**request)


@pytest.mark.parametrize("says_which", [True, False], ids=["named", "unnamed"])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_what_the_table_refuses_fails_alone(prices: PriceBook, count: int, says_which: bool):
    world = World(AsBoto3(LimitsItems()), prices)
    for _ in range(count):
        world.take(NOON, Decimal("0.01"))
    refusing = RefusesId(world.client, event_id(0), says_which)

    assert failures(world.consumer(refusing)({"Records": [message(n) for n in range(count)]})) == ["m0"]
    assert len(world.settled) == count - 1
    assert world.counter["day_cost"] == Decimal("0.01") + (count - 1) * COST


def test_no_access_is_not_taken_for_a_fault_of_the_messages(world: World):
    denied = Unreliable(world.client, failure("AccessDeniedException"))

    with pytest.raises(ClientError, match="AccessDenied"):
        world.consumer(denied)({"Records": [message()]})


class Atomic:
    """A client one call at a time: a transaction of moto is not atomic among threads, one of DynamoDB is."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._lock = threading.Lock()

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._client, name)

        def call(**request: Any) -> Any:
            with self._lock:
                return attribute(**request)

        return call if callable(attribute) else attribute


def test_consumers_that_get_the_same_events_at_once_settle_them_once(moto: World):
    for number in range(12):
        moto.take(NOON + 900 * (number % 4), Decimal("0.01"))
    records = [message(number, taken_at=NOON + 900 * (number % 4)) for number in range(12)]
    shared = Atomic(moto.client)
    start = threading.Barrier(4)
    failed: list[str] = []

    def run(offset: int) -> None:
        consumer = moto.consumer(shared)
        start.wait(timeout=20)
        for place in range(0, 12, 4):
            begin = (place + offset) % 12
            failed.extend(failures(consumer({"Records": (records + records)[begin : begin + 6]})))

    threads = [threading.Thread(target=run, args=(offset,)) for offset in (0, 1, 5, 10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)

    assert failed == []
    counter = moto.counter
    assert counter["day_cost"] == counter["day_spent"] == counter["month_spent"] == 12 * COST
    assert [value for name, value in counter.items() if bucket_day(name)] == [0] * 4


# ------------------------------------------------------------------------------------------------------ any deliveries

KINDS: list[dict[str, Any]] = [
    {},
    {"input_tokens": 7},
    {"input_tokens": 999_999_999},
    {"sample": "InferenceFailed.broken-off"},
    {"sample": "InferenceThrottled.upstream"},
    {"cache": "HIT"},
    {"model": "unheard-of"},
]
TAKEN = [NOON + 900 * quarter for quarter in range(3)] + [NOON + DAY, NOON + 10 * DAY]

Step = tuple[str, list[int]]
deliveries = st.tuples(st.just("deliver"), st.lists(st.integers(0, 5), min_size=1, max_size=6))
happenings = st.sampled_from([("expire", [0]), ("expire", [1]), ("roll", [1]), ("roll", [8])])
inferences = st.lists(
    st.tuples(st.sampled_from(KINDS), st.sampled_from(TAKEN), st.decimals("0", "3", places=9)), min_size=6, max_size=6
)


@settings(max_examples=12)
@given(
    inferences=inferences,
    steps=st.lists(st.one_of(deliveries, deliveries, happenings), max_size=10),
    lost=st.sets(st.integers(0, 12)),
)
def test_any_deliveries_give_the_same_counter(
    prices: PriceBook, inferences: list[Any], steps: list[Step], lost: set[int]
):
    client = AsBoto3(LimitsItems())
    world = World(client, prices)
    unreliable = Unreliable(client, *("lost" if call in lost else "ok" for call in range(13)))
    consumer = world.consumer(unreliable)
    records: list[Any] = []
    for number, (kind, taken_at, reserved) in enumerate(sorted(inferences, key=lambda each: each[1])):
        take_rolling(world, taken_at, reserved)
        records.append(message(number, reserved=f"{reserved:f}", taken_at=taken_at, **kind))
    model = Model(world)

    for name, numbers in [*steps, ("deliver", [0, 1, 2]), ("deliver", [2, 3]), ("deliver", [5, 4])]:
        if name == "deliver":
            batch = [records[number] for number in numbers]
            assert failures(consumer({"Records": batch})) == []
            model.deliver(batch, prices)
        elif name == "expire":
            expire(world, numbers[0])
        else:
            roll(world, numbers[0] * DAY + TAKEN[-1])
            model.roll(world)
        check(world.counter)
    assert world.settled == {event_id(number) for number in range(6)}
    counter = world.counter
    assert all(value == 0 for name, value in counter.items() if bucket_day(name))
    assert {name: counter[name] for name in model.spent} == model.spent
    assert (counter["day_cost"], counter["month_cost"]) == (counter["day_spent"], counter["month_spent"])


def check(counter: Item) -> None:
    """A window holds what was spent in it, and what is reserved and neither settled nor expired."""
    reserved = {name: value for name, value in counter.items() if bucket_day(name)}
    for period in ("day", "month"):
        of_it = [value for name, value in reserved.items() if (bucket_day(name) or "").startswith(counter[period])]
        assert counter[f"{period}_cost"] == counter[f"{period}_spent"] + sum(of_it)


@dataclass
class Model:
    """What the counter must say, reckoned in plain sums."""

    world: World
    settled: set[str] = field(default_factory=set[str])
    spent: dict[str, Decimal] = field(default_factory=lambda: {"day_spent": Decimal(0), "month_spent": Decimal(0)})

    def deliver(self, batch: list[Any], prices: PriceBook) -> None:
        counter = self.world.counter
        for record in batch:
            settlement = settlement_of(from_sqs_body(record["body"]), prices)
            assert settlement
            if settlement.event_id in self.settled:
                continue
            self.settled.add(settlement.event_id)
            if settlement.windows.day == counter["day"]:
                self.spent["day_spent"] += settlement.actual
            if settlement.windows.month == counter["month"]:
                self.spent["month_spent"] += settlement.actual

    def roll(self, world: World) -> None:
        counter = world.counter
        self.spent = {name: counter[name] for name in self.spent}


def take_rolling(world: World, at: int, cost: Decimal) -> None:
    roll(world, at)
    world.take(at, cost)


def roll(world: World, at: int) -> None:
    """Begin the windows of `at` as the proxy does, when they are new."""
    windows, counter = Windows.of(at), world.counter
    for period in ("day", "month"):
        start = windows.day if period == "day" else windows.month
        if start > counter.get(period, ""):
            world.update(
                f"SET #{period} = :start, #{period}_cost = :zero, #{period}_spent = :zero, #told_{period} = :zero",
                {},
                {":start": start, ":zero": 0},
            )


def expire(world: World, place: int) -> None:
    """Return a bucket as the proxy does."""
    counter = world.counter
    names = sorted(name for name in counter if bucket_day(name))
    if place >= len(names):
        return
    name, amount = names[place], counter[names[place]]
    day = bucket_day(name) or ""
    is_day, is_month = day == counter["day"], day[:7] == counter["month"]
    world.update(
        "ADD #day_cost :day, #month_cost :month REMOVE #bucket",
        {"#bucket": name},
        {":day": -amount if is_day else 0, ":month": -amount if is_month else 0},
    )


# ---------------------------------------------------------------------------------------------------------- thresholds


def spend(world: World, day: str, month: str | None = None, **more: Any) -> None:
    world.put(
        day="2026-11-23",
        month="2026-11",
        day_cost=Decimal(day),
        day_spent=Decimal(day),
        month_cost=Decimal(month or day),
        month_spent=Decimal(month or day),
        **more,
    )


@pytest.mark.parametrize(
    ("before", "told"),
    [
        ("2.4996", []),
        ("2.4997", [("day", 50)]),
        ("3.9997", [("day", 80)]),
        ("4.9997", [("day", 100)]),
        ("70", [("day", 100), ("month", 50)]),
    ],
)
def test_of_the_thresholds_that_were_crossed_the_highest_is_told(world: World, before: str, told: Any):
    spend(world, before)

    assert world.settle(message(0)) == []
    assert world.bus.told == told
    assert world.settle(message(0), message(0)) == []
    assert world.bus.told == told


def test_each_threshold_is_told_in_turn(moto: World):
    spend(moto, "2.5", "1")
    for number, day in enumerate(("2.5", "4", "4.5", "5", "6")):
        moto.update("SET #day_spent = :day", {}, {":day": Decimal(day)})
        assert moto.settle(message(number)) == []

    assert moto.bus.told == [("day", 50), ("day", 80), ("day", 100)]
    assert moto.counter["told_day"] == 100
    assert moto.counter["told_day_budget"] == 5


def test_a_threshold_says_what_it_is_about(world: World):
    spend(world, "4", "4")

    world.settle(message(3))

    [event] = world.bus.published
    assert (event.detail_type, event.client_id, event.request_id) == ("BudgetThresholdReached", "web-shop", event_id(3))
    assert event.timestamp == "2026-11-23T12:00:00.000Z"
    assert event.data == {
        "client": {"key_id": KEY, "name": "Web shop", "owner": None, "tags": {"env": "prod"}},
        "limits": {"id": KEY},
        "period": "day",
        "period_start": "2026-11-23",
        "threshold": 80,
        "budget": "5",
        "spent": f"{4 + COST}",
        "currency": "USD",
    }


def signed_in(end_user: Any, **changes: Any) -> Any:
    """As `message`, of somebody who has signed in."""
    record = message(**changes)
    envelope = json.loads(record["body"])
    data = envelope["detail"]["data"]
    data["client"]["key_id"], data["end_user"] = data["limits"]["id"], end_user
    return record | {"body": json.dumps(envelope)}


def test_whoever_has_signed_in_is_named_where_the_budget_is_their_own(world: World):
    user = "31103d5cd17dd8b5e2a856920276585b"
    counted = {"day": {"S": "2026-11-23"}, "month": {"S": "2026-11"}, "day_spent": {"N": "2.5"}}
    world.client.put_item(TableName=TABLE, Item={"pk": {"S": f"limits#{user}"}, **counted})
    assert world.settle(signed_in("auth0|ada", id=user)) == []
    [event] = world.bus.published
    assert (event.data["end_user"], event.data["limits"], event.data["threshold"]) == ("auth0|ada", {"id": user}, 50)

    spend(world, "4", "4")
    assert world.settle(signed_in("a pseudonym of the body's user", number=1)) == []
    assert "end_user" not in world.bus.published[1].data, "the budget is the key's"
    assert world.settle(signed_in(7, number=2, id=user)) == ["m2"]
    assert world.settle(signed_in(None, number=3, id=user)) == []


def test_a_new_period_or_a_changed_budget_begins_anew(world: World):
    spend(world, "4.9", told_day=80, told_day_budget=5)
    assert world.settle(message(0)) == []
    assert world.bus.told == []

    assert world.settle(message(1, budget_day="10"), message(2, budget_day="9.5")) == []
    assert world.bus.told == [("day", 50)], "the budget of the latest request is the one that holds"
    assert world.counter["told_day_budget"] == Decimal("9.5")

    roll(world, NOON + DAY)
    world.update("SET #day_spent = :half", {}, {":half": Decimal(5)})
    assert world.settle(message(3, taken_at=NOON + DAY, budget_day="9.5")) == []
    assert world.bus.told == [("day", 50)] * 2


def test_a_period_that_is_over_is_not_spoken_of(world: World):
    world.put(day="2026-11-24", month="2026-11", day_cost=9, day_spent=9, month_cost=9, month_spent=9)

    assert world.settle(message()) == []
    assert world.bus.told == []


def test_what_is_only_reserved_reaches_no_threshold(world: World):
    world.take(NOON, Decimal(80))

    assert world.settle(message(reserved="40")) == []
    assert world.bus.told == []


def test_a_threshold_that_was_not_published_is_not_lost(world: World):
    spend(world, "70")
    world.bus.refuses = 1

    assert world.settle(message(0), message(1), message(2)) == ["m2"]
    assert world.bus.told == []
    assert "told_day" not in world.counter
    spent = world.counter["day_spent"]

    assert world.settle(message(2)) == []
    assert world.bus.told == [("day", 100), ("month", 50)]
    assert world.counter["day_spent"] == spent


class ForgetsOnce(Unreliable):
    """Its first update fails after the event has been published."""

    forgets = True

    def update_item(self, **request: Any) -> Any:
        if self.forgets:
            self.forgets = False
            raise failure("InternalServerError")
        return self._client.update_item(**request)


def test_a_threshold_that_is_told_twice_has_one_id(world: World):
    spend(world, "2.5", "1")
    consumer = world.consumer(ForgetsOnce(world.client))

    assert failures(consumer({"Records": [message(0)]})) == ["m0"]
    assert failures(consumer({"Records": [message(0)]})) == []
    assert failures(consumer({"Records": [message(1)]})) == []

    first, second = world.bus.published
    assert first.id == second.id
    assert world.bus.told == [("day", 50)] * 2


def test_a_lower_threshold_does_not_undo_a_higher_one(world: World):
    spend(world, "2.5", "1")
    table = LimitsTable(world.client, TABLE)

    class Overtaken(RecordingBus):
        def publish(self, event: Event[Any, Any]) -> None:
            super().publish(event)
            world.update("SET #told_day = :t, #told_day_budget = :b", {}, {":t": 100, ":b": 5})

    world.bus = Overtaken()
    assert world.settle(message(0)) == []
    assert world.bus.told == [("day", 50)]
    assert table.counter(KEY)["told_day"] == 100


@dataclass
class Answering:
    """EventBridge that answers every entry with `result`."""

    result: dict[str, str]
    entries: list[Any] = field(default_factory=list[Any])

    def put_events(self, *, Entries: list[Any]) -> Any:  # noqa: N803 - its name
        self.entries += Entries
        return {"FailedEntryCount": int("ErrorCode" in self.result), "Entries": [self.result]}


def test_an_event_is_put_on_the_bus_as_it_is():
    answering: Any = Answering({"EventId": "1"})
    Bus(answering, "bus").publish(threshold())

    [entry] = answering.entries
    assert entry["EventBusName"] == "bus"
    assert from_envelope(envelope_of(entry)) == threshold()


@pytest.mark.parametrize(
    ("result", "why"),
    [
        ({"ErrorCode": "InternalFailure"}, "^InternalFailure$"),
        ({"EventId": "1", "ErrorCode": "InternalFailure"}, "^InternalFailure$"),
        ({"EventId": 1}, "^the bus did not say that it has the event$"),
        ({}, "^the bus did not say that it has the event$"),
    ],
)
def test_an_event_that_the_bus_does_not_take_raises(result: Any, why: str):
    refusing: Any = Answering(result)

    with pytest.raises(NotPublishedError, match=why):
        Bus(refusing, "bus").publish(threshold())


def threshold() -> Event[Any, Any]:
    return from_sqs_body((SAMPLES / "BudgetThresholdReached.day-80.json").read_text(encoding="utf-8"))


# --------------------------------------------------------------------------------------------------------- price hints


def hints(world: World) -> dict[str, Item]:
    return {pk: item for pk, item in world.items().items() if pk.startswith("price#")}


def test_the_proxy_is_told_the_price_of_what_was_priced(moto: World):
    records = [
        message(0),
        message(1, "InferenceCompleted.embeddings"),
        message(2, "InferenceCompleted.local-server"),
        message(3, cache="HIT", model="gpt-4o"),
        message(4, model="unheard-of"),
        message(5, source="none", model="gpt-4.1"),
    ]

    assert moto.settle(*records) == []

    expires_at = NOON + HINT_LIFETIME
    chat = {"input": Decimal("0.00000015"), "output": Decimal("0.0000006"), "answer": 64, "expires_at": expires_at}
    found = hints(moto)
    assert found.pop("price#openai#gpt-4o-mini") == {"pk": "price#openai#gpt-4o-mini", **chat}
    assert sorted(item["output"] for item in found.values()) == [0, 0]
    assert sorted(item["input"] > 0 for item in found.values()) == [False, True]


@pytest.mark.parametrize(("known", "answer"), [("100", 98), ("10", 37), ("0", 64), (None, 64)])
def test_what_was_known_of_answers_goes_on_in_another_sandbox(prices: PriceBook, known: str | None, answer: int):
    table = LimitsItems()
    if known:
        pk = "price#openai#gpt-4o-mini"
        table.items[pk] = {"pk": {"S": pk}, "answer": {"N": known}}
    world = World(AsBoto3(table), prices)
    assert world.settle(message(0)) == []
    assert hints(world)["price#openai#gpt-4o-mini"]["answer"] == answer


def test_a_hint_is_written_when_it_is_new_and_not_too_often(client: Any):
    written: list[PriceHint] = []
    now = [float(NOON)]
    learner = PriceHints(written.append, lambda _: None, Logger(service="test"), lambda: now[0])
    old, new = (PriceHint("openai", "m", Decimal(price), Decimal(1)) for price in (1, 2))

    learner.learn([old, old])
    learner.learn([old])
    assert written == [old]
    learner.learn([new])
    assert written == [old]
    now[0] += LEAST_SECONDS - 1
    learner.learn([old, new])
    assert written == [old]
    now[0] += 1
    learner.learn([old, new])
    assert written == [old, new]
    now[0] += RENEWED_AFTER - 1
    learner.learn([new])
    assert written == [old, new]
    now[0] += 1
    learner.learn([new])
    assert written == [old, new, new]


def test_what_an_answer_usually_has_is_learned_from_all_of_them(client: Any):
    written: list[PriceHint] = []
    now = [float(NOON)]
    learner = PriceHints(written.append, lambda _: 100, Logger(service="test"), lambda: now[0])

    def settled(answer: int | None) -> list[int | None]:
        now[0] += LEAST_SECONDS_OF_ANSWER
        learner.learn([PriceHint("openai", "m", Decimal(1), Decimal(2), answer)])
        return [hint.answer for hint in written]

    assert settled(None) == [100], "what was known before"
    assert settled(120) == [100], "hardly another"
    assert settled(300) == [100, 205], "half of the way up"
    assert settled(5) == [100, 205], "a short one says little"
    for _ in range(30):
        settled(5)
    assert [hint.answer for hint in written][-1] in range(40, 80)


@pytest.mark.parametrize("known", [None, 100])
def test_a_usual_answer_is_told_when_it_is_longer_by_more_than_half(known: int | None):
    written: list[int | None] = []
    now = [float(NOON)]
    learner = PriceHints(
        lambda hint: written.append(hint.answer), lambda _: known, Logger(service="test"), lambda: now[0]
    )
    for answer in (None, None, 200, 200, 152, 151, 151) if known else (None, None, 1, 1, 2, 2):
        now[0] += LEAST_SECONDS_OF_ANSWER
        learner.learn([PriceHint("openai", "m", Decimal(1), Decimal(2), answer)])
    # Half of the way up each time: 150 and 175 of 100, 1.5 of 1.
    assert written == ([100, 175] if known else [None, 1, 2])


def test_a_hint_that_cannot_be_written_costs_no_settlement(world: World):
    class Full(Unreliable):
        def put_item(self, **_: Any) -> Any:
            raise failure("ThrottlingException")

    world.take(NOON, Decimal("0.01"))
    assert failures(world.consumer(Full(world.client))({"Records": [message()]})) == []
    assert world.counter["day_cost"] == COST
    assert hints(world) == {}


# ------------------------------------------------------------------------------------------------------------- handler


def test_the_handler_is_put_together(moto: World, monkeypatch: pytest.MonkeyPatch):
    events: Any = boto3.client("events")  # pyright: ignore[reportUnknownMemberType]
    events.create_event_bus(Name="bus")
    monkeypatch.setenv("LIMITS_TABLE", TABLE)
    monkeypatch.setenv("EVENT_BUS_NAME", "bus")
    spend(moto, "3")
    try:
        handler = importlib.import_module("settle_limits.handler").handler
        assert handler({"Records": [message()]}, None) == {"batchItemFailures": []}
    finally:
        sys.modules.pop("settle_limits.handler", None)

    assert moto.counter["told_day"] == 50
    assert moto.settled == {event_id(0)}
