"""What docs/scale.md and its simulation count is what the embedded AWS says that it has used, call by call."""

import json
import random
import time
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from typing import Any

import pytest
from openai_proxy.events.ulid import new_ulid
from openai_proxy.key_limits import Limits
from openai_proxy.ledger.division import Division
from openai_proxy.ledger.entries import entry_of
from openai_proxy.ledger.table import CostsTable
from openai_proxy.pricing.price_book import PriceBook, load_price_book
from openai_proxy.usage import Usage
from proxy.aws.client import Aws, Credentials
from proxy.http.transport import Answered, HttpTransport, Timeouts
from proxy.limits.counters import TableAccess
from proxy.limits.table import LimitsTable
from proxy.request.body import RequestBody
from proxy.request.parse import InferenceRequest, Target
from record_metrics.markers import Markers, Run

from bench.once.books import books
from bench.once.consumer import TABLE, client_of, consumer_of, create_table
from bench.once.sent import record_of
from bench.once.trial import Trial, deliveries
from bench.scale.costs_client import CostsClient
from bench.scale.dynamodb import TableModel
from bench.scale.limits import LimitsAws
from bench.scale.simulation import Simulation
from bench.units import BATCH, BEGAN, event, marker_units, units
from tests.e2e.harness import LocalStack
from tests.limits.machine import PATIENT
from tests.tables import make_table

NOON = 1_795_435_200  # 2026-11-23 12:00:00 UTC
CHAT = json.dumps({"model": "m", "messages": []}).encode()
REQUEST = InferenceRequest("function_url", "POST", "", "", {"content-type": "application/json"}, CHAT, None)
UNITS, MARKERS = "costs-of-scale", "markers-of-scale"
Used = tuple[int, float, float]
"""Transactions or other calls, the write units and the read units of them."""


