"""`openai-proxy keys usage` as a person types it, against an emulated account (moto)."""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from openai_proxy.client_keys import hash_client_key, new_client_key
from openai_proxy.key_limits import Limits
from openai_proxy.limits import Calendar, Windows

from console.command_line import main, parser
from console.errors import ConsoleError
from console.keys.counters import read_counters
from console.keys.usage import Used, show_usage
from console.stack import Table
from tests.limits.sandboxes import COST, Sandbox, settlement, settling
from tests.limits.table import LimitsItems
from tests.tables import make_table, mocked_table

NOON = int(datetime(2026, 11, 23, 12, tzinfo=UTC).timestamp())
LIMITED: dict[str, Any] = {"rpm": {"N": "60"}, "tpm": {"N": "100000"}, "parallel": {"N": "5"}, "budget_day": {"N": "5"}}


Show = Callable[..., str]


@pytest.fixture(scope="module")
def aws() -> Iterator[Any]:
    with mocked_table("keys", "key_hash") as client:
        make_table(client, "limits", "pk")
        yield client


@pytest.fixture
def client(aws: Any) -> Iterator[Any]:
    yield aws
    for table, key in (("keys", "key_hash"), ("limits", "pk")):
        for item in aws.scan(TableName=table)["Items"]:
            aws.delete_item(TableName=table, Key={key: item[key]})


ENVIRONMENT = {"KEYS_TABLE": "keys", "LIMITS_TABLE": "limits", "COSTS_TABLE": "not-there"}


@pytest.fixture
def show(client: Any, capsys: pytest.CaptureFixture[str]) -> Show:
    """What the command prints at noon."""

    def show(*arguments: str) -> str:
        given = ("keys", "usage", *arguments)
        options = parser().parse_args(given)
        assert show_usage(options, ENVIRONMENT, lambda: NOON) == 0
        return capsys.readouterr().out

    return show


def add_key(client: Any, client_id: str = "web-shop", attributes: Mapping[str, Any] | None = None) -> str:
    """Store a key; returns its id."""
    key_hash = hash_client_key(new_client_key())
    item = {"key_hash": key_hash, "client_id": client_id, "name": f"Key of {client_id}", "created_at": "2026-11-01"}
    stored = {name: {"S": value} for name, value in item.items()} | {"enabled": {"BOOL": True}}
    client.put_item(TableName="keys", Item=stored | dict(attributes or {}))
    return key_hash[:12]


