"""The proxy takes and settle_limits settles, on one table (moto): what is reserved and not settled comes to nothing."""

import itertools
import json
import time
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from aws_lambda_powertools import Logger
from botocore.exceptions import ClientError
from moto.dynamodb.models.dynamo_type import DynamoType
from openai_proxy.events.envelope import Event
from openai_proxy.limits import bucket_day
from openai_proxy.pricing.price_book import parse_price_book
from openai_proxy.pricing.rates import EXACT
from proxy.limits.counters import TableAccess
from proxy.limits.table import LimitsTable as TakingTable
from settle_limits.consumer import SettleLimits
from settle_limits.price_hints import PriceHints
from settle_limits.table import LimitsTable

from tests.fakes import Connection, Received, RecordedResponse
from tests.relays import USAGE, Proxy, proxy
from tests.tables import failures, mocked_table

NOON = 1_795_435_200  # 2026-11-23 12:00:00 UTC
KEY, OTHER = "0123456789ab", "ffffffffffff"
CONTEXT = {"client_name": "Chat", "key_id": KEY, "limits_id": KEY, "budget_day": "0.01", "budget_month": "1"}
PRICES = """
servers:
  up:
    models:
      real-model: {input: 10, output: 100, units: {search: "0.002", page: "0.001", web_search: "0.01"},
                   tiers: {batch: {input: 5, output: 50}}}
      other-model: {input: 1, output: 1, tiers: {batch: {input: "0.5", output: "0.5"}}}
"""
CAREFULLY = 9 * Decimal("0.00001") + 3 * Decimal("0.00004")
"""The same answer by the prices that hold as long as no hint is there."""
COST = 9 * Decimal("0.00001") + 3 * Decimal("0.0001")
CHAT = {"model": "m", "messages": [{"role": "user", "content": "x" * 36}], "max_tokens": 87}
"""13 tokens of prompt and 87 allowed for the answer."""


@pytest.fixture(autouse=True)
def numbers_as_in_dynamodb(monkeypatch: pytest.MonkeyPatch) -> None:
    """moto 5.2 cannot add to a number that it wrote with an exponent itself, such as 3E-7 or 0E-9."""

    def add(self: DynamoType, other: DynamoType) -> DynamoType:
        return DynamoType({"N": f"{EXACT.add(Decimal(self.value), Decimal(other.value)):f}"})

    monkeypatch.setattr(DynamoType, "__add__", add)


class Aws:
    """DynamoDB as the proxy's client of AWS shows it."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def update_item(self, arguments: dict[str, Any], _timeout: float) -> tuple[bool, Any]:
        try:
            return True, self._client.update_item(**arguments).get("Attributes")
        except ClientError as error:
            answer: Any = error.response
            assert answer["Error"]["Code"] == "ConditionalCheckFailedException"
            return False, answer.get("Item")

    def get_item(self, arguments: dict[str, Any], _timeout: float) -> Any:
        return self._client.get_item(**arguments).get("Item") or {}


class Bus:
    """Keeps what is told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, int]] = []

    def publish(self, event: Event[Any, Any]) -> None:
        self.told.append((event.data["period"], event.data["threshold"]))


class World:
    """A proxy and a consumer that share a table and a clock."""

    def __init__(self, relay: Proxy, client: Any) -> None:
        self.now = float(NOON)
        self.bus = Bus()
        self._relay = relay
        aws: Any = Aws(client)
        relay.use(limits=TakingTable(TableAccess(aws, "limits", lambda: self.now, timeout=60.0), "open"))
        self.table = LimitsTable(client, "limits", clock=lambda: self.now)
        logger = Logger(service="test")
        hints = PriceHints(self.table.write_hint, self.table.usual_answer, logger, lambda: self.now)
        self._consumer = SettleLimits(parse_price_book(PRICES), self.table, self.bus, hints, logger, lambda: self.now)

    def call(self, path: str = "chat/completions", method: str = "POST", body: object = CHAT) -> RecordedResponse:
        return self._relay.call(body if method == "POST" else None, path=f"/up/v1/{path}", method=method)

    def settle(self) -> None:
        """Deliver every event so far, each twice."""
        entries = [{"detail-type": name, "detail": detail} for name, detail in self._relay.bus.details]
        records = [{"messageId": str(n), "body": json.dumps(entry)} for n, entry in enumerate(entries * 2)]
        assert failures(self._consumer({"Records": records})) == []

    @property
    def counter(self) -> dict[str, Any]:
        return self.table.counter(KEY)

    @property
    def reserved(self) -> Decimal:
        return sum((value for name, value in self.counter.items() if bucket_day(name)), Decimal(0))


def answering(connection: Connection, _: Received) -> None:
    connection.answer(json.dumps({"usage": USAGE, "model": "real-model"}).encode())


@pytest.fixture
def world() -> Iterator[World]:
    with mocked_table("limits", "pk") as client, proxy(answering, CONTEXT) as (relay, _):
        yield World(relay, client)


def answering_as_told(connection: Connection, request: Received) -> None:
    connection.answer(json.loads(request.body)["answer"].encode())


MESSAGE: dict[str, Any] = {"type": "message", "model": "real-model", "content": [], "stop_reason": "end_turn"}
WRITTEN = {"ephemeral_5m_input_tokens": 10, "ephemeral_1h_input_tokens": 20}
IN_ANTHROPICS_FORM = {"input_tokens": 70, "cache_creation_input_tokens": 30, "cache_creation": WRITTEN}
SEARCHED = {"server_tool_use": {"web_search_requests": 2}}


