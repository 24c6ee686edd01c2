"""Several consumers of one busy client at a time: whoever is refused, killed or told nothing, each event counts once.

The consumers are threads that take turns: before each call of the table one of them is chosen, and what becomes of it.
"""

import json
import threading
from collections.abc import Callable, Sequence
from datetime import date
from decimal import Decimal
from functools import cache, partial
from itertools import chain, repeat
from random import Random
from typing import Any

import boto3
import pytest
from aws_lambda_powertools import Logger
from hypothesis import given, settings
from hypothesis import strategies as st
from moto import mock_aws
from openai_proxy.dynamodb import from_item
from openai_proxy.events.ulid import ulid_of_fact
from openai_proxy.ledger.entries import add_shares
from openai_proxy.ledger.shards import FIRST, SHARDED, is_sign, shard_key
from openai_proxy.ledger.table import CostsTable
from openai_proxy.pricing.price_book import load_price_book, parse_price_book
from record_cost.consumer import RecordCost

from bench.units import BLOCK, size_of
from console.command_line import main
from console.costs.reading import Ledger
from console.costs.reprice import Repricing, reprice
from console.costs.repricing import Ledger as LedgerToReprice
from console.find import entries_with
from console.period import Period
from console.stack import Table
from console.top.reading import RecentInferences
from tests.costs_fake import FakeCostsTable, cancelled
from tests.examples import examples
from tests.integration.consumers.test_fetched_once import told
from tests.integration.consumers.test_record_cost import batch, create_table, failure, message, sums_of
from tests.tables import failures

SHARDS = 64

NOON = 1_795_780_800  # 2026-11-27T12:00:00Z
ATTEMPTS, BUSY_AFTER, SEVERAL = 6, 3, 3
"""Tries of one write; those that load refuses until a client's day is divided, if it brings so many entries of it."""
DAY = date(2026, 11, 27)
PERIOD = Period(DAY, DAY)
prices = cache(load_price_book)


class ReadTable(FakeCostsTable):
    """The table, read as the commands read it: in pages, from either end."""

    def paginate(self, **request: Any) -> Any:
        values, backwards = request["ExpressionAttributeValues"], not request.get("ScanIndexForward", True)
        pk, oldest = values[":pk"]["S"], values.get(":oldest", {"S": ""})["S"]
        keys = sorted((key for key in self.items if key[0] == pk and key[1] >= oldest), reverse=backwards)
        named = request.get("ExpressionAttributeNames", {})
        for first in range(0, max(len(keys), 1), self.PAGE):
            items = (self.items[key] for key in keys[first : first + self.PAGE])
            wanted = {named.get(each, each) for each in request.get("ProjectionExpression", "").split(", ")}
            yield {"Items": [{k: v for k, v in item.items() if not named or k in wanted} for item in items]}

    def get_item(self, **request: Any) -> dict[str, Any]:
        return super().get_item(**request, ConsistentRead=True)


class Killed(BaseException):
    """The end of a sandbox."""


