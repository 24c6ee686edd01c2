"""`openai-proxy keys release` as a person types it, against an emulated account (moto)."""

import json
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from openai_proxy.client_keys import hash_client_key, new_client_key
from openai_proxy.key_limits import Limits
from openai_proxy.limits import Windows

from console.command_line import main
from console.keys.counters import read_counters
from console.keys.release import give_back
from console.keys.usage import Used
from console.stack import Table
from tests.limits.sandboxes import COST, Sandbox, until_refused
from tests.limits.table import LimitsItems
from tests.tables import make_table, mocked_table

ENVIRONMENT = {"KEYS_TABLE": "keys", "LIMITS_TABLE": "limits"}
NOW = 1_795_435_200
WINDOWS = Windows.of(NOW)
COUNTER: dict[str, Any] = {
    "minute": {"N": "29923920"},
    "requests": {"N": "12"},
    "live": {
        "M": {
            "PARALLEL01": {"N": str(NOW + 900)},
            "BUDGETED02": {"M": {"end": {"N": str(NOW + 900)}, "cost": {"N": "0.5"}, "at": {"N": str(NOW)}}},
        }
    },
    "took": {"M": {"MARKED0003": {"N": str(NOW + 60)}}},
    "day": {"S": WINDOWS.day},
    "day_cost": {"N": "1.75"},
    "day_spent": {"N": "0.25"},
    "month": {"S": WINDOWS.month},
    "month_cost": {"N": "41.5"},
    "month_spent": {"N": "40"},
    WINDOWS.bucket: {"N": "1"},
}


@pytest.fixture
def client() -> Iterator[Any]:
    with mocked_table("keys", "key_hash") as client:
        make_table(client, "limits", "pk")
        yield client


def put(client: Any, limits_id: str, **changes: Any) -> Table:
    client.put_item(TableName="limits", Item={"pk": {"S": f"limits#{limits_id}"}} | COUNTER | changes)
    return Table(client, "limits")


def test_places_and_reserved_money_are_given_back_and_what_was_spent_stays(client: Any):
    table = put(client, "k")

    used = give_back(table, "k", NOW)

    assert (used.running, used.reserved["day"], used.reserved["month"]) == (2, Decimal("1.5"), Decimal("1.5"))
    counter = read_counters(table, ["k"])["k"]
    assert counter["live"] == counter["took"] == {}
    assert counter["day_cost"] == counter["day_spent"] == Decimal("0.25")
    assert counter["month_cost"] == counter["month_spent"] == Decimal(40)
    assert WINDOWS.bucket not in counter
    assert counter["requests"] == 12
    again = give_back(table, "k", NOW)
    assert (again.running, again.reserved["day"]) == (0, 0)


def test_a_counter_that_an_absurd_amount_has_spoilt_is_set_right(client: Any):
    damaged = {"M": {"A": {"S": "?"}, "B": {"M": {"end": {"S": "soon"}}}, "C": {"NULL": True}}}
    table = put(client, "k", month_cost={"N": "4" + "0" * 31}, day_cost={"N": "-7"}, live=damaged)

    give_back(table, "k", NOW)

    counter = read_counters(table, ["k"])["k"]
    assert (counter["day_cost"], counter["month_cost"], counter["live"]) == (Decimal("0.25"), Decimal(40), {})


def test_places_in_shards_are_free_and_what_shards_have_drawn_stays_drawn(client: Any):
    limits, items = Limits("k", parallel=9, budget_month=COST * 9), LimitsItems()
    Sandbox(items, now=NOW, shards=1).take(limits)  # in the counter itself, before it was divided
    sandboxes = [Sandbox(items, place, NOW) for place in (0.1, 0.9)]
    for each in sandboxes * 2:
        each.take(limits)
    for item in items.items.values():
        client.put_item(TableName="limits", Item=item)

    used = give_back(Table(client, "limits"), "k", NOW)

    assert (used.running, used.reserved["month"]) == (5, COST)
    counter = read_counters(Table(client, "limits"), ["k"])["k"]
    assert Used.of(counter, NOW).running == 0
    assert Used.of(counter, NOW).reserved["month"] == COST * 4, "it comes back when it is settled"
    items.items = {item["pk"]["S"]: item for item in client.scan(TableName="limits")["Items"]}
    until_refused(last := Sandbox(items, 0.5, NOW), limits, [])
    assert sum(taken.share.cost for taken in last.passed if taken.share) == COST * 5


def test_a_counter_that_changes_meanwhile_is_read_again(client: Any):
    table = put(client, "k")

    class Busy:
        """Another request ends between read and write, once."""

        ends = 1

        def update_item(self, **request: Any) -> Any:
            if self.ends:
                self.ends -= 1
                put(client, "k", day_spent={"N": "0.75"}, day_cost={"N": "0.75"}, live={"M": {}})
            return client.update_item(**request)

        def __getattr__(self, name: str) -> Any:
            return getattr(client, name)

    busy: Any = Busy()
    give_back(Table(busy, "limits"), "k", NOW)

    counter = read_counters(table, ["k"])["k"]
    assert (counter["live"], counter["day_cost"]) == ({}, Decimal("0.75"))


def test_the_command_says_what_it_gave_back(client: Any, capsys: pytest.CaptureFixture[str]):
    key_hash = hash_client_key(new_client_key())
    texts = {"key_hash": key_hash, "client_id": "web-shop", "name": "Shop", "created_at": "2026-11-01"}
    item = {name: {"S": value} for name, value in texts.items()} | {"enabled": {"BOOL": True}, "rpm": {"N": "1"}}
    client.put_item(TableName="keys", Item=item)
    key_id = key_hash[:12]

    assert main(("keys", "release", key_id), ENVIRONMENT) == 2
    assert "Remedy: add --yes" in capsys.readouterr().err
    assert main(("keys", "release", key_id, "--yes"), ENVIRONMENT) == 0
    assert capsys.readouterr().out == f"{key_id} of 'web-shop' (Shop): 0 places and 0.000000 USD are given back.\n"
    put(client, key_id, live={"M": {"RUNNING001": {"N": "99999999999"}}})
    assert main(("keys", "release", key_id, "--json", "--yes"), ENVIRONMENT) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["key_id"], found["limits_id"], found["places"]) == (key_id, key_id, 1)
    assert main(("keys", "release", "0123456789ab"), ENVIRONMENT) == 2