def count(client: Any, limits_id: str, **changes: Any) -> None:
    """Store a counter of noon: 12 requests, 1,200 tokens, 2 running, 0.25 and 40 spent, 1 reserved."""
    windows = Windows.of(NOON)
    item: dict[str, Any] = {
        "minute": {"N": str(NOON // 60)},
        "requests": {"N": "12"},
        "tokens": {"N": "1200"},
        "live": {"M": {name: {"N": str(NOON + 900)} for name in ("a", "b")}},
        "day": {"S": windows.day},
        "day_cost": {"N": "1.25"},
        "day_spent": {"N": "0.25"},
        "month": {"S": windows.month},
        "month_cost": {"N": "41"},
        "month_spent": {"N": "40"},
        windows.bucket: {"N": "1"},
    }
    client.put_item(TableName="limits", Item={"pk": {"S": f"limits#{limits_id}"}} | item | changes)


DAMAGED: list[dict[str, Any]] = [
    {"month_spent": {"SS": ["a"]}},
    {"day_spent": {"S": "1"}},
    {"live": {"S": "abc"}},
    {"requests": {"S": "many"}},
    {"tokens": {"M": {}}},
    {Windows.of(NOON).bucket: {"S": "1"}},
]


@pytest.mark.parametrize("changed", DAMAGED, ids=range(len(DAMAGED)))
def test_a_counter_that_nobody_can_have_written_is_named(show: Show, client: Any, changed: Mapping[str, Any]) -> None:
    key = add_key(client, attributes=LIMITED)
    count(client, key, **changed)
    with pytest.raises(
        ConsoleError, match=rf"The limits table has a damaged counter 'limits#{key}' \(.*Remedy: correct"
    ):
        show(key)


def test_weeks_and_totals_are_shown_of_keys_that_have_such_budgets(show: Show, client: Any):
    key = add_key(client, attributes=LIMITED | {"budget_week": {"N": "10"}, "budget_total": {"N": "50"}})
    windows = Windows.of(NOON, Calendar(0, 1, total=True))
    held = {"week_spent": {"N": "2"}, "total_spent": {"N": "30"}, windows.bucket: {"N": "3"}}
    count(client, key, week={"S": windows.week}, total={"S": "ever"}, **held)

    details = show(key)
    assert "This week     2.000000 spent, 3.000000 reserved: 5.000000 of 10 USD (50 %)" in details
    assert "In total      30.000000 spent, 3.000000 reserved: 33.000000 of 50 USD (66 %)" in details
    document = json.loads(show(key, "--json"))
    assert document["week"] == {"start": windows.week, "spent": "2", "reserved": "3", "budget": "10"}
    assert document["total"] == {"start": "ever", "spent": "30", "reserved": "3", "budget": "50"}
    assert re.split(r" {2,}", show().splitlines()[0])[2:6] == ["TODAY", "THIS WEEK", "THIS MONTH", "IN TOTAL"]


def test_all_keys_with_limits_are_shown(show: Show, client: Any):
    shop = add_key(client, attributes=LIMITED)
    idle = add_key(client, "batch", {"budget_month": {"N": "80"}})
    add_key(client, "free")
    add_key(client, "gone", LIMITED | {"enabled": {"BOOL": False}})
    count(client, shop)

    lines = show().splitlines()

    assert lines[0].startswith("KEY ID        CLIENT    TODAY")
    assert re.split(r" {2,}", lines[2]) == [
        idle,
        "batch",
        "-",
        "0.000000 of 80 USD (0 %)",
        "-",
        "-",
        "-",
        "Key of batch",
    ]
    today, used = "1.250000 of 5 USD (25 %)", ("12 of 60", "1,200 of 100,000", "2 of 5")
    assert re.split(r" {2,}", lines[3]) == [shop, "web-shop", today, "-", *used, "Key of web-shop"]
    assert len(lines) == 4


def test_one_key_is_shown_in_full(show: Show, client: Any):
    key_id = add_key(client, attributes=LIMITED | {"budget_month": {"N": "50"}})
    count(client, key_id)

    out = show(key_id[:8])

    assert out == (
        f"Key id        {key_id}\n"
        "Client        web-shop\n"
        "Name          Key of web-shop\n"
        "Requests/min  12 of 60\n"
        "Tokens/min    1,200 of 100,000\n"
        "Parallel      2 of 5\n"
        "Today         0.250000 spent, 1.000000 reserved: 1.250000 of 5 USD (25 %)\n"
        "This month    40.000000 spent, 1.000000 reserved: 41.000000 of 50 USD (82 %)\n"
        "At            2026-11-23 12:00 UTC\n"
    )


def test_programs_get_exact_figures(show: Show, client: Any):
    key_id = add_key(client, attributes=LIMITED | {"currency": {"S": "USD"}})
    count(client, key_id, day_spent={"N": "0.000000000000001"})

    found = json.loads(show(key_id, "--json"))

    assert found["requests"] == {"used": 12, "limit": 60}
    assert found["tokens"] == {"used": 1200, "limit": 100_000}
    assert found["parallel"] == {"used": 2, "limit": 5}
    assert found["day"] == {"start": "2026-11-23", "spent": "0.000000000000001", "reserved": "1", "budget": "5"}
    assert found["month"] == {"start": "2026-11", "spent": "40", "reserved": "1", "budget": None}
    assert json.loads(show("--json")) == [found]
    assert json.loads(show("--client-id", "other", "--json")) == []


def test_keys_of_one_rotation_share_what_they_used(show: Show, client: Any):
    old = add_key(client, attributes=LIMITED)
    new = add_key(client, attributes=LIMITED | {"limits_id": {"S": old}})
    count(client, old)

    assert [found["requests"]["used"] for found in json.loads(show("--json"))] == [12, 12]
    assert f"Counted with  {old}\n" in show(new)


def test_without_keys_that_have_limits_it_says_so(show: Show, client: Any):
    add_key(client)

    assert show() == "There are no good keys with limits. `openai-proxy keys list` shows all keys.\n"
    assert show("--client-id", "nobody").startswith("There are no good keys with limits of client 'nobody'. ")


def test_a_key_without_limits_can_be_asked_about(show: Show, client: Any):
    out = show(add_key(client))

    assert "Requests/min  -\n" in out
    assert "Today         no budget\n" in out


def test_what_cannot_be_shown_is_an_error(client: Any, capsys: pytest.CaptureFixture[str]):
    assert main(("keys", "usage", "0123456789ab"), ENVIRONMENT) == 2
    assert "There is no key with id 0123456789ab." in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        main(("keys", "usage", "0123456789ab", "--client-id", "web-shop"), ENVIRONMENT)


def test_the_tables_may_be_named(client: Any, capsys: pytest.CaptureFixture[str]):
    add_key(client, attributes=LIMITED)

    assert main(("keys", "usage", "--keys-table", "keys", "--limits-table", "limits", "--json"), {}) == 0
    assert [key["client_id"] for key in json.loads(capsys.readouterr().out)] == ["web-shop"]


def test_more_keys_than_one_call_reads(client: Any):
    for number in range(130):
        client.put_item(TableName="limits", Item={"pk": {"S": f"limits#{number}"}, "requests": {"N": str(number)}})

    counters = read_counters(Table(client, "limits"), (str(number) for number in range(0, 260, 2)))

    assert {int(limits_id): int(each["requests"]) for limits_id, each in counters.items()} == {
        number: number for number in range(0, 130, 2)
    }


def test_of_shards_what_they_have_let_through_is_used_and_not_what_they_have_drawn(show: Show, client: Any):
    key = add_key(client, attributes={"rpm": {"N": "100000"}, "tpm": {"N": "9000000"}})
    minute = {"N": str(NOON // 60)}

    def amounts(requests: int, tokens: int) -> dict[str, Any]:
        return {"minute": minute, "requests": {"N": str(requests)}, "tokens": {"N": str(tokens)}}

    parts = {"1": amounts(500, 40_000), "2": amounts(400, 30_000), "3": amounts(300, 20_000)}
    parts["4"] = amounts(999, 999) | {"minute": {"N": str(NOON // 60 - 1)}}
    counter = amounts(1300, 100_000) | {"parts": {"M": {name: {"M": part} for name, part in parts.items()}}}
    client.put_item(TableName="limits", Item={"pk": {"S": f"limits#{key}"}} | counter)
    for name, shard in (("1", amounts(480, 37_500)), ("2", amounts(7, 7) | {"minute": {"N": "1"}})):
        client.put_item(TableName="limits", Item={"pk": {"S": f"limits#{key}#{name}"}} | shard)

    document = json.loads(show(key, "--json"))
    assert document["requests"] == {"used": 1300 - 1200 + 480, "limit": 100_000}
    assert document["tokens"] == {"used": 100_000 - 90_000 + 37_500, "limit": 9_000_000}


def test_a_budget_and_places_in_shards_are_shown_as_one(show: Show, client: Any):
    own: dict[str, Any] = {"parallel": {"N": "50"}, "budget_month": {"N": "1"}, "rpm": {"N": "90000"}}
    limits = Limits(add_key(client, attributes=own), rpm=90_000, parallel=50, budget_month=Decimal(1))
    table = LimitsItems()
    sandboxes = [Sandbox(table, place, NOON) for place in (0.1, 0.9)]
    taken = [each.take(limits) for each in (*sandboxes, sandboxes[0])]
    settled = [settlement(each, number, Decimal("0.0001")) for number, each in enumerate(taken[:2])]
    assert settling(table, NOON).settle(settled) == {}
    sandboxes[0].release(taken[2], None)
    for item in table.items.values():
        client.put_item(TableName="limits", Item=item)

    document = json.loads(show(limits.id, "--json"))
    assert document["parallel"] == {"used": 2, "limit": 50}
    assert document["requests"]["used"] == 3
    assert (document["month"]["spent"], document["month"]["reserved"]) == ("0.0002", f"{COST:f}")
    assert "0.000200 spent, 0.000370 reserved" in show(limits.id)


COUNTER: dict[str, Any] = {
    "minute": Decimal(NOON // 60),
    "requests": Decimal(12),
    "tokens": Decimal(1200),
    "live": {"a": Decimal(NOON + 900), "b": Decimal(NOON - 1)},
    "day": "2026-11-23",
    "day_spent": Decimal("0.25"),
    "month": "2026-11",
    "month_spent": Decimal(40),
    Windows.of(NOON).bucket: Decimal(1),
    Windows.of(NOON - 1800).bucket: Decimal(2),
    Windows.of(NOON - 1801).bucket: Decimal(4),
    Windows.of(NOON - 86400).bucket: Decimal(8),
}


@pytest.mark.parametrize(
    ("now", "minute", "running", "spent", "reserved"),
    [
        (NOON, (12, 1200), 1, ("0.25", "40"), (3, 3)),
        (NOON + 60, (0, 0), 1, ("0.25", "40"), (3, 3)),
        (NOON + 901, (0, 0), 0, ("0.25", "40"), (1, 1)),
        (NOON + 86400, (0, 0), 0, ("0", "40"), (0, 0)),
        (NOON + 10 * 86400, (0, 0), 0, ("0", "0"), (0, 0)),
    ],
    ids=["now", "next minute", "next quarter", "next day", "next month"],
)
def test_what_is_over_does_not_count(now: int, minute: Any, running: int, spent: Any, reserved: Any):
    used = Used.of(COUNTER, now)

    assert ((used.requests, used.tokens), used.running) == (minute, running)
    assert tuple(used.spent.values()) == tuple(map(Decimal, spent))
    assert tuple(used.reserved.values()) == reserved
