"""The trials of `make bench` with many processes: what they deliver, and how they count what was let through."""

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from proxy.limits.table import LimitsTable

from bench.once.consumer import TABLE
from bench.once.limits import CASES, Case, sum_of
from bench.once.store import MOST_ITEMS, RefusedError, Store
from bench.once.taker import Taken, limits_of, take_all
from bench.once.trial import Trial, deliveries
from bench.units import BEGAN
from tests.limits.table import LimitsItems, access_to


def test_each_event_is_delivered_and_some_twice_together_or_alone() -> None:
    trial = Trial(events=5_000, doubled=0.3, alone=0.05)
    order = list(deliveries(trial, random.Random(1)))
    found = Counter(order)
    assert set(found) == set(range(trial.events))
    assert 0.25 < 1 - trial.events / len(order) < 0.35
    whole = [first for first in range(0, trial.events, 100) if all(found[first + n] > 1 for n in range(100))]
    assert 5 < len(whole) < 25
    assert all(str(list(range(first, first + 100)))[1:-1] in str(order) for first in whole), "in their order"
    assert [n for n, count in found.items() if count == 2 and n // 100 * 100 not in whole]


@pytest.mark.parametrize("case", CASES, ids=[case.what for case in CASES])
def test_what_processes_take_one_after_another_is_the_limit(case: Case) -> None:
    items, limits = LimitsItems(), limits_of(case.limits)
    tables = [
        LimitsTable(access_to(items, lambda: float(BEGAN)), "closed", shards=lambda _: case.shards) for _ in range(3)
    ]
    every = [take_all(table, limits) for table in tables]
    told = sum_of(Taken.from_line(each.to_line()) for each in every)
    assert told == sum_of(every)
    assert told.failed == 0
    assert told.requests == sum(each.requests for each in every) > 0
    left = case.limit - case.passed(told)
    assert 0 <= left < 15 * case.shards if "tpm" in case.limits else left == 0


def test_who_cannot_ask_the_table_gives_up_and_says_so() -> None:
    items = LimitsItems(faults=["InternalServerError"] * 10_000)
    table = LimitsTable(access_to(items, lambda: float(BEGAN)), "closed", shards=lambda _: 2)
    with pytest.raises(RuntimeError, match="cannot be checked"):
        take_all(table, limits_of({"id": "k", "rpm": 5}))


class Asked:
    """A store, and what it answers. A transaction waits for `go` once it holds its items."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.go.set()
        self.store = Store(TABLE, self.go.wait)

    async def write(self, *actions: Any, token: str = "") -> list[str]:
        """The codes of a transaction; none if it is carried out."""
        named = [{kind: {"TableName": TABLE, **action} for kind, action in each.items()} for each in actions]
        try:
            request = {"TransactItems": named, **({"ClientRequestToken": token} if token else {})}
            await self.store.call("TransactWriteItems", request)
        except RefusedError as refused:
            reasons: Any = refused.answer.get("CancellationReasons", [{"Code": str(refused)}])
            return [each["Code"] for each in reasons]
        return []

    async def page(self, **request: Any) -> dict[str, Any]:
        values = {":pk": {"S": "p"}, **request.pop("values", {})}
        condition = "pk = :pk AND sk < :last" if ":last" in values else "pk = :pk"
        asked = {"TableName": TABLE, "KeyConditionExpression": condition, "ExpressionAttributeValues": values}
        return await self.store.call("Query", asked | request)


def put(sk: str, **more: str) -> dict[str, Any]:
    item = {"pk": {"S": "p"}, "sk": {"S": sk}} | {name: {"S": value} for name, value in more.items()}
    return {"Put": {"Item": item, "ConditionExpression": "attribute_not_exists(pk)"}}


def add(sk: str, number: int) -> dict[str, Any]:
    return {
        "Update": {
            "Key": {"pk": {"S": "p"}, "sk": {"S": sk}},
            "UpdateExpression": "ADD #sum :sum",
            "ExpressionAttributeNames": {"#sum": "sum"},
            "ExpressionAttributeValues": {":sum": {"N": str(number)}},
        }
    }


def in_store(test: "Callable[[Asked], Any]") -> Callable[[], None]:
    def run() -> None:
        async def asked() -> None:
            await test(Asked())

        asyncio.run(asked())

    run.__name__ = test.__name__
    return run


@in_store
async def test_a_transaction_of_the_store_is_carried_out_whole_or_not(asked: Asked) -> None:
    assert await asked.write(put("a"), add("sum", 2)) == []
    assert await asked.write(put("b"), put("a"), add("sum", 5)) == ["None", "ConditionalCheckFailed", "None"]
    assert [(item["sk"]["S"], item.get("sum")) for item in (await asked.page())["Items"]] == [
        ("a", None),
        ("sum", {"N": "2"}),
    ]
    assert await asked.write(put("c"), put("c")) == ["ValidationException"]
    assert await asked.write() == ["ValidationException"]


@in_store
async def test_transactions_of_the_store_exclude_each_other_on_an_item(asked: Asked) -> None:
    asked.go.clear()
    first = asyncio.create_task(asked.write(put("a"), add("sum", 2)))
    await asyncio.sleep(0)
    assert await asked.write(put("b"), add("sum", 5)) == ["None", "TransactionConflict"]
    assert asked.store.conflicts == 1
    asked.go.set()
    assert await first == []
    assert await asked.write(put("b"), add("sum", 5)) == []
    assert (await asked.page())["Items"][-1]["sum"] == {"N": "7"}


@in_store
async def test_a_transaction_that_comes_again_with_its_token_counts_once(asked: Asked) -> None:
    for _ in range(2):
        assert await asked.write(put("a"), add("sum", 2), token="t") == []
    assert (await asked.page())["Items"][-1]["sum"] == {"N": "2"}
    assert await asked.write(add("sum", 3), token="t") == ["IdempotentParameterMismatchException"]
    assert await asked.write(put("a"), token="u") == ["ConditionalCheckFailed"]
    assert await asked.write(put("a"), token="u") == ["ConditionalCheckFailed"], "what was refused is tried again"


@in_store
async def test_the_store_is_read_in_pages_from_either_end(asked: Asked) -> None:
    names = [f"{number:04d}" for number in range(MOST_ITEMS + 20)]
    for first in range(0, len(names), 100):
        assert await asked.write(*(put(name, model="m") for name in names[first : first + 100])) == []
    for is_forward in (True, False):
        first = await asked.page(ScanIndexForward=is_forward)
        start = first["LastEvaluatedKey"]
        second = await asked.page(ScanIndexForward=is_forward, ExclusiveStartKey=start)
        read = [item["sk"]["S"] for page in (first, second) for item in page["Items"]]
        assert (read, "LastEvaluatedKey" in second) == (names if is_forward else names[::-1], False)
    counted = await asked.page(Select="COUNT")
    assert (counted["Count"], "Items" in counted) == (MOST_ITEMS, False)
    newest = await asked.page(
        values={":last": {"S": "0005"}}, ScanIndexForward=False, Limit=1, ProjectionExpression="sk"
    )
    assert newest["Items"] == [{"sk": {"S": "0004"}}]
    gets = [{"Get": {"TableName": TABLE, "Key": {"pk": {"S": "p"}, "sk": {"S": sk}}}} for sk in ("0001", "no")]
    found = await asked.store.call("TransactGetItems", {"TransactItems": gets})
    assert [each.get("Item", {}).get("model") for each in found["Responses"]] == [{"S": "m"}, None]
    assert (await asked.store.call("DescribeTable", {}))["Table"]["ItemCount"] == len(names)


@in_store
async def test_the_store_refuses_what_it_does_not_know(asked: Asked) -> None:
    query: dict[str, Any] = {"KeyConditionExpression": "pk = :pk", "ExpressionAttributeValues": {}}
    calls: list[tuple[str, dict[str, Any]]] = [
        ("Scan", {}),
        ("Query", {**query, "TableName": "other"}),
        ("Query", {**query, "TableName": TABLE, "KeyConditionExpression": "sk = :pk"}),
    ]
    for operation, request in calls:
        with pytest.raises(RefusedError):
            await asked.store.call(operation, request)
