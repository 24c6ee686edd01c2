"""The table of the response cache: one read for an answer, and leases for those who fetch one.

Its one rule: short waits. Whoever asks has a request to serve, with the cache or without it. Calls raise AwsError.
"""

from proxy.aws import Aws
from proxy.limits_item import Item

_LEASE_PREFIX = "lease#"
_LEASE_SECONDS = 30


class CacheTable:
    """Reads answers, and takes leases; another function writes answers. `timeout` (seconds) is for each step."""

    def __init__(self, aws: Aws, table: str, timeout: float = 0.15) -> None:
        self._aws = aws
        self._table = table
        self._timeout = timeout

    def get(self, key: str) -> Item:
        """The item of an answer; empty when there is none."""
        return self._aws.get_item({"TableName": self._table, "Key": {"cache_key": {"S": key}}}, self._timeout)

    def lease(self, key: str, owner: str, now: float) -> bool:
        """Take the lease of an answer, if nobody has it: the leave to fetch it for all who want it."""
        until = int(now) + _LEASE_SECONDS
        item = {
            **_lease_key(key),
            "owner": {"S": owner},
            "lease_until": {"N": str(until * 1000)},
            "expires_at": {"N": str(until)},
        }
        arguments = {
            "TableName": self._table,
            "Item": item,
            "ConditionExpression": "attribute_not_exists(cache_key) OR lease_until < :now",
            "ExpressionAttributeValues": {":now": {"N": str(int(now * 1000))}},
        }
        return self._aws.put_item(arguments, self._timeout)

    def is_leased(self, key: str, now: float) -> bool:
        """Whether somebody has the lease; nobody has one that cannot be read."""
        arguments = {"TableName": self._table, "Key": _lease_key(key), "ConsistentRead": True}
        item = self._aws.get_item(arguments, self._timeout)
        try:
            return int(item["lease_until"]["N"]) >= now * 1000
        except (KeyError, TypeError, ValueError):
            return False

    def give_back(self, key: str, owner: str) -> None:
        """End a lease, if it is still the owner's: nothing will come of it."""
        arguments = {
            "TableName": self._table,
            "Key": _lease_key(key),
            "ConditionExpression": "#owner = :owner",
            "ExpressionAttributeNames": {"#owner": "owner"},
            "ExpressionAttributeValues": {":owner": {"S": owner}},
        }
        self._aws.delete_item(arguments, self._timeout)


def _lease_key(key: str) -> dict[str, dict[str, str]]:
    return {"cache_key": {"S": _LEASE_PREFIX + key}}
