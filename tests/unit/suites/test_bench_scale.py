"""The models of AWS that `make bench ARGS="--only scale"` runs the code against, held to cases counted by hand."""

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
from botocore.exceptions import ClientError
from openai_proxy.events.incoming import from_envelope
from openai_proxy.key_limits import Limits
from openai_proxy.ledger.division import Division
from openai_proxy.ledger.entries import entry_of
from openai_proxy.ledger.shards import FIRST, LAST
from openai_proxy.ledger.table import CostsTable
from openai_proxy.pricing.price_book import PriceBook, load_price_book
from openai_proxy.refusals import reason_codes

from bench.scale.bus import Bus, Region
from bench.scale.costs_client import CostsClient
from bench.scale.dynamodb import (
    CONFLICT,
    DOUBLING_SECONDS,
    REFUSAL_SECONDS,
    THROTTLED,
    TRANSACTION_SECONDS,
    Bucket,
    OnDemand,
    TableModel,
)
from bench.scale.limits import LimitsLoad, one_key
from bench.scale.overflow import Overflow
from bench.scale.pipeline import Load, Pipeline, Setup
from bench.scale.queues import HIDDEN_SECONDS, Batches, Message, Queue
from bench.scale.simulation import Simulation
from bench.units import SAMPLE, event
from tests.costs_fake import FakeCostsTable

START = 1000.0


@pytest.fixture
def simulation() -> Simulation:
    return Simulation(START)


@pytest.fixture(scope="module")
def prices() -> PriceBook:
    return load_price_book()


def test_tasks_sleep_side_by_side_and_moments_come_in_their_order(simulation: Simulation) -> None:
    seen: list[tuple[str, float]] = []

    def task(name: str, *pauses: float) -> None:
        for pause in pauses:
            simulation.sleep(pause)
            seen.append((name, simulation.now - START))

    simulation.spawn(lambda: task("a", 1, 2))
    simulation.spawn(lambda: task("b", 2, 1, 5))
    simulation.run(START + 4)
    assert seen == [("a", 1), ("b", 2), ("a", 3), ("b", 3)]
    assert simulation.now == START + 4


def test_an_error_of_a_task_ends_the_run(simulation: Simulation) -> None:
    def task() -> None:
        simulation.sleep(1)
        raise KeyError("of the code")

    simulation.spawn(task)
    with pytest.raises(KeyError, match="of the code"):
        simulation.run(START + 2)


def test_a_bucket_has_one_second_and_fills_as_time_passes() -> None:
    bucket = Bucket(1000, START)
    assert bucket.has(1000, START)
    bucket.take(999)
    assert [bucket.has(units, START) for units in (1, 2)] == [True, False]
    assert [bucket.has(units, START + 0.5) for units in (501, 502)] == [True, False]
    bucket.take(501)
    assert not bucket.has(1000, START + 1)
    assert bucket.has(1000, START + 1.5)
    assert bucket.has(5000, START + 9), "what needs more than a second has to wait for a full one"


def test_a_table_bears_twice_its_highest_second_half_an_hour_later() -> None:
    table = OnDemand(4000, 0)
    for second, units in enumerate((1500, 4000, 4000, 10)):
        table.used(units, second)
    # 1,500 are no reason to grow; 4,000 in second 1 are.
    assert [table.rate(moment) for moment in (3, DOUBLING_SECONDS, DOUBLING_SECONDS + 1)] == [4000, 4000, 8000]
    assert table.rate(10 * DOUBLING_SECONDS) == 8000, "nobody used more since"


def test_units_are_taken_of_all_partitions_or_of_none(simulation: Simulation) -> None:
    table = TableModel(simulation)
    assert not table.admit({"a": 600, "b": 1})
    assert list(table.admit({"a": 600, "b": 100})) == ["a"]
    assert not table.admit({"a": 400, "b": 999})
    assert table.counted.by_partition == {"a": 1000, "b": 1000}
    assert (table.counted.writes, table.counted.throttled, table.counted.write_units) == (2, 1, 2000)


def test_a_table_that_is_used_up_refuses_every_partition(simulation: Simulation) -> None:
    table = TableModel(simulation, writes=1500)
    assert not table.admit({"a": 1000})
    assert list(table.admit({"b": 600})) == ["b"]
    assert not table.admit({"b": 500})