class Turns:
    """Threads of which one runs at a time, up to its next call."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._waiting: list[threading.Event] = []
        self._back = threading.Semaphore(0)
        self._own = threading.local()

    def run(self, works: Sequence[Callable[[], None]]) -> None:
        threads = [threading.Thread(target=self._work, args=(work,)) for work in works]
        for thread in threads:
            thread.start()
            self._back.acquire()
        while self._waiting:
            self._waiting.pop(self._random.randrange(len(self._waiting))).set()
            self._back.acquire()
        for thread in threads:
            thread.join()

    def wait(self) -> None:
        """Called by a thread before each call."""
        turn = threading.Event()
        self._waiting.append(turn)
        self._back.release()
        turn.wait()

    def _work(self, work: Callable[[], None]) -> None:
        self.wait()
        try:
            work()
        except Killed:
            pass
        finally:
            self._back.release()


class Sandbox:
    """What one consumer sees of the table: `fate` says what becomes of each of its calls."""

    def __init__(self, table: FakeCostsTable, fate: Callable[[], str], wait: Callable[[], None] = lambda: None) -> None:
        self._table = table
        self._fate = fate
        self._wait = wait

    def transact_write_items(self, **request: Any) -> Any:
        return self._call(self._table.transact_write_items, request)

    def transact_get_items(self, **request: Any) -> Any:
        return self._call(self._table.transact_get_items, request)

    def query(self, **request: Any) -> Any:
        return self._call(self._table.query, request)

    def _call(self, call: Callable[..., Any], request: dict[str, Any]) -> Any:
        self._wait()
        fate = self._fate()
        if fate == "killed":
            raise Killed
        if fate in ("throttled", "conflict"):
            many = len(request.get("TransactItems", ())) - 1
            raise (
                cancelled("ThrottlingError", *["None"] * many)
                if fate == "throttled"
                else cancelled(*["None"] * many, "TransactionConflict")
            )
        if fate.endswith("Exception"):
            raise failure(fate)
        answer = call(**request)
        if fate == "killed after it":
            raise Killed
        if fate == "lost":
            raise failure("InternalServerError")
        return answer


def consumer(client: Any, **more: Any) -> RecordCost:
    table = CostsTable(client, "costs", pause=lambda _: None)
    return RecordCost(prices(), table, Logger(service="test"), clock=lambda: NOON + 86400, **more)


@cache
def events(number: int, models: int = 2) -> list[dict[str, str]]:
    """Events of one client; those that come first are not always those that were made first."""
    ids = [ulid_of_fact(NOON + each * 0.01, str(each)) for each in range(number)]
    sample = partial(message, "InferenceCompleted.chat-cached-and-reasoning", client_id="busy")
    return [sample(f"m{n}", id=id_, model=f"gpt-{n % models}") for n, id_ in enumerate(ids)]


def entries_in(table: FakeCostsTable) -> list[dict[str, Any]]:
    """The entries of a table, wherever they are."""
    items = [from_item(item) for item in table.items.values() if item["pk"]["S"].startswith("client#")]
    return [item for item in items if not is_sign(item)]


def sums_in(table: FakeCostsTable) -> list[dict[str, Any]]:
    """The rollups of a table, those of all lanes together."""
    lanes: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for (pk, sk), item in sorted(table.items.items()):
        if not pk.startswith("client#"):
            row = {name: value for name, value in from_item(item).items() if name != SHARDED}
            lanes.setdefault(("#".join(pk.split("#")[:2]), sk), []).append(row)
    return [
        {**rows[0], "pk": pk, **add_shares({k: v for k, v in row.items() if isinstance(v, Decimal)} for row in rows)}
        for (pk, _), rows in sorted(lanes.items())
    ]


def assert_each_counts_once(table: FakeCostsTable, sent: Sequence[dict[str, str]]) -> None:
    entries = entries_in(table)
    assert sorted(entry["sk"] for entry in entries) == ids_of(sent)
    assert sums_in(table) == sums_of(entries)


def ids_of(sent: Sequence[dict[str, str]]) -> list[str]:
    return sorted(json.loads(each["body"])["detail"]["metadata"]["id"] for each in sent)


def drawn(random: Random, share: float, troubles: Sequence[str]) -> Callable[[], str]:
    return lambda: random.choice(troubles) if random.random() < share else "ok"


def deliver(record_cost: RecordCost, records: Sequence[dict[str, str]]) -> None:
    """Hand events to a consumer in batches."""
    for first in range(0, len(records), 6):
        record_cost(batch(*records[first : first + 6]))


@settings(max_examples=examples(12), deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_whatever_happens_to_several_consumers_the_ledger_is_what_was_sent(seed: int):
    random = Random(seed)
    table, turns = ReadTable(), Turns(random)
    sent = events(18)
    for share, troubles in (
        (0.75, ["throttled", "conflict"]),
        (0.5, ["throttled", "lost", "killed", "killed after it", "conflict"]),
        (0.5, ["lost"]),
    ):
        clients: list[Any] = [Sandbox(table, drawn(random, share, troubles), turns.wait) for _ in range(3)]
        turns.run([partial(deliver, consumer(each), random.sample(sent, 12)) for each in clients])
    assert failures(consumer(table)(batch(*sent))) == []
    assert_each_counts_once(table, sent)


def divided_after(first: int, number: int = 40) -> "ReadTable":
    """A table whose client was divided after its first events."""
    table, sent = ReadTable(), events(number)
    deliver(consumer(table), sent[:first])
    busy: Any = Sandbox(table, partial(next, chain(["throttled"] * BUSY_AFTER, repeat("ok"))))
    deliver(consumer(busy), sent[first:])
    return table


def test_entries_are_in_the_shards_of_their_ids_and_sums_in_one_lane_for_each_consumer():
    table, sent = divided_after(10), events(40)
    assert_each_counts_once(table, sent)
    places = [(f"client#busy#{DAY}", id_) for id_ in ids_of(sent)]
    of_shards = [(shard_key(pk, sk), sk) for pk, sk in places]
    entries = [(entry["pk"], entry["sk"]) for entry in entries_in(table)]
    assert sorted(entries) == sorted([*places[:10], *of_shards[10:]])
    assert len({pk for pk, _ in of_shards[10:]}) > 10
    assert len({pk for pk, _ in table.items if pk.startswith("day#")}) == 2
    assert {item[SHARDED]["N"] for item in table.items.values() if SHARDED in item} == {str(SHARDS)}


@pytest.mark.parametrize(
    ("number", "troubles", "is_divided"),
    [
        (SEVERAL, ["throttled"] * BUSY_AFTER, True),
        (SEVERAL, ["conflict"] * BUSY_AFTER, True),
        (SEVERAL, ["conflict"] * (BUSY_AFTER - 1), False),
        (SEVERAL, ["ThrottlingException"] * BUSY_AFTER, True),
        (SEVERAL, ["ProvisionedThroughputExceededException"] * BUSY_AFTER, True),
        (SEVERAL, ["ServiceUnavailableException"] * (ATTEMPTS - 1), False),
        (SEVERAL - 1, ["throttled"] * (ATTEMPTS - 1), False),
        (SEVERAL, ["lost"] * (ATTEMPTS - 1), False),
    ],
)
def test_a_client_is_divided_when_several_of_its_events_are_refused_for_load(
    number: int, troubles: list[str], is_divided: bool
):
    table = ReadTable()
    client: Any = Sandbox(table, partial(next, chain(troubles, repeat("ok"))))
    sent = events(number, models=number)  # each has a row of its own, of which a conflict names one
    assert failures(consumer(client)(batch(*sent))) == []
    assert (f"client#busy#{DAY}", FIRST) in table.items if is_divided else all(sk != FIRST for _, sk in table.items)
    assert_each_counts_once(table, sent)


def test_what_was_written_before_is_known_again_whoever_hands_it_over_and_whenever():
    table, sent = ReadTable(), events(12)
    dying: Any = Sandbox(table, partial(next, iter(["killed after it"])))
    with pytest.raises(Killed):
        consumer(dying)(batch(*sent[:6]))
    busy: Any = Sandbox(table, partial(next, chain(["throttled"] * BUSY_AFTER, repeat("ok"))))
    assert failures(consumer(busy)(batch(*sent[6:]))) == []
    before = dict(table.items)
    for again in (sent[:6], sent[6:], sent):
        assert failures(consumer(table)(batch(*again))) == []
    assert table.items == before
    assert_each_counts_once(table, sent)


def test_one_request_of_a_small_client_costs_six_write_units_and_no_read():
    table = FakeCostsTable()
    written: list[Any] = []

    class Small:
        def transact_write_items(self, **request: Any) -> Any:
            written.append(request["TransactItems"])
            return table.transact_write_items(**request)

    client: Any = Small()
    assert failures(consumer(client)(batch(*events(1)))) == []
    [items] = written
    assert [next(iter(each)) for each in items] == ["Put", "Update", "Update"]
    assert sum(2 * -(-size_of(item) // BLOCK) for item in table.items.values()) == 6


def test_a_request_whose_answers_are_fetched_stays_where_others_look_for_it():
    table = divided_after(10, 13)
    assert failures(consumer(table)(batch(told(0, ["b"], client="busy")))) == []
    [entry] = [each for each in entries_in(table) if each["day"] != str(DAY)]
    assert entry["pk"] == f"client#busy#{entry['day']}"


def test_whoever_reads_the_ledger_sees_one():
    ids = ids_of(events(40))
    own: Any = divided_after(10)
    table = Table(own, "costs")
    ledger = Ledger(table)
    rows = ledger.rollups(PERIOD)
    assert [(row["model"], row["requests"]) for row in rows] == [("gpt-0", 20), ("gpt-1", 20)]
    assert [entry["sk"] for entry in ledger.entries(rows)] == ids
    assert {*map(frozenset, ledger.entries(rows, ["cost"]))} == {frozenset({"cost", "day", "month"})}
    assert [entry["sk"] for entry in ledger.latest("busy", PERIOD)] == ids[::-1]
    assert [entry["sk"] for entry in LedgerToReprice(table).entries("busy", DAY)] == ids
    for id_ in ids[::13]:
        assert [entry["sk"] for entry in entries_with(table, id_, PERIOD)] == [id_]
    recent = RecentInferences(table, 60)
    assert len(recent.read(NOON + 1)) == 40
    assert not recent.is_incomplete(NOON + 1)


def test_what_is_priced_again_keeps_the_books():
    table = divided_after(10)
    book = parse_price_book("servers: {openai: {models: {gpt-0: {request: 7}, gpt-1: {request: 5}}}}")
    own: Any = table
    repricing = Repricing(LedgerToReprice(Table(own, "costs")), book, apply=True)
    assert reprice(repricing, [DAY]).total.changed == 40
    assert {entry["cost"] for entry in entries_in(table)} == {5, 7}
    assert_each_counts_once(table, events(40))


def test_a_page_of_entries_goes_on_where_the_last_one_ended(capsys: pytest.CaptureFixture[str]):
    ids = ids_of(events(40))
    with mock_aws():
        client: Any = boto3.client("dynamodb")  # pyright: ignore[reportUnknownMemberType]
        create_table(client)
        divided_after(10).put_into(client, "costs")
        for whose in ([], ["--client", "busy"]):
            asked = ["costs", "entries", *whose, "--day", str(DAY), "--before", ids[15], "--json"]
            assert main(asked, {"COSTS_TABLE": "costs"}) == 0
            assert [entry["id"] for entry in json.loads(capsys.readouterr().out)] == ids[14::-1]
