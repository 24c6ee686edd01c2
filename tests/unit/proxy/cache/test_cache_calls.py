"""What the cache's table is asked, whole, and what is believed of a lease that it gives."""

from typing import Any

import pytest
from proxy.cache.table import CacheTable, Lease

NOW = 1_900_000_000.5
LONGEST = 1000


class Services:
    """Keeps every call and gives the answers in turn."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.calls: list[tuple[str, dict[str, Any], float]] = []

    def __getattr__(self, name: str) -> Any:
        def call(arguments: dict[str, Any], timeout: float) -> Any:
            self.calls.append((name, arguments, timeout))
            return self.answers.pop(0) if self.answers else None

        return call


def table(*answers: Any) -> tuple[CacheTable, Services]:
    services: Any = Services(*answers)
    return CacheTable(services, "answers", 0.25), services


def test_an_answer_is_read_by_its_key() -> None:
    asking, services = table({"a": {"S": "b"}}, {}, {"event_id": {"S": "01X"}}, {}, {"event_id": {"N": "1"}})
    assert asking.get("k") == {"a": {"S": "b"}}
    assert asking.get("k", is_consistent=True) == {}
    assert [asking.event_id_of("k") for _ in range(3)] == ["01X", "", ""]
    whole = {"TableName": "answers", "Key": {"cache_key": {"S": "k"}}}
    part = whole | {"ProjectionExpression": "event_id"}
    assert services.calls == [
        ("get_item", whole | {"ConsistentRead": False}, 0.25),
        ("get_item", whole | {"ConsistentRead": True}, 0.25),
        *[("get_item", part, 0.25)] * 3,
    ]


LEASE = Lease("me", NOW + 30, NOW, 4.5, "01X")
ITEM = {
    "cache_key": {"S": "lease#n"},
    "owner": {"S": "me"},
    "lease_until": {"N": "1900000030500"},
    "expires_at": {"N": "1900000031"},
}
SINCE = {"since": {"N": "1900000000500"}, "usual": {"N": "4500"}}
SOON = {"stored_soon": {"S": "01X"}}
OF_OWNER = {
    "ConditionExpression": "#owner = :owner",
    "ExpressionAttributeNames": {"#owner": "owner"},
    "ExpressionAttributeValues": {":owner": {"S": "me"}},
}


@pytest.mark.parametrize(
    ("lease", "item"),
    [
        (LEASE, ITEM | SINCE | SOON),
        (LEASE._replace(since=0.0), ITEM | SOON),
        (LEASE._replace(event_id=""), ITEM | SINCE),
        (Lease("me", NOW + 30), ITEM),
    ],
)
def test_a_lease_is_taken_renewed_and_given_back_under_its_conditions(lease: Lease, item: dict[str, Any]) -> None:
    asking, services = table((True, None), (True, None), True)
    assert asking.take_lease("n", lease, NOW) is None
    asking.stored_soon("n", lease)
    asking.give_back("n", "me")
    taken = {
        "TableName": "answers",
        "Item": item,
        "ConditionExpression": (
            "attribute_not_exists(cache_key) OR NOT attribute_type(lease_until, :number) "
            "OR lease_until <= :now OR lease_until > :latest OR #owner = :owner"
        ),
        "ExpressionAttributeNames": {"#owner": "owner"},
        "ExpressionAttributeValues": {
            ":now": {"N": "1900000000500"},
            ":latest": {"N": "1900001000500"},
            ":number": {"S": "N"},
            ":owner": {"S": "me"},
        },
        "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
    }
    assert services.calls == [
        ("put_item", taken, 0.25),
        ("put_item", {"TableName": "answers", "Item": item, **OF_OWNER}, 0.25),
        ("delete_item", {"TableName": "answers", "Key": {"cache_key": {"S": "lease#n"}}, **OF_OWNER}, 0.25),
    ]


def held(item: dict[str, Any], now: float = NOW) -> Lease | None:
    """The lease that is read; who is refused it is told the same, or that it is somebody's."""
    asking, services = table(item, (False, item))
    found, refused = asking.lease_of("n", now), asking.take_lease("n", LEASE, now)
    key = {"TableName": "answers", "Key": {"cache_key": {"S": "lease#n"}}, "ConsistentRead": True}
    assert services.calls[0] == ("get_item", key, 0.25)
    assert refused == (found or Lease("", float("inf")))
    return found


def number(seconds: float) -> dict[str, str]:
    return {"N": str(int(seconds * 1000))}


UNTOLD = Lease("me", NOW + 30, 0.0, 0.0, "01X")


@pytest.mark.parametrize(
    ("changed", "lease"),
    [
        ({}, LEASE),
        ({"stored_soon": None}, LEASE._replace(event_id="")),
        ({"owner": {"N": "1"}}, LEASE._replace(owner="")),
        ({"owner": None}, LEASE._replace(owner="")),
        ({"lease_until": None}, None),
        ({"lease_until": {"S": "x"}}, None),
        ({"lease_until": {"N": "1e999"}}, None),
        ({"lease_until": {"N": None}}, None),
        ({"lease_until": number(NOW)}, None),
        ({"lease_until": number(NOW + 0.001)}, LEASE._replace(until=NOW + 0.001)),
        ({"lease_until": number(NOW + LONGEST), "since": number(NOW)}, LEASE._replace(until=NOW + LONGEST)),
        ({"lease_until": number(NOW + LONGEST + 0.001)}, None),
        ({"since": number(NOW + 30)}, LEASE._replace(since=NOW + 30)),
        ({"since": number(NOW + 30.001)}, UNTOLD),
        ({"since": number(NOW + 30 - LONGEST)}, LEASE._replace(since=NOW + 30 - LONGEST)),
        ({"since": number(NOW + 29.998 - LONGEST)}, UNTOLD),
        ({"since": None}, UNTOLD),
        ({"usual": {"N": "0"}}, LEASE._replace(usual=0.0)),
        ({"usual": {"N": "-1"}}, UNTOLD),
        ({"usual": {"N": "1000000"}}, LEASE._replace(usual=LONGEST)),
        ({"usual": {"N": "1000001"}}, UNTOLD),
    ],
)
def test_what_is_believed_of_a_lease_ends_exactly_where_it_ends(changed: dict[str, Any], lease: Lease | None) -> None:
    item = {name: value for name, value in (ITEM | SINCE | SOON | changed).items() if value is not None}
    assert held(item) == lease


def test_a_lease_that_is_not_there_is_nobodys() -> None:
    assert held({}) is None
    asking, _ = table((False, None))
    assert asking.take_lease("n", LEASE, NOW) == Lease("", float("inf"))