def test_reads_have_units_of_their_own(simulation: Simulation) -> None:
    table = TableModel(simulation)
    assert [table.admit_read("a", 1500) for _ in range(3)] == [True, True, False]
    assert not table.admit({"a": 1000})
    assert table.counted.read_units == 3000


def test_of_two_transactions_on_one_item_the_later_one_is_refused_while_the_first_lasts(simulation: Simulation) -> None:
    table = TableModel(simulation)
    found: list[tuple[float, dict[str, str]]] = []

    def transact(after: float, *items: str) -> None:
        simulation.sleep(after)
        codes = table.transact({item: (item, 2.0) for item in items})
        found.append((round(simulation.now - START, 6), codes))

    simulation.spawn(lambda: transact(0, "rollup", "first"))
    simulation.spawn(lambda: transact(0.001, "rollup", "second"))
    simulation.spawn(lambda: transact(0.002, "third"))
    simulation.spawn(lambda: transact(TRANSACTION_SECONDS + 0.001, "rollup", "second"))
    simulation.run(START + 1)
    assert found == [
        (0.001 + REFUSAL_SECONDS, {"rollup": CONFLICT}),
        (TRANSACTION_SECONDS, {}),
        (0.002 + TRANSACTION_SECONDS, {}),
        (2 * TRANSACTION_SECONDS + 0.001, {}),
    ]
    assert table.counted.conflicts == 1
    assert table.counted.write_units == 2 * 5


def test_a_transaction_is_refused_for_the_items_of_the_partition_that_is_full(simulation: Simulation) -> None:
    table = TableModel(simulation)
    found: list[dict[str, str]] = []
    table.admit({"day": 999})
    wanted = {"entry": ("client", 2.0), "a": ("day", 2.0), "b": ("day", 2.0)}
    simulation.spawn(lambda: found.append(table.transact(wanted)))
    simulation.run(START)
    simulation.run(START + 1)
    assert found == [{"a": THROTTLED, "b": THROTTLED}]
    assert not table.is_held("entry")


def put(name: str) -> Any:
    item = {"pk": {"S": "client"}, "sk": {"S": name}, "text": {"S": "x" * 2000}}
    return {"Put": {"TableName": "costs", "Item": item, "ConditionExpression": "attribute_not_exists(pk)"}}


def add(attribute: str, *, absent: str = "") -> Any:
    update: Any = {
        "TableName": "costs",
        "Key": {"pk": {"S": "day"}, "sk": {"S": "rollup"}},
        "UpdateExpression": f"SET #{attribute} = :{attribute}",
        "ExpressionAttributeNames": {f"#{attribute}": attribute} | ({f"#{absent}": absent} if absent else {}),
        "ExpressionAttributeValues": {f":{attribute}": {"N": "1"}},
    }
    return {"Update": update | ({"ConditionExpression": f"attribute_not_exists(#{absent})"} if absent else {})}


def test_the_ledger_s_client_knows_what_is_there_and_refuses_what_asks_for_something_else(
    simulation: Simulation,
) -> None:
    table, entries = TableModel(simulation), list[str]()
    client = CostsClient(table, entries.append)
    outcomes: list[list[str]] = []

    def write(*actions: Any) -> None:
        try:
            client.transact_write_items(TransactItems=actions)
            outcomes.append([])
        except ClientError as error:
            outcomes.append(reason_codes(error.response))

    def all_of_them() -> None:
        write(put("a"), add("sum", absent="shards"))
        write(put("a"), put("b"))
        write(add("shards"))
        write(put("b"), add("sum", absent="shards"))
        write(put("b"))

    simulation.spawn(all_of_them)
    simulation.run(START + 1)
    assert outcomes == [[], ["ConditionalCheckFailed", "None"], [], ["None", "ConditionalCheckFailed"], []]
    assert entries == ["a", "b"]
    # An entry of 2 KB is 2 x 2 units, a rollup 2 x 1: what is refused is not counted.
    assert table.counted.write_units == (4 + 2) + 2 + 4


