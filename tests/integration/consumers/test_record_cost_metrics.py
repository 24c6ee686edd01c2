"""The metrics of record_cost: what the ledger has for the first time, once, and never at the cost of an entry."""

from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from itertools import pairwise
from typing import Any

import pytest
from aws_lambda_powertools import Logger
from botocore.exceptions import ClientError, EndpointConnectionError
from hypothesis import given
from hypothesis import strategies as st
from openai_proxy.events.ulid import new_ulid
from openai_proxy.ledger.table import CostsTable
from openai_proxy.pricing.price_book import parse_price_book
from record_cost.consumer import RecordCost

from tests.costs_fake import FakeCostsTable, cancelled
from tests.integration.consumers.test_record_cost import TABLE, batch, message, stored
from tests.tables import failures

NOW = datetime(2026, 11, 23, 10, tzinfo=UTC).timestamp()
PRICES = parse_price_book(
    "servers: {openai: {models: {gpt-4o-mini-*: {input: 0.15, output: 0.6}}}, ollama: {free: true}}"
)
Dimensions = tuple[tuple[str, str], ...]


class Metrics:
    """Sums by metric and dimensions; refuses everything with `error`."""

    def __init__(self, error: Exception | None = None) -> None:
        self.sums: dict[tuple[str, Dimensions], Decimal] = {}
        self.calls = 0
        self._error = error

    def put(self, data: Sequence[Any]) -> None:
        self.calls += 1
        if self._error:
            raise self._error
        for datum in data:
            key = datum["MetricName"], tuple((each["Name"], each["Value"]) for each in datum["Dimensions"])
            for value, count in zip(datum["Values"], datum["Counts"], strict=True):
                self.sums[key] = self.sums.get(key, Decimal(0)) + Decimal(str(value)) * count


class Lake:
    """Takes nothing."""

    def put(self, entries: Any) -> dict[tuple[str, str], str]:
        return {entry.key: "Firehose: busy" for entry in entries}

    def put_again(self, items: Any) -> dict[tuple[str, str], str]:
        return {(item["pk"], item["sk"]): "Firehose: busy" for item in items}


def consumer(
    metrics: Metrics, table: FakeCostsTable | None = None, lake: Lake | None = None, now: float = NOW
) -> RecordCost:
    client: Any = table or FakeCostsTable()
    ledger = CostsTable(client, TABLE, pause=lambda _: None)
    return RecordCost(PRICES, ledger, Logger(service="test"), lake, metrics, clock=lambda: now)


OPENAI = (("Server", "openai"),)
MINI = (*OPENAI, ("Model", "gpt-4o-mini-2024-07-18"))
COST = Decimal("0.0003129")


def test_what_was_recorded_is_measured():
    metrics = Metrics()
    records = [
        message("InferenceCompleted.chat-stream"),
        message("InferenceCompleted.cache-hit"),
        message("InferenceCompleted.local-server"),  # free
        message("InferenceCompleted.models-list"),  # used nothing
        message("InferenceCompleted.embeddings"),  # without a price
    ]

    assert failures(consumer(metrics)(batch(*records))) == []

    assert metrics.calls == 1
    assert metrics.sums[("EventsRecorded", (("Consumer", "record_cost"),))] == 5
    costs = {key[1]: value for key, value in metrics.sums.items() if key[0] == "Cost"}
    assert costs[()] == costs[OPENAI] == costs[MINI] == COST
    assert costs[(("Server", "ollama"),)] == 0
    assert len(costs) == 5  # all, two servers, two models
    assert metrics.sums[("CacheSavings", OPENAI)] == Decimal("0.000036")
    assert metrics.sums[("Unpriced", ())] == metrics.sums[("Unpriced", OPENAI)] == 1


def test_an_answer_with_pieces_without_a_price_is_unpriced_in_part():
    metrics = Metrics()
    record = message("InferenceCompleted.chat-stream")
    record["body"] = record["body"].replace('"units": {}', '"units": {"unheard": 2}')

    consumer(metrics)(batch(record))

    assert metrics.sums[("Unpriced", ())] == 1
    assert metrics.sums[("Cost", ())] == COST


def test_a_hit_without_a_price_saves_what_nobody_knows():
    metrics = Metrics()

    consumer(metrics)(batch(message("InferenceCompleted.cache-hit", model="unlisted")))

    assert not [key for key in metrics.sums if key[0] in ("CacheSavings", "Unpriced")]


