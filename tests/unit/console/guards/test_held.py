"""What `guards` shows of acts that are stored, whole, and how it undoes one: no account is needed for that."""

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from openai_proxy.dynamodb import to_item

from console.guards.commands import acts_table
from console.guards.held import DoneAct, DoneActs
from console.stack import Table

NOW = 1_795_395_600.0
"""2026-11-23, 01:00 UTC."""
KEY = "0123456789ab"
STORED: dict[str, Any] = {
    "guard": "flood",
    "act": "lower",
    "limits": {"rpm": Decimal(5), "parallel": Decimal(1)},
    "at": Decimal("1795392010.5"),
    "until": Decimal("1795395600.001"),
    "reason": "the same request 3 times",
}


def done(act_id: str = "A", **changed: Any) -> DoneAct:
    return DoneAct(act_id, KEY, "web", {**STORED, **changed})


@pytest.mark.parametrize(
    ("changed", "state"),
    [
        ({}, "holds"),
        ({"until": Decimal(NOW)}, "over"),
        ({"act": "notify"}, "told"),
        ({"act": "notify", "until": Decimal(NOW)}, "over"),
        ({"undone_at": Decimal(1)}, "undone"),
        ({"undone_at": Decimal(1), "until": Decimal(1)}, "undone"),
        ({"until": None}, "over"),
        ({"until": "soon"}, "over"),
    ],
)
def test_an_act_holds_until_its_end(changed: dict[str, Any], state: str) -> None:
    assert done(**changed).state(NOW) == state


def test_what_is_stored_is_read() -> None:
    act = done()
    assert (act.at, act.until, act.limits) == (1795392010.5, 1795395600.001, {"rpm": 5, "parallel": 1})
    assert (act.text("guard"), act.text("missing")) == ("flood", "")
    assert done(limits=None).limits == {}


def test_a_table_of_acts() -> None:
    shown = acts_table([done(), done("B", act="disable", limits={}, undone_at=Decimal(1))], NOW, None)
    assert shown.splitlines() == [
        "ID  STATE   UNTIL                 CLIENT  KEY OR USER   ACT                         GUARD  REASON",
        "-" * 115,
        f"A   holds   2026-11-23 01:00 UTC  web     {KEY}  lower to 5 rpm, 1 parallel  flood  the same request 3 times",
        f"B   undone  2026-11-23 01:00 UTC  web     {KEY}  disable                     flood  the same request 3 times",
    ]


class GoneError(Exception):
    """The condition does not hold."""


class Client:
    """The key table as these commands use it."""

    class exceptions:  # noqa: N801 - as botocore calls it
        ConditionalCheckFailedException = GoneError

    def __init__(self, *pages: list[dict[str, Any]], fails: bool = False) -> None:
        self._pages, self._fails = pages, fails
        self.asked: list[dict[str, Any]] = []

    def get_paginator(self, name: str) -> "Client":
        assert name == "scan"
        return self

    def paginate(self, **asked: Any) -> Iterator[dict[str, Any]]:
        self.asked.append(asked)
        for page in self._pages:
            yield {"Items": [to_item(item) for item in page]}

    def update_item(self, **asked: Any) -> None:
        self.asked.append(asked)
        if self._fails:
            raise GoneError


def acts_of(client: Any) -> DoneActs:
    return DoneActs(Table(client, "keys"))


def test_all_acts_are_found_on_all_pages_the_newest_first() -> None:
    first = {"key_hash": f"guard#{KEY}", "client_id": "web", "acts": {"B": STORED, "A": STORED}}
    second = {"key_hash": "guard#user", "acts": {"C": {**STORED, "at": Decimal("1795392010.501")}}}
    client = Client([first], [], [second])
    found = acts_of(client).all()
    assert [(each.id, each.key_id, each.client_id) for each in found] == [
        ("C", "user", ""),
        ("A", KEY, "web"),
        ("B", KEY, "web"),
    ]
    assert found[1].stored == STORED
    assert client.asked == [
        {
            "TableName": "keys",
            "ConsistentRead": True,
            "FilterExpression": "begins_with(key_hash, :prefix)",
            "ExpressionAttributeValues": to_item({":prefix": "guard#"}),
        }
    ]


@pytest.mark.parametrize("fails", [True, False])
def test_an_act_is_undone_by_a_mark_on_it_once(fails: bool) -> None:
    client = Client(fails=fails)
    assert acts_of(client).undo(done(), NOW + 0.5) is not fails
    assert client.asked == [
        {
            "TableName": "keys",
            "Key": to_item({"key_hash": f"guard#{KEY}"}),
            "UpdateExpression": "SET #acts.#id.#undone = :now ADD #version :one",
            "ConditionExpression": "attribute_exists(#acts.#id) AND attribute_not_exists(#acts.#id.#undone)",
            "ExpressionAttributeNames": {
                "#acts": "acts",
                "#id": "A",
                "#undone": "undone_at",
                "#version": "version",
            },
            "ExpressionAttributeValues": to_item({":now": Decimal("1795395600.500"), ":one": 1}),
        }
    ]