def test_the_ledger_s_client_answers_as_the_table_that_is_compared_with_dynamodb(
    simulation: Simulation, prices: PriceBook
) -> None:
    """New entries, some that come again, a division, and again some of before and new ones."""
    entries = [entry_of(event(number, number % 3), prices) for number in range(60)]
    rounds = (entries[:25], entries[10:40], None, entries[20:60], entries)
    heard: list[str] = []

    def record(client: Any) -> list[dict[Any, str]]:
        table, found = CostsTable(client, "costs", simulation.sleep), list[dict[Any, str]]()
        for each in rounds:
            if each is None:
                assert Division(client, "costs", lambda _: 0).divide(entries[0])
            else:
                found.append(table.record(each))
        return found

    fake, outcomes = FakeCostsTable(), list[list[dict[Any, str]]]()
    model = TableModel(simulation, 1e6)
    simulation.spawn(lambda: outcomes.append(record(CostsClient(model, heard.append))))
    simulation.run(START + 900)
    assert outcomes == [record(fake)]
    assert [len(each) for each in outcomes[0]] == [0, 15, 20, 60]
    written = [sort_key for (partition, sort_key), _ in fake.items.items() if partition.startswith("client#")]
    assert sorted(heard) == sorted(key for key in written if key not in (FIRST, LAST))
    # Of one group of three only what came before is undivided; each entry, and each sign, takes two units.
    places = Counter(pk for pk, _ in fake.items if pk.startswith("client#"))
    used = {pk: units for pk, units in model.counted.by_partition.items() if pk.startswith("client#")}
    assert used == {pk: 2 * items for pk, items in places.items()}
    assert places[entries[0].key[0]] == 40 + 14 + 2


class Consumer:
    """Notes the batches that it gets, with the moment of each, and takes its time for them."""

    def __init__(self, simulation: Simulation, seconds: float, *, fails: bool = False) -> None:
        self._simulation, self._seconds, self._fails = simulation, seconds, fails
        self.batches: list[tuple[float, int]] = []

    def __call__(self, batch: Sequence[Message]) -> Sequence[Message]:
        self.batches.append((self._simulation.now - START, len(batch)))
        self._simulation.sleep(self._seconds)
        return batch[:1] if self._fails else ()


def queue_of(simulation: Simulation, messages: int, mapping: Batches, consumer: Consumer) -> Queue:
    queue = Queue(simulation, mapping, consumer)
    for _ in range(messages):
        queue.send(Message("", simulation.now))
    return queue


def test_a_batch_is_handed_over_when_it_is_full_or_its_window_is_over(simulation: Simulation) -> None:
    consumer = Consumer(simulation, 0.1)
    queue = queue_of(simulation, 53, Batches(batch=25, window=2, most=2), consumer)
    simulation.run(START + 5)
    # Two full ones at once; who is ready first gets the last three, and waits for others in vain.
    assert [(round(moment, 3), messages) for moment, messages in consumer.batches] == [(0, 25), (0, 25), (2.1, 3)]
    # 53 sends; 3 receives and 3 deletes for a batch of 25, one of each for a small one.
    assert queue.counts.requests == 53 + 2 * (3 + 3) + (1 + 1)
    assert (queue.counts.invocations, queue.counts.consumed, queue.waiting) == (3, 53, 0)


def test_few_messages_are_dealt_to_all_pollers_that_are_free(simulation: Simulation) -> None:
    consumer = Consumer(simulation, 0.1)
    queue_of(simulation, 3, Batches(batch=25, window=2, most=2), consumer)
    simulation.run(START + 5)
    assert consumer.batches == [(2, 2), (2, 1)]


def test_pollers_are_five_at_first_and_five_more_each_second_while_there_is_work(simulation: Simulation) -> None:
    consumer = Consumer(simulation, 100)
    queue = queue_of(simulation, 40, Batches(batch=1, window=0, most=12), consumer)
    simulation.run(START + 10)
    begun = [sum(moment == second for moment, _ in consumer.batches) for second in range(4)]
    assert begun == [5, 5, 2, 0]
    assert (queue.pollers, queue.waiting) == (12, 28)


def test_what_fails_comes_again_when_it_is_seen_again_and_is_a_dead_letter_in_the_end(simulation: Simulation) -> None:
    consumer = Consumer(simulation, 1, fails=True)
    queue = queue_of(simulation, 1, Batches(batch=1, window=0, most=2), consumer)
    simulation.run(START + 6 * HIDDEN_SECONDS)
    assert [moment for moment, _ in consumer.batches] == [HIDDEN_SECONDS * place for place in range(5)]
    assert (queue.counts.dead, queue.counts.consumed) == (1, 0)


