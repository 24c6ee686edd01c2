"""The table of the response cache: one read for an answer, and leases for those who fetch one.

    free ─▶ held by who fetches the answer ─▶ the answer is published, and stored soon ─▶ free
                       └─▶ nothing comes of it, or it ends ─▶ free

Its one rule: no call takes long, because the caller has a request to serve, with the cache or without it. Calls raise
AwsError.
"""

from typing import Any, NamedTuple

from openai_proxy.cache.keys import item_key, lease_key
from openai_proxy.dynamodb import Item, to_item

from proxy.aws.client import Aws
from proxy.json_shapes import object_of

_LONGEST_LEASE = 1000
"""Seconds: longer than any function runs. A lease that lasts longer is damaged, and nobody's."""
_FREE = (
    "attribute_not_exists(cache_key) OR NOT attribute_type(lease_until, :number) "
    "OR lease_until <= :now OR lease_until > :latest OR #owner = :owner"
)
"""Its owner's own lease is free too: a call that was answered too late may be sent twice."""


class Lease(NamedTuple):
    """A lease that `owner` has until `until` (Unix seconds).

    `since` is when the owner took it, and `usual` how many seconds such an answer usually takes; 0.0 where that is not
    known. `event_id` is the id of the event with the answer, once it is fetched and about to be stored; "" until then.
    """

    owner: str
    until: float
    since: float = 0.0
    usual: float = 0.0
    event_id: str = ""


_UNTOLD = Lease("", float("inf"))
"""Of somebody, but nothing was said of it."""


class CacheTable:
    """Reads answers, and takes leases; another function writes answers. `timeout` (seconds) is for each call."""

    def __init__(self, aws: Aws, table: str, timeout: float = 0.15) -> None:
        self._aws = aws
        self._table = table
        self._timeout = timeout

    def get(self, key: str, *, is_consistent: bool = False) -> Item:
        """The item of an answer; empty when there is none. A consistent read costs twice as much."""
        arguments = {"TableName": self._table, "Key": item_key(key), "ConsistentRead": is_consistent}
        return self._aws.get_item(arguments, self._timeout)

    def event_id_of(self, key: str) -> str:
        """The id of the event whose answer is stored, without reading the rest of the item; "" when there is none."""
        arguments = {
            "TableName": self._table,
            "Key": item_key(key),
            "ProjectionExpression": "event_id",
        }
        return _text(self._aws.get_item(arguments, self._timeout), "event_id")

    def take_lease(self, name: str, lease: Lease, now: float) -> Lease | None:
        """Take a lease, if nobody has it: its owner fetches an answer for all who want it. Returns the lease of another
        owner, if there is one.
        """
        arguments = {
            "TableName": self._table,
            "Item": _lease_item(name, lease),
            "ConditionExpression": _FREE,
            "ExpressionAttributeNames": {"#owner": "owner"},
            "ExpressionAttributeValues": to_item(
                {
                    ":now": _milliseconds(now),
                    ":latest": _milliseconds(now + _LONGEST_LEASE),
                    ":number": "N",
                    ":owner": lease.owner,
                }
            ),
            "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
        }
        is_taken, item = self._aws.put_item(arguments, self._timeout)
        return None if is_taken else _lease_in(item or {}, now) or _UNTOLD

    def lease_of(self, name: str, now: float) -> Lease | None:
        """The lease of an answer, if somebody has it. An item that cannot be read is no lease."""
        arguments = {"TableName": self._table, "Key": _lease_key(name), "ConsistentRead": True}
        return _lease_in(self._aws.get_item(arguments, self._timeout), now)

    def stored_soon(self, name: str, lease: Lease) -> None:
        """Note on a lease, if its owner still has it, that the answer is about to be stored."""
        arguments = {"TableName": self._table, "Item": _lease_item(name, lease), **_of_owner(lease.owner)}
        self._aws.put_item(arguments, self._timeout)

    def give_back(self, name: str, owner: str) -> None:
        """End a lease, if its owner still has it: there will be no answer."""
        self._aws.delete_item({"TableName": self._table, "Key": _lease_key(name), **_of_owner(owner)}, self._timeout)


def _lease_key(name: str) -> dict[str, Any]:
    return item_key(lease_key(name))


def _lease_item(name: str, lease: Lease) -> dict[str, Any]:
    """Time to live deletes it, some time after it has ended."""
    values: dict[str, Any] = {
        "cache_key": lease_key(name),
        "owner": lease.owner,
        "lease_until": _milliseconds(lease.until),
        "expires_at": int(lease.until) + 1,
    }
    if lease.since:
        values |= {"since": _milliseconds(lease.since), "usual": _milliseconds(lease.usual)}
    if lease.event_id:
        values["stored_soon"] = lease.event_id
    return to_item(values)


def _lease_in(item: Item, now: float) -> Lease | None:
    """Read an item as a lease; None if the lease is over, or the item cannot be read."""
    until = _seconds(item, "lease_until")
    if not now < until <= now + _LONGEST_LEASE:
        return None
    since, usual = _seconds(item, "since"), _seconds(item, "usual")
    if not until - _LONGEST_LEASE <= since <= until or not 0 <= usual <= _LONGEST_LEASE:
        since = usual = 0.0
    return Lease(_text(item, "owner"), until, since, usual, _text(item, "stored_soon"))


def _of_owner(owner: str) -> dict[str, Any]:
    return {
        "ConditionExpression": "#owner = :owner",
        "ExpressionAttributeNames": {"#owner": "owner"},
        "ExpressionAttributeValues": to_item({":owner": owner}),
    }


def _milliseconds(moment: float) -> int:
    return int(moment * 1000)


def _text(item: Item, name: str) -> str:
    """A text of an item; "" if it is no text."""
    return text if isinstance(text := object_of(item.get(name)).get("S"), str) else ""


def _seconds(item: Item, name: str) -> float:
    """Milliseconds of an item as seconds; 0.0 if it is no whole number."""
    try:
        return int(item[name]["N"]) / 1000
    except (KeyError, TypeError, ValueError, OverflowError):
        return 0.0