@given(order=st.permutations(range(12)), ends=st.sets(st.integers(1, 11)))
def test_an_event_is_measured_once_however_often_it_comes(order: list[int], ends: set[int]):
    events = [message("InferenceCompleted.chat-stream", f"m{n}", id=new_ulid(NOW - n)) for n in range(4)]
    records = [events[n % 4] for n in order]
    metrics, table = Metrics(), FakeCostsTable()
    record_cost = consumer(metrics, table)

    cuts = [0, *sorted(ends), 12]
    for begin, end in pairwise(cuts):
        record_cost(batch(*records[begin:end]))

    assert metrics.sums[("EventsRecorded", (("Consumer", "record_cost"),))] == 4
    assert metrics.sums[("Cost", ())] == 4 * COST == stored(table)[1][0]["cost"]


class Overtaken(FakeCostsTable):
    """A table into which another consumer puts so many of the batch's entries before each of its first transactions."""

    def __init__(self, *rounds: Sequence[Any]) -> None:
        super().__init__(self._overtake)
        self._rounds = list(rounds)
        self._is_other = False
        self.of_others = 0

    def _overtake(self) -> None:
        if self._rounds and not self._is_other:
            self._is_other, before = True, len(stored(self)[0])
            others: Any = self
            RecordCost(
                PRICES, CostsTable(others, TABLE, pause=lambda _: None), Logger(service="test"), clock=lambda: NOW
            )(batch(*self._rounds.pop(0)))
            self._is_other = False
            self.of_others += len(stored(self)[0]) - before


@given(st.lists(st.sets(st.integers(0, 5), min_size=1), min_size=1, max_size=4), st.booleans())
def test_duplicates_that_are_found_in_several_rounds_of_a_transaction_are_measured_by_nobody_again(
    rounds: list[set[int]], twice: bool
):
    events = [message("InferenceCompleted.chat-stream", f"m{n}", id=new_ulid(NOW - n)) for n in range(6)]
    metrics, table = Metrics(), Overtaken(*([events[n] for n in sorted(each)] for each in rounds))
    record_cost = consumer(metrics, table)

    for _ in range(1 + twice):
        assert failures(record_cost(batch(*events))) == []

    entries, rollups = stored(table)
    assert len(entries) == 6
    assert rollups[0]["requests"] == 6
    assert rollups[0]["cost"] == 6 * COST
    measured = metrics.sums.get(("EventsRecorded", (("Consumer", "record_cost"),)), Decimal(0))
    assert measured == 6 - table.of_others
    assert metrics.sums.get(("Cost", ()), Decimal(0)) == (6 - table.of_others) * COST


def test_what_the_ledger_refuses_is_not_measured():
    class Refusing(FakeCostsTable):
        def transact_write_items(self, **request: Any) -> Any:
            raise cancelled("ValidationError")

    metrics = Metrics()

    assert failures(consumer(metrics, Refusing())(batch(message("InferenceCompleted.chat-stream", "m")))) == ["m"]
    assert metrics.calls == 0


def test_what_the_lake_does_not_take_is_measured_when_it_was_recorded_and_not_again():
    metrics, table = Metrics(), FakeCostsTable()
    records = batch(message("InferenceCompleted.chat-stream", "m"))

    assert failures(consumer(metrics, table, Lake())(records)) == ["m"]
    assert failures(consumer(metrics, table)(records)) == []
    assert metrics.sums[("Cost", ())] == COST


@pytest.mark.parametrize(
    "error",
    [
        ClientError({"Error": {"Code": "Throttling", "Message": "slow down"}}, "PutMetricData"),
        EndpointConnectionError(endpoint_url="https://monitoring.example"),
    ],
)
def test_a_cloudwatch_that_fails_costs_no_entry(error: Exception):
    table = FakeCostsTable()

    assert failures(consumer(Metrics(error), table)(batch(message("InferenceCompleted.chat-stream")))) == []
    assert len(stored(table)[0]) == 1


@pytest.mark.parametrize("now", [NOW + 15 * 86400, NOW - 3 * 3600])
def test_what_cloudwatch_would_refuse_for_its_age_is_not_sent(now: float):
    metrics, table = Metrics(), FakeCostsTable()

    assert failures(consumer(metrics, table, now=now)(batch(message("InferenceCompleted.chat-stream")))) == []
    assert metrics.calls == 0
    assert len(stored(table)[0]) == 1