def test_the_bus_refuses_what_is_over_its_quota_and_delivers_at_the_pace_of_the_other(simulation: Simulation) -> None:
    delivered: list[float] = []
    bus = Bus(simulation, Region(5, 10), 2, lambda _: delivered.append(round(simulation.now - START, 3)))
    outcomes: list[bool] = []
    for _ in range(8):
        simulation.spawn(lambda: outcomes.append(bus.put([{}])))
    simulation.run(START + 5)
    assert outcomes == [True] * 5 + [False] * 3
    assert (bus.taken, bus.throttled) == (5, 3)
    # Each event is two invocations, of ten a second; the call takes 0.01 s and the way 0.5.
    assert delivered == [0.7, 0.9, 1.1, 1.3, 1.5]


def test_every_event_is_in_the_ledger_once_at_the_units_that_its_transactions_have(prices: PriceBook) -> None:
    found = Pipeline(Load(rate=20, seconds=6, models=2), Setup(), prices).run()
    recorded, transactions = len(found.lags), found.table.writes
    assert found.lost == found.table.throttled == 0
    assert 0.5 * found.sent < recorded <= found.sent
    assert transactions >= found.queue.invocations
    # An entry of up to 1 KB and, for each of two models, a rollup of the day and one of the month: two units each.
    assert found.table.write_units <= 2 * recorded + 2 * 4 * transactions
    assert found.table.write_units > 2 * recorded + 4 * transactions
    assert 0.5 < found.lag(0.5) < 2 + 1


def test_what_a_bus_does_not_take_waits_in_a_queue_and_a_consumer_that_is_too_slow_falls_behind(
    prices: PriceBook,
) -> None:
    narrow = Pipeline(Load(rate=40, seconds=3), Setup(region=Region(15, 1e9)), prices).run()
    assert narrow.queued > 10
    assert narrow.bus_throttled >= 3 * narrow.queued, "each has three tries before"
    assert not narrow.keeps_up
    slow = Pipeline(Load(rate=40, seconds=4), Setup(megabytes=32), prices).run()
    assert narrow.lost == slow.lost == slow.queued == 0
    assert not slow.keeps_up


def test_what_was_queued_comes_to_the_bus_when_that_has_room_again(simulation: Simulation) -> None:
    came: list[str] = []
    bus = Bus(simulation, Region(5, 1e9), 1, lambda entry: came.append(json.loads(entry["Detail"])["metadata"]["id"]))
    overflow = Overflow(simulation, bus)
    event: Any = from_envelope(json.loads(SAMPLE.read_text(encoding="utf-8")))
    ids = [f"01M8N9AYMW0CYZ6R6NYRBAE5{place:02}" for place in range(12)]
    fates: list[str] = []

    def publish(event_id: str) -> None:
        fates.append(overflow.publisher.publish([event._replace(id=event_id)], START + 900))

    for event_id in ids:
        simulation.spawn(lambda each=event_id: publish(each))
    simulation.run(START + 60)
    # Five at once, and one and a half more until the third try: the others come by the queue.
    assert (fates.count("published"), fates.count("queued")) == (6, 6)
    assert sorted(came) == ids
    assert overflow.queue.counts.consumed == 6


@pytest.mark.parametrize(
    ("limits", "updates"),
    [({"rpm": 30_000}, 1), ({"tpm": 30 * 10**6}, 2), ({"parallel": 1000}, 2)],
    ids=["rpm", "tpm", "live"],
)
def test_a_short_request_of_a_key_with_limits_writes_its_counter_once_or_twice(
    limits: dict[str, Any], updates: int
) -> None:
    found = one_key(LimitsLoad(Limits("k", **limits), rate=20, stream=0.02, seconds=2))
    assert found.keeps_up
    assert found.taken > 20
    # The first request of a minute begins it.
    assert found.taken * updates - updates <= found.table.write_units <= found.taken * updates + 4


def test_a_counter_is_as_large_as_its_running_requests_and_ends_sooner_for_it() -> None:
    limits = Limits("k", tpm=30 * 10**6)
    few, many = (one_key(LimitsLoad(limits, rate=50, stream=stream, seconds=stream + 0.5)) for stream in (0.1, 1.2))
    assert many.largest > 4 * few.largest
    assert many.table.write_units / many.taken > few.table.write_units / few.taken


def test_a_key_with_large_limits_is_counted_in_the_shards_that_the_code_says() -> None:
    limits = Limits("k", rpm=90_000)
    found = one_key(LimitsLoad(limits, rate=40, stream=0.1, seconds=1))
    assert limits.shards == 3
    assert found.table.by_partition.keys() == {"limits#k", *(f"limits#k#{shard}" for shard in (1, 2, 3))}
    assert found.keeps_up
