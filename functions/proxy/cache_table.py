"""The table of the response cache: one read for an answer, and leases for those who fetch one.

    free ─▶ held by who fetches the answer ─▶ the answer is published, and stored soon ─▶ free
                       └─▶ nothing comes of it, or it ends ─▶ free

Its one rule: short waits. Whoever asks has a request to serve, with the cache or without it. Calls raise AwsError.
"""

from dataclasses import dataclass
from typing import Any

from proxy.aws import Aws
from proxy.json_shapes import object_of
from proxy.limits_item import Item

_LEASE_PREFIX = "lease#"
_LONGEST_LEASE = 1000
"""Seconds: longer than any function runs. A lease that lasts longer is damaged, and nobody's."""
_FREE = (
    "attribute_not_exists(cache_key) OR NOT attribute_type(lease_until, :number) "
    "OR lease_until <= :now OR lease_until > :latest OR #owner = :owner"
)
"""Its owner's own lease is free too: a call that was answered too late may be sent twice."""


@dataclass(frozen=True, slots=True)
class Lease:
    """A lease that `owner` has until `until` (Unix seconds).

    `event_id` is that of the answer that they have fetched and that is stored soon; "" while they fetch it.
    """

    owner: str
    until: float
    event_id: str = ""


class CacheTable:
    """Reads answers, and takes leases; another function writes answers. `timeout` (seconds) is for each call."""

    def __init__(self, aws: Aws, table: str, timeout: float = 0.15) -> None:
        self._aws = aws
        self._table = table
        self._timeout = timeout

    def get(self, key: str, *, is_consistent: bool = False) -> Item:
        """The item of an answer; empty when there is none. A consistent read costs twice as much."""
        arguments = {"TableName": self._table, "Key": {"cache_key": {"S": key}}, "ConsistentRead": is_consistent}
        return self._aws.get_item(arguments, self._timeout)

    def event_id_of(self, key: str) -> str:
        """Which answer is there: the id of its event, without all else of it; "" when there is none."""
        arguments = {
            "TableName": self._table,
            "Key": {"cache_key": {"S": key}},
            "ProjectionExpression": "event_id",
        }
        return _text(self._aws.get_item(arguments, self._timeout), "event_id")

    def lease(self, name: str, owner: str, now: float, seconds: float) -> bool:
        """Take a lease for so long, if nobody has it: the leave to fetch an answer for all who want it."""
        arguments = {
            "TableName": self._table,
            "Item": _lease_item(name, owner, now + seconds),
            "ConditionExpression": _FREE,
            "ExpressionAttributeNames": {"#owner": "owner"},
            "ExpressionAttributeValues": {
                ":now": _milliseconds(now),
                ":latest": _milliseconds(now + _LONGEST_LEASE),
                ":number": {"S": "N"},
                ":owner": {"S": owner},
            },
        }
        return self._aws.put_item(arguments, self._timeout)

    def lease_of(self, name: str, now: float) -> Lease | None:
        """The lease that somebody has; nobody has one that cannot be read."""
        arguments = {"TableName": self._table, "Key": _lease_key(name), "ConsistentRead": True}
        item = self._aws.get_item(arguments, self._timeout)
        try:
            until = int(item["lease_until"]["N"]) / 1000
        except (KeyError, TypeError, ValueError, OverflowError):
            return None
        return (
            Lease(_text(item, "owner"), until, _text(item, "stored_soon"))
            if now < until <= now + _LONGEST_LEASE
            else None
        )

    def stored_soon(self, name: str, owner: str, event_id: str, until: float) -> None:
        """Say on a lease, if it is still the owner's, that the answer of this event is on its way into the table."""
        arguments = {
            "TableName": self._table,
            "Item": _lease_item(name, owner, until) | {"stored_soon": {"S": event_id}},
            **_of_owner(owner),
        }
        self._aws.put_item(arguments, self._timeout)

    def give_back(self, name: str, owner: str) -> None:
        """End a lease, if it is still the owner's: nothing will come of it."""
        self._aws.delete_item({"TableName": self._table, "Key": _lease_key(name), **_of_owner(owner)}, self._timeout)


def _lease_key(name: str) -> dict[str, Any]:
    return {"cache_key": {"S": _LEASE_PREFIX + name}}


def _lease_item(name: str, owner: str, until: float) -> dict[str, Any]:
    """Time to live deletes it, some time after it has ended."""
    times = {"lease_until": _milliseconds(until), "expires_at": {"N": str(int(until) + 1)}}
    return {**_lease_key(name), "owner": {"S": owner}, **times}


def _of_owner(owner: str) -> dict[str, Any]:
    return {
        "ConditionExpression": "#owner = :owner",
        "ExpressionAttributeNames": {"#owner": "owner"},
        "ExpressionAttributeValues": {":owner": {"S": owner}},
    }


def _milliseconds(moment: float) -> dict[str, str]:
    return {"N": str(int(moment * 1000))}


def _text(item: Item, name: str) -> str:
    """A text of an item; "" for what is none."""
    return text if isinstance(text := object_of(item.get(name)).get("S"), str) else ""