@pytest.mark.parametrize(
    ("path", "answer", "cost"),
    [
        (
            "messages",
            MESSAGE | {"usage": {"input_tokens": 90, "output_tokens": 9, "cache_read_input_tokens": 10}},
            "0.0019",
        ),
        ("messages", MESSAGE | {"usage": IN_ANTHROPICS_FORM | {"output_tokens": 9} | SEARCHED}, "0.0219"),
        ("rerank", {"model": "real-model", "meta": {"billed_units": {"search_units": 3}}}, "0.006"),
        ("ocr", {"model": "real-model", "pages": [], "usage_info": {"pages_processed": 7}}, "0.007"),
        ("some/other/path", {"model": "real-model", "usage": {"input_tokens": 100, "output_tokens": 9}}, "0.0019"),
        ("conversations", {"model": "real-model", "usage": {"prompt_tokens": 100, "completion_tokens": 9}}, "0.0019"),
        ("files", {"id": "file-1", "usage": {"input_tokens": 100, "output_tokens": 9}}, "0"),
        ("messages/count_tokens", {"input_tokens": 100}, "0"),
    ],
)
def test_a_budget_counts_whatever_path_was_asked(path: str, answer: dict[str, Any], cost: str):
    with mocked_table("limits", "pk") as client, proxy(answering_as_told, CONTEXT) as (relay, _):
        world = World(relay, client)
        assert world.call(path, body=CHAT | {"answer": json.dumps(answer)}).status == 200
        world.settle()
        assert (world.counter.get("day_spent", 0), world.reserved) == (Decimal(cost), 0)


def lines(*models: str) -> bytes:
    used = {"prompt_tokens": 100, "completion_tokens": 10}
    answers = [{"status_code": 200, "body": {"model": model, "usage": used}} for model in models]
    return b"\n".join(json.dumps({"custom_id": str(n), "response": each}).encode() for n, each in enumerate(answers))


@pytest.mark.parametrize(
    "order", sorted(set(itertools.permutations(["batches/b", "files/f/content", "files/f/content"])))
)
def test_a_batch_is_in_a_budget_once_whoever_is_told_what_it_cost_and_however_often(order: tuple[str, ...]):
    used = {"input_tokens": 100, "output_tokens": 10}
    batch = {"id": "b", "object": "batch", "status": "completed", "request_counts": {"completed": 1}, "usage": used}
    batch |= {"model": "real-model", "output_file_id": "f", "created_at": int(time.time()) - 60}

    def script(connection: Connection, request: Received) -> None:
        connection.answer(json.dumps(batch).encode() if "batches" in request.target else lines("real-model"))

    other = CONTEXT | {"key_id": OTHER, "limits_id": OTHER}
    with mocked_table("limits", "pk") as client, proxy(script, CONTEXT) as (one, _), proxy(script, other) as (two, _):
        for relay, path in zip((one, two, two), order, strict=True):
            world = World(relay, client)
            assert world.call(path, "GET").status == 200
            world.settle()
            assert world.reserved == 0
        table = World(one, client).table
        assert table.counter(KEY)["day_spent"] == Decimal("0.001")
        assert table.counter(OTHER).get("day_spent", 0) == 0


def test_a_batch_of_several_models_may_end_a_budget():
    def script(connection: Connection, _: Received) -> None:
        connection.answer(lines(*["real-model"] * 12, "other-model", "unlisted"))

    with mocked_table("limits", "pk") as client, proxy(script, CONTEXT) as (relay, _):
        world = World(relay, client)
        assert world.call("messages/batches/m/results", "GET").status == 200
        world.settle()
        assert world.counter["day_spent"] == 12 * Decimal("0.001") + Decimal("0.000055")
        assert world.call().status == 429


def test_what_is_reserved_becomes_what_it_cost(world: World):
    assert world.call().status == 200
    assert world.reserved == world.counter["day_cost"] == CAREFULLY

    world.settle()

    counter = world.counter
    assert world.reserved == 0
    assert counter["day_cost"] == counter["day_spent"] == counter["month_cost"] == counter["month_spent"] == COST


def test_the_next_reservation_knows_the_price(world: World):
    world.call()
    world.settle()
    world.now += 60  # the proxy looks again for a price that it did not find

    world.call()

    assert world.reserved == COST


def test_requests_are_refused_when_the_budget_is_spent_and_the_owner_is_told(world: World):
    statuses: list[int] = []
    for _ in range(40):
        statuses.append(world.call().status)
        world.settle()
        world.now += 60

    spent = world.counter["day_spent"]
    passed = statuses.count(200)
    assert statuses == [200] * passed + [429] * (40 - passed)
    assert spent == passed * COST
    assert spent - COST < Decimal("0.01") <= spent
    assert world.reserved == 0
    assert world.bus.told == [("day", 50), ("day", 80), ("day", 100)]

    world.now += 12 * 3600
    assert world.call().status == 200
    assert world.counter["day_spent"] == 0
    world.settle()
    assert (world.counter["day_spent"], world.counter["month_spent"]) == (COST, (passed + 1) * COST)


@pytest.mark.parametrize("later", [46 * 60, 13 * 3600], ids=["same day", "next day"])
def test_what_nobody_settles_in_time_is_returned_and_settled_late_all_the_same(world: World, later: int):
    world.call()
    world.now += later
    world.call()

    second = world.counter
    assert second["day_cost"] == world.reserved
    assert len([name for name in second if bucket_day(name)]) == 1

    world.settle()
    assert world.reserved == 0
    assert world.counter["month_cost"] == world.counter["month_spent"] == 2 * COST
    assert world.counter["day_cost"] == world.counter["day_spent"] == (2 * COST if later < 12 * 3600 else COST)