class Counted:
    """A client of DynamoDB that counts its calls, and what is said of each."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self.calls, self.writes, self.reads = 0, 0.0, 0.0

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(**request: Any) -> Any:
            answer = getattr(self._client, name)(**request)
            self.count(answer["ConsumedCapacity"], is_write="write" in name or name == "put_item")
            return answer

        return call

    def count(self, consumed: Any, *, is_write: bool) -> None:
        several: list[Any] = consumed if isinstance(consumed, list) else [consumed]  # pyright: ignore[reportUnknownVariableType]
        units = sum(each.get("CapacityUnits", 0) for each in several)
        self.calls += 1
        self.writes += units if is_write else 0
        self.reads += 0 if is_write else units

    @property
    def used(self) -> Used:
        return self.calls, self.writes, self.reads


@pytest.fixture(scope="module")
def endpoint(stack: LocalStack) -> Iterator[str]:
    """Where there are tables for this module alone."""
    address = stack.environment["AWS_ENDPOINT_URL"]
    client = client_of(address)
    for name in (TABLE, UNITS):
        create_table(client, name)
    make_table(client, MARKERS, "id")
    yield address
    for name in (TABLE, UNITS, MARKERS):
        client.delete_table(TableName=name)


@pytest.fixture(scope="module")
def prices() -> PriceBook:
    return load_price_book()


def in_simulation(work: Callable[[Simulation], None]) -> None:
    simulation = Simulation(BEGAN)
    simulation.spawn(lambda: work(simulation))
    simulation.run(BEGAN + 900)


def simulated(work: Callable[[Any], None]) -> Used:
    """What the same work takes in the simulation."""
    found: list[Used] = []

    def count(simulation: Simulation) -> None:
        table = TableModel(simulation, 1e6)
        client = Counted(CostsClient(table, lambda _: None))
        work(client)
        found.append((client.calls, table.counted.write_units, table.counted.read_units))

    in_simulation(count)
    return found[0]


@pytest.mark.parametrize(("batch", "models"), [(1, 1), (25, 1), (25, 5), (25, 25)])
def test_a_batch_takes_the_units_that_are_told_of_it(endpoint: str, prices: PriceBook, batch: int, models: int) -> None:
    told = units(batch, models, prices)
    entries = [entry_of(event(number, number % models), prices) for number in range(batch)]

    def record(client: Any) -> None:
        assert CostsTable(client, UNITS).record(entries) == {}

    emulated = Counted(client_of(endpoint))
    record(emulated)
    assert emulated.used == simulated(record) == (told.transactions * batch, told.write_units * batch, 0)


def test_a_division_takes_eight_write_units_and_who_does_not_know_of_it_looks_once(
    endpoint: str, prices: PriceBook
) -> None:
    before, later = ([entry_of(event(1000 * part + n), prices) for n in range(9)] for part in (10, 20))

    def divide(client: Any) -> None:
        assert CostsTable(client, UNITS).record(before) == {}
        assert Division(client, UNITS, lambda _: 0).divide(later[0])

    def learn(client: Any) -> None:
        table = CostsTable(client, UNITS)
        assert len(table.record([before[-1], *later])) == 1
        assert len(table.record(before[:2])) == 2, "it knows now where to look"

    emulated = Counted(client_of(endpoint))
    divide(emulated)
    assert (emulated.calls, emulated.writes - 9 * 2 - 2 * 2) == (2, 8)
    learn(emulated)

    def both(client: Any) -> None:
        divide(client)
        learn(client)

    assert emulated.used == simulated(both)
    assert emulated.reads == 1 + 2 * 2


@pytest.mark.parametrize("batch", [1, 25])
def test_markers_take_the_units_that_are_told_of_them(endpoint: str, batch: int) -> None:
    client: Any = Counted(client_of(endpoint))
    markers = Markers(client, MARKERS)
    counting = Run(new_ulid(BEGAN), BEGAN, BEGAN)
    ids = {event(number).id for number in range(batch)}
    assert markers.claim(ids, counting).mine == ids
    markers.done(counting)
    assert client.used == (2, pytest.approx(batch * marker_units(batch)), 0)


def least(table: LimitsTable, limits: Limits, used: Callable[[], float]) -> float:
    """The write units of a request that finds its counter begun, or its shard, of which there are fewer than tries."""
    found: list[float] = []
    for _ in range(8):
        before = used()
        body, end = RequestBody(REQUEST, Target("up", "/chat/completions")), time.time() + 60
        taken = table.take(limits, new_ulid(NOON), body, [PATIENT], end)
        assert taken.is_checked
        assert not taken.refused
        table.release(taken, Usage(5, 3, source="reported"), end)
        found.append(used() - before)
    return min(found)


LIMITS = {
    "requests": (Limits("units-rpm", rpm=600), 1),
    "tokens": (Limits("units-tpm", tpm=60_000), 2),
    "in shards": (Limits("units-shards", rpm=90_000), 1),
    "a budget": (Limits("units-budget", budget_day=Decimal(9)), 2),
}


@pytest.mark.parametrize(("limits", "units_told"), LIMITS.values(), ids=LIMITS)
def test_a_request_of_a_key_with_limits_takes_the_units_that_the_simulation_counts(
    stack: LocalStack, limits: Limits, units_told: int
) -> None:
    transport, emulated = HttpTransport(Timeouts()), Counted(None)

    def post(url: str, headers: Mapping[str, str], body: bytes, timeout: float, *, repeats: bool = True) -> Answered:
        status, answered, content = transport.post(url, headers, body, timeout, repeats=repeats)
        emulated.count(json.loads(content).get("ConsumedCapacity", []), is_write=b"UpdateExpression" in body)
        return status, answered, content

    aws = Aws(post, lambda: Credentials("test", "test", None), "us-east-1", stack.environment["AWS_ENDPOINT_URL"])
    table = LimitsTable(
        TableAccess(aws, stack.environment["LIMITS_TABLE"], lambda: float(NOON), timeout=30.0), "closed"
    )
    assert least(table, limits, lambda: emulated.writes) == units_told
    transport.close()

    def simulate(simulation: Simulation) -> None:
        model = TableModel(simulation)
        aws: Any = LimitsAws(model)
        table = LimitsTable(TableAccess(aws, "limits", lambda: float(NOON), sleep=simulation.sleep), "closed")
        found.append(least(table, limits, lambda: model.counted.write_units))

    found: list[float] = []
    in_simulation(simulate)
    assert found == [units_told]


def test_of_a_busy_client_each_event_counts_once_whatever_the_table_refuses_or_does_not_answer(endpoint: str) -> None:
    """Two consumers in turn; `make bench ARGS="--only once"` has ten, which are killed, and 200,000 events."""
    trial, pauses = Trial(events=120, alone=0.2), list[int]()
    consumers = [consumer_of(endpoint, share, str(share), pauses.append) for share in (0.0, 0.9)]
    waiting = deliveries(trial, random.Random(1))
    assert len(waiting) > trial.events
    for turn in range(100):
        if not waiting:
            break
        records = [record_of(waiting.popleft()) for _ in range(min(BATCH, len(waiting)))]
        failed = consumers[turn % 2]({"Records": records})["batchItemFailures"]
        waiting.extend(int(each["itemIdentifier"]) for each in failed)
    found = books(client_of(endpoint), trial.events)
    assert (found.entries, found.faults) == (trial.events, 0)
    assert 0 < found.in_shards < trial.events
    assert pauses
